"""
What tests of any store have in common: a database, and values to keep in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import define, field
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dheera.boundaries import Change, Store
from dheera.entities import AuditLine, Budget, Key, Team, User
from dheera.errors import Taken
from dheera.keys import Digest, digest

SOON_SECONDS = 20
"""
When a test gives up waiting for what ought to happen at once.
"""


def hour(number: int) -> datetime:
    """
    A time; the greater the number, the later.
    """
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)


NOON = hour(12)


def opening(text: str) -> Digest:
    """
    The digest of some key.
    """
    return digest(text.encode())


def a_key(id_: str = "k", **fields: Any) -> Key:
    """
    A key whose digest is ``opening(id_)``.
    """
    times = {"created_at": hour(0), "updated_at": hour(0)}
    return Key(**{"id": id_, "digest": opening(id_), "name": "sk-...last", **times, **fields})


def a_team(id_: str = "t", **fields: Any) -> Team:
    """
    A team.
    """
    return Team(**{"id": id_, "created_at": hour(0), "updated_at": hour(0), **fields})


def a_user(id_: str = "u", **fields: Any) -> User:
    """
    A user.
    """
    return User(**{"id": id_, "created_at": hour(0), "updated_at": hour(0), **fields})


def a_budget(id_: str = "b", **fields: Any) -> Budget:
    """
    A shared budget.
    """
    return Budget(**{"id": id_, "created_at": hour(0), "updated_at": hour(0), **fields})


def a_line(id_: str = "l", **fields: Any) -> AuditLine:
    """
    An audit line.
    """
    told = {"at": hour(0), "actor": "master", "address": "::1", "action": "key.block", "kind": "key", "subject": "k"}
    return AuditLine(**{"id": id_, **told, **fields})


@define(eq=False)
class Heard:
    """
    What a watcher was told: changes, and ``None`` where the store was lost.
    """

    told: list[Change | None] = field(factory=list)

    def attach(self, store: Store) -> None:
        """
        Watch *store*.
        """
        store.watch(self.told.append, lambda: self.told.append(None))


class Contract(TestCase):
    """
    A database of its own for each test, and stores on it.
    """

    timeout = 120

    def new_store(self) -> Store:
        """
        A store on this test's database, not open; each call gives another one on the same.
        """
        raise NotImplementedError

    async def break_it(self) -> None:
        """
        Take the database away from all stores.
        """
        raise NotImplementedError

    async def mend_it(self) -> None:
        """
        Bring it back.
        """
        raise NotImplementedError

    async def open_store(self, heard: Heard | None = None) -> Store:
        """
        A store, open until the test ends.
        """
        store = self.new_store()
        (heard or Heard()).attach(store)
        await store.open()
        self.addCleanup(store.close)
        return store

    async def until(self, is_so: Callable[[], bool]) -> None:
        """
        Wait for what should happen soon.
        """
        from twisted.internet import reactor

        for _ in range(SOON_SECONDS * 100):
            if is_so():
                return
            await deferLater(reactor, 0.01)
        self.fail("it did not happen")

    async def fails(self, sort: type[Exception], doing: Awaitable[object]) -> Any:
        """
        The error of *doing*, which must be one of *sort*.
        """
        try:
            result = await doing
        except sort as error:
            return error
        return self.fail(f"it gave {result!r}")

    async def taken(self, name: str, doing: Awaitable[object]) -> None:
        """
        Assert that *doing* fails because *name* is taken.
        """
        self.assertEqual(name, (await self.fails(Taken, doing)).field)
