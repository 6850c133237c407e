from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from dheera.bookkeeping import LinesQuery, Question, Sums
from dheera.boundaries import Add
from dheera.entities import Key
from dheera.errors import StoreAway
from dheera.money import Usd
from dheera.stores import Stores, stores_on
from dheera.stores.database import Step
from dheera.stores.ledger import SqlBooks
from dheera.stores.ledger_questions import counting_lines, finding_lines, pruning, summing
from dheera.stores.ledger_sums import added_by
from dheera.stores.ledger_writing import finding_kept, keeping, spending
from dheera.stores.migrations import migrations
from dheera.stores.sqlite.migration import connect, migrate
from tests.stores import books
from tests.stores.books import a_record
from tests.stores.contract import a_key, hour
from tests.stores.on_sqlite import OnSqlite

DOCUMENT = (
    '{"id": "k", "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "digest": "d", '
    '"name": "sk-...", "max_budget": "2.5"}'
)


class SqliteBooksTests(OnSqlite, books.BooksContract):
    def new_stores(self) -> Stores:
        return stores_on(self.new_database())

    async def test_all_or_nothing(self) -> None:
        """
        If the last statement fails, nothing of those before it was done; afterwards the same records are kept.
        """
        stores = await self.open_stores()
        await stores.directory.apply([Add(a_key())], [])
        records = [a_record(key_id="k", end_user="e", once="f", tags=["x"])]
        with closing(connect(self.path)) as other:
            other.execute("alter table customers rename to elsewhere")
            await self.fails(sqlite3.OperationalError, stores.books.keep(records))
            for table in ("ledger", "billed", "daily", "daily_tags"):
                self.assertEqual([], other.execute(f"select * from {table}").fetchall())  # noqa: S608 - ours
            self.assertEqual(Usd(), await self.spend(stores.directory, Key, "k"))
            other.execute("alter table elsewhere rename to customers")
        await stores.books.keep(records)
        self.assertEqual(Usd(5), await self.spend(stores.directory, Key, "k"))

    async def test_broken_off(self) -> None:
        """
        What another process had written when it died is not there, and can be written by the next.
        """
        stores = await self.open_stores()
        record = a_record()
        with closing(connect(self.path)) as other:
            other.execute("begin immediate")
            for each in keeping([record], added_by([record])):
                places = ", ".join("?" * len(each.columns))
                other.executemany(each.sql(f"values ({places})"), each.rows)
            self.assertEqual(0, await stores.books.count(LinesQuery()))
        await stores.books.keep([record])
        self.assertEqual(1, await stores.books.count(LinesQuery()))

    async def test_locked(self) -> None:
        """
        While another process keeps the file locked nothing is written, and what there is can be read.
        """
        database = self.new_database(patience_seconds=0.2)
        await database.open()
        self.addCleanup(database.close)
        kept = SqlBooks(database)
        record = a_record()
        with closing(connect(self.path)) as other:
            other.execute("begin immediate")
            await self.fails(StoreAway, kept.keep([record]))
            self.assertEqual([Sums()], await kept.sums(Question()))
        await kept.keep([record])
        self.assertEqual(1, await kept.count(LinesQuery()))

    async def test_from_the_first_schema(self) -> None:
        """
        A file of the dheera before this one keeps its keys, and gets a ledger.
        """
        self.path.parent.mkdir()
        self.path.touch()
        with closing(connect(self.path)) as connection:
            migrate(connection, migrations("sqlite")[:1])
            connection.execute(
                "insert into keys values "
                "('k', 0, '2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:00.000000Z', 'd', 'sk-...', null, null, "
                "null, null, null, 'default', 0, null, null, null, 7, ?)",
                [DOCUMENT],
            )
        stores = await self.open_stores()
        [moved] = (await stores.books.keep([a_record(key_id="k")])).moved
        self.assertEqual((Usd(7), Usd(12)), (moved.before, moved.after))
        self.assertEqual(Usd(12), await self.spend(stores.directory, Key, "k"))


class PlanTests(OnSqlite):
    """
    On 50,000 lines SQLite uses the indexes; that is how it stays fast, whatever the machine.
    """

    LINES = """
        insert into ledger
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 50000)
        select printf('%06d', i), i * 1000000, 1, null, printf('k%d', i % 100), 'a', printf('u%d', i % 50),
            printf('t%d', i % 20), printf('e%d', i % 500), printf('m%d', i % 10), 'chat/completions', 'complete', 200,
            null, i % 1000 = 0, 0, 1, 'p', null, null, '::1', 'n', null from n
    """
    DAYS = """
        insert into daily
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
        select date('2026-01-01', printf('%d days', i / 100)), printf('k%d', i % 100), printf('u%d', i % 50),
            printf('t%d', i % 20), printf('e%d', i % 500), printf('m%d', i % 10), 'chat', 1, 0, 0, 0, 1, 1, 1, 1, 0,
            0, 0, 1 from n
    """

    async def plan(self, step: Step) -> list[str]:
        """
        How SQLite would do *step*.
        """
        with closing(connect(self.path)) as connection:
            return [detail for *_, detail in connection.execute(f"explain query plan {step.sql}", step.parameters)]

    async def assert_uses(self, index: str, step: Step) -> None:
        """
        Assert that *step* goes by this index, and through no table as a whole.
        """
        plan = await self.plan(step)
        self.assertEqual([], [each for each in plan if each.startswith("SCAN") and " USING " not in each], plan)
        self.assertIn(f" {index} ", " ".join(each.replace("(", " (") + " " for each in plan))

    async def test_lines(self) -> None:
        """
        Lines of each who can be asked for, and of any time, come by an index, in their order, whichever the page; so do
        the oldest, which are deleted.
        """
        await self.filled(self.LINES)
        pages: list[dict[str, Any]] = [{"since": hour(0), "until": hour(1)}, {"after": (hour(9), "x")}, {}]
        for column in ("key_id", "user_id", "team_id", "end_user", "model"):
            index = "ledger_started" if column == "model" else f"ledger_{column.removesuffix('_id')}"
            for page in pages:
                query = LinesQuery(equal={column: "x"}, **page)
                await self.assert_uses(index, finding_lines(query))
                await self.assert_uses(index, counting_lines(query))
                self.assertEqual(
                    [], [each for each in await self.plan(finding_lines(query)) if each.endswith("B-TREE FOR ORDER BY")]
                )
        for page in pages:
            for equal in {}, {"status": 500}:
                query = LinesQuery(equal=equal, **page)
                await self.assert_uses("ledger_started", finding_lines(query))
            failed = LinesQuery(failed=True, **page)
            await self.assert_uses("ledger_failed", finding_lines(failed))
            await self.assert_uses("ledger_failed", counting_lines(failed))
            await self.assert_uses("ledger_started", finding_lines(LinesQuery(failed=False, **page)))
        await self.assert_uses("ledger_started", pruning(hour(0), 10))
        await self.assert_uses("sqlite_autoindex_ledger_1", finding_lines(LinesQuery(equal={"call_id": "x"})))

    async def test_sums(self) -> None:
        """
        Sums of one who is asked for, and of some days, do not go through all days.
        """
        await self.filled(self.DAYS)
        days: dict[str, Any] = {"since": hour(0).date(), "until": hour(30).date()}
        for dimension in ("key", "user", "team", "end_user"):
            question = Question(by=("model",), equal={dimension: "x"})
            await self.assert_uses(f"daily_{dimension}", summing(question))
        await self.assert_uses("sqlite_autoindex_daily_1", summing(Question(by=("model",), **days)))
        await self.assert_uses("daily_tags_tag", summing(Question(by=("day",), equal={"tag": "x"})))

    async def test_writes(self) -> None:
        """
        What is written needs no look through a table.
        """
        await self.filled(self.LINES)
        given = [a_record(key_id="k", once="f"), a_record(user_id="u", team_id="t", end_user="e")]
        calls, once = finding_kept(given)
        for step in (*calls, *once, *(step for _, step in spending(added_by(given).spends))):
            plan = await self.plan(step)
            self.assertEqual([], [each for each in plan if each.startswith("SCAN")], plan)

    async def filled(self, statement: str) -> None:
        """
        Fill a table.
        """
        await self.open_database()
        with closing(connect(self.path)) as connection:
            connection.execute(statement)
            connection.execute("analyze")
