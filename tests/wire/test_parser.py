"""
Bytes to heads and bodies, and never a byte too many.
"""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.errors import BodyTooLarge, MalformedRequest
from dheera.wire.body import RequestBody
from dheera.wire.heads import Head
from dheera.wire.limits import ServerLimits
from dheera.wire.parser import RequestParser
from tests import strategies
from tests.wire.probes import CHUNKED, GET, HELLO, LAST, POST
from tests.wire.reference import CHUNK, Fields

NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


class Unasked:
    """
    The source of a body that nobody takes.
    """

    def body_wanted(self) -> None:
        raise NotImplementedError

    def body_paused(self, *, paused: bool) -> None:
        raise NotImplementedError


def begin(parser: RequestParser, data: bytes) -> tuple[Head, RequestBody, bytes]:
    """
    The head in *data*, its body to come, and what is left.
    """
    head, rest = parser.head(data)
    assert head is not None
    body = RequestBody(Unasked(), head.framing.length)
    if head.framing.has_body:
        parser.begin_body(body, head.framing.length)
    return head, body, rest


class TestHead(SynchronousTestCase):
    """
    ``RequestParser.head``.
    """

    def setUp(self) -> None:
        self.parser = RequestParser(ServerLimits())

    def test_incomplete(self) -> None:
        """
        Nothing is used of a head until all of it is here, and what follows it stays.
        """
        whole = GET + b"\r\n"
        for length in range(len(whole)):
            self.assertEqual((None, whole[:length]), self.parser.head(whole[:length]))
        head, rest = self.parser.head(whole + NEXT)
        assert head is not None
        self.assertEqual((b"GET", b"/", "1.1", [(b"Host", b"a")], True, NEXT),
                         (head.method, head.target, head.version, head.fields, head.keep_alive, rest))  # fmt: skip

    def test_empty_lines(self) -> None:
        """
        Empty lines before it are dropped at once.
        """
        self.assertEqual((None, b""), self.parser.head(b"\r\n" * 1000))
        self.assertEqual((None, b"\r"), self.parser.head(b"\r\n\r"))
        self.assertEqual(b"", self.parser.head(b"\r\n" + NEXT)[1])

    @given(strategies.requests())
    def test_verbatim(self, request: tuple[bytes, bytes, Fields, bytes, bytes]) -> None:
        """
        Method, target and header lines are as sent: spelling, order, repetition.
        """
        head, _ = RequestParser(ServerLimits()).head(request[-1])
        assert head is not None
        self.assertEqual(request[:3], (head.method, head.target, head.fields))

    def test_keep_alive(self) -> None:
        """
        What the client says of the connection, also when the request has no body and llhttp is through with it.
        """
        for lines, expected in [(b"", True), (b"Connection: close\r\n", False), (b"Connection: x,close\r\n", False)]:
            head, _ = RequestParser(ServerLimits()).head(GET + lines + b"\r\n")
            self.assertEqual(expected, head is not None and head.keep_alive)

    def test_limits(self) -> None:
        """
        The limits are those given.
        """
        for limits, expected in [
            (ServerLimits(head_bytes=20), 431),
            (ServerLimits(head_bytes=10), 414),
            (ServerLimits(header_count=1), 431),
        ]:
            with self.assertRaises(MalformedRequest) as caught:
                RequestParser(limits).head(POST + b"Content-Length: 5\r\n\r\nhello")
            self.assertEqual(expected, caught.exception.status)
        with self.assertRaises(BodyTooLarge):
            RequestParser(ServerLimits(body_bytes=4)).head(POST + b"Content-Length: 5\r\n\r\nhello")


class TestUpgrade(SynchronousTestCase):
    """
    llhttp takes what follows an ``Upgrade`` for another protocol; we do not.
    """

    @given(strategies.bodies(), st.booleans(), st.booleans(), st.data())
    def test_ignored(self, content: bytes, coded: bool, closing: bool, data: st.DataObject) -> None:  # noqa: FBT001 - hypothesis
        """
        Head and body are the same as without the offer, and so is the request behind them.
        """
        line = b"Transfer-Encoding: chunked\r\n" if coded else b"Content-Length: %d\r\n" % len(content)
        wire_body = data.draw(strategies.chunked(content)) if coded else content
        connection = b"Upgrade, close" if closing else b"Upgrade"
        parser = RequestParser(ServerLimits())
        sent = b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: %b\r\nUpgrade: h2c\r\n%b\r\n" % (connection, line)
        head, body, rest = begin(parser, sent + wire_body + NEXT)
        self.assertEqual((b"POST", b"/a", not closing), (head.method, head.target, head.keep_alive))
        self.assertEqual(4, len(head.fields))
        rest = parser.body(rest)
        self.assertEqual((content, NEXT), (body.whole(), rest))
        head, body, rest = begin(parser, rest)
        self.assertEqual((b"/next", b""), (head.target, rest))


class TestBody(SynchronousTestCase):
    """
    ``RequestParser.body``.
    """

    @given(strategies.bodies(), st.data())
    def test_chunks(self, content: bytes, data: st.DataObject) -> None:
        """
        However a chunked body is coded and cut, its bytes arrive, and not one byte behind it is used.
        """
        encoded = data.draw(strategies.chunked(content))
        parser = RequestParser(ServerLimits())
        _, body, rest = begin(parser, CHUNKED)
        for piece in data.draw(strategies.chunkings(encoded + NEXT)):
            rest = parser.body(rest + piece) if not body.complete else rest + piece
        self.assertEqual((content, NEXT), (body.whole(), rest))

    def test_length(self) -> None:
        """
        A body of a length ends with it.
        """
        parser = RequestParser(ServerLimits())
        _, body, rest = begin(parser, POST + b"Content-Length: 5\r\n\r\nhel")
        self.assertEqual((b"", False), (parser.body(rest), body.complete))
        self.assertEqual((NEXT, b"hello"), (parser.body(b"lo" + NEXT), body.whole()))

    def test_empty(self) -> None:
        """
        One of length zero is complete as it begins.
        """
        parser = RequestParser(ServerLimits())
        _, body, rest = begin(parser, POST + b"Content-Length: 0\r\n\r\n" + NEXT)
        self.assertEqual((b"", NEXT), (body.whole(), rest))

    def test_empty_lines(self) -> None:
        """
        A body full of empty lines, which could each be its end, passes.
        """
        parser = RequestParser(ServerLimits())
        content = b"\r\n" * 40_000
        _, body, rest = begin(parser, CHUNKED + b"%x\r\n%b\r\n" % (len(content), content) + LAST + NEXT)
        self.assertEqual((NEXT, content), (parser.body(rest), body.whole()))

    def test_trailers(self) -> None:
        """
        Trailers reach nobody, and what they say is not heeded, neither now nor for the next request.
        """
        for trailers in (b"X: y\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n"):
            parser = RequestParser(ServerLimits())
            head, body, rest = begin(parser, CHUNKED + HELLO + b"0\r\n" + trailers + b"\r\n" + NEXT)
            rest = parser.body(rest)
            self.assertEqual((b"hello", True), (body.whole(), head.keep_alive))
            following, body, rest = begin(parser, rest + POST + b"Content-Length: 1\r\n\r\n!")
            self.assertEqual((2, 1), (len(head.fields), len(following.fields)))
            following, body, rest = begin(parser, rest)
            self.assertEqual((b"", b"!"), (parser.body(rest), body.whole()))

    def test_limit(self) -> None:
        """
        Up to the limit a body passes; the piece that passes it is not delivered, nor is the end.
        """
        limits = ServerLimits(body_bytes=5)
        parser = RequestParser(limits)
        _, body, rest = begin(parser, CHUNKED + HELLO + LAST)
        self.assertEqual((b"", b"hello"), (parser.body(rest), body.whole()))
        for sent in (b"6\r\nhello!\r\n" + LAST, HELLO + b"1\r\n!\r\n1\r\n!\r\n0\r\nX: y\r\n\r\n" + NEXT):
            parser = RequestParser(limits)
            _, body, rest = begin(parser, CHUNKED + sent)
            with self.assertRaises(BodyTooLarge):
                parser.body(rest)
            self.assertEqual((True, False), (body.received <= 5, body.complete))

    def test_chaff(self) -> None:
        """
        Extensions and trailers have a largest size, however they come.
        """
        for begun, endless in [(b"5;a=", b"b" * 1000), (HELLO + b"0\r\n", b"X: y\r\n" * 100), (b"", b"0" * 1000)]:
            parser = RequestParser(ServerLimits())
            _, _, rest = begin(parser, CHUNKED + begun)
            parser.body(rest)
            with self.assertRaises(MalformedRequest):
                for _ in range(70):
                    parser.body(endless)

    def test_extensions(self) -> None:
        """
        Of all short extensions those pass that the reference takes, and the body is the same with each.
        """
        for length in range(5):
            for chars in itertools.product(b';z=" \\\n\r', repeat=length):
                line = b"5" + bytes(chars)
                parser = RequestParser(ServerLimits())
                _, body, rest = begin(parser, CHUNKED + line + b"\r\nhello\r\n" + LAST)
                try:
                    parser.body(rest)
                except MalformedRequest:
                    self.assertIsNone(CHUNK.fullmatch(line), line)
                else:
                    self.assertEqual(b"hello", body.whole(), line)
                    self.assertIsNotNone(CHUNK.fullmatch(line), line)
