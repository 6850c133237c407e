"""
Starting and stopping in order: each room waits for the one before it. ``MultiService`` waits for nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
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
