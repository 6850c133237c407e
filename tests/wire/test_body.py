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

from dheera.errors import BodyTooLarge, ClientLeft, Unavailable
from dheera.wire.body import RequestBody, read
from dheera.wire.headroom import Headroom
from dheera.wire.limits import ServerLimits
from dheera.wire.request import Request
from tests.strategies import chunkings
from tests.wire.line import READ_BYTES, Stand, later

TOO_MUCH = (1 << 20) + 1


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


class TestGather(SynchronousTestCase):
    """
    ``RequestBody.gather``.
    """

    def setUp(self) -> None:
        self.reader = Reader()
        self.body = RequestBody(self.reader, None)
        self.bin = Bin()

    @given(st.binary(max_size=9).flatmap(lambda data: st.tuples(st.just(data), chunkings(data))), st.integers(0, 9))
    def test_all_and_still_here(self, cut: tuple[bytes, list[bytes]], before: int) -> None:
        """
        However it comes, all of it is told, and then is here as if it had come at once, again and again.
        """
        data, pieces = cut[0], cut[1] if cut[0] else []
        body = RequestBody(Reader(), None)
        for piece in pieces[:before]:
            body.deliver(piece)
        gathering = body.gather(9)
        for piece in pieces[before:]:
            self.assertNoResult(gathering)
            body.deliver(piece)
        self.assertNoResult(gathering)
        body.end()
        self.assertEqual(data, self.successResultOf(gathering))
        self.assertEqual([data, data, data], [body.whole(), self.successResultOf(body.gather(9)), body.whole()])
        taken = Bin()
        self.successResultOf(body.startProducing(taken))
        self.assertEqual(([data] if data else [], len(data)), (taken.pieces, body.received))

    def test_wanted(self) -> None:
        """
        The channel is asked for the rest, once, and not held back.
        """
        self.body.deliver(b"a")
        self.body.gather(5)
        self.assertEqual((["wanted"], False), (self.reader.heard, self.body.waiting))

    def test_complete(self) -> None:
        """
        A body that is all here asks nothing of the channel; it is refused if it is larger, and stays.
        """
        for piece in (b"he", b"llo"):
            self.body.deliver(piece)
        self.body.end()
        self.assertEqual(b"hello", self.successResultOf(self.body.gather(5)))
        self.failureResultOf(self.body.gather(4), BodyTooLarge)
        self.assertEqual((b"hello", []), (self.body.whole(), self.reader.heard))

    def test_announced_too_large(self) -> None:
        """
        One that is announced as larger is refused before a byte of it is asked for.
        """
        body = RequestBody(self.reader, 6)
        self.failureResultOf(body.gather(5), BodyTooLarge)
        self.assertEqual([], self.reader.heard)
        self.assertNoResult(RequestBody(self.reader, 5).gather(5))

    def test_too_large(self) -> None:
        """
        One of unknown length is refused at the first byte too many, and what still comes is dropped.
        """
        gathering = self.body.gather(5)
        self.body.deliver(b"hello")
        self.assertNoResult(gathering)
        self.body.deliver(b"!")
        self.failureResultOf(gathering, BodyTooLarge)
        self.body.deliver(b"!")
        self.assertEqual([], self.body._pieces)
        self.body.end()

    def test_too_large_already(self) -> None:
        """
        The same for what is here, without asking for more.
        """
        self.body.deliver(b"hello!")
        self.failureResultOf(self.body.gather(5), BodyTooLarge)
        self.assertNotIn("wanted", self.reader.heard)

    def test_client_left(self) -> None:
        """
        A client that leaves fails it, before or after.
        """
        gathering = self.body.gather(5)
        self.body.lose()
        self.failureResultOf(gathering, ClientLeft)
        self.failureResultOf(self.body.gather(5), ClientLeft)

    def test_cancelled(self) -> None:
        """
        To cancel is to stop: what still comes is dropped.
        """
        gathering = self.body.gather(5)
        self.body.deliver(b"a")
        gathering.cancel()
        self.failureResultOf(gathering, CancelledError)
        self.body.deliver(b"b")
        self.body.end()
        self.assertEqual(("resumed", []), (self.reader.heard[-1], self.body._pieces))


class TestHeadroom(SynchronousTestCase):
    """
    ``RequestBody.gather``, where others gather too.
    """

    def setUp(self) -> None:
        self.headroom = Headroom(10)
        self.reader = Reader()

    def gathering(self, length: int | None) -> tuple[RequestBody, Deferred[bytes]]:
        body = RequestBody(self.reader, length)
        return body, body.gather(10, self.headroom)

    def test_announced(self) -> None:
        """
        An announced length counts from the start: what has no room is refused before it is asked for, with a time
        after which to try again.
        """
        self.assertNoResult(self.gathering(6)[1])
        self.assertEqual((6, ["wanted"]), (self.headroom.taken_bytes, self.reader.heard))
        refusal = self.failureResultOf(self.gathering(5)[1], Unavailable).value
        self.assertEqual((503, ((b"Retry-After", b"1"),)), (refusal.status, refusal.fields))
        self.assertEqual((6, ["wanted"]), (self.headroom.taken_bytes, self.reader.heard))
        self.assertNoResult(self.gathering(4)[1])

    def test_chunked(self) -> None:
        """
        A chunked body counts as it comes, and is dropped when there is no room.
        """
        self.gathering(6)
        body, gathering = self.gathering(None)
        body.deliver(b"abcd")
        self.assertEqual(10, self.headroom.taken_bytes)
        self.assertNoResult(gathering)
        body.deliver(b"e")
        self.failureResultOf(gathering, Unavailable)
        body.deliver(b"f")
        self.assertEqual((6, []), (self.headroom.taken_bytes, body._pieces))

    def test_kept(self) -> None:
        """
        A body that is here counts until it is released, once, however often it is asked for.
        """
        for length in (5, None):
            body, gathering = self.gathering(length)
            body.deliver(b"hello")
            body.end()
            self.successResultOf(gathering)
            self.successResultOf(body.gather(10, self.headroom))
            body.startProducing(Bin())
            self.assertEqual(5, self.headroom.taken_bytes)
            for _ in range(2):
                body.release()
                self.assertEqual(0, self.headroom.taken_bytes)

    def test_given_back(self) -> None:
        """
        Whatever ends it gives back: the client leaves, the body is too large, it is stopped or cancelled.
        """
        for end in (
            lambda body, _: body.lose(),
            lambda body, _: body.deliver(b"x" * 11),
            lambda body, _: body.stopProducing(),
            lambda _, gathering: gathering.cancel(),
        ):
            body, gathering = self.gathering(None)
            gathering.addErrback(lambda failure: failure.trap(ClientLeft, BodyTooLarge, CancelledError))
            body.deliver(b"x" * 9)
            self.assertEqual(9, self.headroom.taken_bytes)
            end(body, gathering)
            self.assertEqual(0, self.headroom.taken_bytes)


class TestGatherOnALine(SynchronousTestCase):
    """
    ``RequestBody.gather``, below a channel.
    """

    def setUp(self) -> None:
        self.gathering: list[Deferred[bytes]] = []

    def gather(self, request: Request) -> int:
        assert request.body is not None
        gathering = request.body.gather(TOO_MUCH - 1)
        self.gathering.append(gathering)
        if request.body.length == TOO_MUCH:
            request.refuse(BodyTooLarge(self.failureResultOf(gathering, BodyTooLarge).getErrorMessage()))
        return later(request)

    def test_continue(self) -> None:
        """
        A client that waits to be asked is asked; but not for what would be too large.
        """
        line = Stand(self.gather).connect()
        head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        line.send(head % 5)
        self.assertEqual(100, line.answer().status)
        line.send(b"hello")
        self.assertEqual(b"hello", self.successResultOf(self.gathering[0]))
        line = Stand(self.gather).connect()
        line.send(head % TOO_MUCH)
        self.assertEqual(413, line.answer().status)

    def test_large(self) -> None:
        """
        A body of many reads is gathered to its end, whether it comes at once or while others wait.
        """
        data = bytes(range(256)) * (8 * READ_BYTES // 256)
        line = Stand(self.gather).connect()
        line.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(data), data)
        self.assertEqual(data, self.successResultOf(self.gathering[0]))
        self.assertEqual(0, line.unheard)

    def test_too_slow(self) -> None:
        """
        A client that sends less than the minimum rate is not waited for.
        """
        stand = Stand(self.gather, ServerLimits(body_bytes_per_second=100))
        line = stand.connect()
        line.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(8):
            line.send(b"x" * 50)
            stand.wait(5)
        self.assertEqual(408, line.answer().status)
        self.failureResultOf(self.gathering[0], ClientLeft)

    def test_client_left(self) -> None:
        """
        A client that hangs up fails it.
        """
        line = Stand(self.gather).connect()
        line.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
        line.hang_up()
        self.failureResultOf(self.gathering[0], ClientLeft)


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
