"""
Upstream's body on its way to a client.
"""

from __future__ import annotations

import gzip
import zlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IAddress
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from dheera.wire.limits import ServerLimits
from tests.house import LAST_CHUNK, House, Overheard, in_chunks, read_answer
from tests.network import LOCAL, READ_BYTES, Peer
from tests.strategies import bodies, chunked, chunkings
from tests.wire.caller import OK

CHUNKED = OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = [b'data: {"n": %d}\n\n' % number for number in range(5)] + [b"data: [DONE]\n\n"]
BOUND = 4 * READ_BYTES
"""
How much of one exchange may be in memory when somebody does not read: a read here and there, and what may be queued.
"""


class Relaying(SynchronousTestCase):
    """
    One client that asks, and an upstream that answers as a test says.
    """

    def setUp(self) -> None:
        self.house = House()
        self.overheard = Overheard.by(self)

    def ask(self, method: bytes = b"GET", version: bytes = b"1.1", address: IAddress = LOCAL) -> Peer:
        return self.house.ask(b"/mistral/v1/x", method=method, version=version, address=address)

    def hear(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.house.script.last.send(piece)

    def assert_nothing_left(self) -> None:
        self.house.network.settle()
        self.house.network.turn(1)
        self.assertTrue(self.house.is_empty(), (self.house.network.ends, self.house.network.getDelayedCalls()))


class Bytes(Relaying):
    """
    Every byte arrives.
    """

    @given(st.data(), bodies(), st.sampled_from(["length", "chunked", "close"]), st.sampled_from([b"1.1", b"1.0"]))
    def test_any_chunking(self, data: st.DataObject, content: bytes, framing: str, version: bytes) -> None:
        """
        For any chunking of any body, framed in any way, to a client of either version: it gets exactly those bytes, and
        can tell that it has all of them.
        """
        self.house = House()
        client = self.ask(version=version)
        if framing == "length":
            raw = OK + b"Content-Length: %d\r\n\r\n" % len(content) + content
        elif framing == "chunked":
            raw = OK + b"Transfer-Encoding: chunked\r\n\r\n" + data.draw(chunked(content))
        else:
            raw = OK + b"\r\n" + content
        self.hear(*data.draw(chunkings(raw)))
        if framing == "close":
            self.house.script.last.close()
        answer = read_answer(client.received)
        self.assertEqual((content, b""), (answer.body, answer.rest))
        if version == b"1.0" and framing != "length":
            self.assertEqual("closed", client.ended)
            self.assertEqual([], answer.values(b"transfer-encoding"))
        else:
            self.assertTrue(answer.complete)

    def test_encoded(self) -> None:
        """
        A body that upstream has encoded is passed as encoded, with what says so; a bomb is never blown up.
        """
        bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
        compressed = bomb.compress(bytes(50_000_000)) + bomb.flush()
        for content in (gzip.compress(b"hello"), compressed, b"not gzip at all"):
            client = self.ask()
            self.hear(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
            answer = read_answer(client.received)
            self.assertEqual((content, [b"gzip"]), (answer.body, answer.values(b"content-encoding")))

    def test_no_body(self) -> None:
        """
        HEAD, 204 and 304 have none: the lengths that may be told are told, nothing follows, and the connection is kept.
        """
        for method, line, length in [
            (b"HEAD", OK, [b"5"]),
            (b"GET", b"HTTP/1.1 304 Not Modified\r\n", [b"5"]),
            (b"GET", b"HTTP/1.1 204 No Content\r\n", []),
        ]:
            client = self.ask(method)
            self.hear(line + b"ETag: x\r\nContent-Length: 5\r\n\r\n")
            answer = read_answer(client.received, method)
            self.assertEqual((length, b""), (answer.values(b"content-length"), answer.rest))
            self.assertEqual([], answer.values(b"transfer-encoding"))
            self.assertEqual("open", client.ended)
        self.assertEqual(1, len(self.house.script.connections))

    def test_streams_flow(self) -> None:
        """
        Each event leaves when it comes, before the next one and before the end; the head leaves before any.
        """
        client = self.ask()
        self.hear(CHUNKED)
        answer = read_answer(client.taken())
        self.assertEqual([b"text/event-stream"], answer.values(b"content-type"))
        for event in EVENTS:
            self.hear(in_chunks(event))
            self.assertEqual(in_chunks(event), client.taken())
        self.hear(LAST_CHUNK)
        self.assertEqual(LAST_CHUNK, client.taken())
        self.assertEqual("open", client.ended)

    def test_flow_to_old_client(self) -> None:
        """
        An HTTP/1.0 client gets events as they come as well, and the end of the connection as their end.
        """
        client = self.ask(version=b"1.0")
        self.hear(CHUNKED)
        client.taken()
        for event in EVENTS:
            self.hear(in_chunks(event))
            self.assertEqual(event, client.taken())
        self.assertEqual("open", client.ended)
        self.hear(LAST_CHUNK)
        self.assertEqual((b"", "closed"), (client.taken(), client.ended))

    def test_one_write(self) -> None:
        """
        An answer that came at once leaves at once.
        """
        client = self.ask()
        self.hear(OK + b"Content-Length: 3\r\n\r\nabc")
        self.assertEqual(1, len(client.pieces))


class BackPressure(Relaying):
    """
    A client that does not read.
    """

    def test_bounded(self) -> None:
        """
        Upstream is not read on while the client takes nothing, however much there is; then every byte comes.
        """
        content = bytes(range(256)) * 40_000
        for framing in (b"Content-Length: %d\r\n\r\n" % len(content) + content, None, b"\r\n" + content):
            client = self.ask()
            client.stop_reading()
            self.hear(OK + (framing or b"Transfer-Encoding: chunked\r\n\r\n" + in_chunks(content) + LAST_CHUNK))
            waiting = len(self.house.script.last.transport.queued)
            self.assertGreater(waiting, len(content) - BOUND)
            self.assertLess(client.transport.other.most_queued, BOUND)
            if framing is not None and framing.startswith(b"\r\n"):
                self.house.script.last.transport.loseConnection()
            client.go_on_reading()
            answer = read_answer(client.received)
            self.assertEqual(content, answer.body)
            client.close()

    def test_stays_bounded(self) -> None:
        """
        A client that reads a little now and then makes upstream give a little more, not all.
        """
        content = bytes(10_000_000)
        client = self.ask()
        self.hear(OK + b"Content-Length: %d\r\n\r\n" % len(content) + content)
        client.close()
        client = self.ask()
        client.stop_reading()
        self.hear(OK + b"Content-Length: %d\r\n\r\n" % len(content) + content)
        for _ in range(20):
            self.house.network.sizes = [10_000]
            client.transport.resumeProducing()
            client.transport.other.move()
            client.stop_reading()
            self.house.network.sizes = []
            self.house.network.settle()
            self.assertLess(client.transport.other.most_queued, BOUND)

    def test_slow_client_is_not_upstreams_fault(self) -> None:
        """
        While the client takes nothing no deadline of upstream's runs; the client's own does, and ends the exchange.
        """
        self.house = House(server_limits=ServerLimits(send_seconds=1000))
        client = self.ask()
        client.stop_reading()
        content = bytes(10_000_000)
        self.hear(OK + b"Content-Length: %d\r\n\r\n" % len(content) + content)
        self.house.network.turn(900)
        self.assertEqual("open", self.house.script.last.ended)
        self.house.network.turn(101)
        self.assertEqual(("reset", "reset"), (client.ended, self.house.script.last.ended))
        self.assert_nothing_left()
        self.assertEqual([], self.overheard.lines(LogLevel.warn))


class Endings(Relaying):
    """
    Bodies that do not come to their end.
    """

    def test_upstream_breaks_off(self) -> None:
        """
        The client can see it: no last chunk, a short body, a reset where nothing else would tell; and it is logged.
        """
        for lines in (b"Transfer-Encoding: chunked\r\n\r\n" + in_chunks(b"abc"), b"Content-Length: 9\r\n\r\nabc"):
            for version in (b"1.1", b"1.0"):
                for end in ("close", "reset"):
                    client = self.ask(version=version)
                    self.hear(OK + lines)
                    getattr(self.house.script.last, end)()
                    answer = read_answer(client.received)
                    self.assertEqual((b"abc", False), (answer.body, answer.complete))
                    told_by_length = lines.startswith(b"Content-Length") or version == b"1.1"
                    self.assertEqual("closed" if told_by_length else "reset", client.ended)
                    self.assert_nothing_left()
                    line = self.overheard.lines(LogLevel.warn).pop()
                    self.assertIn("closed the connection in the middle of its answer", line)
        self.assertEqual(8, len(self.overheard.lines(LogLevel.warn)))

    def test_close_delimited(self) -> None:
        """
        A body that ends with the connection ends in order if that does, and is cut if that was.
        """
        for end, complete in [("close", True), ("reset", False)]:
            client = self.ask()
            self.hear(OK + b"\r\nabc")
            getattr(self.house.script.last, end)()
            answer = read_answer(client.received)
            self.assertEqual((b"abc", complete), (answer.body, answer.complete))
            self.assertEqual("open" if complete else "closed", client.ended)

    def test_nonsense(self) -> None:
        """
        A body that turns out to be no HTTP is cut.
        """
        client = self.ask()
        self.hear(CHUNKED + in_chunks(b"abc"), b"zzz\r\n")
        answer = read_answer(client.received)
        self.assertEqual((b"abc", False, "closed"), (answer.body, answer.complete, client.ended))
        self.assert_nothing_left()
        self.assertIn("not valid HTTP/1.1", self.overheard.lines(LogLevel.warn)[0])

    def test_silence(self) -> None:
        """
        An upstream that falls silent within its answer is given up, and the client's connection is cut.
        """
        client = self.ask()
        self.hear(CHUNKED + in_chunks(b"abc"))
        self.house.network.turn(301)
        answer = read_answer(client.received)
        self.assertEqual((b"abc", False, "closed"), (answer.body, answer.complete, client.ended))
        self.assert_nothing_left()
        self.assertIn("silent for 300 seconds", self.overheard.lines(LogLevel.warn)[0])

    def test_client_leaves(self) -> None:
        """
        When the client goes in mid-stream upstream's connection is closed at once; that is no error of anybody's, and
        nothing is left.
        """
        for lines in (
            b"Transfer-Encoding: chunked\r\n\r\n" + in_chunks(b"abc"),
            b"Content-Length: 9\r\n\r\nabc",
            b"\r\n",
        ):
            for end in ("close", "reset"):
                client = self.ask()
                self.hear(OK + lines)
                getattr(client, end)()
                self.assertEqual("reset", self.house.script.last.ended)
                self.assert_nothing_left()
        self.assertEqual([], self.overheard.lines(LogLevel.warn) + self.overheard.lines(LogLevel.error))

    def test_client_leaves_while_full(self) -> None:
        """
        The same when it goes with much unread.
        """
        client = self.ask()
        client.stop_reading()
        self.hear(OK + b"Content-Length: 10000000\r\n\r\n" + bytes(1_000_000))
        client.reset()
        self.assertEqual("reset", self.house.script.last.ended)
        self.assert_nothing_left()

    def test_not_the_next(self) -> None:
        """
        After a body that was cut no other answer comes on that connection, though another request was there.
        """
        client = self.ask()
        client.send(b"GET /mistral/v1/second HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.hear(CHUNKED + in_chunks(b"abc"))
        self.house.script.last.close()
        self.assertEqual(1, len(self.house.script.connections))
        self.assertEqual(1, client.received.count(b"HTTP/1.1 "))
