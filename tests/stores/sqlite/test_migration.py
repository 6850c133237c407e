from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from textwrap import dedent
from typing import Any

from dheera.errors import NewerSchema
from dheera.stores.migrations import migrations
from dheera.stores.sqlite.migration import connect, migrate, version
from tests.stores.on_sqlite import OnSqlite


class MigrationTests(OnSqlite):
    def setUp(self) -> None:
        super().setUp()
        self.path.parent.mkdir()
        self.path.touch()
        self.connection = connect(self.path)
        self.addCleanup(self.connection.close)

    def tables(self) -> set[str]:
        """
        The names of the tables that there are.
        """
        return {name for (name,) in self.connection.execute("select name from sqlite_master where type = 'table'")}

    def test_in_order(self) -> None:
        """
        What is missing is done, in order, and what was done is not done again.
        """
        history = [
            (1, "create table a (x);"),
            (2, "-- a; b\nalter table a add y;\ninsert into a values (1, ';');\n-- end"),
        ]
        migrate(self.connection, history[:1])
        migrate(self.connection, history)
        migrate(self.connection, history)
        self.assertEqual([(1, ";")], self.connection.execute("select * from a").fetchall())
        self.assertEqual(2, version(self.connection))

    def test_all_or_nothing(self) -> None:
        """
        A migration that breaks off leaves nothing, and those before it stay.
        """
        history = [(1, "create table a (x);"), (2, "create table b (x);\ncreate table a (x);")]
        self.assertRaises(sqlite3.OperationalError, migrate, self.connection, history)
        self.assertEqual(({"a"}, 1), (self.tables(), version(self.connection)))

    async def test_newer(self) -> None:
        """
        A file of a newer dheera is refused in a sentence, nothing in it changes, and no thread is left.
        """
        self.connection.execute("pragma user_version = 1000")
        error = await self.fails(NewerSchema, self.new_store().open())
        self.assertIn("1000", str(error))
        self.assertEqual((set(), 1000), (self.tables(), version(self.connection)))
        self.assertEqual([("delete",)], self.connection.execute("pragma journal_mode").fetchall())
        self.assertEqual([], self.threads())

    def test_numbers(self) -> None:
        """
        The files are numbered 1, 2, 3 ... and begin with a comment.
        """
        history = migrations("sqlite")
        self.assertEqual(list(range(1, len(history) + 1)), [number for number, _ in history])
        self.assertEqual([], [text for _, text in history if not text.startswith("-- ")])

    def test_waits_for_the_mode(self) -> None:
        """
        Another process that writes to a new file just then is waited for, which SQLite itself does not do here.
        """
        other = self.connection
        refused: list[str] = []

        class Hindered(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                try:
                    return super().execute(sql, *parameters)
                except sqlite3.OperationalError:
                    refused.append(sql)
                    other.execute("commit")
                    raise

        other.execute("begin immediate")
        other.execute("create table theirs (x)")
        with closing(sqlite3.connect(self.path, isolation_level=None, factory=Hindered)) as hindered:
            migrate(hindered, [(1, "create table a (x);")])
        self.assertEqual(["pragma journal_mode = wal"], refused)
        self.assertEqual({"theirs", "a"}, self.tables())

    def test_overtaken(self) -> None:
        """
        What another process has done between one's first look and one's turn is not done again.
        """
        history = [(1, "create table a (x);")]
        other = self.connection

        class Late(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                if sql == "begin immediate":
                    migrate(other, history)
                return super().execute(sql, *parameters)

        with closing(sqlite3.connect(self.path, isolation_level=None, factory=Late)) as late:
            migrate(late, history)
            self.assertEqual(1, version(late))

    def test_many_processes(self) -> None:
        """
        Of several processes that start at once on an empty file, each finds it complete.
        """
        self.connection.close()
        self.path.unlink()
        script = dedent(
            """
            import sys
            from pathlib import Path
            from dheera.stores.database import Step
            from dheera.stores.sqlite.file import SqliteFile
            print("ready", flush=True)
            sys.stdin.readline()
            file = SqliteFile(Path(sys.argv[1]))
            file.open()
            print(file.read([Step("select count(*) from keys")]))
            """
        )
        command = [sys.executable, "-c", script, str(self.path)]
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)
        ]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        self.assertEqual(["[[(0,)]]\n"] * 6, [process.communicate(timeout=60)[0] for process in processes])
