"""
An SQLite file for each test.
"""

from __future__ import annotations

import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from dheera.boundaries import Add, Store
from dheera.stores.sql import SqlStore, writing
from dheera.stores.sqlite.database import SqliteDatabase
from tests.stores.contract import Contract, a_team

ADD_TEAM = writing(Add(a_team()))


class OnSqlite(Contract):
    """
    An SQLite file for each test.
    """

    def setUp(self) -> None:
        self.directory = TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.path = Path(self.directory.name) / "new" / "a b?.sqlite"
        self.aside = self.path.with_suffix(".aside")

    def new_database(self, patience_seconds: float = 5) -> SqliteDatabase:
        """
        The file, not open.
        """
        from twisted.internet import reactor

        return SqliteDatabase(
            reactor, self.path, in_state_directory=True, patience_seconds=patience_seconds, poll_seconds=0.01
        )

    def new_store(self) -> Store:
        return SqlStore(self.new_database())

    async def break_it(self) -> None:
        self.path.rename(self.aside)

    async def mend_it(self) -> None:
        self.aside.rename(self.path)

    async def open_database(self, patience_seconds: float = 5) -> SqliteDatabase:
        """
        The file, open until the test ends.
        """
        database = self.new_database(patience_seconds)
        await database.open()
        self.addCleanup(database.close)
        return database

    def threads(self) -> list[str]:
        """
        Our threads that are alive.
        """
        return [thread.name for thread in threading.enumerate() if "sqlite" in thread.name]
