"""
What is left of a connection that is over.
"""

from __future__ import annotations

import gc
from weakref import ref

from twisted.trial.unittest import SynchronousTestCase

from dheera.wire.channel import Channel
from tests.wire.line import Stand

ASKED = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na"


class LeftoverTests(SynchronousTestCase):
    """
    Where no call was broken off nothing is left for the garbage collector, which seldom looks at what has
    been here for long.
    """

    def setUp(self) -> None:
        gc.disable()
        self.addCleanup(gc.enable)

    def left(self, sent: bytes) -> Channel | None:
        """
        The channel on which a client sent that and left, if it is still there.
        """
        stand = Stand()
        line = stand.connect()
        line.send(sent)
        channel = ref(line.channel)
        line.hang_up()
        line.unregisterProducer()  # as a socket of Twisted's does
        del line.channel  # which only a transport in memory has
        stand.place.requests.clear()
        return channel()

    def test_idle(self) -> None:
        """
        A client that said nothing.
        """
        self.assertIsNone(self.left(b""))

    def test_in_a_head(self) -> None:
        """
        One that left in a head.
        """
        self.assertIsNone(self.left(ASKED[:20]))

    def test_answered(self) -> None:
        """
        One that had its answer.
        """
        self.assertIsNone(self.left(ASKED))

    def test_refused(self) -> None:
        """
        One that was refused.
        """
        self.assertIsNone(self.left(b"\0\r\n\r\n"))
