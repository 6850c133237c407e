from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dheera.bookkeeping import LinesQuery, Question
from dheera.boundaries import Add
from dheera.entities import Key
from dheera.errors import StoreAway
from dheera.money import Usd
from dheera.stores import Stores, stores_on
from dheera.stores.database import Step
from dheera.stores.ledger import SqlBooks
from dheera.stores.ledger_questions import counting_lines, finding_lines, pruning, summing
from dheera.stores.ledger_writing import finding_kept
from dheera.stores.migrations import migrations
from dheera.stores.postgres.database import PostgresDatabase
from dheera.stores.sql import SqlStore
from tests.postgres import OnPostgres, eventually, server
from tests.stores import books
from tests.stores.books import a_record
from tests.stores.contract import a_key, hour

LINES = """
    insert into ledger select lpad(n::text, 6, '0'), n * 1000000::bigint, 1, null, 'k' || n % 100, 'a', 'u' || n % 50,
        't' || n % 20, 'e' || n % 500, 'm' || n % 10, 'chat', 'complete', 200, null, n % 1000 = 0, false, 1, 'p',
        null, null, '::1', 'n', null
    from generate_series(1, 50000) n
"""
DAYS = """
    insert into daily select date '2026-01-01' + n / 100, 'k' || n % 100, 'u' || n % 50, 't' || n % 20, 'e' || n % 500,
        'm' || n % 10, 'chat', 1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1
    from generate_series(1, 50000) n
"""


class PostgresBooksTests(books.BooksContract):
    def setUp(self) -> None:
        self.server = server()
        self.name = self.server.fresh()
        self.addCleanup(self.server.drop, self.name)

    def new_stores(self) -> Stores:
        from twisted.internet import reactor

        return stores_on(PostgresDatabase(reactor, self.server.url(self.name)))

    async def break_it(self) -> None:
        self.server.stop()
        self.addCleanup(self.server.start)

    async def mend_it(self) -> None:
        self.server.start()


class TransactionTests(OnPostgres):
    async def test_killed_in_the_middle(self) -> None:
        """
        A transaction that PostgreSQL breaks off in the middle has written nothing; asked again, everything is there
        once.
        """
        database = await self.opened(patience_seconds=1)
        store, kept = SqlStore(database), SqlBooks(database)
        await store.apply([Add(a_key())], [])
        record = a_record(key_id="k", once="f", tags=["x"])
        # The spend comes last: its row is kept locked by another connection.
        other = await self.opened(patience_seconds=20)
        locking = other.run([Step("select * from keys for update"), Step("select 1 from pg_sleep(10)")], changes=())
        locking.addErrback(lambda failure: failure.trap(StoreAway) and None)
        await self.eventually(self.sleeping, "the row is locked")
        await self.fails(StoreAway, kept.keep([record]))
        for table in ("ledger", "billed", "daily", "daily_tags"):
            self.assertEqual([(0,)], self.query(f"select count(*) from {table}"))  # noqa: S608 - ours
        self.query("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
        await locking
        moved: list[Any] = []

        async def ask() -> bool:
            try:
                moved.extend((await kept.keep([record])).moved)
            except StoreAway:
                return False
            return True

        while not await ask():
            await eventually(self.reactor, lambda: not database.is_away(), "PostgreSQL is found again")
        self.assertEqual([Usd(5)], [each.after for each in moved])
        self.assertEqual(1, await kept.count(LinesQuery()))
        found = await store.get(Key, "k")
        self.assertEqual(Usd(5), found.spend if found else None)

    def sleeping(self) -> bool:
        """
        Whether somebody holds the row.
        """
        return bool(self.query("select 1 from pg_stat_activity where wait_event = 'PgSleep'"))

    async def test_from_the_first_schema(self) -> None:
        """
        A database of the dheera before this one keeps its keys, and gets a ledger.
        """
        [(number, text)] = migrations("postgres")[:1]
        self.server.execute(
            "create table schema_version (version integer primary key)",
            text,
            f"insert into schema_version values ({number})",  # noqa: S608 - ours
            "insert into keys values ('k', 0, now(), now(), 'd', 'sk-...', null, null, null, null, null, 'default', "
            'false, null, null, null, 7, \'{"id": "k", "created_at": "2026-01-01T00:00:00Z", '
            '"updated_at": "2026-01-01T00:00:00Z", "digest": "d", "name": "sk-...", "max_budget": "2.5"}\')',
            name=self.name,
        )
        kept = SqlBooks(await self.opened())
        [moved] = (await kept.keep([a_record(key_id="k")])).moved
        self.assertEqual((Usd(7), Usd(12)), (moved.before, moved.after))

    async def test_readable(self) -> None:
        """
        Operators can read the tables as the comments say.
        """
        kept = SqlBooks(await self.opened())
        await kept.keep([a_record(tags=["x"])])
        rows = self.query(
            "select to_timestamp(started_us / 1e6)::text, key_alias, model, outcome, cost / 1e9::float, "
            "usage::json ->> 'prompt_tokens' from ledger"
        )
        self.assertEqual([("2026-01-01 01:00:00+00", "ada", "m", "complete", 5e-9, "100")], rows)


class PlanTests(OnPostgres):
    async def test_lines(self) -> None:
        """
        With 50,000 lines, those of each who can be asked for, and of any time, come by an index; so do the oldest.
        """
        self.database_ = await self.opened()
        self.server.execute(LINES, "vacuum analyze", name=self.name)
        pages: list[dict[str, Any]] = [{"since": hour(0), "until": hour(1)}, {"after": (hour(9), "x")}, {}]
        for column, value in (
            ("key_id", "k1"), ("user_id", "u1"), ("team_id", "t1"), ("end_user", "e1"),
        ):  # fmt: skip
            index = f"ledger_{column.removesuffix('_id')}"
            for page in pages:
                query = LinesQuery(equal={column: value}, **page)
                self.assertIn(await self.indexes(finding_lines(query)), [{index}, {"ledger_started"}])
                self.assertIn(index if not page else "ledger_", " ".join(await self.indexes(counting_lines(query))))
        for page in pages:
            of_model = LinesQuery(equal={"model": "m1"}, **page)
            for step in finding_lines(LinesQuery(**page)), finding_lines(of_model), counting_lines(of_model):
                self.assertEqual({"ledger_started"}, await self.indexes(step))
        for page in pages:
            failed = LinesQuery(failed=True, **page)
            for step in finding_lines(failed), counting_lines(failed):
                self.assertEqual({"ledger_failed"}, await self.indexes(step))
        self.assertEqual({"ledger_started"}, await self.indexes(finding_lines(LinesQuery(failed=False))))
        self.assertEqual({"ledger_started", "ledger_pkey"}, await self.indexes(pruning(hour(0), 10)))
        [step], _ = finding_kept([a_record()])
        self.assertEqual({"ledger_pkey"}, await self.indexes(step))

    async def test_sums(self) -> None:
        """
        Sums of one who is asked for, and of some days, do not go through all days.
        """
        self.database_ = await self.opened()
        self.server.execute(DAYS, "vacuum analyze", name=self.name)
        day = hour(0).date()
        for equal, index in (
            ({"key": "k1"}, "daily_key"),
            ({"user": "u1"}, "daily_user"),
            ({"team": "t1"}, "daily_team"),
            ({"end_user": "e1"}, "daily_end_user"),
        ):
            question = Question(by=("model",), equal=equal)  # type: ignore[arg-type]  # they are dimensions
            self.assertEqual({index}, await self.indexes(summing(question)))
        self.assertEqual({"daily_pkey"}, await self.indexes(summing(Question(by=("model",), since=day, until=day))))

    async def indexes(self, step: Step) -> set[str]:
        """
        The indexes that serve *step*, which must not read a table from one end to the other.
        """
        [[[[plan]]]] = await self.database_.run([Step(f"explain (format json) {step.sql}", step.parameters)])
        nodes = list(walked(plan["Plan"]))
        self.assertNotIn("Seq Scan", [node["Node Type"] for node in nodes], step.sql)
        return {node["Index Name"] for node in nodes if "Index Name" in node}


def walked(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """
    *node* of a plan, and all below it.
    """
    yield node
    for each in node.get("Plans", ()):
        yield from walked(each)
