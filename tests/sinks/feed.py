"""
What a feeder is given in tests: a spool in memory, and a sink that does what a test says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from dheera.bookkeeping import Entry, Lag, Reader
from dheera.records import Alert, Begun, Record
from dheera.sinks.backoff import Backoff
from dheera.sinks.catalogue import Configured
from dheera.sinks.contract import Sink, SinkFactory, SinkSettings, Tools
from dheera.sinks.feeding import Feeder
from tests.sinks.records import NOON, entries


class MemoryReader:
    """
    A reader of the spool that has no spool.
    """

    def __init__(self, name: str = "tried") -> None:
        self.name = name
        self.position = 0
        self.broken: Exception | None = None
        self._entries: list[Entry] = []
        self._end = 0
        self._waiting: Deferred[None] | None = None

    def write(self, *values: Record | Alert) -> list[Entry]:
        """
        Something happens.
        """
        new = entries(*values, first=self._end)
        self._entries += new
        self._end = new[-1].position
        if self._waiting is not None and not self._waiting.called:
            self._waiting.callback(None)
        return new

    def wait(self) -> Deferred[None]:
        """
        See `Reader`.
        """
        self._waiting = Deferred()
        if self._end > self.position:
            self._waiting.callback(None)
        return self._waiting

    def read(self, most: int) -> Sequence[Entry]:
        """
        See `Reader`.
        """
        if self.broken is not None:
            raise self.broken
        return [each for each in self._entries if each.position > self.position][:most]

    def advance(self, position: int) -> None:
        """
        See `Reader`.
        """
        assert position >= self.position
        self.position = position

    def lag(self) -> Lag:
        """
        See `Reader`.
        """
        return Lag(waiting_bytes=self._end - self.position)


class MemorySpool:
    """
    A spool that keeps alerts, and has readers.
    """

    def __init__(self) -> None:
        self.readers: dict[str, MemoryReader] = {}
        self.alerts: list[Alert] = []

    def begin(self, begun: Begun) -> None:
        """
        Nothing begins here.
        """

    def end(self, record: Record) -> None:
        """
        Nothing ends here.
        """

    def alert(self, alert: Alert) -> None:
        """
        See `dheera.bookkeeping.Spool`.
        """
        self.alerts.append(alert)

    def reader(self, name: str, *, essential: bool = False) -> Reader:
        """
        See `dheera.bookkeeping.Spool`.
        """
        assert not essential
        return self.readers.setdefault(name, MemoryReader(name))

    def dismiss(self, name: str) -> None:
        """
        See `dheera.bookkeeping.Spool`.
        """
        del self.readers[name]


class Told:
    """
    A sink.

    :ivar batches: all that it was sent.
    :ivar arrived: ids of what it has taken.
    :ivar next: what it fails with for the batches to come; ``None`` takes one.
    :ivar usual: the same, for all others.
    :ivar refuses: ids that it does not take.
    :ivar held: batches that wait for an answer, if it answers none by itself.
    """

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.arrived: list[str] = []
        self.next: deque[Exception | None] = deque()
        self.usual: Exception | None = None
        self.refuses: dict[str, Exception] = {}
        self.held: list[Deferred[None]] | None = None
        self.seen: list[Entry] = []
        self.closed = 0
        self.closing: Deferred[None] | None = None

    def send(self, batch: Sequence[Entry]) -> Deferred[None]:
        """
        See `Sink`.
        """
        names = [each.value.id if isinstance(each.value, Alert) else each.value.call_id for each in batch]
        self.batches.append(names)
        self.seen += batch
        if self.held is not None:
            self.held.append(Deferred())
            return self.held[-1]
        error = self.next.popleft() if self.next else self.usual
        error = next((self.refuses[each] for each in names if each in self.refuses), error)
        if error is not None:
            return fail(error)
        self.arrived += names
        return succeed(None)

    def close(self) -> Deferred[None]:
        """
        See `Sink`.
        """
        self.closed += 1
        return self.closing or succeed(None)


class ToldFactory:
    """
    Makes no sinks: a test has it.
    """

    kind: ClassVar[str] = "told"
    settings: ClassVar[type[SinkSettings]] = SinkSettings
    takes: ClassVar[Literal["records", "alerts", "all"]] = "all"

    def __init__(self, sink: Sink | None = None) -> None:
        self._sink = sink

    def make(self, settings: Any, tools: Tools) -> Sink:  # noqa: ARG002 - the interface
        """
        See `SinkFactory`.
        """
        assert self._sink is not None
        return self._sink


_: SinkFactory = ToldFactory()


def told(name: str, sink: Told) -> Configured:
    """
    A sink of that name, for which nothing waits.
    """
    return Configured(name=name, factory=ToldFactory(), settings=SinkSettings(batch_seconds=0), sink=sink)


class Fed:
    """
    A feeder, and all around it; the clock is the test's. Waits of the backoff are as long as they may be.
    """

    def __init__(self, factory: SinkFactory | None = None, **settings: Any) -> None:
        self.clock = Clock()
        self.reader = MemoryReader()
        self.sink = Told()
        self.alerts: list[Alert] = []
        configured = Configured(
            name="tried", factory=factory or ToldFactory(), settings=SinkSettings(**settings), sink=self.sink
        )
        longest: Callable[[float, float], float] = lambda _, most: most  # noqa: E731
        self.feeder = Feeder(
            self.clock, self.reader, configured, self.alerts.append, "north-1", self.now, Backoff(longest)
        )
        self.feeder.start()

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.clock.seconds())

    def turn(self, seconds: float, step: float = 0.25) -> None:
        """
        Let time pass.
        """
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def settle(self) -> None:
        """
        Let everybody act who waits for nothing but a turn.
        """
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)
