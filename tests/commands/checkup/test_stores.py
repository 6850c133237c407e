"""
What is found of databases, without one that runs.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from unittest import TestCase

from dheera.commands.checkup.findings import Finding
from dheera.commands.checkup.postgres import judged
from dheera.commands.checkup.schemas import judged_schema
from dheera.commands.checkup.sqlite import look_at_sqlite, network_of
from dheera.stores.migrations import migrations
from dheera.stores.sqlite.migration import set_up

KNOWN = migrations("sqlite")[-1][0]


def states(found: object) -> list[str]:
    """
    How bad all of that is.
    """
    assert isinstance(found, list)
    return [each.state for each in found]


class SqliteFiles(TestCase):
    """
    An SQLite file.
    """

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.file = self.folder / "dheera.sqlite"

    def looked(self, *, in_state_directory: bool = False) -> list[Finding]:
        """
        What is found; nothing is made, and nothing changed.
        """
        before = self.content()
        found = list(look_at_sqlite(self.file, in_state_directory=in_state_directory))
        self.assertTrue(before == self.content(), "something was changed")
        return found

    def content(self) -> dict[str, bytes]:
        """
        All files, but what is in the one where those who have the database open say so to each other.
        """
        return {each.name: each.read_bytes() * (not each.name.endswith("-shm")) for each in self.folder.iterdir()}

    def test_current(self) -> None:
        """
        One that this dheera made is well, also while somebody has it open.
        """
        set_up(self.file, in_state_directory=True)
        self.assertEqual([Finding.ok("store", f"SQLite in {self.file}, schema version {KNOWN}")], self.looked())
        with closing(sqlite3.connect(self.file, isolation_level=None)) as writer:
            writer.execute("create table more (x)")
            self.assertTrue(Path(f"{self.file}-wal").stat().st_size)
            self.assertEqual(["ok"], states(self.looked()))

    def test_versions(self) -> None:
        """
        An older one is a warning, a newer one a failure; also if that is known by the log beside the file alone.
        """
        set_up(self.file, in_state_directory=True)
        with closing(sqlite3.connect(self.file, isolation_level=None)) as writer:
            writer.execute(f"pragma user_version = {KNOWN + 1}")
            self.assertEqual(["fail"], states(self.looked()))
        with closing(sqlite3.connect(self.file, isolation_level=None)) as writer:
            writer.execute(f"pragma user_version = {KNOWN - 1}")
        [found] = self.looked()
        self.assertEqual("warn", found.state)
        self.assertIn("backup", found.mend)

    def test_none(self) -> None:
        """
        One that is not there yet will be made; but not in a folder that is not there, unless that is ours to make.
        """
        [found] = self.looked()
        self.assertEqual(("ok", f"{self.file}, not there yet: the first start makes it"), (found.state, found.found))
        self.file = self.folder / "more" / "dheera.sqlite"
        self.assertEqual(["fail"], states(self.looked()))
        self.assertEqual(["ok"], states(self.looked(in_state_directory=True)))

    def test_something_else(self) -> None:
        """
        A file that is no database is a failure.
        """
        self.file.write_text("This is a text, and by far too long for an empty file." * 100)
        self.assertEqual(["fail"], states(self.looked()))


class Mounts(TestCase):
    """
    On which sort of file system something is.
    """

    def test_network(self) -> None:
        """
        The deepest mount that holds the folder counts, and of several in one place the last.
        """
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name).resolve()
            quoted = str(folder).replace(os.sep, "/").replace(" ", r"\040")
            local = f"25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw\n40 25 0:9 / {quoted}x rw - nfs4 h:/x rw\n"
            nfs = f"41 25 0:9 / {quoted} rw - nfs4 host:/export rw\n"
            over = f"42 25 0:9 / {quoted} rw - tmpfs tmpfs rw\n"
            for mounts, expected in (
                ("", ""),
                (local, ""),
                (local + nfs, "nfs4"),
                (nfs + local, "nfs4"),
                (local + nfs + over, ""),
                (local.replace("ext4", "fuse.sshfs"), "fuse.sshfs"),
                ("nonsense\n", ""),
            ):
                self.assertEqual(expected, network_of(folder, mounts), mounts)


class Postgres(TestCase):
    """
    What a PostgreSQL tells of itself.
    """

    def found(self, wanted: int = 9, **more: object) -> list[str]:
        """
        How bad it is.
        """
        facts = {"is_standby": False, "is_read_only": False, "most": 100, "reserved": 3, "others": 10, **more}
        return states(list(judged(facts, wanted)))

    def test_connections(self) -> None:
        """
        What dheera may open must be left by others, or it is a warning.
        """
        self.assertEqual(["ok"], self.found(87))
        self.assertEqual(["warn"], self.found(88))

    def test_read_only(self) -> None:
        """
        One that cannot be written is a failure.
        """
        self.assertEqual(["fail", "ok"], self.found(is_standby=True))
        self.assertEqual(["fail", "ok"], self.found(is_read_only=True))

    def test_rights(self) -> None:
        """
        Tables that are missing must be ours to make.
        """
        self.assertEqual("ok", judged_schema("store", "P", 0, "PostgreSQL").state)
        self.assertEqual("fail", judged_schema("store", "P", 0, "PostgreSQL", may_create=False).state)
        self.assertEqual("fail", judged_schema("store", "P", 1, "PostgreSQL", may_create=False).state)
        self.assertEqual("ok", judged_schema("store", "P", KNOWN, "PostgreSQL", may_create=False).state)
