"""
One clock tick a second for all connections, in place of a timer for each request.

A connection sets its ``deadline``; once it has passed, ``deadline_passed`` is called. Setting one is a single
attribute assignment, which is why it can be done for each piece of a body. Time is counted in ticks: a wall clock
that jumps cannot end a thousand streams at once.
"""

from __future__ import annotations

from math import inf
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

log = Logger()

TICK_SECONDS = 1.0
NEVER = inf


class Watched(Protocol):
    """
    Something that must be through by its deadline.
    """

    deadline: float

    def deadline_passed(self) -> None:
        """
        The deadline has passed; called again each tick until the deadline is moved or the thing forgotten.
        """
        ...


class Deadlines:
    """
    Those who are watched, and the ticks since watching began (``now``).
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.now = 0.0
        self._clock = clock
        self._ticked = clock.seconds()
        self._watched: set[Watched] = set()
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock

    def after(self, seconds: float) -> float:
        """
        The deadline that is *seconds* from now: the first tick that is not earlier, so up to a second later.
        """
        if seconds == NEVER:
            return NEVER
        return self.now + seconds + (TICK_SECONDS if self._clock.seconds() > self._ticked else 0.0)

    def watch(self, one: Watched) -> None:
        """
        Watch *one* until it is forgotten. The first one starts the clock.
        """
        self._watched.add(one)
        if not self._ticking.running:
            self._ticked = self._clock.seconds()
            self._ticking.start(TICK_SECONDS, now=False).addErrback(
                lambda failure: log.failure("The deadlines have stopped", failure)
            )

    def forget(self, one: Watched) -> None:
        """
        Watch *one* no longer. The last one stops the clock, so that nothing is left in the reactor.
        """
        self._watched.discard(one)
        if not self._watched and self._ticking.running:
            self._ticking.stop()

    def _tick(self) -> None:
        self.now += TICK_SECONDS
        self._ticked = self._clock.seconds()
        now = self.now
        for one in [one for one in self._watched if one.deadline <= now]:
            try:
                one.deadline_passed()
            except Exception:  # noqa: BLE001 - one broken connection must not end the watch over all
                log.failure("A connection failed at its deadline")
