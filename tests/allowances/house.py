"""
Processes on one store, and a ledger: what calls take, and pay, whatever dies in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from dheera.allowances.hold import Hold
from dheera.allowances.room import Allowances
from dheera.allowances.turns import RELEASE_SECONDS
from dheera.holding import Allowance, AllowanceStore, Turn, Turned, Used
from dheera.limits import Limit
from dheera.records import Alert
from dheera.settings import AllowanceSettings
from dheera.spool.memory import OneLife
from dheera.stores.memory_allowances import MemoryAllowances
from dheera.stores.memory_ledger import MemoryBooks
from dheera.stores.shelves import Shelves
from tests.stores.books import a_record

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
NOON_US = int(NOON.timestamp()) * 1_000_000
KEY = Allowance(subject="key/1", kind="usd")


def take(room: Allowances, call_id: str, limits: Sequence[Limit], *, nano: int, tokens: int) -> Deferred[Hold]:
    """
    A hold for a call, out of a lease if there is one.
    """
    drawn = room.draw(limits, nano, tokens)
    return room.take(call_id, limits, nano=nano, tokens=tokens) if drawn is None else succeed(drawn)


@define(eq=False)
class Line:
    """
    How a process reaches the store, until it dies.

    :ivar is_slow: answers come when the test says so.
    """

    store: MemoryAllowances
    is_cut: bool = False
    is_slow: bool = False
    turns: list[Turn] = field(factory=list)
    _asked: list[tuple[Turn, Deferred[Turned]]] = field(factory=list)

    def turn(self, turn: Turn) -> Deferred[Turned]:
        self.turns.append(turn)
        if self.is_slow or self.is_cut:
            self._asked.append((turn, Deferred()))
            return self._asked[-1][1]
        return self.store.turn(turn)

    def answer(self) -> None:
        """
        Bring the answer that was waited for first.
        """
        turn, waiting = self._asked.pop(0)
        self.store.turn(turn).chainDeferred(waiting)

    def lose(self, error: Exception) -> None:
        """
        Bring this in its place.
        """
        self._asked.pop(0)[1].errback(error)

    def sweep(self) -> Deferred[int]:
        return Deferred() if self.is_cut else self.store.sweep()

    def forget(self, owners: Sequence[str]) -> Deferred[int]:
        return self.store.forget(owners)

    def look(self, subjects: Sequence[str]) -> Deferred[Sequence[Used]]:
        return self.store.look(subjects)


_: type[AllowanceStore] = Line


@define(eq=False)
class Call:
    """
    One call that was let through.

    :ivar cost: once it is over.
    :ivar reached: upstream may have seen it.
    """

    id: str
    owner: str
    hold: Hold
    subjects: dict[str, str]
    at: float
    cost: int | None = None
    is_kept: bool = False
    reached: bool = True

    @property
    def taken(self) -> int:
        return (self.hold.nano or 0) if self.cost is None else self.cost


@define(eq=False)
class House:
    """
    Processes on one store, and the ledger.
    """

    clock: Clock = field(factory=Clock)
    alerts: list[Alert] = field(factory=list)
    rooms: dict[str, tuple[Allowances, Line]] = field(factory=dict)
    calls: list[Call] = field(factory=list)
    store: MemoryAllowances = field(init=False)
    books: MemoryBooks = field(init=False)

    def __attrs_post_init__(self) -> None:
        shelves = Shelves()
        self.store = MemoryAllowances(shelves, clock=lambda: NOON_US + round(self.clock.seconds() * 1_000_000))
        self.books = MemoryBooks(shelves, settle=self.store.settle)

    def start(self, owner: str, **said: Any) -> Line:
        """
        A process.
        """
        line = Line(self.store)
        room = Allowances(
            self.clock,
            line,
            AllowanceSettings(**said),
            lives=OneLife(owner),
            node="n1",
            alert=self.alerts.append,
            now=lambda: NOON + timedelta(seconds=self.clock.seconds()),
        )
        Deferred.fromCoroutine(room.open())
        self.rooms[owner] = room, line
        return line

    def take(self, owner: str, *limits: Limit, nano: int = 10, tokens: int = 0) -> Call:
        """
        A call begins.

        :raises Refusal: it may not.
        """
        got: list[Any] = []
        name = f"c{len(self.calls)}"
        take(self.rooms[owner][0], name, limits, nano=nano, tokens=tokens).addBoth(got.append)
        [hold] = got
        if isinstance(hold, Failure):
            hold.raiseException()
        subjects = {f"{kind}_id": id_ for kind, _, id_ in (each.subject.partition("/") for each in limits)}
        call = Call(name, owner, hold, subjects, self.clock.seconds())
        self.calls.append(call)
        return call

    def end(self, call: Call, cost: int, *, tokens: int = 0, reached: bool = True) -> None:
        """
        It is over.
        """
        call.cost, call.reached = cost if reached else 0, reached
        call.hold.settle(usd=cost, tokens=tokens, reached=reached)

    def keep(self, *calls: Call) -> None:
        """
        Their records come to the ledger; that of a call that is not over says that it was interrupted.
        """
        records = []
        for call in calls:
            call.cost, call.is_kept = call.taken, True
            nano, lease = call.hold.nano, call.hold.lease
            began = NOON + timedelta(seconds=call.at)
            said: dict[str, Any] = {"cost_nano_usd": call.cost, "held_nano_usd": nano, "lease": lease, **call.subjects}
            records.append(a_record(call.id, started_at=began, **said))
        self.books.keep(records)

    def kill(self, owner: str) -> None:
        """
        It dies.
        """
        self.rooms.pop(owner)[1].is_cut = True

    def wait(self, seconds: float) -> None:
        """
        Time passes; then the store hears what was to be said.
        """
        self.clock.advance(seconds)
        self.clock.advance(RELEASE_SECONDS)

    def stand(self, allowance: Allowance = KEY) -> tuple[int, int]:
        """
        What is used and held.
        """
        got: list[Any] = []
        self.store.look([allowance.subject]).addCallback(got.extend)
        return next(((each.used, each.held) for each in got if each.allowance == allowance), (0, 0))
