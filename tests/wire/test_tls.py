"""
TLS to an upstream: real sockets, both reactors, and OpenSSL as the peer.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from errno import ENOTCONN
from functools import cache
from typing import Any, ClassVar

import trustme
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dheera.reactor import Reactor
from dheera.wire.authorities import trusting
from dheera.wire.sending import file_number, has_left, quiet, sender, unsent
from dheera.wire.tls import RECORD_BYTES, TLSPort
from tests.house import Overheard

NAME = "upstream.test"
LARGE = bytes(range(256)) * 4096 * 8
"""
More than all buffers on the way hold.
"""


FULL = b"x" * RECORD_BYTES
"""
As much as a record holds.
"""


@cache
def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """
    What trusts a server, and that server.
    """
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    return trusting(authority.cert_pem.bytes()), context


class Client(Protocol):
    """
    Notes what comes; says a word at once, and gives up at another.
    """

    def __init__(self) -> None:
        self.heard = b""
        self.reason: Failure | None = None

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        transport.write(b"hello")

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if data == b"enough":
            self.transport.abortConnection()  # type: ignore[union-attr]  # connected

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason


class Once(Factory[Client]):
    """
    Has one protocol for a connection.
    """

    noisy = False

    def __init__(self, client: Client) -> None:
        self.client = client

    def buildProtocol(self, _addr: IAddress | None) -> Client:
        return self.client


class Peer:
    """
    The other end: bytes of the network come and go when it is told to.

    :ivar ended: how, if it has: "closed" below TLS, or "reset".
    """

    def __init__(self, below: socket.socket) -> None:
        below.settimeout(0)
        self.below = below
        self.ended = ""
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = certificates()[1].wrap_bio(self._in, self._out, server_side=True)

    def take(self, at_most: int = 1 << 20) -> None:
        """
        Take what has come.
        """
        try:
            data = self.below.recv(at_most)
        except BlockingIOError:
            return
        except ConnectionError:
            self.ended = "reset"
            return
        self._in.write(data)
        if not data:
            self.ended = "closed"

    def was_reset(self) -> bool:
        """
        Whether the client has reset the connection.
        """
        self.take()
        return self.ended == "reset"

    def was_left(self) -> bool:
        """
        Whether it has closed it in whatever way.
        """
        self.take()
        return bool(self.ended)

    def encoded(self, *pieces: bytes) -> bytes:
        """
        What goes over the wire when *pieces* are sent, a record each.
        """
        for piece in pieces:
            self.tls.write(piece)
        return self._out.read()

    def send(self, *pieces: bytes) -> None:
        self.below.sendall(self.encoded(*pieces))

    def shake(self) -> bool:
        """
        Go on with the handshake.

        :return: whether it is done.
        """
        self.take()
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        self.below.sendall(self._out.read())
        return self.tls.version() is not None and self._shaken()

    def _shaken(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def hear(self) -> bytes:
        """
        All that has come.
        """
        self.take()
        data = b""
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while piece := self.tls.read(RECORD_BYTES):
                data += piece
        return data

    def spoilt(self, piece: bytes) -> bytes:
        """
        *piece* as it must not arrive.
        """
        data = bytearray(self.encoded(piece))
        data[-1] ^= 1
        return bytes(data)

    def send_and_end(self, piece: bytes) -> None:
        """
        Send *piece*, and say that nothing more comes.
        """
        self.tls.write(piece)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.below.sendall(self._out.read())

    def was_told_the_end(self) -> bool:
        """
        Whether the client has said that nothing more comes.
        """
        self.take()
        try:
            return self.tls.read(1) == b""
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            return False


@implementer(IStreamClientEndpoint)
class Resetting:
    """
    Connects to a peer that has reset the connection by the time it is told of.
    """

    def __init__(self, reactor: EPollReactor, peer: socket.socket) -> None:
        self.port = TCP4ClientEndpoint(reactor, *peer.getsockname())
        self.peer = peer

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - Twisted's name
        return self.port.connect(protocolFactory).addCallback(self.reset)

    def reset(self, protocol: IProtocol) -> IProtocol:
        with self.peer.accept()[0] as below:
            below.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return protocol


class Midst:
    """
    OpenSSL in the midst of a message that takes several records, as Python's ssl has it: it does not write.
    """

    def __init__(self, tls: Any) -> None:
        self.tls = tls
        self.is_through = False

    def write(self, data: bytes) -> int:
        if not self.is_through:
            raise ssl.SSLWantReadError
        return int(self.tls.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tls, name)


class Meeting(SynchronousTestCase):
    """
    A client of ours on its way to a peer.
    """

    make: ClassVar[type[EPollReactor]] = Reactor

    def setUp(self) -> None:
        self.log = Overheard.by(self)
        self.reactor = self.make()
        self.addCleanup(self.leave)
        self.client = Client()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = TCP4ClientEndpoint(self.reactor, *listening.getsockname())
            self.connecting: Deferred[Any] = TLSPort(certificates()[0], NAME, port).connect(Once(self.client))
            self.reactor.iterate(0)
            self.peer = Peer(listening.accept()[0])
        self.addCleanup(self.peer.below.close)

    def leave(self) -> None:
        """
        Close what is open, also what is not read from just now.
        """
        if self.client.connected and self.client.reason is None:
            self.client.transport.abortConnection()  # type: ignore[union-attr]  # connected
        self.rest()
        self.reactor.disconnectAll()

    def until(self, condition: Callable[[], object]) -> None:
        for _ in range(2000):
            if condition():
                return
            self.reactor.iterate(0.005)
        self.fail("That did not come to pass.")

    def rest(self) -> None:
        """
        Let all happen that can.
        """
        for _ in range(5):
            self.reactor.iterate(0.002)


class Handshakes(Meeting):
    """
    How TLS begins, or does not.
    """

    def test_done(self) -> None:
        """
        Whoever connects hears of it when the peer is known; what the protocol says at once is not lost. Nothing is
        logged.
        """
        self.rest()
        self.assertNoResult(self.connecting)
        self.until(self.peer.shake)
        self.until(lambda: self.client.connected)
        self.assertIs(self.client, self.successResultOf(self.connecting))
        self.until(lambda: self.peer.hear() == b"hello")
        self.assertEqual([], self.log.events)

    def test_cancelled(self) -> None:
        """
        Who gives up in the handshake closes the connection, and the protocol never hears of it.
        """
        self.rest()
        self.connecting.cancel()
        self.failureResultOf(self.connecting, CancelledError)
        self.until(self.peer.was_reset)
        self.assertEqual((0, None), (self.client.connected, self.client.reason))

    def test_left(self) -> None:
        """
        A peer that leaves, or resets the connection, is lost.
        """
        self.rest()
        self.peer.below.close()
        self.until(lambda: self.connecting.called)
        self.failureResultOf(self.connecting, ConnectionLost)

    def test_left_in_silence(self) -> None:
        """
        So is one that reads, and leaves without an answer.
        """
        self.rest()
        self.peer.take()
        self.peer.below.shutdown(socket.SHUT_WR)
        self.until(lambda: self.connecting.called)
        self.failureResultOf(self.connecting, ConnectionLost)

    def test_left_in_order(self) -> None:
        """
        Nor does it matter that it says so.
        """
        self.peer.below.sendall(b"\x15\x03\x03\x00\x02\x01\x00")  # close_notify (RFC 5246 §7.2)
        self.until(lambda: self.connecting.called)
        self.failureResultOf(self.connecting, ConnectionLost)

    def test_left_before(self) -> None:
        """
        So is one that resets the connection when it is made, before a word of TLS.
        """
        self.connecting.addErrback(lambda _: None)  # another
        with socket.create_server(("127.0.0.1", 0)) as listening:
            connecting = TLSPort(certificates()[0], NAME, Resetting(self.reactor, listening)).connect(Once(self.client))
            self.until(lambda: connecting.called)
        self.failureResultOf(connecting, ConnectionLost)

    def test_not_tls(self) -> None:
        """
        One that speaks something else is told by its error; it hears no more.
        """
        self.peer.below.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.until(lambda: self.connecting.called)
        self.failureResultOf(self.connecting, ssl.SSLError)
        self.until(self.peer.was_left)

    def test_slowly(self) -> None:
        """
        However the network cuts it, it comes to its end.
        """
        self.until(self.started)
        flight = self.peer._out.read()
        for cut in range(0, len(flight), 100):
            self.peer.below.sendall(flight[cut : cut + 100])
            self.reactor.iterate(0)
        self.until(lambda: self.client.connected)

    def started(self) -> bool:
        self.peer.take()
        with contextlib.suppress(ssl.SSLWantReadError):
            self.peer.tls.do_handshake()
        return self.peer._out.pending > 0


class Connected(Meeting):
    """
    Hands are shaken.
    """

    def setUp(self) -> None:
        super().setUp()
        self.until(self.peer.shake)
        self.until(lambda: self.client.connected)
        self.until(lambda: self.peer.hear() == b"hello")
        self.transport: Any = self.client.transport
        assert isinstance(self.transport, Connection)

    def ended_by(self, *reasons: type[Exception]) -> None:
        self.until(lambda: self.client.reason)
        assert self.client.reason is not None
        self.assertIsInstance(self.client.reason.value, reasons)

    def assert_heard(self, wanted: bytes) -> None:
        heard = bytearray()

        def is_all() -> bool:
            heard.extend(self.peer.hear())
            return len(heard) >= len(wanted)

        self.until(is_all)
        self.assertEqual(wanted, heard)

    def test_reads(self) -> None:
        """
        All that is sent arrives, however the network cuts it.
        """
        pieces = [b"x" * size for size in (1, 300, RECORD_BYTES, 1, 2)]
        encoded = self.peer.encoded(*pieces)
        for cut in range(0, len(encoded), 1009):
            self.peer.below.sendall(encoded[cut : cut + 1009])
            self.reactor.iterate(0)
        self.until(lambda: self.client.heard == b"".join(pieces))

    def test_reads_what_waited(self) -> None:
        """
        While reading is paused nothing arrives; then all does that came meanwhile, though nothing more comes.
        """
        self.transport.pauseProducing()
        pieces = [bytes([number]) * RECORD_BYTES for number in range(4)]
        self.peer.send(*pieces, b"last")
        self.rest()
        self.assertEqual(b"", self.client.heard)
        self.transport.resumeProducing()
        self.until(lambda: self.client.heard == b"".join(pieces) + b"last")

    def test_writes_at_once(self) -> None:
        """
        What is written leaves before the reactor has had a turn, however many records it takes.
        """
        send = sender(self.transport)
        for size in 1, 300, RECORD_BYTES, RECORD_BYTES + 1, 3 * RECORD_BYTES:
            send(b"x" * size)
            self.assertEqual(size, len(self.peer.hear()))

    def test_writes_much(self) -> None:
        """
        What the kernel does not take leaves later, in order and once, whoever sends meanwhile; its producer is paused
        for so long, and how much is left is known.
        """
        resumed: list[bool] = []

        class Producer:
            def pauseProducing(_) -> None:  # noqa: N805 - self is the test
                resumed.append(False)

            def resumeProducing(_) -> None:  # noqa: N805 - self is the test
                resumed.append(True)

            stopProducing = pauseProducing

        self.transport.registerProducer(Producer(), True)  # noqa: FBT003 - Twisted's signature
        send = sender(self.transport)
        pieces = [LARGE, b"small", LARGE[:70_001], b"", b"last"]
        for piece in pieces:
            send(piece)
            self.reactor.iterate(0)
        self.assertEqual([False], resumed[:1])
        self.assertGreater(unsent(self.transport), len(LARGE) // 2)
        self.assert_heard(b"".join(pieces))
        self.until(lambda: resumed[-1] and unsent(self.transport) == 0)

    def test_writes_after_reading(self) -> None:
        """
        While OpenSSL must read before it can write, the reactor is not told again and again that there is room; then
        all leaves.
        """
        midst = self.transport.socket._sslobj = Midst(self.transport.socket._sslobj)
        for piece in b"one", b"two", b"three":
            sender(self.transport)(piece)
            self.reactor.iterate(0)
            self.assertNotIn(self.transport, self.reactor.getWriters())
        self.assertEqual(1, len(self.reactor.getDelayedCalls()))
        midst.is_through = True
        self.assert_heard(b"onetwothree")

    def test_closes(self) -> None:
        """
        Who closes the connection has all sent before, and then says that it ends.
        """
        self.transport.write(LARGE)
        self.transport.loseConnection()
        self.assert_heard(LARGE)
        self.until(self.peer.was_told_the_end)
        self.ended_by(ConnectionDone)

    def test_aborts(self) -> None:
        """
        Who aborts it hears nothing more, not even of what has come already, and the peer sees that.
        """
        self.peer.send(b"one", b"enough", b"three")
        self.ended_by(ConnectionAborted)
        self.assertEqual(b"oneenough", self.client.heard)
        self.until(self.peer.was_reset)

    def test_end(self) -> None:
        """
        An end in order is one, though it comes with the last piece; it is answered in order.
        """
        self.peer.send_and_end(b"last")
        self.ended_by(ConnectionDone)
        self.assertEqual(b"last", self.client.heard)
        self.until(self.peer.was_told_the_end)

    def test_end_behind_much(self) -> None:
        """
        So it is behind a full record, after which more is looked for at once.
        """
        self.peer.send_and_end(FULL)
        self.ended_by(ConnectionDone)
        self.assertEqual(FULL, self.client.heard)
        self.until(self.peer.was_told_the_end)

    def test_cut(self) -> None:
        """
        An end that TLS was not told of is none, nor is a record that was cut.
        """
        self.peer.below.sendall(self.peer.encoded(b"whole", b"cut")[:-1])
        self.peer.below.shutdown(socket.SHUT_WR)
        self.ended_by(ConnectionLost)
        self.assertEqual(b"whole", self.client.heard)

    def test_spoilt(self) -> None:
        """
        A record that cannot be what was sent ends the connection, and none after it arrives.
        """
        self.peer.below.sendall(self.peer.spoilt(b"one") + self.peer.encoded(b"two"))
        self.ended_by(ConnectionLost)
        self.assertEqual(b"", self.client.heard)

    def test_spoilt_behind_much(self) -> None:
        """
        So it is behind a full record, which arrives.
        """
        self.peer.below.sendall(self.peer.encoded(FULL) + self.peer.spoilt(b"one"))
        self.ended_by(ConnectionLost)
        self.assertEqual(FULL, self.client.heard)

    def test_reset(self) -> None:
        """
        A connection that breaks off while something is written is lost.
        """
        self.peer.below.close()
        self.transport.write(LARGE)
        self.ended_by(ConnectionLost)

    def test_below(self) -> None:
        """
        Whether something waits unread, or the peer has gone, is seen below TLS.
        """
        self.transport.pauseProducing()
        self.assertTrue(quiet(self.transport))
        self.assertEqual(self.transport.fileno(), file_number(self.transport))
        self.peer.send(b"x")
        self.until(lambda: not quiet(self.transport))
        self.assertFalse(has_left(self.transport))
        self.peer.below.close()
        self.until(lambda: has_left(self.transport))


class WithoutTLS(SynchronousTestCase):
    """
    TLS is not up yet, or over, or cannot be.
    """

    def test_no_name(self) -> None:
        """
        What cannot be the name of a peer is refused, before anybody is connected to.
        """
        never_asked: Any = None
        for name in ".test", "", "a" * 64 + ".test":
            with self.assertRaises(ValueError):
                TLSPort(certificates()[0], name, never_asked)

    def test_nothing_crosses(self) -> None:
        """
        Nothing is sent in clear text, nor taken: not when the peer had left before hands could be shaken, and not after
        the end.
        """
        below, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        left = socket.socket()
        for ours, ends in (below, True), (left, False):
            ours.settimeout(0)
            tls = certificates()[0].wrap_socket(ours, server_hostname=NAME, do_handshake_on_connect=False)
            self.addCleanup(tls.close)
            if ends:
                tls.shutdown(socket.SHUT_WR)
                theirs.send(b"clear text")
            for act in lambda: tls.recv(9), lambda: tls.send(b"x"):  # noqa: B023 - it is called here
                with self.assertRaises(OSError) as raised:
                    act()
                self.assertEqual(ENOTCONN, raised.exception.errno)


class HandshakesOfTwisted(Handshakes):
    """
    With the reactor that ``twistd`` runs.
    """

    make = EPollReactor


class ConnectedOfTwisted(Connected):
    """
    With the reactor that ``twistd`` runs.
    """

    make = EPollReactor
