"""
Starting and stopping in order: each room waits for the one before it. ``MultiService`` waits for nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

log = Logger()


class Room(Protocol):
    """
    A part of the house that is opened and closed.
    """

    async def open(self) -> None:
        """
        Be ready to serve those who come after.
        """
        ...

    async def close(self) -> None:
        """
        Finish what is under way; called only after a successful ``open``.
        """
        ...


class Hurry:
    """
    Whether those who stop shall do so quickly: who waits for others then waits no longer, and what is not finished is
    ended and accounted for.
    """

    def __init__(self) -> None:
        self.is_on = False
        self._waiting: list[Deferred[None]] = []

    def begin(self) -> None:
        """
        From now on it is so.
        """
        self.is_on = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def wait(self) -> Deferred[None]:
        """
        Wait until it is so. Cancel it to wait no more.
        """
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        if self.is_on:
            waiting.callback(None)
        else:
            self._waiting.append(waiting)
        return waiting

    def within(self, reactor: IReactorTime, seconds: float) -> Deferred[None]:
        """
        Wait until it is so, but no longer than *seconds*. Cancel it to wait no more.
        """

        def stop_waiting(_: Deferred[None]) -> None:
            late.cancel()
            hurried.cancel()

        def over(_: object = None) -> None:
            if late.active():
                late.cancel()
            else:
                hurried.cancel()
            waiting.callback(None)

        waiting: Deferred[None] = Deferred(stop_waiting)
        late = reactor.callLater(seconds, over)
        hurried = self.wait()
        hurried.addCallbacks(over, lambda failure: failure.trap(CancelledError))
        return waiting


class InOrder(Service):
    """
    Opens its rooms first to last and closes them last to first, one after the other.
    """

    def __init__(self, rooms: Sequence[Room]) -> None:
        self._rooms = rooms
        self._opened: list[Room] = []
        self._opening: Deferred[None] | None = None

    def startService(self) -> Deferred[None]:
        """
        Open all rooms.

        :return: fires when all are open. If one fails those before it are closed again, and its failure is told.
        """
        Service.startService(self)
        self._opening = Deferred.fromCoroutine(self._open())
        return self._opening

    async def _open(self) -> None:
        try:
            for room in self._rooms:
                await room.open()
                self._opened.append(room)
        except BaseException:
            await self._close()
            raise

    def stopService(self) -> Deferred[None]:
        """
        Close all rooms that are open; opening is given up.

        :return: fires when all are closed.
        """
        Service.stopService(self)
        if self._opening is not None:
            self._opening.cancel()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        while self._opened:
            room = self._opened.pop()
            try:
                await room.close()
            except Exception:  # noqa: BLE001 - the rooms below must be closed as well
                log.failure("{room} could not be closed in order", room=type(room).__name__)
