from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dheera.bookkeeping import LinesQuery, Question
from dheera.stores import Stores
from dheera.stores.memory import MemoryStore
from dheera.stores.memory_allowances import MemoryAllowances
from dheera.stores.memory_ledger import MemoryBooks
from dheera.stores.shelves import Shelves
from tests.stores import books
from tests.stores.books import a_record
from tests.stores.contract import hour


class MemoryBooksTests(books.BooksContract):
    def setUp(self) -> None:
        self.shelves = Shelves()
        self.allowances = MemoryAllowances(self.shelves)
        self.kept = MemoryBooks(self.shelves, settle=self.allowances.settle)

    def new_stores(self) -> Stores:
        return Stores(directory=MemoryStore(self.shelves), books=self.kept, allowances=self.allowances)

    async def break_it(self) -> None:
        self.kept.fail()

    async def mend_it(self) -> None:
        self.kept.recover()


class BoundTests(SynchronousTestCase):
    def test_oldest_go(self) -> None:
        """
        A demo that runs for weeks keeps the latest lines, and the latest rows of sums, and no more.
        """
        kept = MemoryBooks(most=3)
        for number in range(9):
            record = a_record(f"{number}", started_at=hour(24 * number), tags=[f"{number}"], once=f"{number}")
            self.successResultOf(kept.keep([record]))
        lines = self.successResultOf(kept.lines(LinesQuery()))
        self.assertEqual(["8", "7", "6"], [line.call_id for line in lines])
        for by in ("day",), ("tag",):
            self.assertEqual(3, len(self.successResultOf(kept.sums(Question(by=by)))))
