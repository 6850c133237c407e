from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from shutil import copy
from textwrap import dedent

from twisted.internet.defer import CancelledError

from dheera.boundaries import Add, Change, Grant, Put, Query
from dheera.entities import Key, Team
from dheera.errors import CannotStart, StoreAway
from dheera.stores.database import Step
from dheera.stores.sql import SqlStore, writing
from dheera.stores.sqlite.database import MOST_SEARCHES
from dheera.stores.sqlite.migration import connect
from tests.stores import suite
from tests.stores.contract import NOON, Heard, a_key, a_team, opening
from tests.stores.logs import Logged
from tests.stores.on_sqlite import ADD_TEAM, OnSqlite

SLOW = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000000) select max(i) from n"


class SqliteStoreTests(OnSqlite, suite.StoreContract):
    pass


class ThreadTests(OnSqlite):
    async def test_end(self) -> None:
        """
        The threads end with the store, after what was under way.
        """
        store = self.new_store()
        await store.open()
        self.assertEqual(3, len(self.threads()))
        writing_ = store.apply([Add(a_key())], [])
        reading = store.find(Key, Query())
        await store.close()
        self.assertEqual([], self.threads())
        await writing_
        await reading
        await self.fails(StoreAway, store.get(Key, "k"))
        await store.close()

    async def test_cannot_open(self) -> None:
        """
        A store that cannot be opened leaves no thread.
        """
        self.path.mkdir(parents=True)
        await self.fails(CannotStart, self.new_store().open())
        self.assertEqual([], self.threads())

    def test_process_ends(self) -> None:
        """
        A process that fails after it has opened the store is not kept alive by its threads.
        """
        script = dedent(
            """
            import sys
            from pathlib import Path
            from twisted.internet import reactor
            from dheera.stores.sqlite.database import SqliteDatabase
            opening = SqliteDatabase(reactor, Path(sys.argv[1])).open()
            opening.addCallback(lambda _: reactor.stop())
            reactor.run()
            sys.exit("not today")
            """
        )
        command = [sys.executable, "-c", script, f"{self.directory.name}/a.sqlite"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((1, "not today\n"), (done.returncode, done.stderr))

    async def test_readers_and_writers(self) -> None:
        """
        A long search holds up neither a writer, nor who looks something up, nor the news of what others change.
        """
        heard = Heard()
        database, other = self.new_database(patience_seconds=60), await self.open_database()
        database.watch(heard.told.append, lambda: heard.told.append(None))
        await database.open()
        self.addCleanup(database.close)
        searching = [database.run([Step(SLOW)], slow=True) for _ in range(3)]
        await database.run(ADD_TEAM, changes=[])
        self.assertEqual([[("t",)]], await database.run([Step("select id from teams")]))
        await other.run(writing(Add(a_team("other"))), changes=[Change("team", "other")])
        await self.until(lambda: Change("team", "other") in heard.told)
        self.assertFalse(searching[-1].called)
        for each in searching:
            await each

    async def test_one_state(self) -> None:
        """
        What is read together is of one state, though somebody writes meanwhile.
        """
        database, other = await self.open_database(), await self.open_database()
        count = Step("select count(*) from teams")
        reading = database.run([count, Step(SLOW), count])
        await other.run(ADD_TEAM, changes=[])
        first, _, second = await reading
        self.assertEqual(first, second)

    async def test_own_changes_are_told_once(self) -> None:
        """
        What a store was told of its own writes it does not hear again when it looks for those of others.
        """
        ours, theirs = Heard(), Heard()
        store, other = await self.open_store(ours), await self.open_store(theirs)
        for number in range(20):
            await store.apply([Add(a_team(f"{number}"))], [])
        await other.apply([Add(a_team("last"))], [])
        await self.until(lambda: Change("team", "last") in ours.told)
        expected = {Change("team", str(number)) for number in range(20)} | {Change("team", "last")}
        self.assertEqual(expected, set(ours.told))
        # One that is seen between its commit and its being told is told twice, which does no harm.
        self.assertLess(len(ours.told), 2 * 20)

    async def test_broken_watcher(self) -> None:
        """
        A watcher that fails is a bug that is logged; as changes are no longer heard from then on, that is told.
        """
        lost: list[bool] = []
        database = self.new_database()
        database.watch(lambda change: [][len(change.id)], lambda: lost.append(True))
        await database.open()
        self.addCleanup(database.close)
        other = await self.open_database()
        await other.run(ADD_TEAM, changes=[Change("team", "t")])
        await self.until(database.is_away)
        self.assertEqual([True], lost)
        self.assertEqual(1, len(self.flushLoggedErrors(IndexError)))


class PatienceTests(OnSqlite):
    async def test_locked(self) -> None:
        """
        Who finds the file locked by another process for too long is told so; reading goes on, and so does writing when
        the other is done.
        """
        database = await self.open_database(patience_seconds=0.1)
        with closing(connect(self.path)) as other:
            other.execute("begin immediate")
            await self.fails(StoreAway, database.run(ADD_TEAM, changes=[]))
            self.assertFalse(database.is_away())
            self.assertEqual([[(0,)]], await database.run([Step("select count(*) from teams")]))
            other.execute("rollback")
        await database.run(ADD_TEAM, changes=[])
        self.assertEqual([[(1,)]], await database.run([Step("select count(*) from teams")]))

    async def test_waits(self) -> None:
        """
        A writer waits for another process that is soon done.
        """
        database = await self.open_database(patience_seconds=60)
        with closing(connect(self.path)) as other:
            other.execute("begin immediate")
            waiting = database.run(ADD_TEAM, changes=[])
            await database.run([Step("select 1")])
            self.assertFalse(waiting.called)
            other.execute("rollback")
            await waiting

    async def test_queue(self) -> None:
        """
        Those who wait behind one that finds the file locked are told so, too, and nothing of it is done afterwards.
        """
        database = await self.open_database(patience_seconds=0.2)
        with closing(connect(self.path)) as other:
            other.execute("begin immediate")
            waiting = [database.run(writing(Add(a_team(f"{number}"))), changes=[]) for number in range(5)]
            for each in waiting:
                await self.fails(StoreAway, each)
            other.execute("rollback")
        self.assertEqual([[(0,)]], await database.run([Step("select count(*) from teams")]))

    async def test_too_late(self) -> None:
        """
        What somebody was told had failed, since its turn did not come, is not done when it comes.
        """
        database = await self.open_database(patience_seconds=0.1)
        going_on = threading.Event()
        self.addCleanup(going_on.set)
        database._writing.callInThread(going_on.wait)
        await self.fails(StoreAway, database.run(ADD_TEAM, changes=[]))
        going_on.set()
        await database.run(writing(Add(a_team("later"))), changes=[])
        self.assertEqual([[("later",)]], await database.run([Step("select id from teams")]))

    async def test_stuck(self) -> None:
        """
        A disk that never answers is `StoreAway`, too: for who waits, and then at once for everybody. Closing does not
        wait for it for ever.
        """
        database = self.new_database(patience_seconds=0.1)
        await database.open()
        heard = Heard()
        database.watch(heard.told.append, lambda: heard.told.append(None))
        going_on = threading.Event()
        database._reading.callInThread(going_on.wait)
        self.addCleanup(database._reading.stop)
        self.addCleanup(going_on.set)
        await self.fails(StoreAway, database.run([Step("select 1")]))
        await self.until(database.is_away)
        self.assertEqual([None], heard.told)
        for slow in False, True:
            self.failureResultOf(database.run([Step("select 1")], slow=slow), StoreAway)
        await database.close()

    async def test_late_is_not_lost(self) -> None:
        """
        Who was not served in time, since others were before it, is told so; that does not make the database look away.
        """
        lost: list[bool] = []
        database = self.new_database(patience_seconds=0.1)
        database.watch(lambda _: None, lambda: lost.append(True))
        await database.open()
        self.addCleanup(database.close)
        going_on = threading.Event()
        self.addCleanup(going_on.set)
        database._searching.callInThread(going_on.wait)
        for each in [database.run([Step("select 1")], slow=True) for _ in range(3)]:
            await self.fails(StoreAway, each)
        self.assertEqual([], lost)
        self.assertFalse(database.is_away())
        self.assertEqual([[(1,)]], await database.run([Step("select 1")]))
        going_on.set()
        self.assertEqual([[(1,)]], await database.run([Step("select 1")], slow=True))

    async def test_endless_search(self) -> None:
        """
        A search that takes too long is broken off, and the next one is served.
        """
        database = await self.open_database(patience_seconds=0.2)
        endless = Step("with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n")
        for _ in range(2):
            await self.fails(StoreAway, database.run([endless], slow=True))
            self.assertFalse(database.is_away())
            self.assertEqual([[(1,)]], await database.run([Step("select 1")], slow=True))

    async def test_crowd(self) -> None:
        """
        Of many who search at once only so many wait as may be served; others are sent away at once, until some are
        done.
        """
        database = await self.open_database(patience_seconds=60)
        going_on = threading.Event()
        self.addCleanup(going_on.set)
        database._searching.callInThread(going_on.wait)
        waiting = [database.run([Step("select 1")], slow=True) for _ in range(MOST_SEARCHES)]
        self.failureResultOf(database.run([Step("select 1")], slow=True), StoreAway)
        waiting[0].cancel()
        await self.fails(CancelledError, waiting[0])
        self.failureResultOf(database.run([Step("select 1")], slow=True), StoreAway)
        self.assertFalse(database.is_away())
        going_on.set()
        for each in waiting[1:]:
            self.assertEqual([[(1,)]], await each)
        self.assertEqual([[(1,)]], await database.run([Step("select 1")], slow=True))

    async def test_lists_are_searches(self) -> None:
        """
        Lists are what may take long; who wants one thing does not wait for them.
        """
        database = await self.open_database(patience_seconds=60)
        store = SqlStore(database)
        await store.apply([Add(a_key())], [])
        going_on = threading.Event()
        self.addCleanup(going_on.set)
        database._searching.callInThread(going_on.wait)
        keys, lines = store.find(Key, Query()), store.audit(Query(sort="at"))
        self.assertEqual(Grant(a_key()), await store.look_up(opening("k"), NOON))
        self.assertEqual(a_key(), await store.get(Key, "k"))
        self.assertEqual((False, False), (keys.called, lines.called))
        going_on.set()
        self.assertEqual(([a_key()], 1), await keys)
        self.assertEqual(([], 0), await lines)


class DiskTests(OnSqlite):
    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """
        No file takes a byte.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    async def test_no_room(self) -> None:
        """
        When the disk takes nothing more, writes fail and leave nothing, and reading goes on all the time: the store is
        not away. That nothing can be written, and that it can again, is logged once.
        """
        heard, logged = Heard(), Logged.during(self)
        store = await self.open_store(heard)
        await store.apply([Add(a_key())], [])
        heard.told.clear()
        with self.full_disk():
            for _ in range(3):
                await self.fails(StoreAway, store.apply([Add(a_team(alias="a" * 100_000))], []))
                self.assertFalse(store.is_away())
                self.assertEqual(a_key(), await store.get(Key, "k"))
        self.assertIsNone(await store.get(Team, "t"))
        await store.apply([Put(a_key(alias="ci"))], [])
        self.assertEqual(a_key(alias="ci", version=1), await store.get(Key, "k"))
        self.assertNotIn(None, heard.told)
        told = [line.partition(":")[0] for line in logged.lines if "written" in line]
        self.assertEqual(["Nothing can be written to the database", "The database can be written again."], told)

    async def test_page_limit(self) -> None:
        """
        A full database is told like a full disk.
        """
        database = await self.open_database()
        [[(pages,)]] = await database.run([Step("pragma page_count")], changes=[])
        await database.run([Step(f"pragma max_page_count = {pages}")], changes=[])
        await self.fails(StoreAway, database.run(writing(Add(a_team(alias="a" * 100_000))), changes=[]))
        self.assertEqual([[(0,)]], await database.run([Step("select count(*) from teams")]))

    async def test_replaced(self) -> None:
        """
        A file that was replaced is not written to, and neither is the one that was there before.
        """
        store = await self.open_store()
        await store.apply([Add(a_key())], [])
        copy(self.path, self.aside)
        self.aside.replace(self.path)
        await self.fails(StoreAway, store.apply([Add(a_team())], []))
        await self.fails(StoreAway, store.get(Key, "k"))
        self.assertTrue(store.is_away())

    async def test_not_a_database(self) -> None:
        """
        A file that is something else is not touched, and the store does not open.
        """
        self.path.parent.mkdir()
        self.path.write_text("My novel. " * 1000)
        await self.fails(CannotStart, self.new_store().open())
        self.assertEqual("My novel. " * 1000, self.path.read_text())

    async def test_bugs_are_not_absences(self) -> None:
        """
        A statement that is wrong is told as what it is, and does not count as the database's absence.
        """
        database = await self.open_database()
        for statement in "select nothing", "nonsense", "select :missing":
            await self.fails(sqlite3.Error, database.run([Step(statement)]))
            await self.fails(sqlite3.Error, database.run([Step(statement)], changes=[]))
            self.assertFalse(database.is_away())
        await database.run(ADD_TEAM, changes=[])
