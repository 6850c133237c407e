"""
Several daemons on one database, and daemons that cannot start on theirs.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import TestCase

from tests.postgres import PASSWORD, server
from tests.process import databases, nodes
from tests.process.bearers import MASTER_KEY
from tests.process.daemon import ANY_PORT, Daemon


class SqliteTests(nodes.TwoNodes):
    """
    On one file.
    """

    database = staticmethod(databases.sqlite)


class PostgresTests(nodes.TwoNodes):
    """
    On one PostgreSQL.
    """

    database = staticmethod(databases.postgres)


class RefusedStartTests(TestCase):
    """
    Exit 1, and one sentence for the operator.
    """

    def reason(self, url: str) -> str:
        """
        Why a daemon does not start on this database.
        """
        said = {"DATABASE_URL": url, "DHEERA_AI_MASTER_KEY": MASTER_KEY}
        with Daemon("--demo", *ANY_PORT, said=said, serves=False) as daemon:
            self.assertEqual(1, daemon.ended())
            self.assertEqual("", daemon.output)
            self.assertNotIn("[critical]", daemon.log)
            self.assertNotIn(PASSWORD, daemon.log)
            [line] = [each for each in daemon.log.splitlines() if each.startswith("dheera_ai: ")]
        return line.removeprefix("dheera_ai: cannot start: ")

    def test_newer_sqlite(self) -> None:
        """
        A file that a newer dheera has made is refused, and left as it is.
        """
        with databases.sqlite() as url:
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
                connection.execute("pragma user_version = 999")
            self.assertRegex(self.reason(url), r"\Athe database has schema version 999, .*run the newer dheera")
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
                self.assertEqual([], connection.execute("select name from sqlite_schema").fetchall())
                self.assertEqual([(999,)], connection.execute("pragma user_version").fetchall())

    def test_newer_postgres(self) -> None:
        """
        So are the tables of a newer one.
        """
        with databases.postgres() as url:
            name = url.rpartition("/")[2]
            server().execute(
                "create table schema_version (version integer primary key)",
                "insert into schema_version values (999)",
                name=name,
            )
            self.assertRegex(self.reason(url), r"\Athe database has schema version 999, .*run the newer dheera")
            tables = "select table_name from information_schema.tables where table_schema = 'public'"
            self.assertEqual([("schema_version",)], server().execute(tables, name=name))

    def test_unreachable(self) -> None:
        """
        A PostgreSQL that cannot be reached is named, without the password.
        """
        self.assertEqual(
            "PostgreSQL at 127.0.0.1:1 cannot be used: Connection refused.",
            self.reason(f"postgresql://dheera:{PASSWORD}@127.0.0.1:1/dheera"),
        )

    def test_wrong_password(self) -> None:
        """
        So is one that does not let us in.
        """
        url = server().url().replace(PASSWORD, PASSWORD[::-1])
        self.assertRegex(self.reason(url), "password authentication failed for user")
        self.assertNotIn(PASSWORD[::-1], self.reason(url))

    def test_another_file(self) -> None:
        """
        A file that is no database is named, and left as it is; so is a directory.
        """
        with TemporaryDirectory() as folder:
            file = Path(folder, "novel.txt")
            file.write_text("It was a dark and stormy night. " * 100)
            self.assertEqual(
                f"{file} cannot be used as a database (file is not a database): change DATABASE_URL",
                self.reason(f"sqlite:///{file}"),
            )
            self.assertEqual("It was a dark and stormy night. " * 100, file.read_text())
            self.assertEqual(
                f"the database's file {folder} cannot be opened (Is a directory): change DATABASE_URL",
                self.reason(f"sqlite:///{folder}"),
            )
