"""
A Deferred with one listener.
"""

from __future__ import annotations

from twisted.internet.defer import AlreadyCalledError, CancelledError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dheera.wire.awaited import Awaited


class AwaitedTestCase(SynchronousTestCase):
    """
    Who is told, and how often.
    """

    def setUp(self) -> None:
        self.heard: list[object] = []
        self.awaited: Awaited[int] = Awaited()

    def test_listener(self) -> None:
        """
        The listener hears it once; nothing comes a second time.
        """
        self.awaited.tell(self.heard.append)
        self.awaited.callback(1)
        self.assertRaises(AlreadyCalledError, self.awaited.callback, 2)
        self.assertRaises(AlreadyCalledError, self.awaited.errback, ValueError())
        self.assertEqual([1], self.heard)

    def test_failure(self) -> None:
        """
        The listener hears of failures, of which nobody else does then.
        """
        self.awaited.tell(self.heard.append)
        self.awaited.cancel()
        [failure] = self.heard
        assert isinstance(failure, Failure)
        self.assertIsInstance(failure.value, CancelledError)
        self.successResultOf(self.awaited)

    def test_others(self) -> None:
        """
        Who changed what comes, before somebody listened, has changed it; without a listener it is a Deferred.
        """
        self.awaited.addCallback(lambda result: result + 1)
        self.awaited.tell(self.heard.append)
        self.awaited.callback(1)
        self.assertEqual([2], self.heard)
        other: Awaited[int] = Awaited()
        other.callback(3)
        self.assertEqual(3, self.successResultOf(other))
