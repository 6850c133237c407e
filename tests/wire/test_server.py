"""
Who is connected, how many may be, and how they leave; and the same over real sockets.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import ref

import trustme
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dheera.wire.certificate import ReloadingCertificate
from dheera.wire.limits import ServerLimits
from dheera.wire.request import Request
from dheera.wire.server import Server
from tests.wire.line import Place, Stand, later
from tests.wire.probes import GET, POST
from tests.wire.reference import answers

NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


class TestLeaving(SynchronousTestCase):
    """
    A server that is about to stop, and serves on.
    """

    def setUp(self) -> None:
        self.stand = Stand(later)

    def test_answers(self) -> None:
        """
        Whoever is connected or comes is served, and each answer is the last on its connection.
        """
        lines = [self.stand.connect() for _ in range(2)]
        self.stand.server.leave()
        lines.append(self.stand.connect())
        for line in lines[1:]:
            line.send(NEXT + NEXT)
            self.stand.request.finish()
            answer = line.answer()
            self.assertEqual((200, b"close", "half-closed"), (answer.status, answer.field(b"connection"), line.state))
        self.assertEqual("open", lines[0].state)
        self.assertEqual((2, True, False), (len(self.stand.place.requests), *self.states()))

    def test_begun(self) -> None:
        """
        An answer that has begun without saying so keeps its word: the next one is the last.
        """
        line = self.stand.connect()
        line.send(NEXT)
        self.stand.request.write(b"a")
        self.stand.server.leave()
        self.stand.request.finish()
        self.assertEqual((None, "open"), (line.answer().field(b"connection"), line.state))
        line.send(NEXT)
        self.stand.request.finish()
        self.assertEqual((b"close", "closed"), (line.answer().field(b"connection"), line.state))

    def test_then_drained(self) -> None:
        """
        Then it drains as ever.
        """
        line = self.stand.connect()
        self.stand.server.leave()
        drained = self.stand.server.drain()
        self.assertEqual("closed", line.state)
        self.successResultOf(drained)
        self.assertEqual([True, True], self.states())

    def states(self) -> list[bool]:
        return [self.stand.server.leaving, self.stand.server.draining]


class TestNewcomers(SynchronousTestCase):
    """
    Who has not asked for anything yet.
    """

    def test_counted(self) -> None:
        """
        A client is one until its first request has come as far as its head, whatever becomes of that; and no more when
        it leaves.
        """
        stand = Stand(later)
        self.assertEqual(0, stand.server.newcomers)
        lines = [stand.connect() for _ in range(3)]
        self.assertEqual(3, stand.server.newcomers)
        lines[0].send(NEXT)
        self.assertEqual(2, stand.server.newcomers)
        stand.request.finish()
        self.assertEqual(2, stand.server.newcomers)
        lines[1].send(NEXT[:9])
        self.assertEqual(2, stand.server.newcomers)
        lines[1].send(NEXT[9:])
        lines[2].hang_up()
        self.assertEqual(0, stand.server.newcomers)


class TestMemory(SynchronousTestCase):
    """
    What is left of those who were here.
    """

    def test_gone(self) -> None:
        """
        Nothing, at once: the garbage collector, which seldom comes by, is not waited for.
        """
        gc.disable()
        self.addCleanup(gc.enable)
        for sent in (b"", b"GE", NEXT):
            stand = Stand()
            line = stand.connect()
            line.send(sent)
            line.hang_up()
            channel, parser = ref(line.channel), ref(line.channel._parser)
            line.unregisterProducer()
            del line.channel  # the test's own, and what Twisted's transports do
            stand.place.requests.clear()
            self.assertEqual((None, None), (channel(), parser()))


class TestOtherLimits(SynchronousTestCase):
    """
    Limits that are replaced.
    """

    def setUp(self) -> None:
        self.stand = Stand()
        self.line = self.stand.connect()

    def test_next_request(self) -> None:
        """
        An open connection goes by the new ones from its next request on.
        """
        for limit, status in ((4, 413), (5, 200)):
            line = self.stand.connect()
            line.send(POST + b"Content-Length: 1\r\n\r\na")
            line.answer()
            self.stand.server.limits = ServerLimits(body_bytes=limit)
            line.send(POST + b"Content-Length: 5\r\n\r\nhello")
            self.assertEqual(status, line.answer().status)

    def test_request_under_way(self) -> None:
        """
        A body that is on its way goes by those under which it began.
        """
        self.line.send(POST + b"Content-Length: 5\r\n\r\nhe")
        self.stand.server.limits = ServerLimits(body_bytes=1)
        self.line.send(b"llo")
        self.assertEqual(b"hello", self.line.answer().body)

    def test_connections(self) -> None:
        """
        New connections are counted against the new ones.
        """
        self.stand.server.limits = ServerLimits(connections=1)
        self.assertEqual(503, self.stand.connect().answer().status)

    def test_times(self) -> None:
        """
        So are the times.
        """
        self.stand.server.limits = ServerLimits(idle_seconds=5)
        self.line.send(NEXT)
        self.line.take()
        self.stand.wait(6)
        self.assertEqual("closed", self.line.state)


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
        self,
        render: Callable[[Request], bytes | int] | None = None,
        limits: ServerLimits | None = None,
        most: int = 100,
    ) -> Client:
        from twisted.internet import reactor  # the one that trial runs

        self.reactor: Any = reactor
        self.place = Place(render)
        self.server = Server(self.reactor, self.place, limits or ServerLimits())
        self.server.accepting(most)
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

    async def test_dropped(self) -> None:
        """
        A connection too many that is not even told so is reset, and gone; who was there is served.
        """
        client = await self.connect(most=1)
        transport: Any = client.transport
        dropped = Client()
        endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", transport.getPeer().port)
        try:
            await connectProtocol(self.endpoint(endpoint), dropped)
        except ConnectError:
            pass  # before it noticed that it was connected
        else:
            self.assertIsNot(ConnectionDone, await dropped.lost)
        self.assertEqual(1, self.server.connections)
        client.send(NEXT)
        await client.hear(b"HTTP/1.1 200 ")

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
