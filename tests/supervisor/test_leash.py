"""
What a worker does when its supervisor is gone.
"""

from __future__ import annotations

import os
import signal

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dheera.children import LEASH_VARIABLE
from dheera.supervisor.leash import RELIEVED, orphaned


class LeashTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        self.told: Deferred[str] = Deferred()
        self.worker_end, self.end = os.pipe()

    def follow(self, *, can_leave: bool = True) -> None:
        from twisted.internet import reactor

        environment = {LEASH_VARIABLE: str(self.worker_end)}
        leave = (lambda: self.told.callback("leave")) if can_leave else None
        orphaned(reactor, environment, lambda: self.told.callback("stop"), leave)
        self.assertEqual({}, environment)

    async def test_supervisor_dies(self) -> None:
        """
        It stops when the other end of its leash is gone, and is not interested in Ctrl-C meanwhile.
        """
        self.follow()
        self.assertEqual(signal.SIG_IGN, signal.getsignal(signal.SIGINT))
        os.close(self.end)
        self.assertEqual("stop", await self.told)

    async def test_relieved(self) -> None:
        """
        It leaves when it is told that others serve.
        """
        self.follow()
        os.write(self.end, RELIEVED + b"\n")
        self.assertEqual("leave", await self.told)
        os.close(self.end)

    async def test_relieved_and_stops(self) -> None:
        """
        To leave is to stop where nothing else is said.
        """
        self.follow(can_leave=False)
        os.write(self.end, RELIEVED + b"\n")
        self.assertEqual("stop", await self.told)
        os.close(self.end)

    def test_no_worker(self) -> None:
        """
        Who is no worker has nobody to follow, and hears Ctrl-C.
        """
        before = signal.getsignal(signal.SIGINT)
        orphaned(None, {}, lambda: None)
        self.assertEqual(before, signal.getsignal(signal.SIGINT))
        os.close(self.worker_end)
        os.close(self.end)
