"""
WebSockets: the handshake, then bytes.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from tests.house import UPSTREAM_KEY, House, Overheard, read_answer, request
from tests.network import READ_BYTES, Peer
from tests.strategies import bodies, chunkings

OWN = [
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Protocol", b"realtime, other"),
    (b"Sec-WebSocket-Extensions", b"permessage-deflate; client_max_window_bits"),
]
HANDSHAKE = request(
    b"/mistral/v1/audio/transcriptions/realtime?model=voxtral%2Dmini",
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    *OWN,
    (b"Authorization", b"Bearer sk-client-canary"),
    (b"Cookie", b"a=b"),
    (b"User-Agent", b"speakeasy-sdk/python"),
)
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: realtime\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\nSet-Cookie: a=b\r\n\r\n"
)


class Tunnelling(SynchronousTestCase):
    """
    A client that shakes hands.
    """

    def setUp(self) -> None:
        self.house = House()
        self.overheard = Overheard.by(self)

    def joined(self, client_early: bytes = b"", upstream_early: bytes = b"") -> tuple[Peer, Peer]:
        """
        A tunnel, and what each end has got of it so far is the other's early bytes.
        """
        client = self.house.send(HANDSHAKE + client_early)
        upstream = self.house.script.last
        upstream.taken()
        upstream.send(ACCEPTED + upstream_early)
        client.received = read_answer(client.taken()).rest
        return client, upstream

    def assert_nothing_left(self) -> None:
        self.house.network.turn(1)
        self.assertTrue(self.house.is_empty(), self.house.network.ends)
        self.assertEqual([], self.overheard.lines(LogLevel.warn) + self.overheard.lines(LogLevel.critical))


class Handshake(Tunnelling):
    """
    Before the switch.
    """

    def test_up(self) -> None:
        """
        What is WebSocket's own crosses as it is, the credential is ours, and the target and all else as ever.
        """
        self.house.send(HANDSHAKE)
        own = b"".join(b"%b: %b\r\n" % line for line in OWN)
        self.assertEqual(
            b"GET /v1/audio/transcriptions/realtime?model=voxtral%2Dmini HTTP/1.1\r\nHost: 10.0.0.9:8000\r\n"
            + own
            + b"User-Agent: speakeasy-sdk/python\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAuthorization: Bearer "
            + UPSTREAM_KEY.encode()
            + b"\r\n\r\n",
            self.house.script.last.received,
        )

    def test_down(self) -> None:
        """
        Upstream's acceptance crosses, with a call id, and says in our words that the protocol is switched.
        """
        client = self.house.send(HANDSHAKE)
        self.house.script.last.send(ACCEPTED)
        answer = read_answer(client.received)
        self.assertEqual(101, answer.status)
        for name, values in [
            (b"sec-websocket-accept", [b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]),
            (b"sec-websocket-protocol", [b"realtime"]),
            (b"sec-websocket-extensions", [b"permessage-deflate"]),
            (b"connection", [b"Upgrade"]),
            (b"upgrade", [b"websocket"]),
            (b"set-cookie", []),
            (b"content-length", []),
            (b"transfer-encoding", []),
        ]:
            self.assertEqual(values, answer.values(name), name)
        self.assertEqual(1, len(answer.values(b"x-dheera-call-id")))

    def test_refused(self) -> None:
        """
        A refusal arrives as the HTTP answer that it is, and then the client's connection closes: what it may have sent
        for the other protocol is never taken for a request.
        """
        client = self.house.send(HANDSHAKE + b"GET /mistral/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.house.script.last.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\nX: y\r\n\r\nsorry!")
        answer = read_answer(client.received)
        self.assertEqual((403, b"Forbidden", b"sorry!"), (answer.status, answer.reason, answer.body))
        self.assertEqual([b"upstream"], answer.values(b"x-dheera-error-source"))
        self.assertEqual([b"close"], answer.values(b"connection"))
        self.assertEqual(b"", answer.rest)
        self.assertEqual("closed", client.ended)
        self.assertEqual(1, self.house.script.last.received.count(b"HTTP/1.1\r\n"))

    def test_answered_otherwise(self) -> None:
        """
        An upstream that answers 200 has not switched: its answer passes, and the connection closes.
        """
        client = self.house.send(HANDSHAKE)
        self.house.script.last.send(b"HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nabc")
        self.house.script.last.close()
        answer = read_answer(client.received)
        self.assertEqual((200, b"abc", True), (answer.status, answer.body, answer.complete))
        self.assertEqual([], answer.values(b"upgrade"))
        self.assertEqual("closed", client.ended)

    def test_unasked(self) -> None:
        """
        A 101 that nobody asked for is a 502, not a tunnel; so is one that does not say to what it switches.
        """
        for ask, said in [
            (request(b"/mistral/v1/x"), ACCEPTED),
            (request(b"/mistral/v1/x"), b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            (request(b"/mistral/v1/x", method=b"POST", body=b"{}"), ACCEPTED),
            (HANDSHAKE, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        ]:
            client = self.house.send(ask)
            self.house.script.last.send(said + b"\x81\x05hello")
            answer = read_answer(client.received)
            self.assertEqual((502, [b"dheera"]), (answer.status, answer.values(b"x-dheera-error-source")))
            self.assertNotIn(b"hello", client.received)
            self.assertEqual("reset", self.house.script.last.ended)
            client.close()

    def test_admitted_first(self) -> None:
        """
        Without a key there is no handshake.
        """
        self.house = House(master_key="sk-master")
        answer = read_answer(self.house.send(HANDSHAKE).received)
        self.assertEqual(401, answer.status)
        self.assertEqual([], self.house.script.connections)


class Bytes(Tunnelling):
    """
    After the switch.
    """

    @given(st.data(), bodies(), bodies(), bodies(), bodies())
    def test_any(self, data: st.DataObject, early_up: bytes, early_down: bytes, up: bytes, down: bytes) -> None:
        """
        Any bytes cross, either way, however they are cut, those that were sent before the switch first.
        """
        self.house = House()
        client, upstream = self.joined(early_up, early_down)
        for piece in data.draw(chunkings(up)):
            client.send(piece)
        for piece in data.draw(chunkings(down)):
            upstream.send(piece)
        self.assertEqual((early_up + up, early_down + down), (upstream.received, client.received))

    def test_at_once(self) -> None:
        """
        Each piece leaves when it comes.
        """
        client, upstream = self.joined()
        for number in range(5):
            client.send(b"ping %d" % number)
            self.assertEqual(b"ping %d" % number, upstream.taken())
            upstream.send(b"pong %d" % number)
            self.assertEqual(b"pong %d" % number, client.taken())

    def test_back_pressure(self) -> None:
        """
        Neither end is read faster than the other takes; then every byte comes.
        """
        for reader, writer in (self.joined(), self.joined()[::-1]):
            reader.stop_reading()
            content = bytes(range(256)) * 20_000
            writer.send(content)
            self.assertGreater(len(writer.transport.queued), len(content) - 4 * READ_BYTES)
            reader.go_on_reading()
            self.assertEqual(content, reader.received)

    def test_back_pressure_from_the_start(self) -> None:
        """
        The same for a client that has read nothing since before the switch.
        """
        client = self.house.send(HANDSHAKE)
        client.stop_reading()
        content = bytes(5_000_000)
        self.house.script.last.send(ACCEPTED + content)
        self.assertGreater(len(self.house.script.last.transport.queued), len(content) - 4 * READ_BYTES)
        client.go_on_reading()
        self.assertEqual(content, read_answer(client.received).rest)

    def test_silence(self) -> None:
        """
        A tunnel may be silent for as long as it likes; a peer that is no longer there is found out by the system.
        """
        client, upstream = self.joined()
        self.house.network.turn(4000)
        self.assertEqual(("open", "open"), (client.ended, upstream.ended))
        for end in self.house.network.ends:
            if end.protocol not in (client, upstream):
                self.assertTrue(end.kept_alive)


class Endings(Tunnelling):
    """
    How a tunnel ends.
    """

    def test_in_order(self) -> None:
        """
        When one end closes the other is closed in order, after all that was sent.
        """
        for first in (0, 1):
            ends = self.joined()
            closes, stays = ends[first], ends[1 - first]
            closes.transport.write(b"\x88\x02\x03\xe8")
            closes.close()
            self.assertEqual((b"\x88\x02\x03\xe8", "closed"), (stays.received, stays.ended))
            self.assert_nothing_left()

    def test_reset(self) -> None:
        """
        When one end is reset so is the other, and it is told which of them it was; that upstream did it, an operator
        sees in the log.
        """
        for first, outcome, error in ((0, "client_left", None), (1, "upstream_cut", "AnswerCut")):
            ends = self.joined()
            ends[first].reset()
            self.assertEqual("reset", ends[1 - first].ended)
            [record] = self.house.records()
            self.assertEqual((outcome, error), (record.outcome, record.error))
            warnings = self.overheard.lines(LogLevel.warn)
            self.assertEqual([first == 1], ["broke off" in line for line in warnings] or [False])
            self.overheard.events.clear()
            self.assert_nothing_left()

    def test_told(self) -> None:
        """
        A session that ends in order is complete; what went each way is counted, and the model is the one that the
        address names, however it is encoded.
        """
        client, upstream = self.joined()
        client.send(b"up")
        upstream.send(b"down")
        client.close()
        [record] = self.house.records()
        self.assertEqual(
            ("complete", 101, 2, 4), (record.outcome, record.status, record.request_bytes, record.response_bytes)
        )
        self.assertEqual("voxtral-mini", record.model)

    def test_last_bytes_unread(self) -> None:
        """
        An end that does not read the last bytes has some time for that, and no more.
        """
        for first in (0, 1):
            ends = self.joined()
            closes, stays = ends[first], ends[1 - first]
            stays.stop_reading()
            closes.send(bytes(READ_BYTES))
            closes.close()
            self.house.network.turn(9)
            self.assertEqual("open", stays.ended)
            self.house.network.turn(2)
            self.assertEqual("reset", stays.ended)
            self.assert_nothing_left()

    def test_late_bytes(self) -> None:
        """
        What an end still says after the other has gone is dropped.
        """
        client, upstream = self.joined()
        upstream.stop_reading()
        client.send(b"x")
        client.close()
        ours = upstream.transport.other
        ours.protocol.dataReceived(b"too late")
        self.assertEqual([], ours.protocol._wrappedProtocol._tunnel._early)
        upstream.go_on_reading()
        self.assertEqual((b"x", "closed"), (upstream.received, upstream.ended))
        self.assert_nothing_left()

    def test_stopped(self) -> None:
        """
        A dheera that stops closes its tunnels in the end.
        """
        client, upstream = self.joined()
        drained = self.house.site.drain()
        self.house.network.settle()
        self.assertNoResult(drained)
        self.house.site.end()
        self.house.network.settle()
        self.successResultOf(drained)
        self.assertEqual(("reset", "reset"), (client.ended, upstream.ended))
        self.assert_nothing_left()

    def test_before_the_answer(self) -> None:
        """
        Either end may go before the switch.
        """
        client = self.house.send(HANDSHAKE)
        client.close()
        self.assertEqual("reset", self.house.script.last.ended)
        self.assert_nothing_left()
        client = self.house.send(HANDSHAKE)
        self.house.script.last.close()
        self.assertEqual(502, read_answer(client.received).status)
