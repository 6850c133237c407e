"""
Opening and closing in order.
"""

from __future__ import annotations

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from dheera.lifecycle import InOrder, Room


@define(eq=False)
class Slow:
    """
    A room that opens and closes when it is told to, and says so in a common diary.
    """

    name: str
    diary: list[str]
    opening: Deferred[None]
    closing: Deferred[None]

    async def open(self) -> None:
        self.diary.append(f"opening {self.name}")
        await self.opening
        self.diary.append(f"{self.name} is open")

    async def close(self) -> None:
        self.diary.append(f"closing {self.name}")
        await self.closing
        self.diary.append(f"{self.name} is closed")


_: type[Room] = Slow


class InOrderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.diary: list[str] = []
        self.cellar, self.hall = (Slow(name, self.diary, Deferred(), Deferred()) for name in ("cellar", "hall"))
        self.house = InOrder([self.cellar, self.hall])

    def test_each_waits_for_the_one_before(self) -> None:
        """
        A room is opened when the one before it is open, and closed when the one after it is closed.
        """
        started = self.house.startService()
        self.assertEqual(["opening cellar"], self.diary)
        self.cellar.opening.callback(None)
        self.assertNoResult(started)
        self.hall.opening.callback(None)
        self.successResultOf(started)
        self.diary.clear()
        stopped = self.house.stopService()
        self.assertEqual(["closing hall"], self.diary)
        self.hall.closing.callback(None)
        self.assertNoResult(stopped)
        self.cellar.closing.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(["closing hall", "hall is closed", "closing cellar", "cellar is closed"], self.diary)

    def test_one_cannot_be_opened(self) -> None:
        """
        If a room fails to open, those before it are closed and the failure is told.
        """
        self.cellar.opening.callback(None)
        self.cellar.closing.callback(None)
        started = self.house.startService()
        self.hall.opening.errback(ZeroDivisionError())
        self.failureResultOf(started, ZeroDivisionError)
        self.assertEqual("cellar is closed", self.diary[-1])
        self.assertNotIn("closing hall", self.diary)

    def test_stopped_while_opening(self) -> None:
        """
        Stopping gives up an opening that is under way and closes what is open.
        """
        self.cellar.opening.callback(None)
        self.cellar.closing.callback(None)
        started = self.house.startService()
        self.successResultOf(self.house.stopService())
        self.failureResultOf(started, CancelledError)
        self.assertEqual("cellar is closed", self.diary[-1])

    def test_one_cannot_be_closed(self) -> None:
        """
        If a room fails to close, that is logged and those below it are closed all the same.
        """
        for room in (self.cellar, self.hall):
            room.opening.callback(None)
        self.successResultOf(self.house.startService())
        self.cellar.closing.callback(None)
        self.hall.closing.errback(ZeroDivisionError())
        self.successResultOf(self.house.stopService())
        self.assertEqual("cellar is closed", self.diary[-1])
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_never_started(self) -> None:
        """
        What was never started can be stopped.
        """
        self.successResultOf(InOrder([self.cellar]).stopService())
        self.assertEqual([], self.diary)
