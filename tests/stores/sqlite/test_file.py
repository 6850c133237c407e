from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Add, Change
from dheera.entities import Key
from dheera.stores.database import Step
from dheera.stores.sqlite.file import CHANGES_KEPT, SqliteFile
from dheera.stores.sqlite.migration import connect
from tests.stores.contract import NOON, Heard, a_key, opening
from tests.stores.on_sqlite import OnSqlite


class FileTests(OnSqlite):
    async def test_nobody_else_may_read(self) -> None:
        """
        The files, and the directory that was made for them, are the owner's alone.
        """
        store = await self.open_store()
        await store.apply([Add(a_key())], [])
        modes = {
            path.name: f"{path.stat().st_mode & 0o777:o}" for path in [self.path.parent, *self.path.parent.iterdir()]
        }
        self.assertEqual(
            {"new": "700", self.path.name: "600", f"{self.path.name}-wal": "600", f"{self.path.name}-shm": "600"}, modes
        )

    async def test_directory_of_others(self) -> None:
        """
        A directory that was there keeps its mode.
        """
        self.path.parent.mkdir()
        self.path.parent.chmod(0o755)
        await self.open_store()
        self.assertEqual("755", f"{self.path.parent.stat().st_mode & 0o777:o}")

    async def test_kept(self) -> None:
        """
        What was written is there when the file is opened again.
        """
        store = self.new_store()
        await store.open()
        await store.apply([Add(a_key())], [])
        await store.close()
        self.assertEqual(a_key(), await (await self.open_store()).get(Key, "k"))

    async def test_settings(self) -> None:
        """
        Writers and readers do not wait for each other, a write is on the disk before it is told, and a digest without a
        key cannot be.
        """
        database = await self.open_database()
        asked = [Step(f"pragma {name}") for name in ("journal_mode", "synchronous", "foreign_keys")]
        self.assertEqual([[("wal",)], [(2,)], [(1,)]], await database.run(asked, changes=[]))
        orphan = Step("insert into digests (digest, key_id) values ('d', 'nobody')")
        await self.fails(sqlite3.IntegrityError, database.run([orphan], changes=[]))

    async def test_readable(self) -> None:
        """
        What the schema's comments say of a row is true: texts for times, nano-dollars, 0 and 1.
        """
        store = await self.open_store()
        await store.apply([Add(a_key(expires_at=NOON, blocked=True))], [])
        with closing(connect(self.path)) as connection:
            rows = connection.execute("select created_at, expires_at, blocked, spend from keys").fetchall()
        self.assertEqual([("2026-01-01T00:00:00.000000Z", "2026-01-01T12:00:00.000000Z", 1, 0)], rows)

    async def test_change_by_hand(self) -> None:
        """
        A column that an operator changes is what the key is, and a row in ``changes`` tells the running processes.
        """
        heard = Heard()
        store = await self.open_store(heard)
        await store.apply([Add(a_key(alias="ci"))], [])
        heard.told.clear()
        with closing(connect(self.path)) as connection:
            connection.execute("update keys set blocked = 1, version = version + 1 where alias = 'ci'")
            connection.execute("insert into changes (kind, id) values ('', '')")
        await self.until(lambda: Change("", "") in heard.told)
        self.assertEqual(a_key(alias="ci", blocked=True, version=1), await store.get(Key, "k"))

    async def test_deletion_by_hand(self) -> None:
        """
        A key that an operator marks as deleted opens nothing, though its digest is still there.
        """
        store = await self.open_store()
        await store.apply([Add(a_key())], [])
        with closing(connect(self.path)) as connection:
            connection.execute("update keys set deleted_at = created_at")
        self.assertIsNone(await store.look_up(opening("k"), NOON))


class ChangesTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = Path(directory.name) / "a.sqlite"
        self.ours, self.theirs = SqliteFile(path), SqliteFile(path)
        for each in self.ours, self.theirs:
            each.open()
            self.addCleanup(each.end_writing)
            self.addCleanup(each.end_reading)
            self.assertEqual([], each.news())

    def test_each_once(self) -> None:
        """
        Each change is found once, in order, by every process.
        """
        changes = [Change("key", "a"), Change("team", "b"), Change("", "")]
        self.ours.write([], changes, 1)
        self.theirs.write([], [Change("user", "c")], 1)
        for each in self.ours, self.theirs:
            self.assertEqual([*changes, Change("user", "c")], [change for _, change in each.news()])
            self.assertEqual([], each.news())

    def test_another_schema(self) -> None:
        """
        A file in which our tables are missing is told as that, not as a database that is away.
        """
        self.ours.write([Step("drop table changes")], [], 1)
        self.theirs.end_reading()
        self.assertRaises(sqlite3.OperationalError, self.theirs.news)

    def test_bounded(self) -> None:
        """
        Old changes are forgotten.
        """
        changes = [Change("key", str(number)) for number in range(CHANGES_KEPT)]
        for _ in range(3):
            self.ours.write([], changes, 1)
        [[(count,)]] = self.ours.read([Step("select count(*) from changes")])
        self.assertLess(count, CHANGES_KEPT + 1000)
        self.assertGreaterEqual(count, CHANGES_KEPT)

    def test_missed(self) -> None:
        """
        Who was away while changes were forgotten is told that anything may have changed, and then goes on as before.
        """
        for _ in range(3):
            self.ours.write([], [Change("key", "k")] * CHANGES_KEPT, 1)
        self.assertEqual([Change("", "")], [change for _, change in self.theirs.news()])
        self.ours.write([], [Change("key", "last")], 1)
        self.assertEqual([Change("key", "last")], [change for _, change in self.theirs.news()])
