"""
The queue without a disk, for the demo: what is in it dies with the process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime

from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from dheera.bookkeeping import Entry, Lag, Lives, Reader, Spool
from dheera.call_ids import new_call_id
from dheera.records import Alert, Begun, Record, to_line

MOST_ENTRIES = 10_000
"""
Of those that some reader has not read; then the oldest goes.
"""


@define(eq=False)
class OneLife:
    """
    A process that has nothing from those before it.
    """

    owner: str = field(factory=new_call_id)

    def orphans(self) -> Sequence[str]:
        """
        There are none.
        """
        return ()

    def forgotten(self, owners: Sequence[str]) -> None:
        """
        Nothing is remembered.
        """


@define(eq=False)
class MemorySpool:
    """
    Keeps the latest entries.

    :ivar lives: of this process alone.
    """

    _most: int = MOST_ENTRIES
    lives: Lives = field(factory=OneLife, init=False)
    _entries: deque[Entry] = field(factory=deque, init=False)
    _written: int = field(default=0, init=False)
    _readers: dict[str, _MemoryReader] = field(factory=dict, init=False)

    def begin(self, begun: Begun) -> None:
        """
        Nothing: if the process dies, so does all that it would be told in.
        """

    def end(self, record: Record) -> None:
        """
        Keep *record*.
        """
        self._keep(record)

    def alert(self, alert: Alert) -> None:
        """
        Keep *alert*.
        """
        self._keep(alert)

    def reader(self, name: str, *, essential: bool = False) -> Reader:  # noqa: ARG002 - all lose alike
        """
        The reader of this name, of what comes from now on if it is new.
        """
        reader = self._readers.get(name)
        if reader is None:
            reader = self._readers[name] = _MemoryReader(name, self._entries, self._written)
        return reader

    def dismiss(self, name: str) -> None:
        """
        Keep nothing for the reader of this name.
        """
        self._readers.pop(name, None)

    def _keep(self, value: Record | Alert) -> None:
        if not self._readers:
            return
        self._written += 1
        self._entries.append(Entry(position=self._written, line=to_line(value), value=value))
        read_by_all = min(reader.position for reader in self._readers.values())
        while self._entries and (self._entries[0].position <= read_by_all or len(self._entries) > self._most):
            self._entries.popleft()
        for reader in self._readers.values():
            reader.wake()


@define(eq=False)
class _MemoryReader:
    name: str
    _entries: deque[Entry]
    position: int
    _dropped: int = field(default=0, init=False)
    _waiting: Deferred[None] | None = field(default=None, init=False)

    def wait(self) -> Deferred[None]:
        if self._unread():
            return succeed(None)
        self._waiting = Deferred(self._forget)
        return self._waiting

    def read(self, most: int) -> Sequence[Entry]:
        unread = self._unread()
        if unread and unread[0].position > self.position + 1:
            self._dropped += unread[0].position - self.position - 1
            self.position = unread[0].position - 1
        return unread[:most]

    def advance(self, position: int) -> None:
        self.position = max(self.position, position)

    def lag(self) -> Lag:
        unread = self._unread()
        return Lag(
            waiting_bytes=sum(len(entry.line) for entry in unread),
            oldest_at=_time_of(unread[0].value) if unread else None,
            dropped=self._dropped,
        )

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _forget(self, _: Deferred[None]) -> None:
        self._waiting = None

    def _unread(self) -> list[Entry]:
        return [entry for entry in self._entries if entry.position > self.position]


def _time_of(value: Record | Alert) -> datetime:
    return value.started_at if isinstance(value, Record) else value.at


_lives: type[Lives] = OneLife
_spool: type[Spool] = MemorySpool
_reader: type[Reader] = _MemoryReader
