"""
TLS to an upstream: whatever way it takes, what comes and goes is the same.
"""

from __future__ import annotations

import contextlib
import ssl
from functools import cache
from typing import Any
from unittest import TestCase

import trustme
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from dheera.wire.tls import RECORD_BYTES, RecordCounter, UpstreamTLS, UpstreamTLSFactory

cuts = st.lists(st.integers(1, 400), min_size=1, max_size=30)


def pieces_of(data: bytes, sizes: list[int]) -> list[bytes]:
    """
    *data*, cut into pieces of *sizes*, again and again.
    """
    pieces: list[bytes] = []
    position = 0
    while position < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[position : position + size])
        position += size
    return pieces


class RecordCounterTests(TestCase):
    @given(st.lists(st.integers(0, 300), min_size=1, max_size=10), cuts)
    def test_any_cut(self, lengths: list[int], sizes: list[int]) -> None:
        """
        However the network cuts records, those that end in a piece are counted if the last one ends where it ends.
        """
        counter, position, last_end = RecordCounter(), 0, 0
        ends = [sum(5 + each for each in lengths[: count + 1]) for count in range(len(lengths))]
        for piece in pieces_of(b"".join(b"\x17\x03\x03" + each.to_bytes(2) + b"x" * each for each in lengths), sizes):
            last_end, position = position, position + len(piece)
            ended = [end for end in ends if last_end < end <= position]
            self.assertEqual(len(ended) if position in ends else 0, counter.count(piece))


class Client(Protocol):
    """
    Notes what comes; gives up at a word.
    """

    def __init__(self) -> None:
        self.heard = b""
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if data == b"enough":
            self.transport.abortConnection()  # type: ignore[union-attr]  # connected

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason


@cache
def certificates() -> tuple[Any, ssl.SSLContext]:
    """
    Whom a client trusts, and such a server.
    """
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("upstream.test").configure_cert(context)
    return Certificate.loadPEM(authority.cert_pem.bytes()), context


class Wire:
    """
    A client of ours, and a server by Python's own ``ssl``, their hands shaken.
    """

    def __init__(self) -> None:
        root, context = certificates()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = context.wrap_bio(self._in, self._out, server_side=True)
        self.client, clock = Client(), Clock()
        creator = optionsForClientTLS("upstream.test", trustRoot=root)
        factory = UpstreamTLSFactory(creator, True, Factory.forProtocol(lambda: self.client), clock)  # noqa: FBT003
        tls = factory.buildProtocol(None)
        assert isinstance(tls, UpstreamTLS)
        self.tls = tls
        self.transport = StringTransport()
        tls.makeConnection(self.transport)
        for _ in range(2):
            self.hear()
            with contextlib.suppress(ssl.SSLWantReadError):
                self.server.do_handshake()
            tls.dataReceived(self._out.read())

    def hear(self) -> None:
        """
        What the client has written comes to the server.
        """
        self._in.write(self.transport.value())
        self.transport.clear()

    def come(self, data: bytes) -> None:
        """
        *data* comes to the client; if that ends the connection, it is told after that, as by a real transport.
        """
        self.tls.dataReceived(data)
        if self.transport.disconnecting:
            self.tls.connectionLost(Failure(ConnectionDone()))

    def said(self, *pieces: bytes) -> bytes:
        """
        What goes over the wire when the server sends *pieces*, a record each.
        """
        for piece in pieces:
            self.server.write(piece)
        return self._out.read()


class UpstreamTLSTests(TestCase):
    """
    ``UpstreamTLS``.
    """

    def setUp(self) -> None:
        self.wire = Wire()
        self.client = self.wire.client

    @given(st.lists(st.binary(min_size=1, max_size=600), max_size=8), cuts)
    def test_reads(self, pieces: list[bytes], sizes: list[int]) -> None:
        """
        All that is sent arrives, however the network cuts it, and at once.
        """
        before = len(self.client.heard)
        for each in pieces_of(self.wire.said(*pieces), sizes):
            self.wire.come(each)
        self.assertEqual(b"".join(pieces), self.client.heard[before:])

    @given(st.lists(st.sampled_from([1, 300, RECORD_BYTES, RECORD_BYTES + 1, 5 * RECORD_BYTES]), max_size=5))
    def test_writes(self, sizes: list[int]) -> None:
        """
        All that is written leaves at once, however much it is.
        """
        for size in sizes:
            self.wire.tls.write(b"x" * size)
            self.wire.hear()
            left = size
            while left:
                left -= len(self.wire.server.read(left))

    def test_end(self) -> None:
        """
        An end in order is one, though it comes with the last piece.
        """
        self.wire.server.write(b"last")
        with contextlib.suppress(ssl.SSLWantReadError):
            self.wire.server.unwrap()
        self.wire.come(self.wire.said())
        self.assertEqual(b"last", self.client.heard)
        assert self.client.reason is not None
        self.assertIsInstance(self.client.reason.value, ConnectionDone)
        self.wire.tls.write(b"nobody hears this")

    def test_spoilt(self) -> None:
        """
        A record that cannot be what was sent ends the connection, and none after it arrives.
        """
        spoilt = bytearray(self.wire.said(b"one"))
        spoilt[-1] ^= 1
        self.wire.come(bytes(spoilt) + self.wire.said(b"two"))
        self.assertEqual(b"", self.client.heard)
        assert self.client.reason is not None
        self.assertNotIsInstance(self.client.reason.value, ConnectionDone)

    def test_lost(self) -> None:
        """
        A connection that breaks off is told as that, and nothing is left that must be collected.
        """
        self.wire.tls.connectionLost(Failure(ConnectionLost()))
        assert self.client.reason is not None
        self.assertIsInstance(self.client.reason.value, ConnectionLost)
        self.assertNotIn("dataReceived", vars(self.wire.tls))

    def test_aborts(self) -> None:
        """
        Who has aborted the connection hears nothing more, not even of what has come in the same read.
        """
        self.wire.come(self.wire.said(b"one", b"enough", b"three"))
        self.assertEqual(b"oneenough", self.client.heard)
