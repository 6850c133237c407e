"""
Who is connected, how many may be, and how they leave; and the same over real sockets.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trustme
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dheera.wire.certificate import ReloadingCertificate
from dheera.wire.limits import ServerLimits
from dheera.wire.request import Request
from dheera.wire.server import TOLD_TO_LEAVE, Server
from tests.wire.line import Line, Place, Stand, later
from tests.wire.probes import GET, POST
from tests.wire.reference import answers

NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


def address(number: int) -> IPv4Address:
    """
    One of many clients.
    """
    return IPv4Address("TCP", f"192.0.2.{number}", 50000)


class TestCaps(SynchronousTestCase):
    """
    Too many connections.
    """

    def check_told(self, line: Line) -> None:
        answer = line.answer()
        self.assertEqual(
            (503, b"1", b"close"), (answer.status, answer.field(b"retry-after"), answer.field(b"connection"))
        )
        self.assertEqual("half-closed", line.state)

    def test_in_all(self) -> None:
        """
        One too many is told so, at once; a place that is left can be taken.
        """
        stand = Stand(limits=ServerLimits(connections=2))
        lines = [stand.connect(address(number)) for number in range(3)]
        self.check_told(lines[2])
        lines[2].send(NEXT)
        lines[0].hang_up()
        lines[2].hang_up()
        lines.append(stand.connect(address(9)))
        for line in (lines[1], lines[3]):
            line.send(NEXT)
            self.assertEqual(200, line.answer().status)
        self.assertEqual(2, len(stand.place.requests))

    def test_per_address(self) -> None:
        """
        The same for one address, and another is not concerned.
        """
        stand = Stand(limits=ServerLimits(connections_per_address=2))
        lines = [stand.connect(address(1)) for _ in range(3)]
        self.check_told(lines[2])
        other = stand.connect(address(2))
        other.send(NEXT)
        self.assertEqual(200, other.answer().status)
        lines[0].hang_up()
        lines[2].hang_up()
        self.assertEqual("open", stand.connect(address(1)).state)

    def test_no_address(self) -> None:
        """
        Clients of a Unix socket have none to be counted by.
        """
        stand = Stand(limits=ServerLimits(connections_per_address=1))
        self.assertEqual(["open"] * 3, [stand.connect(UNIXAddress(None)).state for _ in range(3)])

    def test_far_too_many(self) -> None:
        """
        Those beyond the ones who are told are dropped without a word.
        """
        stand = Stand(limits=ServerLimits(connections=1))
        told = [stand.connect(UNIXAddress(None)) for _ in range(TOLD_TO_LEAVE + 1)]
        dropped = stand.connect(UNIXAddress(None))
        self.assertEqual(("reset", b""), (dropped.state, dropped.take()))
        self.check_told(told[-1])

    def test_far_too_many_from_one(self) -> None:
        """
        The same for one address, so that it cannot fill the places of others by being told.
        """
        stand = Stand(limits=ServerLimits(connections=2 * TOLD_TO_LEAVE, connections_per_address=1))
        lines = [stand.connect(address(1)) for _ in range(3 * TOLD_TO_LEAVE)]
        self.assertEqual(2 * TOLD_TO_LEAVE - 1, sum(line.state == "reset" for line in lines))
        other = stand.connect(address(2))
        other.send(NEXT)
        self.assertEqual(200, other.answer().status)

    def test_told_leave(self) -> None:
        """
        Those who are told leave soon, whatever they do.
        """
        stand = Stand(limits=ServerLimits(connections=0))
        line = stand.connect()
        for _ in range(6):
            line.send(NEXT)
            stand.wait(1)
        self.assertEqual("reset", line.state)
        self.assertEqual([], stand.clock.getDelayedCalls())


class TestDraining(SynchronousTestCase):
    """
    The end of a server.
    """

    def setUp(self) -> None:
        self.stand = Stand(later)

    def test_nobody(self) -> None:
        """
        Without connections there is nothing to wait for.
        """
        self.successResultOf(self.stand.server.drain())

    def test_idle(self) -> None:
        """
        Who asks nothing is let go.
        """
        lines = [self.stand.connect() for _ in range(3)]
        lines[1].send(NEXT)
        self.stand.request.finish()
        drained = self.stand.server.drain()
        self.assertEqual(["closed"] * 3, [line.state for line in lines])
        self.successResultOf(drained)

    def test_busy(self) -> None:
        """
        A request is answered to its end, and the answer says that it is the last.
        """
        line = self.stand.connect()
        line.send(NEXT + NEXT)
        draining = [self.stand.server.drain(), self.stand.server.drain()]
        self.assertEqual("open", line.state)
        self.stand.request.finish()
        self.assertEqual(b"close", line.answer().field(b"connection"))
        line.hang_up()
        self.assertEqual(1, len(self.stand.place.requests))
        for drained in draining:
            self.successResultOf(drained)

    def test_begun(self) -> None:
        """
        An answer that had begun without saying so is the last as well.
        """
        line = self.stand.connect()
        line.send(NEXT)
        self.stand.request.write(b"a")
        drained = self.stand.server.drain()
        self.stand.request.write(b"b")
        self.stand.request.finish()
        self.assertEqual(b"ab", line.answer().body)
        self.successResultOf(drained)

    def test_head_underway(self) -> None:
        """
        A head that has begun to come may end, and is answered; or its time does.
        """
        lines = [self.stand.connect() for _ in range(2)]
        for line in lines:
            line.send(GET)
        drained = self.stand.server.drain()
        lines[0].send(b"\r\n")
        self.stand.request.finish()
        self.assertEqual((200, "closed"), (lines[0].answer().status, lines[0].state))
        self.stand.wait(10)
        self.assertEqual(408, lines[1].answer().status)
        self.stand.wait(6)
        self.assertEqual("reset", lines[1].state)
        self.successResultOf(drained)

    def test_arriving(self) -> None:
        """
        Who comes too late is told.
        """
        self.stand.connect().send(NEXT)
        self.stand.server.drain()
        self.assertEqual(503, self.stand.connect().answer().status)

    def test_end(self) -> None:
        """
        What has not ended by itself is ended so that it can be seen.
        """
        lines = [self.stand.connect() for _ in range(3)]
        lines[0].send(NEXT)
        self.stand.request.write(b"hello")
        left = self.stand.request.notifyFinish()
        lines[1].send(POST + b"Content-Length: 5\r\n\r\n")
        drained = self.stand.server.drain()
        self.assertEqual(["open", "open", "closed"], [line.state for line in lines])
        self.stand.server.end()
        self.assertEqual(["reset", "reset"], [line.state for line in lines[:2]])
        self.failureResultOf(left)
        self.successResultOf(drained)
        self.assertEqual([], self.stand.clock.getDelayedCalls())

    def test_factory(self) -> None:
        """
        The listener's coming and going is nothing to it; TLS may negotiate HTTP/1.1.
        """
        self.stand.server.doStart()
        self.stand.server.doStop()
        self.assertEqual([b"http/1.1"], self.stand.server.acceptableProtocols())
        self.assertEqual([], self.stand.clock.getDelayedCalls())


class Client(Protocol):
    """
    A client with a real socket.
    """

    def __init__(self) -> None:
        self.received = b""
        self.lost: Deferred[type[BaseException] | None] = Deferred()
        self._awaited = b""
        self._heard: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self._awaited and self._awaited in self.received:
            self._awaited = b""
            self._heard.callback(None)

    async def hear(self, awaited: bytes) -> None:
        if awaited not in self.received:
            self._awaited, self._heard = awaited, Deferred()
            await self._heard

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(reason.type)

    def send(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)


class TestSockets(TestCase):
    """
    What only a socket can show: what a client still reads when we close, and whether it can tell how.
    """

    secure = False
    timeout = 60

    async def connect(
        self, render: Callable[[Request], bytes | int] | None = None, limits: ServerLimits | None = None
    ) -> Client:
        from twisted.internet import reactor  # the one that trial runs

        self.reactor: Any = reactor
        self.place = Place(render)
        self.server = Server(self.reactor, self.place, limits or ServerLimits())
        port: Any = self.reactor.listenTCP(0, self.dressed(self.server), interface="127.0.0.1")
        self.addCleanup(self.gone)
        self.addCleanup(port.stopListening)
        client = Client()
        await connectProtocol(self.endpoint(TCP4ClientEndpoint(self.reactor, "127.0.0.1", port.getHost().port)), client)
        return client

    def gone(self) -> Deferred[None]:
        drained = self.server.drain()
        self.server.end()
        return drained

    def dressed(self, server: Server) -> Any:
        return server

    def endpoint(self, endpoint: Any) -> Any:
        return endpoint

    async def rendered(self) -> Request:
        """
        The request, when it has come.
        """
        while not self.place.requests:
            await deferLater(self.reactor, 0)
        return self.place.requests[-1]

    async def test_answer(self) -> None:
        """
        Ordinary requests are answered, and the client may leave.
        """
        client = await self.connect()
        for _ in range(2):
            client.send(POST + b"Content-Length: 5\r\n\r\nhello")
            await client.hear(b"hello")
            client.received = b""
        self.assertEqual(2, len(self.place.asked))
        transport: Any = client.transport
        transport.loseConnection()
        await client.lost

    async def test_large(self) -> None:
        """
        An answer of many times what a socket holds arrives whole, though the connection closes behind it.
        """
        content = bytes(range(256)) * 40_000
        client = await self.connect(lambda _: content)
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        reason = await client.lost
        [answer] = answers(client.received, closed=True)
        self.assertEqual((True, ConnectionDone), (content == answer.body, reason))

    async def test_early_answer(self) -> None:
        """
        An answer in the middle of a large upload can be read; the connection is not reset below it.
        """
        client = await self.connect(limits=ServerLimits(body_bytes=1000))
        client.send(POST + b"Content-Length: 5000000\r\n\r\n" + b"a" * 5_000_000)
        reason = await client.lost
        [answer] = answers(client.received, closed=True)
        self.assertEqual((413, ConnectionDone), (answer.status, reason))

    async def test_cut(self) -> None:
        """
        An answer in chunks that is cut: what was written arrives, its end does not.
        """
        client = await self.connect(later)
        client.send(NEXT)
        request = await self.rendered()
        request.write(b"a" * 100_000)
        request.cut()
        await client.lost
        self.assertTrue(client.received.endswith(b"a" * 100_000 + b"\r\n"))

    async def test_cut_open_end(self) -> None:
        """
        To HTTP/1.0 the same looks like a broken connection, not like an end.
        """
        client = await self.connect(later)
        client.send(NEXT.replace(b"1.1", b"1.0"))
        request = await self.rendered()
        request.write(b"hello")
        await client.hear(b"hello")
        request.cut()
        reason = await client.lost
        self.assertIsNot(ConnectionDone, reason)

    async def test_client_leaves(self) -> None:
        """
        A client that leaves is noticed while its answer is prepared.
        """
        client = await self.connect(later)
        client.send(NEXT)
        request = await self.rendered()
        self.assertEqual(self.secure, request.isSecure())
        ours: Any = request.transport
        self.assertTrue(ours.getTcpNoDelay())
        left: Deferred[bool] = request.notifyFinish().addCallbacks(lambda _: False, lambda _: True)
        transport: Any = client.transport
        transport.abortConnection()
        self.assertTrue(await left)
        await client.lost

    async def test_half_closed(self) -> None:
        """
        So is one that closes its sending half: it is taken to have left.
        """
        client = await self.connect(later)
        client.send(NEXT)
        request = await self.rendered()
        left: Deferred[bool] = request.notifyFinish().addCallbacks(lambda _: False, lambda _: True)
        transport: Any = client.transport
        transport.loseWriteConnection()
        self.assertTrue(await left)
        await client.lost


class TestTLS(TestSockets):
    """
    The same below TLS.
    """

    secure = True

    def dressed(self, server: Server) -> Any:
        self.authority = trustme.CA()
        issued = self.authority.issue_cert("dheera.example")
        file = Path(self.enterContext(tempfile.TemporaryDirectory())) / "both.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(str(file))
        return TLSMemoryBIOFactory(
            ReloadingCertificate(self.reactor, file, file), isClient=False, wrappedFactory=server
        )

    def endpoint(self, endpoint: Any) -> Any:
        trusted = trustRootFromCertificates([Certificate.loadPEM(self.authority.cert_pem.bytes())])
        options = optionsForClientTLS("dheera.example", trusted, acceptableProtocols=[b"h2", b"http/1.1"])
        return wrapClientTLS(options, endpoint)

    async def test_negotiated(self) -> None:
        """
        Of what a client offers, HTTP/1.1 is chosen.
        """
        client = await self.connect()
        client.send(NEXT)
        await client.hear(b"\r\n\r\n")
        transport: Any = client.transport
        self.assertEqual(b"http/1.1", transport.negotiatedProtocol)
        transport.loseConnection()
        await client.lost
