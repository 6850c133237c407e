"""
Checks are done at the same time, told in their order, and bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dheera.commands.checkup.findings import Finding
from dheera.commands.checkup.rounds import Check, examine, on_thread


class Patient:
    """
    A check that ends when the test says so.
    """

    def __init__(self, name: str) -> None:
        self.given_up = 0
        self.done: Deferred[Sequence[Finding]] = Deferred(self._give_up)
        self.finding = Finding.ok(name, "found")
        self.check = Check(name=name, look=self._look, hangs="Shake it.")

    async def _look(self) -> Sequence[Finding]:
        return await self.done

    def _give_up(self, _: object) -> None:
        self.given_up += 1

    def end(self) -> None:
        self.done.callback([self.finding])


class Rounds(SynchronousTestCase):
    """
    A round over two.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.first, self.second = Patient("first"), Patient("second")
        self.told: list[Finding] = []
        self.all = examine(self.clock, [self.first.check, self.second.check], 3.0, self.told.append)

    def test_order(self) -> None:
        """
        All begin at once; each is told as soon as those before it are.
        """
        self.second.end()
        self.assertEqual([], self.told)
        self.first.end()
        self.assertEqual([self.first.finding, self.second.finding], self.told)
        self.assertEqual(self.told, self.successResultOf(self.all))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_hangs(self) -> None:
        """
        One that takes no end is given up, is a failure that says what to do, and keeps nobody.
        """
        self.second.end()
        self.clock.advance(3.0)
        self.assertEqual((1, 0), (self.first.given_up, self.second.given_up))
        hung, ended = self.successResultOf(self.all)
        self.assertEqual(Finding.fail("first", "did not end within 3 seconds", "Shake it."), hung)
        self.assertEqual(self.second.finding, ended)

    def test_bug(self) -> None:
        """
        A check that fails is a failure; what its error says may be secret. The others go on.
        """
        self.first.done.errback(ValueError("canary"))
        self.second.end()
        broken, ended = self.successResultOf(self.all)
        self.assertEqual(("fail", "first", self.second.finding), (broken.state, broken.name, ended))
        self.assertIn("ValueError", broken.found)
        self.assertNotIn("canary", str(broken))


class Threads(TestCase):
    """
    What blocks.
    """

    async def test_result(self) -> None:
        """
        Its result comes, and its error.
        """
        from twisted.internet import reactor

        self.assertEqual(7, await on_thread(reactor, lambda: 7))
        with self.assertRaises(ZeroDivisionError):
            await on_thread(reactor, lambda: 1 / 0)

    async def test_for_ever(self) -> None:
        """
        Whoever does not want to wait is free at once; what comes later is nobody's.
        """
        from twisted.internet import reactor

        go_on, gone = Event(), Event()

        def work() -> None:
            go_on.wait(30)
            gone.set()

        waiting = on_thread(reactor, work)
        waiting.cancel()
        with self.assertRaises(CancelledError):
            await waiting
        go_on.set()
        await on_thread(reactor, lambda: gone.wait(30))
