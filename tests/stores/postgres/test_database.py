from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred, gatherResults

from dheera.boundaries import Add, Change, Query, Store
from dheera.entities import Key
from dheera.errors import NewerSchema, StoreAway
from dheera.stores.database import Step
from dheera.stores.migrations import migrations
from dheera.stores.postgres import listening
from dheera.stores.postgres.database import CannotSetUp, PostgresDatabase
from dheera.stores.postgres.dialling import Unreachable
from dheera.stores.postgres.listening import Mute
from dheera.stores.sql import SqlStore
from tests.postgres import PASSWORD, OnPostgres, Street, server
from tests.stores import suite
from tests.stores.contract import NOON, a_key, opening
from tests.stores.logs import Logged

INSERTION = Step("insert into changed (number) values (1)")


class PostgresStoreTests(suite.StoreContract):
    def setUp(self) -> None:
        self.server = server()
        self.name = self.server.fresh()
        self.addCleanup(self.server.drop, self.name)

    def new_store(self) -> Store:
        from twisted.internet import reactor

        return SqlStore(PostgresDatabase(reactor, self.server.url(self.name)))

    async def break_it(self) -> None:
        self.server.stop()
        self.addCleanup(self.server.start)

    async def mend_it(self) -> None:
        self.server.start()


class MigrationTests(OnPostgres):
    async def test_at_once(self) -> None:
        """
        Several adapters may set up the same empty database at the same time.
        """
        databases = [self.database() for _ in range(5)]
        for each in databases:
            self.addCleanup(each.close)
        await gatherResults([each.open() for each in databases], consumeErrors=True)
        self.assertEqual([(len(migrations("postgres")),)], self.query("select count(*) from schema_version"))

    def test_processes_at_once(self) -> None:
        """
        So may several processes.
        """
        program = (
            "import sys; from twisted.internet.task import react; from twisted.internet.defer import Deferred\n"
            "from dheera.stores.postgres.database import PostgresDatabase\n"
            "async def main(reactor):\n"
            "    database = PostgresDatabase(reactor, sys.argv[1], patience_seconds=30)\n"
            "    await database.open()\n"
            "    await database.close()\n"
            "react(lambda reactor: Deferred.fromCoroutine(main(reactor)))"
        )
        processes = [
            subprocess.Popen([sys.executable, "-c", program, self.server.url(self.name)], stderr=subprocess.PIPE)
            for _ in range(3)
        ]
        self.assertEqual([(b"", 0)] * 3, [(each.communicate()[1], each.returncode) for each in processes])
        self.assertEqual([(len(migrations("postgres")),)], self.query("select count(*) from schema_version"))

    async def test_twice(self) -> None:
        """
        A database that is up to date is left as it is.
        """
        first = SqlStore(await self.opened())
        await first.apply([Add(a_key())], [])
        second = SqlStore(await self.opened())
        self.assertEqual(a_key(), await second.get(Key, "k"))

    async def test_newer(self) -> None:
        """
        The schema of a newer dheera is left alone.
        """
        await (await self.opened()).close()
        self.query("insert into schema_version (version) values (9999)")
        error = await self.fails(NewerSchema, self.database().open())
        self.assertIn("9999", str(error))

    async def test_all_or_nothing(self) -> None:
        """
        A migration that fails leaves nothing behind.
        """
        self.query("create table audit (mine integer)")
        error = await self.fails(CannotSetUp, self.database().open())
        self.assertEqual(
            'The tables in PostgreSQL cannot be made: relation "audit" already exists (42P07).', str(error)
        )
        self.assertEqual(
            [("audit",)], self.query("select tablename::text from pg_tables where schemaname = 'public' order by 1")
        )

    async def test_no_privilege(self) -> None:
        """
        A user who may not make tables is told so, and can start when somebody else has made them.
        """
        role = f"role_{self.name}"
        self.query(f"create role {role} login password '{PASSWORD}'")
        self.addCleanup(self.server.execute, f"drop role {role}")
        self.addCleanup(self.server.execute, f"drop owned by {role}", name=self.name)
        url = self.server.url(self.name, user=role)
        error = await self.fails(CannotSetUp, self.database(url=url).open())
        self.assertIn("permission denied for schema public (42501). Let this user create tables there", str(error))
        await self.opened()
        self.query(f"grant select, insert, update, delete on all tables in schema public to {role}")
        store = SqlStore(await self.opened(url=url))
        await store.apply([Add(a_key())], [])

    async def test_lost_meanwhile(self) -> None:
        """
        A server that goes away during a migration keeps the adapter from starting, and nothing is left waiting.
        """
        self.query("create table schema_version (version integer primary key)")
        street = self.street()
        self.query("create function wait() returns trigger language plpgsql as 'begin perform pg_sleep(60); end'")
        self.query("create trigger t before insert on schema_version execute function wait()")
        opening_ = self.database(port=street.port).open()
        await self.eventually(
            lambda: bool(self.query("select 1 from pg_stat_activity where wait_event = 'PgSleep'")), "it waits"
        )
        self.query("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
        error = await self.fails(CannotSetUp, opening_)
        self.assertEqual("The tables in PostgreSQL cannot be made: the connection was lost.", str(error))

    async def test_opening_given_up(self) -> None:
        """
        Opening can be cancelled, and then leaves nothing behind.
        """
        street = self.street()
        street.block()
        opening_ = self.database(port=street.port).open()
        opening_.cancel()
        await self.fails(CancelledError, opening_)


class AbsenceTests(OnPostgres):
    async def test_crash(self) -> None:
        """
        A server that crashes is away; when it is back all works again, by itself.
        """
        database = await self.opened()
        self.stopped("immediate")
        await self.eventually(database.is_away, "it is away")
        await self.fails(StoreAway, database.run([Step("select 1")]))
        self.server.start()
        await self.eventually(lambda: not database.is_away(), "it is back")
        self.assertEqual([None, Change("", "")], self.told)
        self.assertEqual([[(1,)]], await database.run([Step("select 1")]))

    async def test_silence(self) -> None:
        """
        A server that says nothing any more is away once somebody has waited for it: who comes then, or waits as well,
        is told at once.
        """
        street = self.street()
        database = await self.opened(port=street.port, patience_seconds=0.3, connections=1)
        await database.run([Step("select 1")])
        street.block()
        first, *others = [database.run([Step("select 1")]) for _ in range(3)]
        for each in others:
            each.addErrback(lambda failure: failure.trap(StoreAway))
        await self.fails(StoreAway, first)
        self.assertEqual([StoreAway, StoreAway], [self.successResultOf(each) for each in others])
        self.assertTrue(database.is_away())
        self.failureResultOf(database.run([Step("select 1")]), StoreAway)
        await self.eventually(lambda: None in self.told, "changes are lost")
        street.block(blocked=False)
        await self.eventually(lambda: not database.is_away(), "it is back")
        self.assertEqual([None, Change("", "")], self.told)
        self.assertEqual([[(1,)]], await database.run([Step("select 1")]))

    async def test_silence_unasked(self) -> None:
        """
        Silence is noticed though nobody asks for anything, and then nobody has to wait to be told.
        """
        street = self.street()
        database = await self.opened(port=street.port)
        street.block()
        await self.eventually(lambda: None in self.told, "changes are lost")
        self.failureResultOf(database.run([Step("select 1")]), StoreAway)

    async def test_reasons_are_logged(self) -> None:
        """
        Why the server cannot be reached is logged, each reason once, and that it is back.
        """
        logged = Logged.during(self)
        database = await self.opened()
        self.stopped()
        await self.eventually(lambda: "Connection refused" in logged.text, "it is told")
        self.server.start()
        await self.eventually(lambda: not database.is_away(), "it is back")
        said = [line for line in logged.lines if "PostgreSQL" in line]
        self.assertEqual(len(set(said)), len(said))
        self.assertEqual("PostgreSQL is away: it has closed the connection. Trying to reach it again.", said[0])
        self.assertEqual("PostgreSQL is back.", said[-1])

    async def test_slow_statement(self) -> None:
        """
        A statement that takes too long is ended, also at the server, and does not make the server look away.
        """
        database = await self.opened(patience_seconds=0.5)
        await self.fails(StoreAway, database.run([Step("select pg_sleep(60)")]))
        self.assertEqual(
            [], self.query("select 1 from pg_stat_activity where query like '%sleep(60)' and state = 'active'")
        )
        self.assertFalse(database.is_away())

    async def test_lock(self) -> None:
        """
        So does one that waits for another's lock.
        """
        database = await self.opened(patience_seconds=0.5)
        holder = await self.opened()
        holding = holder.run([Step("lock table keys"), Step("select pg_sleep(1.5)")], changes=[])
        await self.eventually(
            lambda: bool(self.query("select 1 from pg_stat_activity where wait_event = 'PgSleep'")), "it is locked"
        )
        await self.fails(StoreAway, SqlStore(database).find(Key, Query()))
        self.assertFalse(database.is_away())
        await holding

    async def test_killed_unnoticed(self) -> None:
        """
        Connections that the server has closed while they were not used are replaced, and nobody notices: neither a
        reader nor a writer.
        """
        database = await self.opened()
        store = SqlStore(database)
        for write in (False, True):
            await store.look_up(opening("k"), NOON)
            self.assertEqual(1, self._kill("!~ '^(listen|notify)'"))
            # The reactor has not been asked in the meantime: the connection looks as if it were open.
            await (store.apply([Add(a_key())], []) if write else store.look_up(opening("k"), NOON))
        self.assertFalse(database.is_away())
        self.assertEqual([Change("key", "k")], self.told)

    async def test_listening_killed(self) -> None:
        """
        If only the connection is lost on which changes are heard, then transactions go on, and it is replaced.
        """
        # So that it is known by what it has said last.
        self.patch(listening, "BEAT_SECONDS", 1000.0)
        database = await self.opened()
        self.assertEqual(1, self._kill("like 'listen%'"))
        self.assertEqual([[(1,)]], await database.run([Step("select 1")]))
        await self.eventually(lambda: self.told == [None, Change("", "")], "lost and found")
        self.query('notify dheera_changes, \'{"kind": "key", "id": "k"}\'')
        await self.eventually(lambda: self.told[2:] == [Change("key", "k")], "heard again")

    async def test_notifications_are_lost(self) -> None:
        """
        If all is answered and only notifications do not arrive any more, changes are lost, and transactions go on.
        """
        logged = Logged.during(self)
        self.patch(listening, "BEAT_SECONDS", 0.05)
        self.patch(listening, "BEAT_PATIENCE_SECONDS", 0.5)
        street = self.street()
        database = await self.opened(url=self._plain(street))
        street.mute = lambda _: True
        await self.eventually(lambda: None in self.told, "changes are lost")
        await self.eventually(lambda: "cannot be listened to" in logged.text, "it is tried again")
        self.assertTrue(database.is_away())
        self.assertEqual([[(1,)]], await database.run([Step("select 1")]))
        self.assertIn(
            "PostgreSQL is away: its notifications do not arrive. LISTEN needs a direct connection to PostgreSQL, or a "
            "pooler that keeps sessions (PgBouncer's pool_mode = session). Trying to reach it again.",
            logged.lines,
        )
        street.mute = lambda _: False
        await self.eventually(lambda: not database.is_away(), "it is back")
        self.assertEqual([None, Change("", "")], self.told)

    async def test_sessions_are_not_kept(self) -> None:
        """
        A pooler that keeps no sessions is told from PostgreSQL at once, though it passes on what a connection says to
        itself.
        """
        self.patch(listening, "BEAT_PATIENCE_SECONDS", 0.5)
        street = self.street()
        url = self._plain(street)
        street.mute = lambda idle: idle
        error = await self.fails(Mute, self.database(url=url).open())
        self.assertIn("LISTEN needs a direct connection", str(error))
        self.assertNotIn(PASSWORD, str(error))

    async def test_others_do_not_hear_beats(self) -> None:
        """
        What one dheera says to itself, to know whether notifications arrive, no other one hears.
        """
        self.patch(listening, "BEAT_SECONDS", 0.05)
        first, second = await self.opened(), await self.opened()
        heard: dict[str, list[str]] = {}
        for each in first, second:
            line = each._listener._line
            assert line is not None
            channels = heard[each._listener._channel] = []

            def hear(
                channel: str,
                payload: str,
                channels: list[str] = channels,
                go_on: Callable[[str, str], None] = line.heard,
            ) -> None:
                channels.append(channel)
                go_on(channel, payload)

            line.heard = hear
        await self.eventually(lambda: all(len(each) > 4 for each in heard.values()), "both say something")
        self.assertEqual({channel: {channel} for channel in heard}, {each: set(heard[each]) for each in heard})
        self.assertEqual(2, len(heard))
        self.assertEqual((False, False), (first.is_away(), second.is_away()))
        self.assertEqual([], self.told)

    def _plain(self, street: Street) -> str:
        street.mute = lambda _: False
        return self.server.url(self.name, port=street.port) + "?sslmode=disable&gssencmode=disable"

    async def test_lost_while_committing(self) -> None:
        """
        When the answer to a commit is lost the writer is told that the database is away, and nothing is done twice. If
        it was done, that is heard as anybody's change.
        """
        # So that only who is asked to look now does look.
        self.patch(listening, "BEAT_SECONDS", 1000.0)
        database = await self.opened()
        self.query("create table changed (number integer)")
        # At the end of the transaction, so when it is about to commit.
        self.query(
            "create function die() returns trigger language plpgsql as "
            "'begin perform pg_terminate_backend(pg_backend_pid()); return null; end'"
        )
        self.query(
            "create constraint trigger t after insert on changed deferrable initially deferred "
            "for each row execute function die()"
        )
        await self.fails(StoreAway, database.run([INSERTION], changes=[Change("key", "k")]))
        self.assertEqual([(0,)], self.query("select count(*) from changed"))
        self.assertNotIn(Change("key", "k"), self.told)
        await self.eventually(lambda: not database.is_away(), "it is back")

    async def test_answer_lost(self) -> None:
        """
        Likewise when it was done, and nobody could say so: it is not done again, and is heard of later.
        """
        street = self.street()
        database = await self.opened(port=street.port)
        self.query("create table changed (number integer)")
        self.query(
            "create function wait() returns trigger language plpgsql as 'begin perform pg_sleep(0.2); return null; end'"
        )
        self.query(
            "create constraint trigger t after insert on changed deferrable initially deferred "
            "for each row execute function wait()"
        )
        for silent in False, True:
            self.told.clear()
            self.query("truncate changed")
            writing = database.run([INSERTION], changes=[Change("key", "k")])
            await self.eventually(lambda: self._waits("PgSleep"), "it commits")
            street.block()
            await self.eventually(lambda: self.query("select count(*) from changed") == [(1,)], "it was done")
            if not silent:
                street.cut()
                street.block(blocked=False)
            await self.fails(StoreAway, writing)
            street.block(blocked=False)
            await self.eventually(lambda: not {Change("key", "k"), Change("", "")}.isdisjoint(self.told), "it is heard")
            await self.eventually(lambda: not database.is_away(), "it is back")
            self.assertEqual([[(1,)]], await database.run([Step("select count(*) from changed")]))

    async def test_new_ways(self) -> None:
        """
        When a network has forgotten the connections, and says nothing of it, new ones are made: nobody has to find out
        for each of the old ones.
        """
        street = self.street()
        database = await self.opened(port=street.port, connections=3)
        await gatherResults([database.run([Step("select pg_sleep(0.1)")]) for _ in range(3)])
        street.freeze()
        await self.eventually(lambda: self.told == [None, Change("", "")], "lost and found")
        await gatherResults([database.run([Step("select pg_sleep(0.1)")]) for _ in range(3)], consumeErrors=True)

    def _waits(self, what: str) -> bool:
        sql = "select 1 from pg_stat_activity where wait_event = '{}' and datname = current_database()"
        return bool(self.query(sql.format(what)))

    def _kill(self, which: str) -> int:
        killed = self.query(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "  # noqa: S608 - our own names
            f"where datname = '{self.name}' and pid <> pg_backend_pid() and query {which}"
        )
        return len(killed)


class LeavingTests(OnPostgres):
    async def test_finishes(self) -> None:
        """
        Closing waits for what is under way; later there is nothing to be had.
        """
        database = self.database(connections=1)
        await database.open()
        self.query("create table changed (number integer)")
        under_way = [
            database.run([Step("select pg_sleep(0.1)"), INSERTION], changes=[Change("key", "k")]) for _ in range(3)
        ]
        closing = database.close()
        await self.fails(StoreAway, database.run([INSERTION], changes=[]))
        await closing
        for each in under_way:
            self.successResultOf(each)
        self.assertEqual([(3,)], self.query("select count(*) from changed"))
        await self.fails(StoreAway, database.run([INSERTION], changes=[]))
        await self.eventually(
            lambda: not self.query("select 1 from pg_stat_activity where application_name = 'dheera'"), "all hung up"
        )

    async def test_while_away(self) -> None:
        """
        One can close while the server is away.
        """
        database = self.database()
        await database.open()
        self.stopped()
        await self.eventually(database.is_away, "it is away")
        await database.close()

    async def test_never_opened(self) -> None:
        """
        What was never open can be closed, and is away.
        """
        database = self.database()
        self.assertTrue(database.is_away())
        await database.close()

    async def test_caller_leaves(self) -> None:
        """
        A caller who gives up does not stop a transaction, and its connection goes on to serve.
        """
        database = await self.opened(connections=1)
        self.query("create table changed (number integer)")
        left = database.run([Step("select pg_sleep(0.1)"), INSERTION], changes=[Change("key", "k")])
        left.cancel()
        await self.fails(CancelledError, left)
        self.assertEqual([[(1,)]], await database.run([Step("select count(*) from changed")]))
        self.assertEqual([Change("key", "k")], self.told)


class SecretTests(OnPostgres):
    async def test_password(self) -> None:
        """
        The password is in no log line, no error and no representation, whatever goes wrong.
        """
        logged = Logged.during(self)
        street = self.street()
        texts = []
        for url in (
            self.server.url("nowhere"),
            self.server.url(self.name, user="nobody"),
            self.server.url(self.name).replace(PASSWORD, f"wrong-{PASSWORD}"),
            self.server.url(self.name, port=1),
            self.server.url(self.name) + "?sslmode=require",
            self.server.url(self.name).replace("127.0.0.1", "nowhere.invalid"),
        ):
            error = await self.fails(Unreachable, self.database(url=url).open())
            texts.append(f"{error!s} {error!r} {error.__cause__!r}")
        database = await self.opened(port=street.port, patience_seconds=0.3)
        texts.append(f"{database!r} {vars(database)!r} {database._dialler!r} {database._pool!r} {database._listener!r}")
        street.block()
        await self.fails(StoreAway, database.run([Step("select 1")]))
        await self.eventually(lambda: None in self.told, "changes are lost")
        street.block(blocked=False)
        await self.eventually(lambda: not database.is_away(), "it is back")
        self.assertIn("PostgreSQL is away", logged.text)
        self.assertIn("PostgreSQL is back", logged.text)
        self.assertNotIn("canary", logged.text + " ".join(texts))

    async def test_nothing_logged(self) -> None:
        """
        What is asked is not logged, nor is what PostgreSQL says of it.
        """
        logged = Logged.during(self)
        store = SqlStore(await self.opened())
        await store.apply([Add(a_key())], [])
        await store.look_up(opening("k"), NOON)
        self.query("alter table keys add check (false) not valid")
        error = await self.fails(Exception, store.apply([Add(a_key("other"))], []))
        self.assertIn("23514 (CheckViolation)", str(error))
        told = f"{error!s} {error!r} {error.args} {error.__cause__!r}"
        self.assertNotIn(opening("other"), told + logged.text)


class TogetherTests(OnPostgres):
    async def test_bound(self) -> None:
        """
        There are never more connections than is set, besides the one that listens; who finds none waits for its turn.
        """
        database = await self.opened(connections=2)
        asked: list[Deferred[list[list[tuple[object, ...]]]]] = [
            database.run([Step("select pg_backend_pid(), pg_sleep(0.05)")]) for _ in range(6)
        ]
        [(count,)] = self.query(
            "select count(*) from pg_stat_activity where application_name = 'dheera' and datname = current_database()"
        )
        self.assertLessEqual(count, 3)
        served = {rows[0][0] for [rows] in await gatherResults(asked)}
        self.assertEqual(2, len(served))

    async def test_crossing(self) -> None:
        """
        Two transactions that would wait for each other for ever are both done.
        """
        first, second = await self.opened(), await self.opened()
        self.query("create table pair (name text, number integer)")
        self.query("insert into pair values ('a', 0), ('b', 0)")

        def adding(*names: str) -> list[Step]:
            sql = "update pair set number = number + 1 where name = :name"
            steps = [Step(sql, {"name": name}, touching=1) for name in names]
            return [steps[0], Step("select pg_sleep(0.2)"), steps[1]]

        await gatherResults([first.run(adding("a", "b"), changes=[]), second.run(adding("b", "a"), changes=[])])
        self.assertEqual([(2,), (2,)], self.query("select number from pair"))
