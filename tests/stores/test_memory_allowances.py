from __future__ import annotations

from dheera.stores import Stores
from dheera.stores.memory import MemoryStore
from dheera.stores.memory_allowances import MemoryAllowances
from dheera.stores.memory_ledger import MemoryBooks
from dheera.stores.shelves import Shelves
from tests.stores import allowances
from tests.stores.allowance_machine import run_machine
from tests.stores.allowances import NOON_US


class MemoryAllowancesTests(allowances.AllowancesContract):
    def setUp(self) -> None:
        self.now = NOON_US
        self.shelves = Shelves()
        self.kept = MemoryAllowances(self.shelves, clock=lambda: self.now)
        self.ledger = MemoryBooks(self.shelves, settle=self.kept.settle)

    def new_stores(self) -> Stores:
        return Stores(directory=MemoryStore(self.shelves), books=self.ledger, allowances=self.kept)

    async def set_clock(self, at_us: int) -> None:
        self.now = at_us

    async def break_it(self) -> None:
        self.kept.fail()

    async def mend_it(self) -> None:
        self.kept.recover()

    async def test_machine(self) -> None:
        """
        Whatever happens, in whatever order, the counts are what a plain list of calls says.
        """
        await run_machine(self, examples=40, steps=40)
