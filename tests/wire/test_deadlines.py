"""
One tick for all.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.wire.deadlines import NEVER, Deadlines


class Thing:
    """
    Something with a deadline.
    """

    def __init__(self, deadline: float, late: Callable[[], None] = lambda: None) -> None:
        self.deadline = deadline
        self.passed = 0
        self._late = late

    def deadline_passed(self) -> None:
        self.passed += 1
        self._late()


class TestDeadlines(SynchronousTestCase):
    """
    ``Deadlines``.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)

    def test_passed(self) -> None:
        """
        A deadline passes when its second has come, and again each second until it is moved.
        """
        thing = Thing(3.0)
        self.deadlines.watch(thing)
        self.clock.pump([1] * 2)
        self.assertEqual(0, thing.passed)
        self.clock.pump([1] * 2)
        self.assertEqual((2, 4.0), (thing.passed, self.deadlines.now))
        thing.deadline = NEVER
        self.clock.pump([1] * 10)
        self.assertEqual(2, thing.passed)

    def test_never_early(self) -> None:
        """
        A deadline set between two ticks is not early: it passes with the first tick that is not.
        """
        thing = Thing(NEVER)
        self.deadlines.watch(thing)
        self.assertEqual(3.0, self.deadlines.after(3.0))
        self.clock.pump([1, 0.3])
        thing.deadline = self.deadlines.after(3.0)
        self.clock.pump([0.7, 1, 1])
        self.assertEqual(0, thing.passed)
        self.clock.advance(1)
        self.assertEqual(1, thing.passed)

    def test_clock_that_jumps(self) -> None:
        """
        However long the program stood still, one tick is one second: nobody is ended for what was our fault.
        """
        thing = Thing(3.0)
        self.deadlines.watch(thing)
        self.clock.advance(1000)
        self.assertEqual((0, 1.0), (thing.passed, self.deadlines.now))

    def test_nothing_left(self) -> None:
        """
        When nobody is watched, nothing is left in the reactor; the next one starts the clock again.
        """
        for _ in range(2):
            thing = Thing(self.deadlines.now + 1)
            self.deadlines.watch(thing)
            self.clock.advance(1)
            self.assertEqual(1, thing.passed)
            self.deadlines.forget(thing)
            self.deadlines.forget(thing)
            self.assertEqual([], self.clock.getDelayedCalls())

    def test_forgotten_at_its_deadline(self) -> None:
        """
        The last one may be forgotten as its deadline passes.
        """
        thing = Thing(1.0, lambda: self.deadlines.forget(thing))
        self.deadlines.watch(thing)
        self.clock.pump([1] * 3)
        self.assertEqual((1, []), (thing.passed, self.clock.getDelayedCalls()))

    def test_broken(self) -> None:
        """
        One that fails is logged; the others are still watched.
        """

        def fail() -> None:
            raise ZeroDivisionError

        things = [Thing(1.0, fail), Thing(1.0), Thing(1.0, fail)]
        for thing in things:
            self.deadlines.watch(thing)
        self.clock.advance(1)
        self.assertEqual([1, 1, 1], [thing.passed for thing in things])
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))
