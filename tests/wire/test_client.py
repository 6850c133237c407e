"""
The agent: whom it connects to, which connections it keeps, what it sends twice, and whom it trusts.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import trustme
from OpenSSL import SSL
from treq import content
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectBindError
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dheera.errors import AnswerCut, ConnectFailed, TooSlow, Unavailable
from dheera.wire.authorities import trusting
from dheera.wire.body import RequestBody
from dheera.wire.client import IDEMPOTENT, Agent
from dheera.wire.limits import ClientLimits
from dheera.wire.outgoing import Origin, Outgoing, written
from dheera.wire.response import Response
from tests.network import UPSTREAM_HOST, UPSTREAM_PORT
from tests.wire.caller import OK, ORIGIN, Caller, NoSource, Upload, body_of, whole
from tests.wire.directory import Directory

EMPTY = OK + b"Content-Length: 0\r\n\r\n"
NAMED = Origin("http", "upstream.test", UPSTREAM_PORT, b"upstream.test:8000")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Pool(SynchronousTestCase):
    """
    Connections that are kept.
    """

    def setUp(self) -> None:
        self.caller = Caller(ClientLimits(pool_connections=2, pool_idle_seconds=60))

    def exchange(self) -> None:
        answered = self.caller.send()
        self.caller.hear(EMPTY)
        self.successResultOf(answered)

    def test_reused(self) -> None:
        """
        One connection serves requests that follow one another; those at the same time have one each.
        """
        for _ in range(3):
            self.exchange()
        self.assertEqual(1, len(self.caller.script.connections))
        self.caller.send()
        self.caller.send()
        self.assertEqual(2, len(self.caller.script.connections))

    def test_cap(self) -> None:
        """
        No more are kept than the limit; the others are closed.
        """
        for _ in range(4):
            self.caller.send()
        for connection in self.caller.script.connections:
            connection.send(EMPTY)
        self.assertEqual(2, self.caller.idle())
        ends = [connection.ended for connection in self.caller.script.connections]
        self.assertEqual(["open", "open", "reset", "reset"], ends)

    def test_idle_too_long(self) -> None:
        """
        An idle connection is closed in time, and then nothing is left, not even a timer.
        """
        self.exchange()
        self.caller.network.turn(59)
        self.exchange()
        self.caller.network.turn(59)
        self.assertEqual((1, 1), (self.caller.idle(), len(self.caller.script.connections)))
        self.caller.network.turn(2)
        self.assertEqual(0, self.caller.idle())
        self.assertEqual(([], []), (self.caller.network.ends, self.caller.network.getDelayedCalls()))

    def test_closed_by_upstream(self) -> None:
        """
        An idle connection that upstream closes is forgotten at once.
        """
        for end in ("close", "reset"):
            self.exchange()
            getattr(self.caller.script.last, end)()
            self.assertEqual(0, self.caller.idle())
        self.exchange()
        self.assertEqual(3, len(self.caller.script.connections))

    def test_per_origin(self) -> None:
        """
        A connection serves the origin that it was made for, and no other.
        """
        self.exchange()
        self.caller.network.listen(self.caller.script, port=8001)
        self.caller.send(origin=Origin("http", UPSTREAM_HOST, 8001, b"10.0.0.9:8001"))
        self.assertEqual(2, len(self.caller.script.connections))

    def test_close(self) -> None:
        """
        Closing closes what is idle; what is under way goes on, and is closed when it is over.
        """
        first, _second = self.caller.send(), self.caller.send()
        self.caller.hear(EMPTY)
        self.caller.agent.close()
        self.caller.network.settle()
        self.assertEqual(["open", "reset"], [connection.ended for connection in self.caller.script.connections])
        self.caller.script.connections[0].send(EMPTY)
        self.successResultOf(first)
        self.exchange()
        self.assertEqual(["reset"] * 3, [connection.ended for connection in self.caller.script.connections])
        self.assertEqual(([], []), (self.caller.network.ends, self.caller.network.getDelayedCalls()))

    def test_other_limits(self) -> None:
        """
        Limits can be replaced: what follows goes by the new ones, on kept connections as on new ones.
        """
        self.exchange()
        self.caller.agent.limits = ClientLimits(pool_connections=1, first_byte_seconds=5, connect_seconds=3)
        slow = self.caller.send()
        self.caller.network.turn(5)
        self.failureResultOf(slow, TooSlow)
        self.caller.network.silent.add((UPSTREAM_HOST, UPSTREAM_PORT))
        slow = self.caller.send()
        self.caller.network.turn(3)
        self.failureResultOf(slow, ConnectFailed)
        self.caller.network.silent.clear()
        for _ in range(2):
            self.caller.send()
        for connection in self.caller.script.connections[-2:]:
            connection.send(EMPTY)
        self.assertEqual(1, self.caller.idle())

    def test_unread_end(self) -> None:
        """
        Of a socket that was idle for a second it is asked, before it is used again, whether its end is here unread.
        """
        for last_words, used in [(b"", False), (b"HTTP/1.1 408 Late\r\n\r\n", False), (None, True)]:
            self.caller = Caller()
            ours, theirs = socket.socketpair()
            self.addCleanup(ours.close)
            self.addCleanup(theirs.close)
            ours.settimeout(0)
            self.exchange()
            kept = self.caller.agent._idle[ORIGIN][0]
            transport: Any = kept.transport
            transport.getHandle = lambda ours=ours: ours
            if last_words is not None:
                theirs.sendall(last_words)
                theirs.close()
            self.caller.network.turn(1)
            self.exchange()
            self.assertEqual(1 if used else 2, len(self.caller.script.connections))

    def test_broken_socket(self) -> None:
        """
        A socket that cannot even be asked is not used.
        """
        self.exchange()
        transport: Any = self.caller.agent._idle[ORIGIN][0].transport
        closed = socket.socket()
        closed.close()
        transport.getHandle = lambda: closed
        self.caller.network.turn(1)
        self.exchange()
        self.assertEqual(2, len(self.caller.script.connections))


class Moving(SynchronousTestCase):
    """
    A host whose addresses change.
    """

    def setUp(self) -> None:
        self.caller = Caller(ClientLimits(names_seconds=30, pool_idle_seconds=600))
        self.directory = self.caller.network.nameResolver = Directory(upstream_test=[UPSTREAM_HOST])
        for number in (2, 3):
            self.caller.network.listen(self.caller.script, f"192.0.2.{number}", UPSTREAM_PORT)

    def move(self, *addresses: str) -> None:
        self.directory.hosts["upstream.test"] = [*addresses]

    def send(self) -> Deferred[Response]:
        return self.caller.send(origin=NAMED)

    @property
    def places(self) -> list[str]:
        """
        The addresses connected to, in order.
        """
        return [connection.transport.getHost().host for connection in self.caller.script.connections]

    @property
    def ends(self) -> list[str]:
        return [connection.ended for connection in self.caller.script.connections]

    def test_connections(self) -> None:
        """
        The name is looked up once for many connections, and anew when its time has come.
        """
        for _ in range(3):
            self.send()
        self.assertEqual(1, len(self.directory.asked))
        self.caller.network.turn(30)
        self.send()
        self.assertEqual(2, len(self.directory.asked))

    def test_idle(self) -> None:
        """
        Requests on kept connections make the name be looked up as well. When two answers in a row lack an address, what
        is idle there is closed at once, what is busy there after its answer; no request goes there any more.
        """
        answered = [self.send() for _ in range(3)]
        for connection in self.caller.script.connections[:2]:
            connection.send(EMPTY)
        self.caller.network.turn(29)
        self.move("192.0.2.2")
        self.caller.network.turn(1)
        answered.append(self.send())
        self.caller.script.connections[1].send(EMPTY)
        self.caller.network.turn(30)
        self.directory.waits = True
        answered.append(self.send())
        self.assertEqual((3, ["open"] * 3), (len(self.directory.asked), self.ends))
        self.directory.answer()
        self.caller.network.settle()
        self.assertEqual(["reset", "open", "open"], self.ends)
        for connection in self.caller.script.connections[1:]:
            connection.send(EMPTY)
        self.assertEqual(["reset"] * 3, self.ends)
        self.assertEqual([200] * 5, [self.successResultOf(one).code for one in answered])
        self.send()
        self.assertEqual([UPSTREAM_HOST] * 3 + ["192.0.2.2"], self.places)

    def test_asked_once(self) -> None:
        """
        Many requests at that time make one look-up; connections to addresses that stay are kept.
        """
        for _ in range(4):
            self.send()
        for connection in self.caller.script.connections:
            connection.send(EMPTY)
        self.caller.network.turn(30)
        self.directory.waits = True
        for _ in range(4):
            self.send()
        self.assertEqual(2, len(self.directory.asked))
        self.move("192.0.2.2", UPSTREAM_HOST)
        self.directory.answer()
        for connection in self.caller.script.connections:
            connection.send(EMPTY)
        self.assertEqual((4, ["open"] * 4), (self.caller.idle(), self.ends))

    def test_other_host(self) -> None:
        """
        Connections to other hosts stay.
        """
        self.send()
        self.caller.hear(EMPTY)
        self.caller.send()
        self.caller.hear(EMPTY)
        self.move("192.0.2.2")
        self.caller.network.turn(30)
        self.send()
        self.caller.script.connections[0].send(EMPTY)
        self.caller.network.turn(30)
        self.send()
        self.assertEqual(["reset", "open", "open"], self.ends)

    def test_several(self) -> None:
        """
        Connections are spread over the addresses of a name.
        """
        self.move("192.0.2.2", "192.0.2.3")
        for _ in range(4):
            self.send()
        self.assertEqual(["192.0.2.2", "192.0.2.3"] * 2, sorted(self.places[:2]) + sorted(self.places[2:]))

    def test_time_of_names(self) -> None:
        """
        How long addresses are taken for granted can be changed.
        """
        self.caller.agent.limits = ClientLimits(names_seconds=5)
        self.send()
        self.caller.hear(EMPTY)
        self.caller.network.turn(5)
        self.send()
        self.assertEqual(2, len(self.directory.asked))


class Again(SynchronousTestCase):
    """
    What is sent a second time when a kept connection turns out to be stale.
    """

    def setUp(self) -> None:
        self.caller = Caller()

    def stale(self, method: bytes, body: Any = None, said: bytes = b"", end: str = "reset") -> Deferred[Response]:
        """
        Send on a kept connection, which upstream ends when it has the request and has said *said*.
        """
        answered = self.caller.send()
        self.caller.hear(EMPTY)
        self.successResultOf(answered)
        answered = self.caller.send(method, body=body)
        if said:
            self.caller.hear(said)
        getattr(self.caller.script.last, end)()
        return answered

    def sent(self) -> list[bytes]:
        """
        The request lines that upstream got after the first, and on which connection.
        """
        return [
            b"%d %b" % (number, head.partition(b" ")[0])
            for number, connection in enumerate(self.caller.script.connections)
            for head in re.findall(rb"[A-Z]+ / HTTP/1.1", connection.received)
        ][1:]

    def test_idempotent(self) -> None:
        """
        What may be sent twice is, on a new connection, with the same bytes, when nothing came back.
        """
        for method in sorted(IDEMPOTENT):
            for end in ("close", "reset"):
                self.caller = Caller()
                answered = self.stale(method, whole(b"abc") if method == b"PUT" else None, end=end)
                self.assertEqual([b"0 " + method, b"1 " + method], self.sent())
                first, second = (connection.received for connection in self.caller.script.connections)
                self.assertTrue(first.endswith(second))
                self.assertNoResult(answered)
                self.caller.hear(EMPTY)
                self.assertEqual(200, self.successResultOf(answered).code)

    def test_others(self) -> None:
        """
        POST and PATCH are never sent twice.
        """
        for method in (b"POST", b"PATCH", b"PURGE"):
            self.caller = Caller()
            answered = self.stale(method, whole(b"abc"))
            self.failureResultOf(answered, AnswerCut)
            self.assertEqual([b"0 " + method], self.sent())

    def test_something_came(self) -> None:
        """
        One byte of an answer, and nothing is sent twice.
        """
        for said in (b"H", b"HTTP/1.1 103 Hints\r\n\r\n"):
            self.caller = Caller()
            self.failureResultOf(self.stale(b"GET", said=said), AnswerCut)
            self.assertEqual([b"0 GET"], self.sent())

    def test_not_reached(self) -> None:
        """
        If upstream cannot be reached the second time, it is not said that nothing was sent: the first time all was.
        """
        answered = self.caller.send()
        self.caller.hear(EMPTY)
        self.successResultOf(answered)
        answered = self.caller.send(b"DELETE")
        self.caller.network.listen(None)
        self.caller.script.last.reset()
        self.failureResultOf(answered, AnswerCut)

    def test_asked(self) -> None:
        """
        Whoever sends is asked whether it may be sent twice.
        """
        for may in (False, True):
            self.caller = Caller()
            self.caller.send()
            self.caller.hear(EMPTY)
            lines = written(ORIGIN, b"PUT", b"/", [])
            outgoing = Outgoing(origin=ORIGIN, method=b"PUT", lines=lines, retried=lambda: may)  # noqa: B023
            answered = self.caller.agent.send(outgoing)
            self.caller.script.last.reset()
            self.assertEqual(2 if may else 1, len(self.caller.script.connections))
            if not may:
                self.failureResultOf(answered, AnswerCut)

    def test_twice_at_most(self) -> None:
        """
        The second time is the last.
        """
        answered = self.stale(b"GET")
        self.caller.script.last.reset()
        self.failureResultOf(answered, AnswerCut)
        self.assertEqual([b"0 GET", b"1 GET"], self.sent())

    def test_new_connection(self) -> None:
        """
        On a connection that was made for the request nothing is stale, so nothing is sent twice.
        """
        answered = self.caller.send()
        self.caller.script.last.reset()
        self.failureResultOf(answered, AnswerCut)
        self.assertEqual(1, len(self.caller.script.connections))

    def test_body_gone(self) -> None:
        """
        A body that was still coming cannot be sent again, nor one that has come meanwhile.
        """
        self.failureResultOf(self.stale(b"PUT", Upload(3)), AnswerCut)
        self.assertEqual(1, len(self.caller.script.connections))
        body = RequestBody(NoSource(), 3)
        body.deliver(b"a")
        answered = self.caller.send()
        self.caller.hear(EMPTY)
        self.successResultOf(answered)
        answered = self.caller.send(b"PUT", body=body)
        body.deliver(b"bc")
        body.end()
        self.caller.network.settle()
        self.caller.script.last.reset()
        self.failureResultOf(answered, AnswerCut)
        self.assertEqual(2, len(self.caller.script.connections))

    def test_cancelled(self) -> None:
        """
        Who has left while it is sent again leaves nothing behind.
        """
        answered = self.stale(b"GET")
        answered.cancel()
        self.failureResultOf(answered, CancelledError)
        self.caller.network.settle()
        self.assertEqual([], self.caller.network.ends)


class Connecting(SynchronousTestCase):
    """
    Connections that are made, or cannot be.
    """

    def setUp(self) -> None:
        self.caller = Caller(ClientLimits(connect_seconds=10))

    def assert_nothing_left(self) -> None:
        self.caller.network.settle()
        self.assertEqual([], self.caller.network.ends)
        self.assertEqual([], self.caller.network.getDelayedCalls())

    def told(self, answered: Deferred[Response]) -> str:
        error = self.failureResultOf(answered, ConnectFailed).value
        assert isinstance(error, ConnectFailed)
        self.assertEqual(502, error.status)
        self.assert_nothing_left()
        return error.message

    def test_refused(self) -> None:
        """
        Nobody listens there: 502, with the place and the reason.
        """
        message = self.told(self.caller.send(origin=Origin("http", "10.0.0.9", 1, b"10.0.0.9:1")))
        self.assertIn("http://10.0.0.9:1 cannot be reached: Connection was refused", message)

    def test_name(self) -> None:
        """
        A name is looked up; upstream is told it as it was given.
        """
        self.caller.network.names["upstream.test"] = [UPSTREAM_HOST]
        answered = self.caller.send(origin=NAMED)
        self.caller.hear(EMPTY)
        self.successResultOf(answered)
        self.assertIn(b"Host: upstream.test:8000\r\n", self.caller.script.last.received)

    def test_unknown_name(self) -> None:
        """
        A name that nobody knows, or that cannot be one, is a 502 that says so.
        """
        self.assertIn("no results for hostname lookup: upstream.test", self.told(self.caller.send(origin=NAMED)))
        odd = Origin("https", "a" * 64 + ".test", 443, b"odd")
        self.assertIn("label", self.told(self.caller.send(origin=odd)))

    def test_nobody_answers(self) -> None:
        """
        The time for connecting is limited, by address and by name.
        """
        self.caller.network.silent.add((UPSTREAM_HOST, UPSTREAM_PORT))
        self.caller.network.names["upstream.test"] = [UPSTREAM_HOST]
        for origin in (ORIGIN, NAMED):
            answered = self.caller.send(origin=origin)
            self.caller.network.turn(9)
            self.assertNoResult(answered)
            self.caller.network.turn(1)
            self.assertIn("it did not answer in time", self.told(answered))

    def test_silent_resolver(self) -> None:
        """
        Looking up the name counts.
        """
        self.caller.network.nameResolver = Silent()
        answered = self.caller.send(origin=NAMED)
        self.caller.network.turn(10)
        self.assertIn("it did not answer in time", self.told(answered))

    def test_cancelled(self) -> None:
        """
        Who leaves while a connection is made is not told of a failure, and nothing is left: in the look-up, in TCP.
        """
        for origin, resolver, silent in [
            (NAMED, Silent(), False),
            (NAMED, None, True),
            (ORIGIN, None, True),
        ]:
            self.caller = Caller()
            self.caller.network.names["upstream.test"] = [UPSTREAM_HOST]
            self.caller.network.nameResolver = resolver or self.caller.network
            self.caller.network.silent = {(UPSTREAM_HOST, UPSTREAM_PORT)} if silent else set()
            answered = self.caller.send(origin=origin)
            self.assertNoResult(answered)
            answered.cancel()
            self.failureResultOf(answered, CancelledError)
            self.assert_nothing_left()

    def test_addresses(self) -> None:
        """
        Addresses of both kinds are connected to as they are.
        """
        for host, authority in [("127.0.0.1", b"127.0.0.1"), ("::1", b"[::1]")]:
            self.caller.network.listen(self.caller.script, host, 80)
            self.caller.network.nameResolver = Silent()
            answered = self.caller.send(origin=Origin("http", host, 80, authority))
            self.caller.hear(EMPTY)
            self.successResultOf(answered)
            self.assertIn(b"Host: " + authority + b"\r\n", self.caller.script.last.received)


class Silent:
    """
    A resolver that never comes back.
    """

    def resolveHostName(self, receiver: Any, *_: Any, **__: Any) -> Any:  # noqa: N802 - Twisted's name
        return receiver


class BelowTreq(SynchronousTestCase):
    """
    The agent as treq calls it.
    """

    def setUp(self) -> None:
        self.caller = Caller()

    def test_interface(self) -> None:
        """
        It is what Twisted calls an agent.
        """
        verifyObject(IAgent, self.caller.agent)

    def test_request(self) -> None:
        """
        Method, URI and headers go out; framing and ``Host`` are the agent's own to say.
        """
        headers = Headers({b"X-A": [b"1", b"2"], b"Host": [b"elsewhere"], b"Content-Length": [b"9"]})
        answered = self.caller.agent.request(b"GET", b"http://10.0.0.9:8000/x?y=%7e", headers)
        self.caller.network.settle()
        self.assertEqual(
            b"GET /x?y=%7e HTTP/1.1\r\nHost: 10.0.0.9:8000\r\nX-A: 1\r\nX-A: 2\r\n\r\n",
            self.caller.script.last.received,
        )
        self.caller.hear(EMPTY)
        self.assertEqual(200, self.successResultOf(answered).code)
        self.caller.agent.request(b"GET", b"http://10.0.0.9:8000/x")
        self.assertRaises(ValueError, self.caller.agent.request, b"GET", b"ftp://10.0.0.9/")

    def test_treq(self) -> None:
        """
        A body is sent by treq, and an answer read.
        """
        client = HTTPClient(self.caller.agent)
        reactor: Any = self.caller.network
        answered = client.post("http://10.0.0.9:8000/log", data=b"abc", reactor=reactor)
        self.caller.network.settle()
        for _ in range(3):
            self.caller.network.turn(1)
        self.assertIn(b"POST /log HTTP/1.1\r\nHost: 10.0.0.9:8000\r\n", self.caller.script.last.received)
        self.caller.hear(OK + b"Content-Length: 2\r\n\r\nok")
        answer = self.successResultOf(answered)
        self.assertEqual(b"ok", self.successResultOf(content(answer)))


@implementer(IOpenSSLServerConnectionCreator)
class Shown:
    """
    A certificate for *names*, as a server shows it.
    """

    def __init__(self, authority: trustme.CA, *names: str, **details: Any) -> None:
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        authority.issue_cert(*names, **details).configure_cert(self._context)

    def serverConnectionForTLS(self, _protocol: object) -> SSL.Connection:
        return SSL.Connection(self._context, None)


class Answering(Protocol):
    """
    Answers whatever comes, after the first bytes of it.
    """

    def dataReceived(self, _data: bytes) -> None:
        self.transport.write(OK + b"Content-Length: 2\r\n\r\nok")  # type: ignore[union-attr]  # connected


class Hasty(Protocol):
    """
    Answers once, and closes a little later, in order.
    """

    def dataReceived(self, _data: bytes) -> None:
        self.transport.write(OK + b"Content-Length: 2\r\n\r\nok")  # type: ignore[union-attr]  # connected
        from twisted.internet import reactor

        clock: Any = reactor
        clock.callLater(0.05, self.transport.loseConnection)  # type: ignore[union-attr]  # connected


class Waiting(Protocol):
    """
    Says nothing, not even of TLS, and notes when it is left.
    """

    def __init__(self) -> None:
        self.left: Deferred[None] = Deferred()

    def connectionLost(self, _reason: Failure = connectionDone) -> None:
        self.left.callback(None)


class Rude(Protocol):
    """
    Speaks no TLS.
    """

    def connectionMade(self) -> None:
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # type: ignore[union-attr]  # connected


class Gone(Protocol):
    """
    Leaves at once.
    """

    def connectionMade(self) -> None:
        self.transport.loseConnection()  # type: ignore[union-attr]  # connected


class Truncating(Protocol):
    """
    Begins a body that ends with the connection, and ends the connection without saying that in TLS.
    """

    def dataReceived(self, _data: bytes) -> None:
        transport: Any = self.transport
        transport.write(OK + b"\r\npart")
        transport.transport.loseConnection()


class TLS(TestCase):
    """
    Real TLS, on this machine.
    """

    timeout = 30

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.authority = trustme.CA()
        self.reactor: Any = reactor
        self.agent = Agent(self.reactor, ClientLimits(), trusting(self.authority.cert_pem.bytes()))

    async def listen(self, options: Shown | None, protocol: Callable[[], Protocol] = Answering) -> Origin:
        factory = Factory.forProtocol(protocol)
        if options is None:
            port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            port = self.reactor.listenSSL(0, factory, options, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number = port.getHost().port
        return Origin("https", "localhost", number, b"localhost:%d" % number)

    async def ask(self, origin: Origin) -> Response:
        return await self.agent.send(Outgoing(origin=origin, method=b"GET", lines=written(origin, b"GET", b"/", [])))

    async def leave(self) -> None:
        """
        Let what is open close, so that nothing is left in the reactor.
        """
        self.agent.close()
        while self.agent.deadlines._watched:
            await deferLater(self.reactor, 0.01, lambda: None)
        await deferLater(self.reactor, 0.05, lambda: None)

    async def refused(self, origin: Origin) -> str:
        try:
            await self.ask(origin)
        except ConnectFailed as error:
            return error.message
        finally:
            await self.leave()
        raise AssertionError

    async def test_trusted(self) -> None:
        """
        A certificate that an authority of ours signed for this name is trusted, and its connection kept.
        """
        origin = await self.listen(Shown(self.authority, "localhost"))
        for _ in range(2):
            response = await self.ask(origin)
            self.assertEqual((200, b"ok"), (response.code, response.whole()))
        self.assertEqual(1, len(self.agent._idle[origin]))
        await self.leave()

    async def test_address(self) -> None:
        """
        A certificate may be for an address.
        """
        origin = await self.listen(Shown(self.authority, "127.0.0.1"))
        response = await self.ask(Origin("https", "127.0.0.1", origin.port, b"127.0.0.1"))
        self.assertEqual(200, response.code)
        await self.leave()

    async def test_untrusted(self) -> None:
        """
        One that a stranger signed is refused, in words.
        """
        message = await self.refused(await self.listen(Shown(trustme.CA(), "localhost")))
        self.assertIn("its TLS certificate is not trusted", message)

    async def test_other_name(self) -> None:
        """
        One for another name is refused, in words.
        """
        message = await self.refused(await self.listen(Shown(self.authority, "elsewhere.test")))
        self.assertIn("its TLS certificate is for another name", message)

    async def test_no_name(self) -> None:
        """
        One that names no host in the way that counts (RFC 9110 §4.3.4) is refused, in words.
        """
        message = await self.refused(await self.listen(Shown(self.authority, common_name="localhost")))
        self.assertIn("its TLS certificate is for another name", message)

    async def test_expired(self) -> None:
        """
        One that is over is refused, and the words say why.
        """
        message = await self.refused(await self.listen(Shown(self.authority, "localhost", not_after=LONG_AGO)))
        self.assertIn("its TLS certificate is not trusted (certificate has expired)", message)

    async def test_no_tls(self) -> None:
        """
        A peer that speaks something else, or leaves, is a 502 that says so.
        """
        self.assertIn("it does not speak TLS", await self.refused(await self.listen(None, Rude)))
        self.assertIn("was lost", await self.refused(await self.listen(None, Gone)))

    async def test_no_handshake(self) -> None:
        """
        A peer that never begins TLS counts for the time that connecting may take; its connection is closed.
        """
        self.agent.limits = ClientLimits(connect_seconds=0.05)
        peer = Waiting()
        self.assertIn("it did not answer in time", await self.refused(await self.listen(None, lambda: peer)))
        await peer.left

    async def test_trust_by_default(self) -> None:
        """
        Without a context it is the usual authorities that are trusted, and ours is none.
        """
        self.agent = Agent(self.reactor, ClientLimits())
        message = await self.refused(await self.listen(Shown(self.authority, "localhost")))
        self.assertIn("its TLS certificate is not trusted", message)

    async def test_stale(self) -> None:
        """
        A kept connection whose end has come unread is not used again, under TLS neither.
        """
        origin = await self.listen(Shown(self.authority, "localhost"), Hasty)
        response = await self.ask(origin)
        self.assertEqual(b"ok", response.whole())
        kept = self.agent._idle[origin]
        transport: Any = kept[0].transport
        transport.pauseProducing()  # so that the reactor does not read the end
        while kept[0].usable():
            await deferLater(self.reactor, 0.01, lambda: None)
        self.assertEqual(b"ok", (await self.ask(origin)).whole())
        await self.leave()

    async def test_truncated(self) -> None:
        """
        An end that TLS did not announce is not the end of a body.
        """
        response = await self.ask(await self.listen(Shown(self.authority, "localhost"), Truncating))
        body = body_of(response)
        while body.reason is None:
            await deferLater(self.reactor, 0.01, lambda: None)
        self.assertEqual((b"part", False), (body.received, body.whole))
        await self.leave()


class Elsewhere(TestCase):
    """
    A host that moves, with real sockets: two addresses of this machine are those of a name.
    """

    timeout = 30

    async def test_moves(self) -> None:
        """
        When the directory names another address twice in a row, no request reaches the old one.
        """
        from twisted.internet import reactor

        clock: Any = reactor
        directory = Directory(upstream_test=["127.0.0.1"])
        installed = clock.installNameResolver(directory)
        self.addCleanup(clock.installNameResolver, installed)
        asked: list[str] = []

        class Noting(Answering):
            def dataReceived(self, data: bytes) -> None:
                asked.append(self.transport.getHost().host)  # type: ignore[union-attr]  # connected
                super().dataReceived(data)

        port = clock.listenTCP(0, Factory.forProtocol(Noting), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number = port.getHost().port
        other = clock.listenTCP(number, Factory.forProtocol(Noting), interface="127.0.0.2")
        self.addCleanup(other.stopListening)
        agent = Agent(clock, ClientLimits(names_seconds=0))
        origin = Origin("http", "upstream.test", number, b"upstream.test")
        places = []
        for address in ("127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.2"):
            directory.hosts["upstream.test"] = [address]
            response = await agent.send(Outgoing(origin=origin, method=b"GET", lines=written(origin, b"GET", b"/", [])))
            places.append((response.whole(), agent.idle_connections))
        self.assertEqual(["127.0.0.1"] * 3 + ["127.0.0.2"] * 2, asked)
        self.assertEqual([(b"ok", 1)] * 5, places)
        agent.close()
        while agent.deadlines._watched:
            await deferLater(clock, 0.01, lambda: None)
        await deferLater(clock, 0.05, lambda: None)


class OutOfFiles(SynchronousTestCase):
    """
    No file is left to open here.
    """

    def test_ours(self) -> None:
        """
        That is our own trouble, not upstream's: 503, and when to try again.
        """

        class Exhausted:
            def connect(self, _factory: object) -> Deferred[Any]:
                return fail(ConnectBindError(errno.EMFILE, "Too many open files"))

        caller = Caller()
        exhausted: Any = Exhausted()
        caller.agent._endpoints[ORIGIN] = exhausted
        refusal = self.failureResultOf(caller.send(), Unavailable).value
        self.assertEqual((503, ((b"Retry-After", b"1"),)), (refusal.status, refusal.fields))
