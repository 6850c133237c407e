"""
Connections to PostgreSQL that are kept for the next one who needs them.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004 - what a Deferred's timeout raises

from dheera.errors import StoreAway
from dheera.stores.postgres.dialling import Dialler, Unreachable
from dheera.stores.postgres.line import Line

UNUSED_SECONDS = 60.0
"""
A connection that was not needed for so long is closed, but the last one: a server has few, and may have many dheeras.
"""


@define(eq=False)
class Pool:
    """
    At most *size* connections, made when they are needed.

    :param size: how many there may be, and so how many transactions there are at once. Others wait for their turn.
    """

    _reactor: Any
    _dialler: Dialler
    _size: int
    _idle: list[Line] = field(factory=list, init=False)
    _taken: int = field(default=0, init=False)
    _waiting: deque[Deferred[None]] = field(factory=deque, init=False)
    _refusing: bool = field(default=False, init=False)

    async def take(self, seconds: float, *, fresh: bool = False) -> Line:
        """
        A connection, to be given back.

        :param seconds: how long a turn, and then a new connection, is waited for.
        :param fresh: one that nobody has used.
        :raises StoreAway: there is no turn to be had in time, or nobody gets one now.
        :raises Unreachable: no connection can be made.
        """
        latest = self._reactor.seconds() + seconds
        await self._turn(seconds)
        try:
            if fresh:
                # One must go, so that there are never more than we may have.
                self._forget(self._idle[:1])
            while self._idle and not fresh:
                line = self._idle.pop()
                if line.is_idle():
                    return line
                line.hang_up()
            return await self._dial(latest - self._reactor.seconds(), seconds)
        except BaseException:
            self._end_turn()
            raise

    async def _dial(self, left: float, seconds: float) -> Line:
        try:
            return await self._dialler.dial(left)
        except Unreachable:
            if left < seconds / 2:
                # Most of the time went by in the queue: that does not say that the server is away.
                raise StoreAway from None
            raise

    def give_back(self, line: Line) -> None:
        """
        The end of a turn. A connection that is not fit for another one is closed.
        """
        self.keep(line)
        self._end_turn()

    def keep(self, line: Line) -> None:
        """
        A connection for whose turn comes next.
        """
        if line.is_idle() and not self._refusing:
            line.idle_since = self._reactor.seconds()
            self._idle.append(line)
        else:
            line.hang_up()

    def refuse(self) -> None:
        """
        Let nobody wait, and nobody try: there is nothing to be had for now.
        """
        self._refusing = True
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            each.errback(StoreAway())

    def admit(self) -> None:
        """
        Let everybody try again.
        """
        self._refusing = False

    def forget(self) -> None:
        """
        Close the connections that nobody uses: they may be dead, each one for itself.
        """
        self._forget(list(self._idle))

    def tidy(self) -> None:
        """
        Close the connections that nobody has needed for long, but one, and those that were lost.
        """
        latest = self._reactor.seconds() - UNUSED_SECONDS
        self._forget([each for each in self._idle[:-1] if each.idle_since < latest or not each.is_open()])

    def _forget(self, lines: list[Line]) -> None:
        for each in lines:
            self._idle.remove(each)
            each.hang_up()

    async def _turn(self, seconds: float) -> None:
        if self._refusing:
            raise StoreAway
        if self._taken < self._size:
            self._taken += 1
            return
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        turn.addTimeout(max(0.0, seconds), self._reactor)
        try:
            await turn
        except TimeoutError:
            self._waiting.remove(turn)
            raise StoreAway from None

    def _end_turn(self) -> None:
        if self._waiting:
            self._waiting.popleft().callback(None)
        else:
            self._taken -= 1
