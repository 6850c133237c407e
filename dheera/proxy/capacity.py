"""
How many exchanges are passed on at once. One more waits for its turn, in a queue that is bounded, and not for long: who
waits holds nothing yet, neither a body nor an allowance nor a connection to upstream.
"""

from __future__ import annotations

from collections import OrderedDict
from math import ceil

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dheera.errors import Unavailable
from dheera.wire.limits import ServerLimits

OF_ONE = 0.125
"""
How much one wait counts in what the queue took lately.
"""
STOPPING = "This dheera is stopping."


@define(eq=False)
class Waiting:
    """
    One who waits.

    :param since: by the reactor's clock.
    :param turn: fires when it has come.
    """

    whose: str
    since: float
    turn: Deferred[None]
    late: IDelayedCall = field(init=False)


@define(eq=False)
class Queue:
    """
    Those who wait, by whose they are: they are served in turns, so that who has many does not keep out who has few.
    Each step takes the same time, however many there are.

    :ivar size: how many.
    :ivar most: that any one of them has.
    """

    size: int = field(init=False, default=0)
    most: int = field(init=False, default=0)
    _lines: OrderedDict[str, OrderedDict[Waiting, None]] = field(init=False, factory=OrderedDict)
    _having: dict[int, OrderedDict[str, None]] = field(init=False, factory=dict)

    def count(self, whose: str) -> int:
        """
        How many of *whose* wait.
        """
        return len(self._lines.get(whose, ()))

    def add(self, one: Waiting) -> None:
        """
        *one* waits, behind all others of the same.
        """
        line = self._lines.setdefault(one.whose, OrderedDict())
        line[one] = None
        self.size += 1
        self._changed(one.whose, len(line) - 1, len(line))

    def remove(self, one: Waiting) -> None:
        """
        *one* waits no longer.
        """
        line = self._lines[one.whose]
        del line[one]
        self.size -= 1
        if not line:
            del self._lines[one.whose]
        self._changed(one.whose, len(line) + 1, len(line))

    def next(self) -> Waiting:
        """
        Whose turn it is: the first of those who had none for the longest time.
        """
        whose, line = next(iter(self._lines.items()))
        self._lines.move_to_end(whose)
        one = next(iter(line))
        self.remove(one)
        return one

    def last_of_most(self) -> Waiting:
        """
        The last of whoever has the most.
        """
        whose = next(iter(self._having[self.most]))
        return next(reversed(self._lines[whose]))

    def _changed(self, whose: str, before: int, after: int) -> None:
        if before:
            same = self._having[before]
            del same[whose]
            if not same:
                del self._having[before]
        if after:
            self._having.setdefault(after, OrderedDict())[whose] = None
        if after > self.most or (before == self.most and before not in self._having):
            self.most = after


class Capacity:
    """
    The places of the exchanges that are passed on, and the queue for them. It outlives a reload.

    :param limits: of which those of requests and of the queue matter here.
    :ivar under_way: how many places are taken.
    """

    def __init__(self, reactor: IReactorTime, limits: ServerLimits) -> None:
        self.under_way = 0
        self._reactor = reactor
        self._limits = limits
        self._places = limits.requests
        self._queue = Queue()
        self._took = 0.0
        self._handing = False
        self._closed = False

    @property
    def waiting(self) -> int:
        """
        How many wait.
        """
        return self._queue.size

    def resize(self, limits: ServerLimits) -> None:
        """
        From now on it is as *limits* say. Who has a place, or waits for one, keeps it.
        """
        self._limits = limits
        self._places = 0 if self._closed else limits.requests
        self._hand_on()

    def take(self) -> bool:
        """
        Take a place, if there is one and nobody waits for it; whoever has got it gives it back by `leave`.
        """
        if self.under_way < self._places and not self._queue.size:
            self.under_way += 1
            return True
        return False

    def enter(self, whose: str) -> Deferred[None] | None:
        """
        Take a place, or wait for one.

        :param whose: the id of a key, or an address: those who wait are served in turns by this.
        :return: ``None``: the place is taken. Else it fires when it is, or fails with `Unavailable`; cancel it to wait
            no longer.
        :raises Unavailable: so many wait already that one more would wait in vain.
        """
        return None if self.take() else self._wait(whose)

    def leave(self) -> None:
        """
        Give a place back.
        """
        self.under_way -= 1
        if self._queue.size:
            self._hand_on()

    def close(self) -> None:
        """
        Let nobody begin any more: all who wait, and all who come, hear that this dheera is stopping. Who has a place
        keeps it.
        """
        self._closed = True
        self._places = 0
        while self._queue.size:
            self._fail(self._queue.last_of_most(), STOPPING)

    def _wait(self, whose: str) -> Deferred[None]:
        if self._closed:
            raise self._unavailable(STOPPING)
        queue = self._queue
        # Who has few that wait is not kept out by who has many. Between equals, who was here first stays.
        is_full = queue.size >= self._limits.queue
        if is_full and queue.most <= queue.count(whose) + 1:
            raise self._unavailable("Too many calls are under way here, and too many wait for their turn.")
        one = Waiting(whose, self._reactor.seconds(), Deferred(lambda _: self._forget(one)))
        one.late = self._reactor.callLater(self._limits.queue_seconds, self._too_late, one)
        queue.add(one)
        if is_full:  # not before: on its connection the next call may follow at once
            self._fail(queue.last_of_most(), "Too many calls are under way here, and most that wait are yours.")
        return one.turn

    def _hand_on(self) -> None:
        if self._handing:
            return  # an exchange that was over at once has left: whoever let it begin goes on
        self._handing = True
        try:
            while self._queue.size and self.under_way < self._places:
                one = self._queue.next()
                one.late.cancel()
                self._took_so_long(one)
                self.under_way += 1
                one.turn.callback(None)
        finally:
            self._handing = False

    def _too_late(self, one: Waiting) -> None:
        self._took_so_long(one)
        waited = self._reactor.seconds() - one.since
        self._fail(one, f"Too many calls are under way here: yours has waited {waited:.1f} s for its turn.")

    def _fail(self, one: Waiting, reason: str) -> None:
        refusal = self._unavailable(reason)
        self._forget(one)
        one.turn.errback(refusal)

    def _forget(self, one: Waiting) -> None:
        if one.late.active():
            one.late.cancel()
        self._queue.remove(one)

    def _took_so_long(self, one: Waiting) -> None:
        took = self._reactor.seconds() - one.since
        if not self._queue.size:
            self._took = 0.0  # whoever comes next finds nobody before it
        elif self._took:
            self._took += (took - self._took) * OF_ONE
        else:
            self._took = took

    def _unavailable(self, reason: str) -> Unavailable:
        seconds = ceil(min(self._took, self._limits.queue_seconds))
        return Unavailable(f"{reason} Try again soon.", retry_after_seconds=max(1, seconds))
