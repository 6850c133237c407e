"""
Opening and closing in order.
"""

from __future__ import annotations

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.lifecycle import Hurry, InOrder, Room


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


class HurryTests(SynchronousTestCase):
    """
    Whether those who stop shall do so quickly.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.hurry = Hurry()

    def test_told(self) -> None:
        """
        All who wait are told when it begins, and who asks later at once.
        """
        waiting = [self.hurry.wait(), self.hurry.wait()]
        self.assertFalse(self.hurry.is_on)
        for each in waiting:
            self.assertNoResult(each)
        self.hurry.begin()
        self.assertTrue(self.hurry.is_on)
        for each in [*waiting, self.hurry.wait()]:
            self.assertIsNone(self.successResultOf(each))

    def test_twice(self) -> None:
        """
        It may begin again: whoever was told is not told twice.
        """
        told: list[None] = []
        self.hurry.wait().addCallback(told.append)
        self.hurry.begin()
        self.hurry.begin()
        self.assertEqual([None], told)

    def test_left(self) -> None:
        """
        Who does not wait any more is not told, while others are.
        """
        left, stays = self.hurry.wait(), self.hurry.wait()
        left.cancel()
        self.failureResultOf(left, CancelledError)
        self.hurry.begin()
        self.assertIsNone(self.successResultOf(stays))

    def test_left_meanwhile(self) -> None:
        """
        Nor is one who ceases to wait because another one was told; all others are.
        """
        first, left, stays = (self.hurry.wait() for _ in range(3))
        first.addCallback(lambda _: left.cancel())
        self.hurry.begin()
        self.successResultOf(first)
        self.failureResultOf(left, CancelledError)
        self.successResultOf(stays)

    def test_in_time(self) -> None:
        """
        Without a hurry it is waited as long as was said; a later hurry is nothing to whoever has waited.
        """
        waiting = self.hurry.within(self.clock, 5)
        self.clock.advance(4.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        self.assertIsNone(self.successResultOf(waiting))
        self.assertEqual(([], []), (self.hurry._waiting, self.clock.getDelayedCalls()))
        self.hurry.begin()

    def test_hurried(self) -> None:
        """
        A hurry ends the wait, and its timer.
        """
        waiting = self.hurry.within(self.clock, 5)
        self.hurry.begin()
        self.assertIsNone(self.successResultOf(waiting))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_hurried_before(self) -> None:
        """
        While there is a hurry nobody waits at all.
        """
        self.hurry.begin()
        self.assertIsNone(self.successResultOf(self.hurry.within(self.clock, 5)))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_no_longer(self) -> None:
        """
        Who does not wait any more leaves no timer, and hears of no hurry.
        """
        waiting = self.hurry.within(self.clock, 5)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.hurry.begin()


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
