from __future__ import annotations

import re
from contextlib import closing

from dheera.errors import StoreAway
from dheera.holding import Allowance, Claim, Turn
from dheera.stores import Stores, stores_on
from dheera.stores.allowances import SqlAllowances
from dheera.stores.database import Step
from dheera.stores.sheet import machine_clock
from dheera.stores.sqlite import procedures, sheets
from dheera.stores.sqlite.database import SqliteDatabase
from dheera.stores.sqlite.migration import connect
from tests.stores import allowances
from tests.stores.allowance_machine import run_machine
from tests.stores.allowances import NOON_US, share
from tests.stores.on_sqlite import OnSqlite


class SqliteAllowancesTests(OnSqlite, allowances.AllowancesContract):
    def setUp(self) -> None:
        super().setUp()
        self.now = NOON_US

    def new_stores(self) -> Stores:
        from twisted.internet import reactor

        return stores_on(SqliteDatabase(reactor, self.path, in_state_directory=True, clock=lambda: self.now))

    async def set_clock(self, at_us: int) -> None:
        self.now = at_us

    async def test_machine(self) -> None:
        """
        Whatever happens, in whatever order, the counts are what a plain list of calls says.
        """
        await run_machine(self, examples=25, steps=30)

    async def test_locked(self) -> None:
        """
        While another process keeps the file locked nothing can be claimed, and nothing is taken; what there is can be
        read.
        """
        database = self.new_database(patience_seconds=0.2)
        await database.open()
        self.addCleanup(database.close)
        kept = SqlAllowances(database)
        turn = Turn(owner="me", claims=[Claim(call_id="a", shares=[share()])])
        with closing(connect(self.path)) as other:
            other.execute("begin immediate")
            await self.fails(StoreAway, kept.turn(turn))
            self.assertEqual([], list(await kept.look(["key/k"])))
        self.assertEqual(30, (await kept.turn(turn)).verdicts[0].standings[0].taken)

    async def test_by_the_machine(self) -> None:
        """
        Time is that of the machine, unless something else is said.
        """
        database = await self.open_database()
        before = machine_clock()
        turned = await SqlAllowances(database).turn(Turn(owner="me"))
        self.assertLessEqual(before, turned.at_us)
        self.assertLessEqual(turned.at_us, machine_clock())

    async def test_nul(self) -> None:
        """
        Subjects with a character that ends a text are no others'.
        """
        stores = await self.opened()
        for subject in ("customer/a\0b", "customer/a\\u0000b", "customer/a"):
            allowance = Allowance(subject=subject, kind="usd")
            verdict = await self.claim(stores, subject, share(allowance))
            self.assertEqual(30, verdict.standings[0].taken, subject)


class LastingTests(OnSqlite):
    async def test_turns_do_not_wait_for_the_disk(self) -> None:
        """
        What need not outlive a loss of power is not waited for; all else is, before and after.
        """
        database = await self.open_database()
        asking = Step("select synchronous from pragma_synchronous")
        for lasting in (True, False, False, True):
            [[(level,)]] = await database.run([asking], changes=(), lasting=lasting)
            self.assertEqual(2 if lasting else 1, level)


class PlanTests(OnSqlite):
    """
    With 20,000 holds and windows SQLite uses the indexes; that is how it stays fast, whatever the machine.
    """

    HOLDS = """
        insert into holds with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
        select printf('%06d', i), printf('key/%d', i % 100), 'usd', '', '', 0, 1, 'me', i, i % 2, i % 3 = 0, 0 from n
    """
    COUNTS = """
        insert into allowances with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
        select printf('key/%d', i % 100), 'usd', '1d', '', i, i + 1, 1, 1, 100, null, 0 from n
    """

    async def test_no_scans(self) -> None:
        """
        No statement of a turn, of the ledger, or of a sweep goes through a whole table.
        """
        await self.open_database()
        with closing(connect(self.path)) as connection:
            for statement in (self.HOLDS, self.COUNTS, "analyze"):
                connection.execute(statement)
            for sql in (
                sheets._FINDING,
                sheets._FINDING_BUDGETS,
                sheets._FINDING_COUNTS,
                sheets._with_values(sheets._PUTTING_COUNTS, 3, 11),
                sheets._with_values(sheets._PUTTING_HOLDS, 3, 12),
                sheets._with_values(sheets._ENDING_HOLDS, 3, 5),
                procedures._EXTENDING,
                procedures._FORGETTING_HOLDS,
                procedures._FORGETTING_COUNTS,
                procedures._FORGETTING_IDLE,
                procedures._FORGETTING_UNUSED,
                procedures._RESETTING,
                f"delete from allowances where {procedures._OF_MEMBER}",  # noqa: S608 - our own text
            ):
                values = ["[]"] * (max(map(int, re.findall(r"\?(\d)", sql)), default=0) or sql.count("?"))
                plan = [row[-1] for row in connection.execute(f"explain query plan {sql}", values)]
                scans = [
                    each for each in plan if each.startswith("SCAN") and each.split()[1] in {"a", "allowances", "holds"}
                ]
                self.assertEqual([], scans, sql)
