"""
One connection to an upstream that behaves, misbehaves, is slow, or goes away.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import UNKNOWN_LENGTH

from dheera.errors import AnswerCut, BadAnswer, ClientLeft, TooSlow, UpstreamError
from dheera.wire.heads import Fields
from dheera.wire.limits import ClientLimits
from dheera.wire.response import Response
from tests.strategies import bodies, chunked, chunkings
from tests.wire.caller import OK, Body, Caller, Full, Upload, body_of, whole

UPGRADE = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Connected(SynchronousTestCase):
    """
    Each test has an upstream and a request that it got.
    """

    def setUp(self) -> None:
        self.caller = Caller()

    def ask(self, method: bytes = b"GET", fields: Fields | None = None) -> Deferred[Response]:
        return self.caller.send(method, fields or [])

    def assert_bad(self, answer: bytes, method: bytes = b"GET", fields: Fields | None = None) -> BadAnswer:
        """
        *answer* is refused as soon as it is here, and its connection closed.
        """
        answered = self.ask(method, fields)
        self.caller.hear(answer)
        failure = self.failureResultOf(answered, BadAnswer)
        self.assertEqual("reset", self.caller.script.last.ended, answer)
        self.assert_nothing_left()
        error = failure.value
        assert isinstance(error, BadAnswer)
        return error

    def assert_nothing_left(self) -> None:
        """
        No connection, nobody watched, no timer.
        """
        self.caller.network.settle()
        self.assertEqual([], self.caller.network.ends)
        self.assertEqual([], self.caller.network.getDelayedCalls())
        self.assertEqual(0, self.caller.idle())

    def assert_kept(self) -> None:
        self.assertEqual(1, self.caller.idle())
        self.assertEqual("open", self.caller.script.last.ended)


class Answers(Connected):
    """
    Answers that are in order.
    """

    def test_head(self) -> None:
        """
        Status, reason and header lines are upstream's, in order and spelling; white space around values is not theirs.
        """
        answered = self.ask()
        self.caller.hear(b"HTTP/1.1 299 So  so\r\nX-a: 1\r\nx-A:2\r\nB: \t3 \t\r\nC:\r\nContent-Length: 0\r\n\r\n")
        response = self.successResultOf(answered)
        self.assertEqual((299, b"So  so", 0), (response.code, response.phrase, response.length))
        lines = [(b"X-a", b"1"), (b"x-A", b"2"), (b"B", b"3"), (b"C", b""), (b"Content-Length", b"0")]
        self.assertEqual(lines, response.fields)
        self.assert_kept()

    def test_no_reason(self) -> None:
        """
        A status line may end behind the code.
        """
        for line in (b"HTTP/1.1 200\r\n", b"HTTP/1.1 200 \r\n"):
            answered = self.ask()
            self.caller.hear(line + b"Content-Length: 0\r\n\r\n")
            self.assertEqual(b"", self.successResultOf(answered).phrase)

    def test_head_first(self) -> None:
        """
        The answer is given when its head is here, before any of its body.
        """
        answered = self.ask()
        self.caller.hear(OK + b"Content-Length: 3\r\n")
        self.assertNoResult(answered)
        self.caller.hear(b"\r\n")
        response = self.successResultOf(answered)
        self.assertEqual(3, response.length)
        body = body_of(response)
        self.caller.hear(b"a")
        self.assertEqual(b"a", body.received)
        self.caller.hear(b"bc")
        self.assertTrue(body.whole)
        self.assert_kept()

    @given(st.data(), bodies(), st.sampled_from(["length", "chunked", "close"]))
    def test_any_chunking(self, data: st.DataObject, content: bytes, framing: str) -> None:
        """
        However the bytes of an answer are cut on their way, its body is the same; and unless the connection had to be
        closed for it, it is kept.
        """
        caller = Caller()
        answered = caller.send()
        if framing == "length":
            raw = OK + b"Content-Length: %d\r\n\r\n" % len(content) + content
        elif framing == "chunked":
            raw = OK + b"Transfer-Encoding: chunked\r\n\r\n" + data.draw(chunked(content))
        else:
            raw = OK + b"\r\n" + content
        bodies_seen: list[Body] = []
        answered.addCallback(lambda response: bodies_seen.append(body_of(response)))
        caller.hear(*data.draw(chunkings(raw)))
        if framing == "close":
            self.assertIsNone(bodies_seen[0].reason)
            caller.script.last.close()
        self.assertEqual((content, True), (bodies_seen[0].received, bodies_seen[0].whole))
        self.assertEqual(0 if framing == "close" else 1, caller.idle())

    def test_one_piece_a_read(self) -> None:
        """
        The chunks of one read arrive as one piece: what came together goes on together.
        """
        answered = self.ask()
        self.caller.hear(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        body = body_of(self.successResultOf(answered))
        self.caller.hear(b"1\r\na\r\n1\r\nb\r\n", b"1\r\nc\r\n0\r\n\r\n")
        self.assertEqual([b"ab", b"c"], body.pieces)

    def test_without_body(self) -> None:
        """
        After 204, 304 and to HEAD nothing follows, whatever the header lines say; the connection can be used again.
        """
        for method, status in [(b"GET", b"204"), (b"GET", b"304"), (b"HEAD", b"200"), (b"HEAD", b"404")]:
            for framing in (b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"):
                answered = self.ask(method)
                self.caller.hear(b"HTTP/1.1 " + status + b" Fine\r\n" + framing + b"\r\n")
                response = self.successResultOf(answered)
                self.assertEqual((0, b""), (response.length, response.whole()), (method, status, framing))
                # To HEAD without a length llhttp says that the connection would end the body, so it is not kept.
                kept = bool(framing) or method == b"GET"
                self.assertEqual(1 if kept else 0, self.caller.idle(), (method, status, framing))

    def test_empty_lines_before(self) -> None:
        """
        Empty lines before an answer are passed over.
        """
        answered = self.ask()
        self.caller.hear(b"\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n")
        self.assertEqual(200, self.successResultOf(answered).code)

    def test_trailers(self) -> None:
        """
        Trailers are dropped, and what they say of the connection is not heeded (RFC 9110 §6.5.1).
        """
        for trailer in (b"X: y", b"Connection: close", b"Upgrade: x\r\nConnection: upgrade", b"Set-Cookie: a=b"):
            answered = self.ask()
            self.caller.hear(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + trailer + b"\r\n\r\n")
            response = self.successResultOf(answered)
            self.assertEqual((b"a", 1), (response.whole(), len(response.fields)), trailer)
            self.assert_kept()
            answered = self.ask()
            self.caller.hear(OK + b"Content-Length: 1\r\n\r\nb")
            self.assertEqual(b"b", self.successResultOf(answered).whole(), trailer)
        self.assertEqual(1, len(self.caller.script.connections))

    def test_old_answer(self) -> None:
        """
        HTTP/1.0 answers end with the connection, or after their length; it is kept if they say so.
        """
        answered = self.ask()
        self.caller.hear(b"HTTP/1.0 200 OK\r\n\r\nabc")
        body = body_of(self.successResultOf(answered))
        self.caller.script.last.close()
        self.assertEqual((b"abc", True), (body.received, body.whole))
        self.assert_nothing_left()
        answered = self.ask()
        self.caller.hear(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na")
        self.assertEqual(b"a", self.successResultOf(answered).whole())
        self.assert_kept()

    def test_not_taken(self) -> None:
        """
        While nobody takes the body, no more than one read of it comes; then all of it does.
        """
        content = bytes(range(256)) * 1024
        answered = self.ask()
        self.caller.hear(OK + b"Content-Length: %d\r\n\r\n" % len(content) + content)
        response = self.successResultOf(answered)
        waiting = len(self.caller.script.last.transport.queued)
        self.assertGreaterEqual(waiting, len(content) - 65536)
        self.caller.network.turn(1000)  # nobody is to blame
        body = body_of(response)
        self.caller.network.settle()
        self.assertEqual((content, True), (body.received, body.whole))
        self.assert_kept()


class Reuse(Connected):
    """
    When a connection is kept for the next request.
    """

    def test_one_connection(self) -> None:
        """
        Requests that follow one another share a connection, after HEAD as well.
        """
        for method, body in [(b"GET", b"abc"), (b"HEAD", b""), (b"POST", b"xyz"), (b"DELETE", b"")]:
            answered = self.ask(method)
            self.caller.hear(OK + b"Content-Length: 3\r\n\r\n" + body + (b"..." if method == b"DELETE" else b""))
            self.successResultOf(answered)
        self.assertEqual(1, len(self.caller.script.connections))

    def test_full_at_the_end(self) -> None:
        """
        Whoever is full just when a body ends does not hold the connection against the next request.
        """
        answered = self.ask()
        self.caller.hear(OK + b"Content-Length: 3\r\n\r\n")
        body = Full()
        self.successResultOf(answered).deliverBody(body)
        self.caller.hear(b"abc")
        self.assertTrue(body.whole)
        self.assert_kept()
        answered = self.ask()
        self.caller.hear(OK + b"Content-Length: 0\r\n\r\n")
        self.successResultOf(answered)
        self.assertEqual(1, len(self.caller.script.connections))

    def test_not_kept(self) -> None:
        """
        Not after ``Connection: close``, not from HTTP/1.0 that does not ask for it.
        """
        for answer in (OK + b"Connection: close\r\n", b"HTTP/1.0 200 OK\r\n", OK + b"Connection: x, Close\r\n"):
            answered = self.ask()
            self.caller.hear(answer + b"Content-Length: 0\r\n\r\n")
            self.successResultOf(answered)
            self.assertEqual("reset", self.caller.script.last.ended)
            self.assert_nothing_left()

    def test_spoilt(self) -> None:
        """
        What follows a whole answer, in the same read or later, spoils the connection and not the answer: bytes, a
        second answer, the body of a HEAD answer, another protocol.
        """
        second = OK + b"Content-Length: 1\r\n\r\n!"
        for method, first in [
            (b"GET", OK + b"Content-Length: 1\r\n\r\na"),
            (b"HEAD", OK + b"Content-Length: 1\r\n\r\n"),
        ]:
            for extra in (b"x", second, b"HTTP", SWITCHED, b"\0" * 70_000, b"HTTP/1.1 100 Continue\r\n\r\n"):
                for pieces in ([first + extra], [first, extra]):
                    answered = self.ask(method, UPGRADE)
                    self.caller.hear(*pieces)
                    response = self.successResultOf(answered)
                    self.assertEqual((200, b"a" if method == b"GET" else b""), (response.code, response.whole()))
                    self.assertNotEqual("open", self.caller.script.last.ended, (method, extra[:20], pieces[0]))
                    self.assert_nothing_left()

    def test_answer_unasked(self) -> None:
        """
        An idle connection on which something comes is closed: it would be the answer to somebody's next request.
        """
        answered = self.ask()
        self.caller.hear(OK + b"Content-Length: 0\r\n\r\n", OK + b"Content-Length: 5\r\n\r\nwrong")
        self.successResultOf(answered)
        self.assert_nothing_left()


class Interim(Connected):
    """
    Answers before the answer.
    """

    def setUp(self) -> None:
        super().setUp()
        self.told: list[tuple[int, bytes, Fields]] = []

    def ask(self, method: bytes = b"GET", fields: Fields | None = None) -> Deferred[Response]:
        return self.caller.send(method, fields or [], None, lambda *one: self.told.append(one))

    def test_told(self) -> None:
        """
        Each is told of, except 100, and none of it gets into the answer.
        """
        answered = self.ask()
        self.caller.hear(
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n",
            b"HTTP/1.1 102 Processing\r\n\r\n" + OK + b"X: y\r\nContent-Length: 1\r\n\r\na",
        )
        self.assertEqual(
            [(103, b"Early Hints", [(b"Link", b"</a>"), (b"Link", b"</b>")]), (102, b"Processing", [])], self.told
        )
        response = self.successResultOf(answered)
        self.assertEqual((b"OK", [(b"X", b"y"), (b"Content-Length", b"1")]), (response.phrase, response.fields))
        self.assert_kept()

    def test_nobody_listens(self) -> None:
        """
        They are passed over if nobody wants to be told.
        """
        answered = self.caller.send()
        self.caller.hear(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n")
        self.assertEqual(200, self.successResultOf(answered).code)

    def test_flood(self) -> None:
        """
        Too many are refused, in one read or in many, even if an answer follows.
        """
        hint = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        answer = OK + b"Content-Length: 0\r\n\r\n"
        self.assertIn("interim", self.assert_bad(hint * 17 + answer).message)
        self.assertEqual(16, len(self.told))
        answered = self.ask()
        self.caller.hear(*[hint] * 17)
        self.failureResultOf(answered, BadAnswer)
        answered = self.ask()
        self.caller.hear(*[hint] * 16, answer)
        self.successResultOf(answered)

    def test_large(self) -> None:
        """
        Their size counts against the limit of the head.
        """
        hint = b"HTTP/1.1 103 Early Hints\r\nLink: %b\r\n\r\n" % (b"x" * 6000)
        answered = self.ask()
        self.caller.hear(*[hint] * 11)
        self.failureResultOf(answered, BadAnswer)

    def test_body(self) -> None:
        """
        None has a body: what follows its head is the next head, or nothing valid.
        """
        self.assert_bad(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\nabc")
        self.assert_bad(b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")

    def test_invalid(self) -> None:
        """
        One that is not valid is not told of.
        """
        self.assert_bad(b"HTTP/1.1 103 Early\x01Hints\r\n\r\n")
        self.assertEqual([], self.told)


class Hostile(Connected):
    """
    What RFC 9112 calls invalid is refused, never repaired.
    """

    def test_status_lines(self) -> None:
        """
        Only HTTP/1.1 and HTTP/1.0, three digits from 100, a reason without control characters.
        """
        for line in [
            b"HTTP/0.9 200 OK",
            b"HTTP/1.2 200 OK",
            b"HTTP/2.0 200 OK",
            b"HTTP/2 200 OK",
            b"http/1.1 200 OK",
            b"ICY 200 OK",
            b"HTTP/1.1 099 Low",
            b"HTTP/1.1 000 None",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 20x OK",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1\t200 OK",
            b"HTTP/1.1 200 O\x00K",
            b"HTTP/1.1 200 O\x1bK",
            b"HTTP/1.1 200 O\x7fK",
            b"HTTP/1.1 200 O\rK",
            b"SSH-2.0-OpenSSH_9.2",
            b"\x15\x03\x01\x00\x02\x02",
            b"<html>",
        ]:
            self.assert_bad(line + b"\r\nContent-Length: 0\r\n\r\n")

    def test_framing(self) -> None:
        """
        A length beside a transfer coding, two lengths, lengths that are no numbers, any coding but chunked.
        """
        body = b"\r\n3\r\nabc\r\n0\r\n\r\n"
        for lines in [
            b"Content-Length: 3\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 3",
            b"Content-Length: 3\r\nContent-Length: 3",
            b"Content-Length: 3\r\nContent-Length: 4",
            b"Content-Length: 3, 3",
            b"Content-Length: +3",
            b"Content-Length: -3",
            b"Content-Length: 0x3",
            b"Content-Length: 3 3",
            b"Content-Length: 3_0",
            b"Content-Length: 3;",
            b"Content-Length:",
            b"Content-Length: 99999999999999999999999",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: chunked, gzip",
            b"Transfer-Encoding: chunked, chunked",
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding: identity\r\nContent-Length: 3",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding:",
        ]:
            self.assert_bad(OK + lines + b"\r\n" + body)
        self.assert_bad(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n" + body)

    def test_lines(self) -> None:
        """
        Bare LF, bare CR, folding, control characters, white space before the colon, no colon, no name.
        """
        for head in [
            b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            OK + b"A: b\nContent-Length: 0\r\n\r\n",
            OK + b"Content-Length: 0\r\n\n",
            OK + b"A: b\rc\r\n\r\n",
            OK + b"A: b\r\n c\r\n\r\n",
            OK + b"A:\r\n\tb\r\n\r\n",
            OK + b" A: b\r\n\r\n",
            OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n",
            OK + b"A : b\r\n\r\n",
            OK + b"Content-Length : 3\r\n\r\nabc",
            OK + b"A b\r\n\r\n",
            OK + b": b\r\n\r\n",
            OK + b"A\x00: b\r\n\r\n",
            OK + b"A: b\x00c\r\n\r\n",
            OK + b"A: b\x01c\r\n\r\n",
            OK + b"A: b\x7fc\r\n\r\n",
        ]:
            self.assert_bad(head)

    def test_chunks(self) -> None:
        """
        A bad chunk cuts the body where it stands: what was good of it has come, and it does not end in order.
        """
        for bad in [
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b"+3\r\nabc\r\n0\r\n\r\n",
            b" 3\r\nabc\r\n0\r\n\r\n",
            b"3 \r\nabc\r\n0\r\n\r\n",
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"3\r\nabc0\r\n\r\n",
            b"3\r\nabc\n0\r\n\r\n",
            b"0\n\n",
            b"3;\x00\r\nabc\r\n0\r\n\r\n",
            b"3;a\nb\r\nabc\r\n0\r\n\r\n",
            b"ffffffffffffffffff\r\nabc",
            b"g\r\n",
            b"-1\r\n",
            b"\r\n",
            b"0\r\nA b\r\n\r\n",
        ]:
            answered = self.ask()
            self.caller.hear(OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n")
            body = body_of(self.successResultOf(answered))
            self.caller.hear(bad)
            assert body.reason is not None, bad
            self.assertIsInstance(body.reason.value, BadAnswer)
            self.assertEqual(b"good", body.received, bad)
            self.assert_nothing_left()

    def test_head_too_large(self) -> None:
        """
        A head that does not end is refused at the limit, whatever it is made of.
        """
        for piece in (b"X: " + b"y" * 1000 + b"\r\n", b"y" * 1000):
            answered = self.ask()
            self.caller.hear(OK + b"A: ")
            for _ in range(70):
                self.caller.hear(piece)
            self.failureResultOf(answered, BadAnswer)
            self.assert_nothing_left()

    def test_too_many_lines(self) -> None:
        """
        One header line more than the limit is refused, even in a whole answer that came at once.
        """
        self.assertIn("header lines", self.assert_bad(OK + b"A: b\r\n" * 201 + b"\r\n").message)
        answered = self.ask()
        self.caller.hear(OK + b"A: b\r\n" * 199 + b"Content-Length: 0\r\n\r\n")
        self.assertEqual(200, len(self.successResultOf(answered).fields))

    def test_endless_chaff(self) -> None:
        """
        Chunk extensions and trailers that do not end are refused; many small chunks are not.
        """
        for chaff in (b"1;" + b"a" * 1000, b"0\r\nA: " + b"b" * 1000):
            answered = self.ask()
            self.caller.hear(OK + b"Transfer-Encoding: chunked\r\n\r\n")
            body = body_of(self.successResultOf(answered))
            self.caller.hear(chaff, *[b"a" * 1000] * 70)
            assert body.reason is not None
            self.assertIsInstance(body.reason.value, BadAnswer)
        answered = self.ask()
        self.caller.hear(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        body = body_of(self.successResultOf(answered))
        self.caller.hear(*[b"1;" + b"e" * 500 + b"\r\na\r\n"] * 300, b"0\r\n\r\n")
        self.assertEqual((b"a" * 300, True), (body.received, body.whole))

    def test_wrong_and_whole(self) -> None:
        """
        An answer that is wrong is refused even if all of it came at once.
        """
        error = self.assert_bad(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        self.assertIn("transfer coding", error.message)
        self.assertEqual(502, error.status)

    @given(st.binary(max_size=200), st.booleans())
    def test_noise(self, noise: bytes, head: bool) -> None:  # noqa: FBT001 - hypothesis gives it
        """
        Whatever upstream sends, and wherever it stops, there is an answer or a refusal, and nothing is left.
        """
        caller = Caller()
        answered = caller.send()
        ends: list[object] = []
        answered.addCallbacks(lambda response: ends.append(body_of(response)), ends.append)
        caller.hear(OK + b"Transfer-Encoding: chunked\r\n\r\n" + noise if head else noise)
        caller.script.last.close()
        self.assertEqual(1, len(ends))
        if isinstance(ends[0], Body):
            self.assertIsNotNone(ends[0].reason)
        self.assertEqual(([], 0), (caller.network.ends, caller.idle()))


class Switching(Connected):
    """
    101 and what follows it.
    """

    def test_unasked(self) -> None:
        """
        An upgrade that nobody asked for is refused, however it is written.
        """
        for method in (b"GET", b"HEAD"):
            for answer in (
                SWITCHED,
                SWITCHED + b"bytes",
                b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
                b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n",
                b"HTTP/1.1 101 Switching Protocols\r\n\r\nbytes",
            ):
                self.assert_bad(answer, method)

    def test_to_nothing(self) -> None:
        """
        A 101 that does not say to what it switches is refused, even if an upgrade was asked for.
        """
        for lines in (b"", b"Upgrade: websocket\r\n", b"Connection: upgrade\r\n"):
            self.assert_bad(b"HTTP/1.1 101 Switching Protocols\r\n" + lines + b"\r\n", fields=UPGRADE)

    def test_tunnel(self) -> None:
        """
        The connection goes to the protocol that takes the answer; what came with the head first.
        """
        answered = self.ask(fields=UPGRADE)
        self.caller.hear(SWITCHED + b"early")
        response = self.successResultOf(answered)
        self.caller.hear(b" and late")
        protocol = Tunnel()
        response.deliverBody(protocol)
        self.caller.network.settle()
        self.caller.hear(b", on")
        self.assertEqual(b"early and late, on", protocol.received)
        protocol.send(b"HTTP/1.1 is over")
        self.caller.network.settle()
        self.assertTrue(self.caller.script.last.received.endswith(b"\r\n\r\nHTTP/1.1 is over"))
        self.caller.network.turn(10_000)
        self.assertEqual("open", self.caller.script.last.ended)
        self.caller.script.last.close()
        self.assertTrue(protocol.lost)
        self.assert_nothing_left()

    def test_tunnel_pauses(self) -> None:
        """
        A protocol that is full from the start is not given more.
        """
        answered = self.ask(fields=UPGRADE)
        self.caller.hear(SWITCHED + b"early")
        protocol = Tunnel(full=True)
        self.successResultOf(answered).deliverBody(protocol)
        self.caller.hear(b" and late")
        self.assertEqual(b"early", protocol.received)
        protocol.go_on()
        self.caller.network.settle()
        self.assertEqual(b"early and late", protocol.received)

    def test_more_before_taken(self) -> None:
        """
        A transport that cannot stop at once may deliver more before anybody takes the connection: it is kept.
        """
        answered = self.ask(fields=UPGRADE)
        self.caller.hear(SWITCHED + b"early")
        response = self.successResultOf(answered)
        self.caller.network.ends[0].protocol.dataReceived(b" and late")
        protocol = Tunnel()
        response.deliverBody(protocol)
        self.assertEqual(b"early and late", protocol.received)

    def test_lost_before_taken(self) -> None:
        """
        The connection may go before anybody takes it.
        """
        answered = self.ask(fields=UPGRADE)
        self.caller.hear(SWITCHED)
        response = self.successResultOf(answered)
        self.caller.script.last.reset()
        body = body_of(response)
        self.assertIsNotNone(body.reason)
        self.assert_nothing_left()

    def test_refused(self) -> None:
        """
        An upstream that does not want to switch answers as ever.
        """
        answered = self.ask(fields=UPGRADE)
        self.caller.hear(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")
        response = self.successResultOf(answered)
        self.assertEqual((403, b"no"), (response.code, response.whole()))
        self.assert_kept()


class Tunnel(Protocol):
    """
    Takes bytes, and at first as many as it is given.
    """

    def __init__(self, *, full: bool = False) -> None:
        self.received = b""
        self.lost = False
        self._full = full

    def connectionMade(self) -> None:
        if self._full:
            self.transport.pauseProducing()  # type: ignore[union-attr]  # connected

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, _reason: object = None) -> None:
        self.lost = True

    def send(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]  # connected

    def go_on(self) -> None:
        self.transport.resumeProducing()  # type: ignore[union-attr]  # connected


class Uploads(Connected):
    """
    Requests with bodies.
    """

    def sent(self) -> bytes:
        """
        What upstream got of the body so far.
        """
        self.caller.network.settle()
        return self.caller.script.last.received.partition(b"\r\n\r\n")[2]

    def test_whole(self) -> None:
        """
        A body that is all here leaves with its head, framed as it came.
        """
        for body, framed in [
            (whole(b"abc"), b"abc"),
            (whole(b"abc", chunked=True), b"3\r\nabc\r\n0\r\n\r\n"),
            (whole(b"", chunked=True), b"0\r\n\r\n"),
        ]:
            self.caller = Caller()
            self.caller.send(b"POST", body=body)
            self.assertEqual(framed, self.sent())
            self.assertEqual(1, len(self.caller.script.last.pieces))

    @given(st.lists(st.binary(min_size=1, max_size=30), max_size=6), st.booleans())
    def test_pieces(self, pieces: list[bytes], sized: bool) -> None:  # noqa: FBT001 - hypothesis gives it
        """
        Each piece leaves when it comes; upstream gets exactly those bytes.
        """
        caller, content = Caller(), b"".join(pieces)
        upload = Upload(len(content) if sized else UNKNOWN_LENGTH)
        answered = caller.send(b"POST", body=upload)
        expected = b""
        for piece in pieces:
            upload.consumer.write(piece)
            expected += piece if sized else b"%x\r\n%b\r\n" % (len(piece), piece)
            caller.network.settle()
            self.assertEqual(expected, caller.script.last.received.partition(b"\r\n\r\n")[2])
        upload.finished.callback(None)
        caller.network.settle()
        self.assertTrue(caller.script.last.received.endswith(expected + (b"" if sized else b"0\r\n\r\n")))
        caller.hear(OK + b"Content-Length: 0\r\n\r\n")
        self.successResultOf(answered)
        self.assertEqual(1, caller.idle())

    def test_back_pressure(self) -> None:
        """
        While upstream does not read, the body is paused; then it goes on.
        """
        upload = Upload()
        self.caller.send(b"POST", body=upload)
        self.caller.script.last.stop_reading()
        upload.consumer.write(b"x" * 70_000)
        self.assertTrue(upload.paused)
        self.caller.network.settle()
        self.assertTrue(upload.paused)
        self.caller.script.last.go_on_reading()
        self.assertFalse(upload.paused)

    def test_early_answer(self) -> None:
        """
        An answer that comes before the request is complete is given at once; when it is whole, the rest of the request
        is not wanted, and the connection not used again.
        """
        upload = Upload()
        answered = self.caller.send(b"POST", body=upload)
        upload.consumer.write(b"abc")
        self.caller.hear(b"HTTP/1.1 413 Too much\r\nContent-Length: 4\r\n\r\n")
        body = body_of(self.successResultOf(answered))
        upload.consumer.write(b"def")
        self.assertEqual(b"3\r\nabc\r\n3\r\ndef\r\n", self.sent())
        self.caller.hear(b"much")
        self.assertEqual((b"much", True), (body.received, body.whole))
        self.assertTrue(upload.stopped)
        upload.consumer.write(b"never")
        self.assert_nothing_left()

    def test_early_answer_then_the_rest(self) -> None:
        """
        An upstream that answers while it still takes the request may do both to the end.
        """
        upload = Upload(6)
        answered = self.caller.send(b"POST", body=upload)
        self.caller.hear(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        body = body_of(self.successResultOf(answered))
        upload.consumer.write(b"abcdef")
        upload.finished.callback(None)
        self.caller.hear(b"0\r\n\r\n")
        self.assertEqual((b"a", True, b"abcdef"), (body.received, body.whole, self.sent()))
        self.assert_kept()

    def test_either_way_moves(self) -> None:
        """
        While both ways are open, what moves in one keeps the other alive; when both are still, it is over.
        """
        upload = Upload()
        answered = self.caller.send(b"POST", body=upload)
        self.caller.hear(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        body = body_of(self.successResultOf(answered))
        for _ in range(5):
            self.caller.network.turn(200)
            self.caller.hear(b"1\r\na\r\n")
        for _ in range(5):
            self.caller.network.turn(200)
            upload.consumer.write(b"b")
        self.assertIsNone(body.reason)
        self.caller.network.turn(301)
        assert body.reason is not None
        self.assertIsInstance(body.reason.value, TooSlow)
        self.assertIn("request body has not moved", body.reason.getErrorMessage())
        self.assertTrue(upload.stopped)
        self.assert_nothing_left()

    def test_client_leaves(self) -> None:
        """
        If whoever brings the body leaves, upstream sees that the rest is missing.
        """
        for upload in (Upload(), Upload(10)):
            answered = self.caller.send(b"POST", body=upload)
            upload.consumer.write(b"abc")
            upload.finished.errback(ClientLeft())
            self.failureResultOf(answered, ClientLeft)
            self.caller.network.settle()
            self.assertEqual("reset", self.caller.script.last.ended)
            self.assertNotIn(b"0\r\n\r\n", self.sent())
            self.assert_nothing_left()

    def test_cut(self) -> None:
        """
        If upstream goes in mid-upload the body is stopped, and whoever waits is told.
        """
        upload = Upload()
        answered = self.caller.send(b"POST", body=upload)
        self.caller.script.last.reset()
        error = self.failureResultOf(answered, AnswerCut).value
        assert isinstance(error, AnswerCut)
        self.assertTrue(error.nothing_came)
        self.assertTrue(upload.stopped)
        self.assert_nothing_left()

    def test_cancelled(self) -> None:
        """
        Cancelling stops the body and closes the connection.
        """
        upload = Upload()
        answered = self.caller.send(b"POST", body=upload)
        answered.cancel()
        self.failureResultOf(answered, CancelledError)
        self.assertTrue(upload.stopped)
        self.assert_nothing_left()

    def test_answer_held(self) -> None:
        """
        An upload that ends while nobody takes the answer does not set upstream a deadline.
        """
        upload = Upload()
        answered = self.caller.send(b"POST", body=upload)
        self.caller.hear(OK + b"Content-Length: 10\r\n\r\nabc")
        response = self.successResultOf(answered)
        upload.finished.callback(None)
        self.caller.network.turn(1000)
        body = body_of(response)
        self.caller.hear(b"defghij")
        self.assertEqual((b"abcdefghij", True), (body.received, body.whole))


class Deadlines(Connected):
    """
    Silence ends, by the clock, in every state.
    """

    def test_no_answer(self) -> None:
        """
        No head in time is a 504; some of a head does not help.
        """
        for said in ((), (b"HTTP/1.1 200",), (b"HTTP/1.1 103 Hints\r\n\r\n",)):
            answered = self.ask()
            for piece in said:
                self.caller.network.turn(200)
                self.caller.hear(piece)
            self.caller.network.turn(100 if said else 300)
            error = self.failureResultOf(answered, TooSlow).value
            assert isinstance(error, TooSlow)
            self.assertEqual(504, error.status)
            self.assertIn("300 seconds", error.message)
            self.assert_nothing_left()

    def test_dripping_head(self) -> None:
        """
        A head that drips does not earn time by dripping.
        """
        answered = self.ask()
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20:
            self.caller.network.turn(10)
            if not answered.called:
                self.caller.hear(bytes([byte]))
        self.failureResultOf(answered, TooSlow)

    def test_silence_within_body(self) -> None:
        """
        A body in which nothing comes for too long is cut; one that drips goes on.
        """
        answered = self.ask()
        self.caller.hear(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        body = body_of(self.successResultOf(answered))
        for _ in range(10):
            self.caller.network.turn(299)
            self.caller.hear(b"1\r\na\r\n")
        self.assertIsNone(body.reason)
        self.caller.network.turn(301)
        assert body.reason is not None
        self.assertIsInstance(body.reason.value, TooSlow)
        self.assert_nothing_left()

    def test_silence_before_taken(self) -> None:
        """
        An answer of which nobody has taken the body still ends.
        """
        answered = self.ask()
        self.caller.hear(OK + b"Content-Length: 5\r\n\r\n")
        self.caller.network.turn(301)
        body = body_of(self.successResultOf(answered))
        assert body.reason is not None
        self.assertIsInstance(body.reason.value, TooSlow)
        self.assert_nothing_left()

    def test_held(self) -> None:
        """
        While the consumer takes nothing upstream is not to blame; afterwards it is again.
        """
        answered = self.ask()
        self.caller.hear(OK + b"Content-Length: 5\r\n\r\n")
        response = self.successResultOf(answered)
        body = body_of(response)
        response.pauseProducing()
        response.pauseProducing()
        self.caller.network.turn(1000)
        self.assertIsNone(body.reason)
        response.resumeProducing()
        self.caller.network.turn(301)
        self.assertIsNotNone(body.reason)

    def test_upload(self) -> None:
        """
        An upload that does not move is given up, whichever side stands still.
        """
        upload = Upload()
        answered = self.caller.send(b"POST", body=upload)
        for _ in range(5):
            self.caller.network.turn(299)
            upload.consumer.write(b"abc")
        self.assertNoResult(answered)
        self.caller.network.turn(301)
        self.failureResultOf(answered, TooSlow)
        self.assertTrue(upload.stopped)
        self.assert_nothing_left()

    def test_after_upload(self) -> None:
        """
        The time for an answer begins when the request is complete.
        """
        upload = Upload()
        answered = self.caller.send(b"POST", body=upload)
        self.caller.network.turn(299)
        upload.finished.callback(None)
        self.caller.network.turn(299)
        self.assertNoResult(answered)
        self.caller.network.turn(2)
        self.failureResultOf(answered, TooSlow)

    def test_limits(self) -> None:
        """
        Each time is a limit that can be set.
        """
        self.caller = Caller(ClientLimits(first_byte_seconds=3, between_chunks_seconds=2, pool_idle_seconds=5))
        answered = self.ask()
        self.caller.network.turn(4)
        self.failureResultOf(answered, TooSlow)
        answered = self.ask()
        self.caller.hear(OK + b"Content-Length: 1\r\n\r\n")
        body = body_of(self.successResultOf(answered))
        self.caller.network.turn(3)
        self.assertIsNotNone(body.reason)
        answered = self.ask()
        self.caller.hear(OK + b"Content-Length: 0\r\n\r\n")
        self.assert_kept()
        self.caller.network.turn(6)
        self.assert_nothing_left()


class Endings(Connected):
    """
    Upstream goes, or nobody wants it any more.
    """

    def test_before_answer(self) -> None:
        """
        Nothing came: that is told, since then a request may be sent again.
        """
        for end in ("close", "reset"):
            answered = self.ask(b"POST")
            getattr(self.caller.script.last, end)()
            error = self.failureResultOf(answered, AnswerCut).value
            assert isinstance(error, AnswerCut)
            self.assertEqual((True, 502), (error.nothing_came, error.status))
            self.assert_nothing_left()

    def test_within_head(self) -> None:
        """
        Something came, if only a byte or an interim answer.
        """
        for said in (b"H", OK + b"X: y\r\n", b"HTTP/1.1 103 Hints\r\n\r\n"):
            for end in ("close", "reset"):
                answered = self.ask()
                self.caller.hear(said)
                getattr(self.caller.script.last, end)()
                error = self.failureResultOf(answered, AnswerCut).value
                assert isinstance(error, AnswerCut)
                self.assertFalse(error.nothing_came)
                self.assert_nothing_left()

    def test_within_body(self) -> None:
        """
        A body that stops short was cut. Only one that ends with the connection ends in order, if that was in order.
        """
        for lines in (b"Content-Length: 9\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n9\r\nabc", b"\r\nabc"):
            for end in ("close", "reset"):
                answered = self.ask()
                self.caller.hear(OK + lines)
                body = body_of(self.successResultOf(answered))
                getattr(self.caller.script.last, end)()
                in_order = lines == b"\r\nabc" and end == "close"
                self.assertEqual((b"abc", in_order), (body.received, body.whole), (lines, end))
                self.assert_nothing_left()

    def test_missing_last_chunk(self) -> None:
        """
        All chunks but the last are not the whole.
        """
        answered = self.ask()
        self.caller.hear(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        body = body_of(self.successResultOf(answered))
        self.caller.script.last.close()
        self.assertFalse(body.whole)

    def test_cut_before_taken(self) -> None:
        """
        Who takes the body late learns of the cut then, after what had come.
        """
        answered = self.ask()
        self.caller.hear(OK + b"Content-Length: 9\r\n\r\nabc")
        self.caller.network.ends[0].resumeProducing()  # a pause does not hide a reset
        self.caller.script.last.reset()
        body = body_of(self.successResultOf(answered))
        self.assertEqual((b"abc", False), (body.received, body.whole))

    def test_cancelled(self) -> None:
        """
        Cancelling before the answer, or aborting within it, closes the connection at once; nothing more is delivered.
        """
        answered = self.ask()
        answered.cancel()
        self.failureResultOf(answered, CancelledError)
        self.assert_nothing_left()
        self.assertEqual("reset", self.caller.script.last.ended)
        answered = self.ask()
        self.caller.hear(OK + b"Content-Length: 9\r\n\r\nabc")
        response = self.successResultOf(answered)
        body = body_of(response)
        self.caller.script.last.transport.write(b"def")
        response.abortConnection()
        self.assert_nothing_left()
        self.assertEqual((b"abc", False), (body.received, body.whole))
        self.assertEqual("reset", self.caller.script.last.ended)

    def test_all_are_upstream_errors(self) -> None:
        """
        Whatever the end, who waits is told an error that has a status.
        """
        answered = self.ask()
        self.caller.script.last.reset()
        self.failureResultOf(answered, UpstreamError)
