"""
A client's connection: what is taken, what is refused, in which order, until when.
"""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import NOT_DONE_YET

from dheera.errors import ClientLeft
from dheera.proxy.headers import upward
from dheera.wire.body import RequestBody
from dheera.wire.channel import PIPELINE_BYTES
from dheera.wire.limits import ServerLimits
from dheera.wire.outgoing import Outgoing, split, written
from dheera.wire.request import Request
from tests import strategies
from tests.wire import reference
from tests.wire.line import READ_BYTES, Line, Stand, later
from tests.wire.probes import GET, POST, PROBES, Refused, Taken, Waiting
from tests.wire.reference import Asked

NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
EACH_BYTE = 2000
"""
Probes up to this size are also sent byte by byte.
"""


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


class TestProbes(SynchronousTestCase):
    """
    What becomes of each request in ``probes``, whole and in pieces; and of the request that follows it.
    """

    def check(self, group: str) -> None:
        for probe in PROBES[group]:
            sent = probe.sent if isinstance(probe, Waiting) else probe.sent + NEXT
            ways = [[sent], [sent[: len(sent) // 2], sent[len(sent) // 2 :]]]
            if len(sent) <= EACH_BYTE:
                ways.append(bytewise(sent))
            for pieces in ways:
                name = f"{group}, {probe.name}, in {len(pieces)} pieces"
                stand = Stand()
                line = stand.connect()
                line.send(*pieces)
                match probe:
                    case Refused():
                        self.check_refused(name, probe, stand, line)
                    case Taken():
                        self.check_taken(name, probe, stand, line)
                    case Waiting():
                        self.assertEqual(([], "open"), (line.answers(), line.state), name)
                        stand.wait(100)
                        self.assertNotEqual("open", line.state, name)
                        self.assertEqual([], stand.place.asked, name)
                self.assertEqual(b"", line.too_late, name)

    def check_refused(self, name: str, probe: Refused, stand: Stand, line: Line) -> None:
        answers = line.answers()
        self.assertEqual([probe.status], [answer.status for answer in answers], name)
        self.assertEqual(b"close", answers[0].field(b"connection"), name)
        self.assertIsNotNone(answers[0].field(b"date"), name)
        self.assertEqual(str(probe.status), json.loads(answers[0].body)["error"]["code"], name)
        self.assertEqual("half-closed", line.state, name)
        line.send(NEXT)
        self.assertEqual([], stand.place.asked, name)
        self.assertNotIn(b"/next", [request.uri for request in stand.place.requests], name)
        stand.wait(6)
        self.assertEqual("reset", line.state, name)

    def check_taken(self, name: str, probe: Taken, stand: Stand, line: Line) -> None:
        answers = [answer for answer in line.answers() if answer.status != 100]
        expected = [(probe.target, probe.body)] + [(b"/next", b"")] * probe.persists
        self.assertEqual(expected, [(asked.target, asked.body) for asked in stand.place.asked], name)
        self.assertEqual([(200, body) for _, body in expected], [(a.status, a.body) for a in answers], name)
        self.assertEqual(None if probe.persists else b"close", answers[-1].field(b"connection"), name)
        self.assertEqual(probe.persists, line.state == "open", name)

    def test_host(self) -> None:
        """
        A request has exactly one valid Host; only HTTP/1.0 may go without.
        """
        self.check("host")

    def test_content_length(self) -> None:
        """
        A length is one decimal number in one line.
        """
        self.check("content_length")

    def test_transfer_encoding(self) -> None:
        """
        The one coding is chunked, alone, in HTTP/1.1, without a length beside it.
        """
        self.check("transfer_encoding")

    def test_chunk(self) -> None:
        """
        Chunks are what RFC 9112 says, to the byte.
        """
        self.check("chunk")

    def test_trailer(self) -> None:
        """
        Trailers are checked, bounded and dropped; they change nothing.
        """
        self.check("trailer")

    def test_line_end(self) -> None:
        """
        Lines end in CRLF.
        """
        self.check("line_end")

    def test_header_line(self) -> None:
        """
        A header line is a token, a colon, and a value without control characters, on one line.
        """
        self.check("header_line")

    def test_target(self) -> None:
        """
        A target is in origin form, and stays as written.
        """
        self.check("target")

    def test_request_line(self) -> None:
        """
        A request line has three parts with a space between them; what is no HTTP is refused at once.
        """
        self.check("request_line")

    def test_version(self) -> None:
        """
        HTTP/1.1 and HTTP/1.0 are spoken.
        """
        self.check("version")

    def test_method(self) -> None:
        """
        A method that is not known, and CONNECT, are not implemented.
        """
        self.check("method")

    def test_size(self) -> None:
        """
        Heads have a largest size, targets too, and so has the number of header lines.
        """
        self.check("size")

    def test_expectation(self) -> None:
        """
        The only expectation is 100-continue.
        """
        self.check("expectation")

    def test_connection(self) -> None:
        """
        A client that says close gets one answer.
        """
        self.check("connection")

    def test_upgrade(self) -> None:
        """
        An offer that is not taken changes nothing, a body behind it least of all.
        """
        self.check("upgrade")

    def test_incomplete(self) -> None:
        """
        What is not complete waits, for a while.
        """
        self.check("incomplete")

    def test_all(self) -> None:
        """
        No group of probes is forgotten.
        """
        self.assertEqual([], [group for group in PROBES if not hasattr(self, f"test_{group}")])


_ACTIONS = [
    *("send", "send", "send", "take", "wait", "write", "finish", "want", "pause", "resume", "stop", "produce", "cut"),
]


class TestStreams(SynchronousTestCase):
    """
    Properties of any bytes.
    """

    @given(strategies.conversations(4), st.data())
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_valid(self, sent: list[tuple[bytes, bytes, reference.Fields, bytes, bytes]], data: st.DataObject) -> None:
        """
        However a stream of valid requests is cut, the resource sees each of them as sent, in order, once.
        """
        stand = Stand()
        line = stand.connect()
        stream = b"".join(request[-1] for request in sent)
        line.send(*data.draw(strategies.chunkings(stream)))
        self.assertEqual([Asked(*request[:4]) for request in sent], stand.place.asked)
        answers = line.answers(*(request[0] for request in sent))
        self.assertEqual([request[3] for request in sent], [answer.body for answer in answers])
        self.assertEqual("open", line.state)
        self.assertEqual((stand.place.asked, "done"), reference.requests(stream))

    @given(strategies.conversations(2), st.data())
    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_hurt(self, sent: list[tuple[bytes, bytes, reference.Fields, bytes, bytes]], data: st.DataObject) -> None:
        """
        Of a stream that has been tampered with we take exactly the requests that RFC 9112 finds in it, and not one
        after the first that it forbids; whatever is left ends by itself.
        """
        stream = data.draw(strategies.twisted_bytes(b"".join(request[-1] for request in sent)))
        expected, end = reference.requests(stream)
        stand = Stand()
        line = stand.connect()
        line.send(*data.draw(strategies.chunkings(stream, 4)))
        self.assertEqual(expected, stand.place.asked)
        if end == "refused":
            self.assertNotEqual("open", line.state)
        elif end == "done":
            self.assertEqual("open", line.state)
        stand.wait(100)
        self.assertNotEqual("open", line.state)
        self.assertEqual(expected, stand.place.asked)
        self.assertEqual(b"", line.too_late)

    @given(st.lists(st.binary(max_size=60), max_size=6))
    @settings(max_examples=100, deadline=None)
    def test_any(self, pieces: list[bytes]) -> None:
        """
        Any bytes at all are answered by a refusal or waited for, until the waiting ends.
        """
        stand = Stand()
        line = stand.connect()
        line.send(*pieces)
        self.assertTrue(all(answer.status >= 400 for answer in line.answers()))
        stand.wait(100)
        self.assertNotEqual("open", line.state)
        self.assertEqual([], stand.place.asked)

    @given(st.lists(strategies.requests(), min_size=1, max_size=2), st.data())
    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_crossing(
        self, sent: list[tuple[bytes, bytes, reference.Fields, bytes, bytes]], data: st.DataObject
    ) -> None:
        """
        Whatever we take, what goes up for it is one request, with that target and that body, for any reader.
        """
        stream = data.draw(strategies.twisted_bytes(b"".join(request[-1] for request in sent)))
        stand = Stand()
        stand.connect().send(stream)
        for asked, request in zip(stand.place.asked, stand.place.requests, strict=False):
            length = len(asked.body)
            body = None if request.body is None else RequestBody(_Nobody(), length)
            fields = upward(asked.fields)
            origin = split(b"http://upstream/")[0]
            outgoing = Outgoing(
                origin=origin,
                method=asked.method,
                lines=written(origin, asked.method, asked.target, fields),
                authorization=b"Bearer real",
                body=body,
            )
            [crossed], end = reference.requests(outgoing.head() + asked.body)
            self.assertEqual((asked.method, asked.target, asked.body), (crossed.method, crossed.target, crossed.body))
            self.assertEqual("done", end)

    @given(
        st.lists(strategies.requests(), min_size=1, max_size=3),
        st.lists(st.sampled_from(_ACTIONS), max_size=40),
        st.sampled_from([100, 1 << 30]),
        st.data(),
    )
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_any_order(
        self,
        sent: list[tuple[bytes, bytes, reference.Fields, bytes, bytes]],
        actions: list[str],
        room: int,
        data: st.DataObject,
    ) -> None:
        """
        Whatever client, resource and consumer do, in whichever order: requests are begun one after the other, as sent;
        reading is paused and resumed in turns; and when the resource has finished, the connection ends by itself,
        whether the client takes what it gets or not.
        """
        stand = Stand(later)
        line = stand.connect(room=room)
        stream = b"".join(request[-1] for request in sent)
        pieces = data.draw(strategies.chunkings(stream))
        takers: dict[Request, _Taker] = {}
        for action in actions:
            if action == "send":
                line.send(*pieces[:1])
                pieces = pieces[1:]
            elif action == "take":
                line.take()
            elif action == "wait":
                stand.wait(4)
            elif stand.place.requests:
                _act(action, stand.request, takers)
            line.pump()
        began = [(request.method, request.uri) for request in stand.place.requests]
        self.assertEqual([request[:2] for request in sent][: len(began)], began)
        line.send(*pieces)
        for _ in range(len(sent)):
            for request in stand.place.requests:
                _act("finish", request, takers)
            line.pump()
        stand.wait(500)
        self.assertNotEqual("open", line.state)
        self.assertEqual(b"", line.too_late)
        self.successResultOf(stand.server.drain())


def _act(action: str, request: Request, takers: dict[Request, _Taker]) -> None:
    """
    What a resource may do with its latest request.
    """
    if action in ("want", "pause", "resume", "stop"):
        _act_on_body(action, request, takers)
        return
    over = request.finished or request._disconnected
    if action == "write" and not over:
        request.write(b"a" * 70)
    elif action == "finish":
        if request.producer is not None and not over:
            request.unregisterProducer()
        request.finish()
    elif action == "cut":
        request.cut()
    elif action == "produce" and not over and request.producer is None:
        request.registerProducer(StringTransport(), True)  # noqa: FBT003 - Twisted's signature


def _act_on_body(action: str, request: Request, takers: dict[Request, _Taker]) -> None:
    taker = takers.get(request)
    if action == "want" and request.body is not None and taker is None:
        takers[request] = _Taker(request)
        takers[request].take()
    elif taker is not None and not taker.stopped:
        if action == "pause":
            taker.body.pauseProducing()
        elif action == "resume":
            taker.body.resumeProducing()
        elif action == "stop":
            taker.stopped = True
            taker.body.stopProducing()


class _Nobody:
    """
    A source of a body that is never asked.
    """

    def body_wanted(self) -> None:
        raise NotImplementedError

    def body_paused(self, *, paused: bool) -> None:
        raise NotImplementedError


class TestPipeline(SynchronousTestCase):
    """
    Several requests without waiting for answers.
    """

    def test_order(self) -> None:
        """
        All are answered, in their order, in one packet and byte by byte.
        """
        sent = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(20))
        for pieces in ([sent], bytewise(sent)):
            stand = Stand(lambda request: request.uri)
            line = stand.connect()
            line.send(*pieces)
            self.assertEqual([b"/%d" % number for number in range(20)], [answer.body for answer in line.answers()])

    def test_many(self) -> None:
        """
        However many are answered within one read, they do not pile up.
        """
        stand = Stand(lambda request: request.uri)
        line = stand.connect()
        line.send(NEXT * 1900)
        self.assertEqual(1900, len(line.answers()))

    def test_one_at_a_time(self) -> None:
        """
        A request is begun when the one before it has been answered, not earlier.
        """
        stand = Stand(later)
        line = stand.connect()
        line.send(NEXT * 3)
        for number in range(1, 4):
            self.assertEqual(number, len(stand.place.requests))
            stand.request.finish()
        self.assertEqual(3, len(line.answers()))

    def test_behind_chunks(self) -> None:
        """
        What follows a chunked body in the same packet is the next request.
        """
        stand = Stand()
        stand.connect().send(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + NEXT)
        self.assertEqual([b"/", b"/next"], [asked.target for asked in stand.place.asked])

    def test_bounded(self) -> None:
        """
        While a request is answered, no more than one read and a little is held of what comes behind it; all of it is
        processed in the end.
        """
        stand = Stand(later)
        line = stand.connect()
        count = 10_000
        line.send(NEXT * count)
        self.assertGreater(line.unheard, len(NEXT) * count - PIPELINE_BYTES - READ_BYTES - 1)
        while line.channel.busy:
            stand.request.finish()
            line.pump()
        self.assertEqual(count, len(stand.place.requests))
        self.assertEqual((0, True), (line.unheard, line.reading))

    def test_never_reading(self) -> None:
        """
        A client that sends requests and takes no answers is not read any longer, then it is cut.
        """
        stand = Stand(lambda _: b"a" * 1000)
        line = stand.connect(room=5000)
        line.send(*[NEXT] * 1000)
        self.assertLess(len(stand.place.requests), 10)
        self.assertGreater(line.unheard, 0)
        stand.wait(301)
        self.assertEqual("reset", line.state)

    def test_reading_late(self) -> None:
        """
        A client that takes its answers at last gets all of them.
        """
        stand = Stand(lambda _: b"a" * 1000)
        line = stand.connect(room=5000)
        line.send(*[NEXT] * 100)
        answers = 0
        while taken := line.take():
            answers += taken.count(b"HTTP/1.1 200")
        self.assertEqual((100, "open"), (answers, line.state))

    def test_reading_late_what_came_at_once(self) -> None:
        """
        The same if all its requests came in one packet: each is taken when there is room again.
        """
        stand = Stand(lambda _: b"a" * 1000)
        line = stand.connect(room=500)
        line.send(NEXT * 3)
        for number in range(1, 4):
            self.assertEqual(number, len(stand.place.requests))
            line.take()
        self.assertEqual("open", line.state)

    def test_refused_behind(self) -> None:
        """
        A request that is refused takes nothing away from those before it.
        """
        stand = Stand()
        line = stand.connect()
        line.send(NEXT + b"GET / HTTP/1.1\r\n\r\n" + NEXT)
        self.assertEqual([200, 400], [answer.status for answer in line.answers()])
        self.assertEqual(1, len(stand.place.asked))

    def test_empty_lines(self) -> None:
        """
        Empty lines before a request are skipped, however many, and make no head of their own: the connection stays
        idle, no longer than an idle one may.
        """
        stand = Stand()
        line = stand.connect()
        line.send(NEXT + b"\r\n" * 40_000)
        stand.wait(70)
        self.assertEqual("open", line.state)
        line.send(b"\r\n" + NEXT)
        self.assertEqual(2, len(line.answers()))
        for _ in range(80):
            line.send(b"\r\n")
            stand.wait(1)
        self.assertEqual(("closed", b""), (line.state, line.take()))


class TestBodies(SynchronousTestCase):
    """
    Uploads on their way to whoever takes them.
    """

    def setUp(self) -> None:
        self.stand = Stand(later, ServerLimits(body_bytes=100_000))
        self.line = self.stand.connect()

    def begin(self, fields: bytes = b"Content-Length: 1000\r\n") -> _Taker:
        self.line.send(POST + fields + b"\r\n")
        return _Taker(self.stand.request)

    def test_pieces(self) -> None:
        """
        Each piece reaches the consumer when it comes.
        """
        taker = self.begin()
        taker.take()
        for size in (1, 99, 900):
            self.line.send(b"a" * size)
            self.assertEqual(size, len(taker.pieces[-1]))
        self.successResultOf(taker.done)

    def test_chunks(self) -> None:
        """
        The same for chunks, without their framing.
        """
        taker = self.begin(b"Transfer-Encoding: chunked\r\n")
        taker.take()
        self.line.send(b"5\r\nhel", b"lo\r", b"\n0", b"\r\n\r\n")
        self.assertEqual([b"hel", b"lo"], taker.pieces)
        self.successResultOf(taker.done)

    def test_paused(self) -> None:
        """
        A consumer that is full stops the reading, until it has room.
        """
        taker = self.begin()
        taker.take()
        taker.body.pauseProducing()
        self.line.send(b"a" * 500, b"b" * 500)
        self.assertEqual([], taker.pieces)
        taker.body.resumeProducing()
        self.line.pump()
        self.successResultOf(taker.done)
        self.assertEqual(1, self.line.pauses)

    def test_paused_at_the_end(self) -> None:
        """
        A consumer that is full when the last piece comes does not stop the next request.
        """
        taker = self.begin()
        taker.full_at = 1000
        taker.take()
        self.line.send(b"a" * 1000)
        self.stand.request.finish()
        self.assertTrue(self.line.reading)
        taker = self.begin()
        taker.take()
        self.line.send(b"a" * 500, b"a" * 500)
        self.successResultOf(taker.done)

    def test_unwanted(self) -> None:
        """
        As long as nobody wants a body, at most one read of it is held; then it all comes.
        """
        taker = self.begin(b"Content-Length: 90000\r\n")
        self.line.send(*[b"a" * 1000] * 90)
        self.assertEqual((89_000, False), (self.line.unheard, self.line.reading))
        self.stand.wait(100)
        self.assertEqual("open", self.line.state)
        taker.take()
        self.line.pump()
        self.assertEqual(90_000, sum(map(len, taker.pieces)))
        self.successResultOf(taker.done)

    def test_client_leaves(self) -> None:
        """
        A client that leaves in the middle fails the body, and the request.
        """
        taker = self.begin()
        taker.take()
        left = self.stand.request.notifyFinish()
        self.line.send(b"a" * 999)
        self.line.hang_up()
        self.assertIsInstance(taker.failure and taker.failure.value, ClientLeft)
        self.failureResultOf(left)

    def test_client_leaves_unnoticed(self) -> None:
        """
        The same for a body that is asked for after that.
        """
        taker = self.begin()
        self.line.hang_up()
        taker.take()
        self.assertIsInstance(taker.failure and taker.failure.value, ClientLeft)

    def test_too_large(self) -> None:
        """
        A body that says that it is over the limit is refused before it comes.
        """
        self.line.send(POST + b"Content-Length: 100001\r\n\r\n")
        self.assertEqual((413, "half-closed"), (self.line.answer().status, self.line.state))
        self.assertEqual([], self.stand.place.requests)

    def test_grows_too_large(self) -> None:
        """
        A chunked body is refused when it passes the limit; whoever takes it gets no byte over the limit, and no end.
        """
        taker = self.begin(b"Transfer-Encoding: chunked\r\n")
        taker.take()
        self.line.send(b"186A0\r\n" + b"a" * 100_000 + b"\r\n")
        self.assertEqual((100_000, []), (taker.body.received, self.line.answers()))
        self.line.send(b"1\r\na\r\n0\r\nX: y\r\n\r\n" + NEXT)
        self.assertEqual(413, self.line.answer().status)
        self.assertEqual(100_000, sum(map(len, taker.pieces)))
        self.assertIsInstance(taker.failure and taker.failure.value, ClientLeft)

    def test_broken(self) -> None:
        """
        A chunked body that goes wrong fails whoever takes it, and is answered.
        """
        taker = self.begin(b"Transfer-Encoding: chunked\r\n")
        taker.take()
        self.line.send(b"5\r\nhello\r\n", b"x\r\n" + NEXT)
        self.assertIsInstance(taker.failure and taker.failure.value, ClientLeft)
        self.assertEqual(400, self.line.answer().status)
        self.assertEqual(1, len(self.stand.place.requests))

    def test_broken_late(self) -> None:
        """
        If its answer has begun, that is cut: nothing else is written into it.
        """
        taker = self.begin(b"Transfer-Encoding: chunked\r\n")
        taker.take()
        self.stand.request.write(b"begun")
        self.line.send(b"x\r\n")
        self.assertEqual("closed", self.line.state)
        self.assertEqual(b"", self.line.too_late)
        self.assertTrue(self.line.take().endswith(b"\r\n\r\n5\r\nbegun\r\n"))

    def test_broken_after_the_answer(self) -> None:
        """
        An answer that is given to the first piece of a body stays the only one, though the next piece is wrong.
        """
        taker = self.begin(b"Transfer-Encoding: chunked\r\n")
        taker.full_at, taker.when_full = 5, self.stand.request.finish
        taker.take()
        self.line.send(b"5\r\nhello\r\n", b"x\r\n" + NEXT)
        self.assertEqual(200, self.line.answer().status)
        self.assertEqual((b"", "half-closed"), (self.line.too_late, self.line.state))

    def test_consumer_fails(self) -> None:
        """
        A fault of whoever takes the body is logged as that, and not told as the client's.
        """

        def fail() -> None:
            raise ZeroDivisionError

        for fields in (b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n"):
            self.line = self.stand.connect()
            taker = self.begin(fields)
            taker.full_at, taker.when_full = 5, fail
            taker.take()
            self.line.send(b"5\r\nhello\r\n" if b"chunked" in fields else b"hello")
            self.assertEqual((500, "half-closed"), (self.line.answer().status, self.line.state))
            self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_consumer_fails_late(self) -> None:
        """
        After the answer it is logged, and nothing more is said.
        """

        def fail() -> None:
            self.stand.request.finish()
            raise ZeroDivisionError

        taker = self.begin()
        taker.full_at, taker.when_full = 5, fail
        taker.take()
        self.line.send(b"hello")
        self.assertEqual((200, b""), (self.line.answer().status, self.line.too_late))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_early_answer(self) -> None:
        """
        An answer before the end of the body is passed at once and says that it is the last; the client is heard until
        it leaves, so that it can read the answer, but not for long.
        """
        taker = self.begin()
        taker.take()
        self.line.send(b"a" * 500)
        self.stand.request.setHeader(b"Content-Length", b"5")
        self.stand.request.write(b"early")
        self.stand.request.finish()
        answer = self.line.answer()
        self.assertEqual((b"early", b"close"), (answer.body, answer.field(b"connection")))
        self.assertEqual("half-closed", self.line.state)
        for _ in range(4):
            self.line.send(b"a" * 100 + NEXT)
            self.stand.wait(1)
        self.assertEqual(("half-closed", 0), (self.line.state, self.line.unheard))
        self.stand.wait(2)
        self.assertEqual("reset", self.line.state)
        self.assertEqual(1, len(self.stand.place.requests))

    def test_early_answer_unwanted(self) -> None:
        """
        Also a body that nobody wanted is heard then.
        """
        self.begin(b"Content-Length: 90000\r\n")
        self.line.send(*[b"a" * 1000] * 80)
        self.assertFalse(self.line.reading)
        self.stand.request.finish()
        self.assertEqual(("half-closed", 0), (self.line.state, self.line.unheard))

    def test_early_answer_to_a_slow_reader(self) -> None:
        """
        Who is still taking the answer has the time that any reader has.
        """
        self.line = self.stand.connect(room=100)
        self.begin()
        self.stand.request.write(b"a" * 1000)
        self.stand.request.finish()
        self.stand.wait(60)
        self.assertEqual("half-closed", self.line.state)
        self.stand.wait(300)
        self.assertEqual("reset", self.line.state)

    def test_early_answer_that_lasts(self) -> None:
        """
        An answer that begins before the end of the body, and ends after it, closes the connection in order.
        """
        taker = self.begin()
        taker.take()
        self.stand.request.write(b"early")
        self.line.send(b"a" * 1000)
        self.successResultOf(taker.done)
        self.stand.request.finish()
        self.assertEqual("closed", self.line.state)
        self.assertEqual(b"close", self.line.answer().field(b"connection"))

    def test_read_at_once(self) -> None:
        """
        A body that comes with its head is there when the request is rendered.
        """
        self.line.send(POST + b"Content-Length: 5\r\n\r\nhello")
        body = self.stand.request.body
        assert body is not None
        self.assertEqual((True, b"hello"), (body.complete, body.whole()))


class _Taker:
    """
    Takes the body of a request.

    :ivar full_at: call *when_full* (else pause the body) when so many bytes are here.
    """

    def __init__(self, request: Request) -> None:
        assert request.body is not None
        self.body = request.body
        self.pieces: list[bytes] = []
        self.done: Deferred[None] = Deferred()
        self.failure: Failure | None = None
        self.stopped = False
        self.full_at = -1
        self.when_full = self.body.pauseProducing

    def take(self) -> None:
        self.done = self.body.startProducing(self)
        self.done.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self.failure = failure

    def write(self, piece: bytes) -> None:
        self.pieces.append(piece)
        if sum(map(len, self.pieces)) == self.full_at:
            self.when_full()


class TestContinue(SynchronousTestCase):
    """
    ``Expect: 100-continue``.
    """

    HEAD = POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"

    def setUp(self) -> None:
        self.stand = Stand(later)
        self.line = self.stand.connect()

    def test_wanted(self) -> None:
        """
        The client is told to go on when somebody wants its body, once, and not before.
        """
        self.line.send(self.HEAD)
        self.assertEqual(b"", self.line.take())
        taker = _Taker(self.stand.request)
        taker.take()
        self.assertEqual(b"HTTP/1.1 100 Continue\r\n\r\n", self.line.take())
        self.line.send(b"hel", b"lo")
        self.successResultOf(taker.done)
        self.stand.request.finish()
        self.assertEqual([200], [answer.status for answer in self.line.answers()])
        self.assertEqual("open", self.line.state)

    def test_not_waiting(self) -> None:
        """
        A client that has begun to send is not told what it does not wait for.
        """
        self.line.send(self.HEAD + b"h")
        _Taker(self.stand.request).take()
        self.assertEqual(b"", self.line.take())

    def test_unwanted(self) -> None:
        """
        Who does not want the body answers, and the client need not send it.
        """
        self.line.send(self.HEAD)
        self.stand.request.finish()
        self.assertEqual(b"close", self.line.answer().field(b"connection"))
        self.assertEqual("half-closed", self.line.state)

    def test_answer_begun(self) -> None:
        """
        Nothing is said once the answer has begun.
        """
        self.line.send(self.HEAD)
        self.stand.request.write(b"no")
        self.line.take()
        _Taker(self.stand.request).take()
        self.assertEqual(b"", self.line.take())

    def test_http_1_0(self) -> None:
        """
        HTTP/1.0 knows no interim answers.
        """
        self.line.send(self.HEAD.replace(b"1.1", b"1.0"))
        _Taker(self.stand.request).take()
        self.assertEqual(b"", self.line.take())

    def test_nobody_says_so(self) -> None:
        """
        A client that waits for the word is not blamed for its silence; from then on it is.
        """
        self.line.send(self.HEAD)
        self.stand.wait(60)
        self.assertEqual("open", self.line.state)
        _Taker(self.stand.request).take()
        self.stand.wait(21)
        self.assertEqual([100, 408], [answer.status for answer in self.line.answers()])


class TestDeadlines(SynchronousTestCase):
    """
    No state of a connection lasts for ever.
    """

    def setUp(self) -> None:
        self.stand = Stand(later)
        self.line = self.stand.connect()

    def test_silence(self) -> None:
        """
        A client that says nothing is let go without an answer.
        """
        self.stand.wait(74)
        self.assertEqual("open", self.line.state)
        self.stand.wait(1)
        self.assertEqual(("closed", b""), (self.line.state, self.line.take()))

    def test_idle(self) -> None:
        """
        The same after an answer.
        """
        self.stand.wait(50)
        self.line.send(NEXT)
        self.stand.wait(100)
        self.stand.request.finish()
        self.stand.wait(74)
        self.assertEqual("open", self.line.state)
        self.stand.wait(1)
        self.assertEqual("closed", self.line.state)

    def test_head(self) -> None:
        """
        A head has its time, and each byte does not renew it.
        """
        self.stand.wait(50)
        for byte in bytewise(GET)[:9]:
            self.line.send(byte)
            self.stand.wait(1)
        self.assertEqual("open", self.line.state)
        self.stand.wait(1)
        self.assertEqual((408, "half-closed"), (self.line.answer().status, self.line.state))

    def test_next_head(self) -> None:
        """
        A head that has begun behind another request has its time from the end of that.
        """
        self.line.send(NEXT + GET)
        self.stand.wait(60)
        self.stand.request.finish()
        self.line.answers()
        self.stand.wait(9)
        self.assertEqual("open", self.line.state)
        self.stand.wait(1)
        self.assertEqual(408, self.line.answer().status)

    def test_answer(self) -> None:
        """
        While we think, the client may be silent.
        """
        self.line.send(NEXT)
        self.stand.wait(1000)
        self.assertEqual("open", self.line.state)

    def test_answer_to_a_body(self) -> None:
        """
        Also behind a body, however it came.
        """
        self.line.send(POST + b"Content-Length: 2\r\n\r\n")
        _Taker(self.stand.request).take()
        self.line.send(b"a", b"b")
        self.stand.wait(1000)
        self.assertEqual("open", self.line.state)

    def test_answer_taken_late(self) -> None:
        """
        Also when it has begun, and the client has taken what there is.
        """
        self.line = self.stand.connect(room=1000)
        self.line.send(NEXT)
        self.stand.request.write(b"a" * 2000)
        self.stand.wait(200)
        self.line.take()
        self.stand.wait(1000)
        self.assertEqual("open", self.line.state)

    def test_idle_after_an_answer_taken_late(self) -> None:
        """
        A client that takes the end of its answer late may be idle from then on, as long as others.
        """
        self.line = self.stand.connect(room=1000)
        self.line.send(NEXT)
        self.stand.request.write(b"a" * 2000)
        self.stand.request.finish()
        self.stand.wait(200)
        self.line.take()
        self.stand.wait(74)
        self.assertEqual("open", self.line.state)
        self.stand.wait(1)
        self.assertEqual("closed", self.line.state)

    def test_slow_body(self) -> None:
        """
        A body that drips ends.
        """
        self.line.send(POST + b"Content-Length: 100000\r\n\r\n")
        _Taker(self.stand.request).take()
        for _ in range(22):
            self.line.send(b"a" * 10)
            self.stand.wait(1)
        self.assertEqual(408, self.line.answer().status)

    def test_slow_enough_body(self) -> None:
        """
        A body that comes at the least rate goes on; haste before does not buy more than the grace.
        """
        self.line.send(POST + b"Content-Length: 1000000\r\n\r\n")
        _Taker(self.stand.request).take()
        self.line.send(b"a" * 500_000)
        for _ in range(100):
            self.line.send(b"a" * 240)
            self.stand.wait(1)
        self.assertEqual("open", self.line.state)
        self.stand.wait(21)
        self.assertEqual(408, self.line.answer().status)

    def test_slow_chunks(self) -> None:
        """
        Framing buys no time.
        """
        self.line.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        _Taker(self.stand.request).take()
        for _ in range(21):
            self.line.send(b"1;" + b"a" * 500 + b"\r\na\r\n")
            self.stand.wait(1)
        self.assertEqual(408, self.line.answer().status)

    def test_slow_consumer(self) -> None:
        """
        While the consumer is full, the client is not to blame; afterwards it has the grace again.
        """
        self.line.send(POST + b"Content-Length: 1000\r\n\r\n")
        taker = _Taker(self.stand.request)
        taker.take()
        self.stand.wait(15)
        taker.body.pauseProducing()
        self.stand.wait(1000)
        taker.body.resumeProducing()
        self.stand.wait(19)
        self.assertEqual("open", self.line.state)
        self.stand.wait(1)
        self.assertEqual(408, self.line.answer().status)

    def test_haste_before_a_pause(self) -> None:
        """
        What came before the consumer was full buys no time after it.
        """
        self.line.send(POST + b"Content-Length: 100000\r\n\r\n")
        taker = _Taker(self.stand.request)
        taker.take()
        self.line.send(b"a" * 50_000)
        taker.body.pauseProducing()
        self.stand.wait(100)
        taker.body.resumeProducing()
        self.stand.wait(15)
        self.line.send(b"a")
        self.stand.wait(6)
        self.assertEqual(408, self.line.answer().status)

    def test_slow_body_after_the_answer_began(self) -> None:
        """
        The same when the answer has begun: it is cut.
        """
        self.line.send(POST + b"Content-Length: 1000\r\n\r\n")
        self.stand.request.write(b"early")
        self.stand.wait(21)
        self.assertEqual("closed", self.line.state)
        self.assertFalse(self.line.take().endswith(b"0\r\n\r\n"))

    def test_slow_body_after_an_open_end_began(self) -> None:
        """
        So that HTTP/1.0 can see it as well.
        """
        self.line.send(POST.replace(b"1.1", b"1.0") + b"Content-Length: 1000\r\n\r\n")
        self.stand.request.write(b"early")
        self.stand.wait(21)
        self.assertEqual("reset", self.line.state)

    def test_never_reading(self) -> None:
        """
        A client that does not take its answer is cut.
        """
        self.line = self.stand.connect(room=1000)
        self.line.send(NEXT)
        left = self.stand.request.notifyFinish()
        self.stand.request.write(b"a" * 2000)
        self.stand.wait(299)
        self.assertEqual("open", self.line.state)
        self.stand.wait(1)
        self.assertEqual("reset", self.line.state)
        self.failureResultOf(left)

    def test_never_reading_but_sending(self) -> None:
        """
        The body that it sends meanwhile, and its end, do not change that.
        """
        self.line = self.stand.connect(room=1000)
        self.line.send(POST + b"Content-Length: 6\r\n\r\n")
        taker = _Taker(self.stand.request)
        taker.take()
        self.stand.request.write(b"a" * 2000)
        for _ in range(6):
            self.stand.wait(40)
            self.line.send(b"a")
        self.successResultOf(taker.done)
        self.stand.wait(60)
        self.assertEqual("reset", self.line.state)

    def test_reading_late(self) -> None:
        """
        A client that takes its answer in the end may send its body in its own time from then on.
        """
        self.line = self.stand.connect(room=1000)
        self.line.send(POST + b"Content-Length: 6\r\n\r\n")
        _Taker(self.stand.request).take()
        self.stand.request.write(b"a" * 2000)
        self.stand.wait(200)
        self.line.take()
        self.stand.wait(19)
        self.assertEqual("open", self.line.state)
        self.stand.wait(1)
        self.assertEqual("closed", self.line.state)

    def test_never_reading_the_end(self) -> None:
        """
        A client that does not take the end of its answer: neither the answer that follows nor idleness prolong it.
        """
        self.line = self.stand.connect(room=1000)
        self.line.send(NEXT)
        self.stand.request.write(b"a" * 2000)
        self.stand.request.finish()
        self.stand.wait(299)
        self.assertEqual("open", self.line.state)
        self.stand.wait(1)
        self.assertEqual("reset", self.line.state)

    def test_closing(self) -> None:
        """
        A client that does not take the rest of the last answer is cut as well.
        """
        self.line = self.stand.connect(room=1000)
        self.line.send(NEXT.replace(b"1.1", b"1.0"))
        self.stand.request.write(b"a" * 2000)
        self.stand.request.finish()
        self.stand.wait(299)
        self.assertEqual("open", self.line.state)
        self.stand.wait(1)
        self.assertEqual("reset", self.line.state)

    def test_cut(self) -> None:
        """
        And so is one that does not take what is left of an answer that was cut.
        """
        self.line = self.stand.connect(room=1000)
        self.line.send(NEXT)
        self.stand.request.write(b"a" * 2000)
        self.stand.request.cut()
        self.assertEqual("open", self.line.state)
        self.stand.wait(6)
        self.assertEqual("reset", self.line.state)


class TestPressure(SynchronousTestCase):
    """
    Producers of answers, and clients who take them slowly.
    """

    def setUp(self) -> None:
        self.stand = Stand(later)
        self.line = self.stand.connect(room=1000)
        self.line.send(NEXT)
        self.producer = StringTransport()

    def test_paused(self) -> None:
        """
        A producer rests while the client takes nothing.
        """
        self.stand.request.registerProducer(self.producer, True)  # noqa: FBT003 - Twisted's signature
        self.stand.request.write(b"a" * 2000)
        self.assertEqual("paused", self.producer.producerState)
        self.line.take()
        self.assertEqual("producing", self.producer.producerState)
        self.stand.request.unregisterProducer()
        self.stand.request.write(b"a" * 2000)
        self.assertEqual("producing", self.producer.producerState)

    def test_registered_late(self) -> None:
        """
        One that comes when the client has stopped taking rests at once.
        """
        self.stand.request.write(b"a" * 2000)
        self.stand.request.registerProducer(self.producer, True)  # noqa: FBT003 - Twisted's signature
        self.assertEqual("paused", self.producer.producerState)
        self.stand.request.unregisterProducer()

    def test_pull(self) -> None:
        """
        Pull producers are not taken.
        """
        with self.assertRaises(TypeError):
            self.line.channel.registerProducer(self.producer, False)  # noqa: FBT003 - Twisted's signature


class TestTunnel(SynchronousTestCase):
    """
    A connection that has been handed over.
    """

    HANDSHAKE = GET + b"Connection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"

    def setUp(self) -> None:
        self.stand = Stand(later)
        self.line = self.stand.connect()
        self.end = _End()

    def test_bytes(self) -> None:
        """
        Everything belongs to the protocol, what came with the handshake too; nothing is parsed, no deadline holds.
        """
        self.line.send(self.HANDSHAKE + b"early " + NEXT)
        self.assertEqual(b"websocket", self.stand.request.upgrade_to)
        self.stand.request.upgrade([(b"Sec-WebSocket-Accept", b"x")], self.end)
        [answer] = self.line.answers()
        self.assertEqual((101, b"x"), (answer.status, answer.field(b"sec-websocket-accept")))
        self.assertEqual((self.line, None), (self.end.transport, self.line.producer))
        self.line.send(b"late")
        self.stand.wait(10_000)
        self.assertEqual(b"early " + NEXT + b"late", self.end.received)
        self.assertEqual((1, "open"), (len(self.stand.place.requests), self.line.state))
        self.line.hang_up()
        self.assertIsNotNone(self.end.lost)

    def test_nothing_early(self) -> None:
        """
        The handshake alone brings nothing.
        """
        self.line.send(self.HANDSHAKE)
        self.stand.request.upgrade([], self.end)
        self.assertEqual(b"", self.end.received)

    def test_held_back(self) -> None:
        """
        A client that sends a lot before the answer is read on afterwards.
        """
        self.line.send(self.HANDSHAKE, b"a" * 200_000)
        self.assertFalse(self.line.reading)
        self.stand.request.upgrade([], self.end)
        self.line.pump()
        self.assertEqual(200_000, len(self.end.received))

    def test_at_once(self) -> None:
        """
        A resource may hand over while it renders.
        """

        def render(request: Request) -> int:
            request.upgrade([], self.end)
            return NOT_DONE_YET

        self.stand = Stand(render)
        self.line = self.stand.connect()
        self.line.send(self.HANDSHAKE + NEXT)
        self.assertEqual(NEXT, self.end.received)

    def test_refused(self) -> None:
        """
        An ordinary answer to a handshake ends the connection: what follows could be meant for a tunnel.
        """
        self.line.send(self.HANDSHAKE + NEXT)
        self.stand.request.finish()
        self.assertEqual("half-closed", self.line.state)
        self.assertEqual(1, len(self.stand.place.requests))

    def test_busy(self) -> None:
        """
        A tunnel is not idle: draining waits for it, the end cuts it.
        """
        self.line.send(self.HANDSHAKE)
        self.stand.request.upgrade([], self.end)
        drained = self.stand.server.drain()
        self.assertEqual("open", self.line.state)
        self.assertTrue(self.line.channel.busy)
        self.stand.server.end()
        self.assertEqual("reset", self.line.state)
        self.successResultOf(drained)


class _End(Protocol):
    """
    What a connection is handed over to.
    """

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason
