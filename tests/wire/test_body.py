"""
A request body between the channel that reads it and the one who takes it.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface.verify import verifyObject

from dheera.errors import BodyTooLarge, ClientLeft
from dheera.wire.body import RequestBody, read


class Reader:
    """
    What reads bodies, as a channel does; keeps what it was asked for.
    """

    def __init__(self) -> None:
        self.heard: list[str] = []

    def body_wanted(self) -> None:
        self.heard.append("wanted")

    def body_paused(self, *, paused: bool) -> None:
        self.heard.append("paused" if paused else "resumed")


class Bin:
    """
    Takes pieces.

    :param body: stopped when the first piece comes.
    """

    def __init__(self, body: RequestBody | None = None) -> None:
        self.pieces: list[bytes] = []
        self._body = body

    def write(self, piece: bytes) -> None:
        self.pieces.append(piece)
        if self._body is not None:
            self._body.stopProducing()


class TestBody(SynchronousTestCase):
    """
    ``RequestBody``.
    """

    def setUp(self) -> None:
        self.reader = Reader()
        self.body = RequestBody(self.reader, 10)
        self.bin = Bin()

    def test_interface(self) -> None:
        """
        It is a body that treq could send.
        """
        verifyObject(IBodyProducer, self.body)
        self.assertEqual(10, self.body.length)
        self.assertIs(UNKNOWN_LENGTH, RequestBody(self.reader, None).length)

    def test_passing(self) -> None:
        """
        Each piece goes to the consumer as it comes, and the end is told.
        """
        done = self.body.startProducing(self.bin)
        for piece in (b"a", b"bc"):
            self.body.deliver(piece)
            self.assertEqual(piece, self.bin.pieces[-1])
        self.assertNoResult(done)
        self.body.end()
        self.successResultOf(done)
        self.assertEqual((["wanted"], 3, True), (self.reader.heard, self.body.received, self.body.complete))

    @given(st.lists(st.binary(min_size=1, max_size=5), max_size=6), st.integers(0, 6))
    def test_late(self, pieces: list[bytes], before: int) -> None:
        """
        What came before it was wanted is handed over first, in order.
        """
        body, taken = RequestBody(Reader(), None), Bin()
        for piece in pieces[:before]:
            body.deliver(piece)
        self.assertEqual(bool(pieces[:before]), body.waiting)
        body.startProducing(taken)
        self.assertFalse(body.waiting)
        for piece in pieces[before:]:
            body.deliver(piece)
        self.assertEqual(pieces, taken.pieces)

    def test_complete(self) -> None:
        """
        A body that is all here asks nothing of the channel.
        """
        self.body.deliver(b"hello")
        self.body.end()
        done = self.body.startProducing(self.bin)
        self.body.pauseProducing()
        self.body.resumeProducing()
        self.successResultOf(done)
        self.assertEqual(([b"hello"], []), (self.bin.pieces, self.reader.heard))

    def test_pressure(self) -> None:
        """
        A consumer that is full is told to the channel.
        """
        self.body.startProducing(self.bin)
        self.body.pauseProducing()
        self.body.resumeProducing()
        self.assertEqual(["wanted", "paused", "resumed"], self.reader.heard)

    def test_stopped(self) -> None:
        """
        What nobody wants any longer is dropped as it comes, and the channel reads it away.
        """
        done = self.body.startProducing(self.bin)
        self.body.pauseProducing()
        self.body.stopProducing()
        self.body.deliver(b"a")
        self.body.end()
        self.assertEqual(([], False, "resumed"), (self.bin.pieces, self.body.waiting, self.reader.heard[-1]))
        self.assertNoResult(done)

    def test_stopped_at_the_first_piece(self) -> None:
        """
        A consumer that has enough gets no more of what is here, and the channel is not asked for the rest.
        """
        for piece in (b"a", b"b"):
            self.body.deliver(piece)
        taken = Bin(self.body)
        self.body.startProducing(taken)
        self.assertEqual(([b"a"], ["resumed"]), (taken.pieces, self.reader.heard))

    def test_cancelled(self) -> None:
        """
        To cancel is to stop.
        """
        done = self.body.startProducing(self.bin)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.body.deliver(b"a")
        self.body.end()
        self.assertEqual([], self.bin.pieces)

    def test_lost(self) -> None:
        """
        A client that leaves fails it, asked for before or after.
        """
        done = self.body.startProducing(self.bin)
        self.body.lose()
        self.failureResultOf(done, ClientLeft)
        self.failureResultOf(self.body.startProducing(self.bin), ClientLeft)

    def test_whole(self) -> None:
        """
        All of it, again and again, if all of it is here and nobody has begun to take it.
        """
        self.assertIsNone(self.body.whole())
        for piece in (b"hel", b"lo"):
            self.body.deliver(piece)
        self.assertIsNone(self.body.whole())
        self.body.end()
        self.assertEqual([b"hello", b"hello"], [self.body.whole(), self.body.whole()])
        self.body.startProducing(self.bin)
        self.assertIsNone(self.body.whole())
        self.assertEqual([b"hello"], self.bin.pieces)

    def test_whole_and_empty(self) -> None:
        """
        An empty body is whole.
        """
        self.body.end()
        self.assertEqual(b"", self.body.whole())


class TestRead(SynchronousTestCase):
    """
    ``read``.
    """

    def setUp(self) -> None:
        self.reader = Reader()
        self.body = RequestBody(self.reader, None)

    def reading(self, limit: int = 5) -> Deferred[bytes]:
        return Deferred.fromCoroutine(read(self.body, limit))

    def test_none(self) -> None:
        """
        No body is empty.
        """
        self.assertEqual(b"", self.successResultOf(Deferred.fromCoroutine(read(None, 0))))

    def test_pieces(self) -> None:
        """
        All of it, up to the limit.
        """
        self.body.deliver(b"he")
        reading = self.reading()
        self.body.deliver(b"llo")
        self.assertNoResult(reading)
        self.body.end()
        self.assertEqual(b"hello", self.successResultOf(reading))

    def test_too_large(self) -> None:
        """
        One byte more is refused when it comes, and the rest is dropped.
        """
        reading = self.reading()
        self.body.deliver(b"hello")
        self.assertNoResult(reading)
        self.body.deliver(b"!")
        self.failureResultOf(reading, BodyTooLarge)
        self.body.deliver(b"!")
        self.body.end()

    def test_too_large_already(self) -> None:
        """
        The same for what is here in several pieces.
        """
        for _ in range(4):
            self.body.deliver(b"abc")
        self.body.end()
        self.failureResultOf(self.reading(), BodyTooLarge)

    def test_client_left(self) -> None:
        """
        A client that leaves fails it.
        """
        reading = self.reading()
        self.body.lose()
        self.failureResultOf(reading, ClientLeft)

    def test_cancelled(self) -> None:
        """
        To cancel it is to stop the body.
        """
        reading = self.reading()
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.body.deliver(b"too much")
        self.body.end()
        self.assertEqual("resumed", self.reader.heard[-1])
