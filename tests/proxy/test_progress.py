"""
Coroutines on their way: what they await, what they raise, and how they are cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dheera.proxy.progress import Progress
from dheera.wire.awaited import Awaited


class ProgressTests(SynchronousTestCase):
    kind: type[Deferred[object]] = Deferred

    def setUp(self) -> None:
        self.heard: list[object] = []
        self.failures: list[Failure] = []
        self.waits: list[Deferred[object]] = [self.kind(), self.kind()]

    def begin(self, coroutine: Coroutine[Deferred[object], None, None]) -> Progress:
        progress = Progress(coroutine, self.failures.append)
        progress.begin()
        return progress

    async def hear(self, number: int) -> None:
        """
        Wait, as something within does, and note what comes.
        """
        try:
            self.heard.append(await self.waits[number])
        except (ValueError, CancelledError) as error:
            self.heard.append(type(error))

    async def hear_both(self) -> None:
        await self.hear(0)
        await self.hear(1)

    def test_at_once(self) -> None:
        """
        What waits for nothing, or for what has happened, is over at once.
        """

        async def run() -> None:
            self.heard.append(await succeed(1))
            try:
                await fail(ValueError())
            except ValueError:
                self.heard.append(2)

        progress = self.begin(run())
        self.successResultOf(progress.end())
        self.assertEqual((True, [1, 2]), (progress.is_over, self.heard))

    def test_waiting(self) -> None:
        """
        It goes on with what it has waited for, be it a value or a failure, which then is nobody else's.
        """
        progress = self.begin(self.hear_both())
        end = progress.end()
        self.waits[0].callback(1)
        self.assertNoResult(end)
        self.waits[1].errback(ValueError())
        self.successResultOf(end)
        self.assertEqual(([1, ValueError], []), (self.heard, self.failures))

    def test_already(self) -> None:
        """
        A Deferred that has fired, but waits for another one, is waited for.
        """
        outer = succeed(None).addCallback(lambda _: self.waits[0])
        self.waits[0], inner = outer, self.waits[0]
        progress = self.begin(self.hear(0))
        self.assertFalse(progress.is_over)
        inner.callback(3)
        self.assertEqual((True, [3]), (progress.is_over, self.heard))

    def test_failure(self) -> None:
        """
        What it raises is told, with its traceback, and it is over.
        """

        async def run() -> None:
            await self.waits[0]
            raise KeyError

        for came in (None, Failure(KeyError())):
            end = self.begin(run()).end()
            self.waits[0].callback(came)
            self.successResultOf(end)
            [failure] = self.failures
            self.assertIsInstance(failure.value, KeyError)
            self.assertIn("in run", failure.getTraceback())
            self.setUp()

    def test_cancelled(self) -> None:
        """
        What it waits for is cancelled, and it hears of that; what it does then, it does to its end.
        """
        cancelled: list[object] = []
        self.waits[0] = self.kind(cancelled.append)
        progress = self.begin(self.hear_both())
        progress.cancel()
        self.assertEqual((1, [CancelledError], False), (len(cancelled), self.heard, progress.is_over))
        progress.cancel()
        self.assertEqual(([CancelledError] * 2, True), (self.heard, progress.is_over))
        progress.cancel()
        self.assertEqual([], self.failures)

    def test_cancelled_meanwhile(self) -> None:
        """
        While it is at work there is nothing to cancel.
        """
        cancel: list[Callable[[], None]] = []

        async def run() -> None:
            self.heard.append(await self.waits[0])
            cancel[0]()
            self.heard.append(await self.waits[1])

        progress = self.begin(run())
        cancel.append(progress.cancel)
        self.waits[0].callback(1)
        self.waits[1].callback(2)
        self.assertEqual(([1, 2], True), (self.heard, progress.is_over))


class AwaitedTests(ProgressTests):
    """
    The same, told at once.
    """

    kind = Awaited[object]
