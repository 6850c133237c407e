"""
The directory in dictionaries: for the demo and for tests. It is gone when the process ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from attrs import Factory, define, field
from twisted.internet.defer import Deferred, fail, succeed

from dheera.boundaries import Change, Grant, Query, Store, Write
from dheera.entities import AnyEntity, AuditLine, Budget, Key, Team, User
from dheera.errors import StoreAway
from dheera.keys import Digest
from dheera.stores.shelves import Shelves
from dheera.stores.sql import change_of, granted
from dheera.stores.tables import AUDIT, TABLES, AnyStruct, Table
from dheera.stores.watchers import Watchers

Result = TypeVar("Result")


@define(eq=False)
class MemoryStore:
    """
    Keeps the directory as long as the process lives.

    :param shelves: what is kept; another store may stand on the same, as another process would.
    """

    _shelves: Shelves = Factory(Shelves)
    _watchers: Watchers = field(init=False, factory=Watchers)
    _away: bool = field(init=False, default=False)

    def open(self) -> Deferred[None]:
        """
        Listen to what other stores on these shelves do.
        """
        self._shelves.listeners.append(self._hear)
        return succeed(None)

    def close(self) -> Deferred[None]:
        """
        Listen no longer.
        """
        self._shelves.listeners.remove(self._hear)
        return succeed(None)

    def is_away(self) -> bool:
        """
        Whether it was made to `fail`.
        """
        return self._away

    def watch(self, changed: Callable[[Change], None], lost: Callable[[], None]) -> Callable[[], None]:
        """
        Be told of changes.
        """
        return self._watchers.add(changed, lost)

    def fail(self) -> None:
        """
        Act as if there were a database and it were away. For tests and demonstrations.
        """
        self._away = True
        self._watchers.lose()

    def recover(self) -> None:
        """
        Be back after `fail`.
        """
        self._away = False
        self._watchers.tell(Change("", ""))

    def look_up(self, digest: Digest, at: datetime) -> Deferred[Grant | None]:
        """
        The key that *digest* opens, and who stands behind it.
        """
        return self._answer(lambda: self._look_up(digest, at))

    def get(self, sort: type[AnyEntity], id: str) -> Deferred[AnyEntity | None]:  # noqa: A002 - the field's name
        """
        The entity with this id; a deleted key too.
        """
        return self._answer(lambda: self._shelves.entities[sort].get(id))

    def find(self, sort: type[AnyEntity], query: Query) -> Deferred[tuple[list[AnyEntity], int]]:
        """
        One page, and the number of all.
        """
        return self._answer(lambda: _found(TABLES[sort], self._shelves.entities[sort].values(), query))

    def audit(self, query: Query) -> Deferred[tuple[list[AuditLine], int]]:
        """
        One page of the audit, and the number of all lines.
        """
        return self._answer(lambda: _found(AUDIT, self._shelves.audit.values(), query))

    def apply(self, writes: Sequence[Write], lines: Sequence[AuditLine]) -> Deferred[None]:
        """
        Do all of *writes* and keep *lines*, or nothing.
        """
        return self._answer(lambda: self._apply(writes, lines))

    def _answer(self, make: Callable[[], Result]) -> Deferred[Result]:
        if self._away:
            return fail(StoreAway())
        try:
            return succeed(make())
        except Exception:  # noqa: BLE001 - it is told, whatever it is
            return fail()

    def _look_up(self, digest: Digest, at: datetime) -> Grant | None:
        id_, until = self._shelves.digests.get(digest, (None, None))
        if id_ is None or (until is not None and until <= at):
            return None
        entities = self._shelves.entities
        key: Key = entities[Key][id_]
        team, user = _named(entities[Team], key.team_id), _named(entities[User], key.user_id)
        return granted(key, team, user, _named(entities[Budget], key.budget_id), until)

    def _apply(self, writes: Sequence[Write], lines: Sequence[AuditLine]) -> None:
        try:
            for write in writes:
                self._shelves.write(write)
            for line in lines:
                self._shelves.record(line)
        except BaseException:
            self._shelves.roll_back()
            raise
        self._shelves.commit()
        for hear in list(self._shelves.listeners):
            hear([change_of(write) for write in writes])

    def _hear(self, changes: Sequence[Change]) -> None:
        if not self._away:
            for change in changes:
                self._watchers.tell(change)


def _found(table: Table[AnyStruct], kept: Iterable[Any], query: Query) -> tuple[list[AnyStruct], int]:
    equal = [(table.column(name).name, value) for name, value in query.equal.items()]
    contains = [(table.text_column(name).name, text) for name, text in query.contains.items()]
    sort = table.column(query.sort).name

    def is_wanted(one: Any) -> bool:
        return (
            (not isinstance(one, Key) or (one.deleted_at is not None) == query.deleted)
            and all(getattr(one, name) == value for name, value in equal)
            and all(_contains(getattr(one, name), text) for name, text in contains)
        )

    wanted = sorted(filter(is_wanted, kept), key=lambda one: one.id)
    having = [one for one in wanted if getattr(one, sort) is not None]
    having.sort(key=lambda one: getattr(one, sort), reverse=query.descending)
    ordered = having + [one for one in wanted if getattr(one, sort) is None]
    return ordered[query.offset : query.offset + query.limit], len(ordered)


def _named(shelf: dict[str, Any], name: str | None) -> Any:
    return None if name is None else shelf.get(name)


def _contains(value: str | None, text: str) -> bool:
    return value is not None and _folded(text) in _folded(value)


def _folded(text: str) -> str:
    return text.encode().lower().decode()  # of ASCII alone, as the databases do


_: type[Store] = MemoryStore
