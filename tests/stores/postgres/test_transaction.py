from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from dheera.boundaries import Add, Change, Query
from dheera.entities import Key
from dheera.errors import BadRequest, Outdated, StoreAway, Taken
from dheera.stores.database import Step
from dheera.stores.postgres.database import TRIES, PostgresDatabase
from dheera.stores.postgres.transaction import StatementFailed
from dheera.stores.sql import SqlStore
from tests.postgres import OnPostgres
from tests.stores.contract import NOON, a_key, a_user, opening

BEAT = "notify dheera_beat_"
"""
How the listener sees whether it hears: now and then, on a connection of its own.
"""


class RoundTripTests(OnPostgres):
    async def test_one_for_a_look_up(self) -> None:
        """
        A look-up, like every question of one statement, is one round trip.
        """
        database = await self.opened()
        await SqlStore(database).look_up(opening("k"), NOON)
        [sent] = await self._sent(database, [Step("select 2")], None)
        self.assertEqual("select 2", sent)

    async def test_begin_and_commit_ride_along(self) -> None:
        """
        Other transactions have one for each step, and one at the end.
        """
        database = await self.opened()
        steps = [Step("select 2"), Step("select 3")]
        reading = ["begin isolation level repeatable read read only; select 2", "select 3", "commit"]
        self.assertEqual(reading, await self._sent(database, steps, None))
        self.assertEqual(["begin; select 2", "select 3", "commit"], await self._sent(database, steps, []))
        *first, last = await self._sent(database, steps, [Change("key", "k")])
        self.assertEqual(["begin; select 2", "select 3"], first)
        self.assertRegex(last, "^select pg_notify.*; commit$")

    async def _sent(
        self, database: PostgresDatabase, steps: Sequence[Step], changes: Sequence[Change] | None
    ) -> list[str]:
        before = len(self.server.log)
        await database.run(steps, changes=changes)
        sent = re.findall("LOG:  statement: (.*)", self.server.log[before:])
        return [each for each in sent if not each.startswith(BEAT)]


class ConsistencyTests(OnPostgres):
    async def test_one_point_of_time(self) -> None:
        """
        All steps of a question see the same state, whatever others do in between.
        """
        database = await self.opened()
        count = Step("select count(*) from users")
        asking = database.run([count, Step("select pg_sleep(0.3)"), count])
        await self.eventually(self._sleeps, "it has counted")
        await SqlStore(await self.opened()).apply([Add(a_user())], [])
        [[first], _, [second]] = await asking
        self.assertEqual(first, second)

    async def test_no_rows_no_trace(self) -> None:
        """
        A step that changes fewer or more rows than it must undoes all that was done before it, and nothing is told.
        """
        database = await self.opened(connections=1)
        store = SqlStore(database)
        await store.apply([Add(a_user("a")), Add(a_user("b"))], [])
        self.told.clear()
        everybody = Step("update users set spend = 1", touching=1)
        await self.fails(Outdated, database.run([Step("delete from users"), everybody], changes=[Change("user", "a")]))
        await self.fails(Outdated, database.run([everybody], changes=[Change("user", "a")]))
        self.assertEqual([(2, 0)], self.query("select count(*), sum(spend)::integer from users"))
        await store.apply([Add(a_user("c"))], [])
        self.assertEqual([Change("user", "c")], self.told)

    def _sleeps(self) -> bool:
        sql = "select 1 from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"
        return bool(self.query(sql))


class FailureTests(OnPostgres):
    async def test_unique(self) -> None:
        """
        What is in use is told by its name, and the connection goes on to serve.
        """
        store = SqlStore(await self.opened(connections=1))
        await store.apply([Add(a_key(alias="ci")), Add(a_user())], [])
        for expected, entity in (
            ("id", a_key(digest=opening("x"))),
            ("id", a_user()),
            ("alias", a_key("x", alias="ci")),
            ("digest", a_key("x", digest=opening("k"))),
        ):
            error = await self.fails(Taken, store.apply([Add(entity)], []))
            self.assertEqual(expected, error.field)
        self.assertEqual(a_key(alias="ci"), await store.get(Key, "k"))

    async def test_unsendable(self) -> None:
        """
        NUL and halves of surrogate pairs, which PostgreSQL cannot keep, are refused before anything is sent.
        """
        store = SqlStore(await self.opened())
        before = len(self.server.log)
        await self.fails(BadRequest, store.apply([Add(a_key(alias="a\0b", user_id="é"))], []))
        for text in "a\0b", "\ud800":
            await self.fails(BadRequest, store.get(Key, text))
            await self.fails(BadRequest, store.find(Key, Query(equal={"user_id": text})))
            await self.fails(BadRequest, store.find(Key, Query(contains={"alias": text})))
            self.assertNotIn("keys", self.server.log[before:])

    async def test_too_much(self) -> None:
        """
        A text that is too long for its index, and a number that is too large for its column, are the caller's fault.
        """
        database = await self.opened(connections=1)
        store = SqlStore(database)
        # Random, or it would be compressed.
        text = "".join(chr(letter) for letter in Random(0).choices(range(0x4E00, 0x9FFF), k=5000))  # noqa: S311 - no secret
        await self.fails(BadRequest, store.apply([Add(a_key(alias=text))], []))
        await self.fails(BadRequest, store.find(Key, Query(offset=2**70)))
        self.assertFalse(database.is_away())
        await store.apply([Add(a_key())], [])

    async def test_undone_for_others(self) -> None:
        """
        A transaction that PostgreSQL undoes for the sake of others is done again a few times; then it is outdated.
        """
        database = await self.opened()
        await self._raising("40001")
        await self.fails(Outdated, database.run([Step("insert into fragile values (1)")], changes=[]))
        self.assertEqual([(TRIES,)], self.query("select last_value from tried"))

    async def test_servers_own_troubles(self) -> None:
        """
        A disk that is full, and a server that takes no writes, are the database's fault: it is away for who asked, and
        not for others.
        """
        database = await self.opened(connections=1)
        for code in "53100", "25006", "55P03", "58030":
            await self._raising(code)
            await self.fails(StoreAway, database.run([Step("insert into fragile values (1)")], changes=[]))
            self.assertEqual([[(2,)]], await database.run([Step("select 2")]))
            self.assertFalse(database.is_away())

    async def test_our_own_faults(self) -> None:
        """
        A statement that PostgreSQL does not understand is told with its text, and without its values.
        """
        database = await self.opened(connections=1)
        error = await self.fails(StatementFailed, database.run([Step("select :word from nowhere", {"word": "canary"})]))
        self.assertEqual("PostgreSQL says 42P01 (UndefinedTable) to: select :word from nowhere", str(error))
        self.assertEqual([[(2,)]], await database.run([Step("select 2")]))

    async def _raising(self, code: str) -> None:
        self.query("drop table if exists fragile; drop sequence if exists tried; drop function if exists refuse")
        self.query("create table fragile (number integer); create sequence tried")
        self.query(
            "create function refuse() returns trigger language plpgsql as "
            f"$$begin perform nextval('tried'); raise exception using errcode = '{code}'; end$$"
        )
        self.query("create trigger t before insert on fragile execute function refuse()")


class InjectionTests(OnPostgres):
    async def test_texts_stay_texts(self) -> None:
        """
        Whatever a text holds, it is kept, found, and changes nothing else.
        """
        store = SqlStore(await self.opened())
        texts = [
            "'",
            "''; drop table keys; --",
            "\\",
            "\\'",
            "%s",
            "%(id)s",
            ":id",
            "$1",
            "{}",
            "E'\\x27'",
            "é\u2028",
            "!%_",
        ]
        for number, text in enumerate(texts):
            key = a_key(f"{number}{text}", alias=text, user_id=text, name=text, metadata={text: text})
            await store.apply([Add(key)], [])
            self.assertEqual(key, await store.get(Key, key.id))
            self.assertEqual(([key], 1), await store.find(Key, Query(equal={"user_id": text})))
            found, _ = await store.find(Key, Query(contains={"alias": text}, limit=100))
            self.assertIn(key, found)
        self.assertEqual([(len(texts),)], self.query("select count(*) from keys"))
