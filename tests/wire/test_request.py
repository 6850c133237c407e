"""
A request as resources see it, and the answer as clients do.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dheera.errors import NotAllowed, Unavailable
from dheera.wire.heads import Fields
from dheera.wire.request import Request, reason_phrase
from tests import strategies
from tests.wire.line import Line, Stand, later
from tests.wire.reference import Answer

TEXT = (b"Content-Type", b"text/plain")


class Conversation(SynchronousTestCase):
    """
    A server whose resource leaves the answering to the test.
    """

    def setUp(self) -> None:
        self.stand = Stand(later)

    def ask(self, method: bytes = b"GET", version: bytes = b"1.1", target: bytes = b"/", lines: bytes = b"") -> Request:
        """
        The request that a new client makes.
        """
        self.line: Line = self.stand.connect()
        self.method = method
        self.line.send(b"%b %b HTTP/%b\r\nHost: a\r\n%b\r\n" % (method, target, version, lines))
        return self.stand.request

    def answer(self) -> Answer:
        return self.line.answer(self.method)


class TestRequest(Conversation):
    """
    What a resource finds.
    """

    def test_parts(self) -> None:
        """
        Method, target, path and version as Twisted's resources know them; segments decoded.
        """
        request = self.ask(b"PUT", b"1.0", b"/a%2Fb//%C3%A4?q=/x", b"A: 1\r\na: 2\r\n")
        self.assertEqual((b"PUT", b"/a%2Fb//%C3%A4?q=/x"), (request.method, request.uri))
        self.assertEqual((b"/a%2Fb//%C3%A4", b"HTTP/1.0"), (request.path, request.clientproto))
        self.assertEqual([b"a/b", b"", b"\xc3\xa4"], request.postpath)
        self.assertEqual([(b"Host", b"a"), (b"A", b"1"), (b"a", b"2")], request.fields)
        self.assertIsNone(request.body)

    def test_headers(self) -> None:
        """
        Twisted's ``Headers`` say the same as the lines.
        """
        request = self.ask(lines=b"A: 1\r\na: 2\r\n")
        self.assertEqual([b"1", b"2"], request.requestHeaders.getRawHeaders(b"a"))
        self.assertIs(request.requestHeaders, request.requestHeaders)
        self.assertEqual(b"a", request.getHeader(b"host"))

    def test_peers(self) -> None:
        """
        Both addresses, and whether TLS is spoken.
        """
        request = self.ask()
        self.assertEqual((self.line.getPeer(), self.line.getHost()), (request.client, request.host))
        self.assertFalse(request.isSecure())

    def test_asterisk(self) -> None:
        """
        ``OPTIONS *`` asks for nothing in particular, and no resource is troubled.
        """
        line = self.stand.connect()
        line.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual((204, []), (line.answer().status, self.stand.place.requests))
        self.assertEqual("open", line.state)


class TestBegin(Conversation):
    """
    Answers that are passed on.
    """

    @given(st.lists(st.tuples(strategies.names(), strategies.values())), st.lists(st.binary(max_size=9)))
    def test_verbatim(self, fields: Fields, pieces: list[bytes]) -> None:
        """
        Status, reason and header lines go out as given, the body byte for byte; chunked if nobody knows its length.
        """
        request = self.ask()
        request.begin(299, b"Fine by me", fields)
        for piece in pieces:
            request.write(piece)
        request.finish()
        chunked = (b"Transfer-Encoding", b"chunked")
        self.assertEqual(Answer(299, b"Fine by me", [*fields, chunked], b"".join(pieces)), self.answer())
        self.assertEqual("open", self.line.state)

    def test_length(self) -> None:
        """
        With a length there are no chunks.
        """
        request = self.ask()
        request.begin(200, b"OK", [(b"content-LENGTH", b"5")])
        request.write(b"he")
        self.assertTrue(self.line.take().endswith(b"\r\n\r\nhe"))
        request.write(b"llo")
        self.assertEqual(b"llo", self.line.take())
        request.finish()
        self.assertEqual((b"", 5), (self.line.take(), request.sentLength))

    def test_pieces_leave(self) -> None:
        """
        The head waits for the first piece, so that both leave together; each piece leaves when it is written.
        """
        request = self.ask()
        request.begin(200, b"OK", [TEXT])
        self.assertEqual(b"", self.line.take())
        request.write(b"one")
        self.assertTrue(self.line.take().endswith(b"\r\n\r\n3\r\none\r\n"))
        request.write(b"")
        self.assertEqual(b"", self.line.take())
        request.write(b"two")
        self.assertEqual(b"3\r\ntwo\r\n", self.line.take())

    def test_flush(self) -> None:
        """
        A head whose body lets itself be waited for leaves before it.
        """
        request = self.ask()
        request.begin(200, b"OK", [TEXT])
        request.flush()
        self.assertTrue(self.line.take().endswith(b"\r\n\r\n"))
        request.flush()
        request.finish()
        request.flush()
        self.assertEqual(b"0\r\n\r\n", self.line.take())

    def test_head(self) -> None:
        """
        HEAD gets the header lines of GET and no body, whoever sends one.
        """
        for fields in ([TEXT], [(b"Content-Length", b"5")]):
            for end in (lambda request: (request.write(b"hello"), request.finish()), lambda r: r.finish_with(b"hello")):
                request = self.ask(b"HEAD")
                request.begin(200, b"OK", fields)
                end(request)
                self.assertEqual(Answer(200, b"OK", fields, b""), self.answer())
                self.assertEqual("open", self.line.state)

    def test_no_content(self) -> None:
        """
        204 has no body, no length and no coding; 304 has no body, and may tell a length.
        """
        length = (b"Content-Length", b"5")
        for code, fields, expected in [
            (204, [length, TEXT], [TEXT]),
            (204, [], []),
            (304, [length], [length]),
            (304, [], []),
        ]:
            for end in (lambda request: (request.write(b"hello"), request.finish()), lambda r: r.finish_with(b"hello")):
                request = self.ask()
                request.begin(code, b"", fields)
                end(request)
                self.assertEqual(Answer(code, b"", expected, b""), self.answer())
                self.assertEqual("open", self.line.state)

    def test_http_1_0(self) -> None:
        """
        HTTP/1.0 gets no chunks: what has no length ends with the connection.
        """
        request = self.ask(version=b"1.0")
        request.begin(200, b"OK", [TEXT])
        request.write(b"he")
        request.write(b"llo")
        request.finish()
        self.assertEqual("closed", self.line.state)
        self.assertEqual(Answer(200, b"OK", [TEXT, (b"Connection", b"close")], b"hello"), self.answer())

    def test_http_1_0_with_length(self) -> None:
        """
        What has one is closed as well.
        """
        request = self.ask(version=b"1.0", lines=b"Connection: keep-alive\r\n")
        request.begin(200, b"OK", [(b"Content-Length", b"0")])
        request.finish()
        self.assertEqual("closed", self.line.state)
        self.assertEqual(b"close", self.answer().field(b"connection"))

    def test_whole(self) -> None:
        """
        A body that is all here leaves in one piece with its head.
        """
        length = (b"Content-Length", b"5")
        for fields, content in [([TEXT], b"hello"), ([TEXT], b""), ([length], b"hello")]:
            request = self.ask()
            finished = request.notifyFinish()
            request.begin(200, b"OK", fields)
            request.finish_with(content)
            self.assertEqual(content, self.answer().body)
            self.successResultOf(finished)
            self.assertEqual("open", self.line.state)


class TestOwn(Conversation):
    """
    Answers of our own, in Twisted's way.
    """

    def test_plain(self) -> None:
        """
        Status, header lines and body, a date, and the stamp of this server.
        """
        self.stand = Stand(later, stamp=lambda: [(b"x-dheera-call-id", b"1")])
        request = self.ask()
        request.setResponseCode(418)
        request.setHeader(b"A", b"b")
        request.write(b"hello")
        request.finish()
        answer = self.answer()
        self.assertEqual((418, b"hello", b"b"), (answer.status, answer.body, answer.field(b"a")))
        self.assertEqual(b"1", answer.field(b"x-dheera-call-id"))
        self.assertIsNotNone(answer.field(b"date"))

    def test_stamped_already(self) -> None:
        """
        What was said already is not said twice.
        """
        self.stand = Stand(later, stamp=lambda: [(b"x-dheera-call-id", b"1")])
        request = self.ask()
        request.setHeader(b"X-Dheera-Call-Id", b"2")
        request.setHeader(b"date", b"today")
        request.finish()
        answer = self.answer()
        self.assertEqual((b"2", b"today"), (answer.field(b"x-dheera-call-id"), answer.field(b"date")))

    def test_rendered(self) -> None:
        """
        Bytes that a resource returns are the answer; HEAD gets their length.
        """
        self.stand = Stand(lambda _: b"hello")
        for method, body in [(b"GET", b"hello"), (b"HEAD", b"")]:
            self.ask(method)
            answer = self.answer()
            self.assertEqual((body, b"5"), (answer.body, answer.field(b"content-length")))

    def test_no_content(self) -> None:
        """
        Nothing is announced for no content.
        """

        def render(request: Request) -> bytes:
            request.setResponseCode(204)
            return b""

        self.stand = Stand(render)
        self.ask()
        self.assertEqual(204, self.answer().status)

    def test_injection(self) -> None:
        """
        What a resource sets cannot begin a header line of its own.
        """
        request = self.ask()
        request.setHeader(b"A", b"b\r\nEvil: yes\r\n\r\n")
        request.finish()
        self.assertIsNone(self.answer().field(b"evil"))


class TestInform(Conversation):
    """
    Interim answers.
    """

    def test_passed(self) -> None:
        """
        Each is passed on before the answer.
        """
        request = self.ask()
        request.inform(102, b"Processing", [])
        request.inform(103, b"Early Hints", [(b"Link", b"</a>")])
        self.assertEqual(
            [Answer(102, b"Processing", [], b""), Answer(103, b"Early Hints", [(b"Link", b"</a>")], b"")],
            self.line.answers(),
        )
        request.finish()
        self.assertEqual(200, self.answer().status)

    def test_not_passed(self) -> None:
        """
        None to HTTP/1.0, none in the middle of an answer, none to a client that has left.
        """
        self.ask(version=b"1.0").inform(103, b"Early Hints", [])
        self.assertEqual(b"", self.line.take())
        request = self.ask()
        request.write(b"a")
        self.line.take()
        request.inform(103, b"Early Hints", [])
        self.assertEqual(b"", self.line.take())
        request = self.ask()
        self.line.hang_up()
        request.inform(103, b"Early Hints", [])
        self.assertEqual(b"", self.line.take())


class TestEnds(Conversation):
    """
    How an answer can end.
    """

    def test_finished(self) -> None:
        """
        Whoever waits for the end hears of it; a second end is none.
        """
        request = self.ask()
        finished = request.notifyFinish()
        request.finish()
        self.successResultOf(finished)
        request.finish()
        request.cut()
        self.assertEqual((200, "open"), (self.answer().status, self.line.state))

    def test_client_left(self) -> None:
        """
        When the client has left, nothing that is done to its request does harm.
        """
        actions: list[Callable[[Request], object]] = [
            lambda request: request.write(b"a"),
            lambda request: request.finish_with(b"a"),
            lambda request: request.finish(),
            lambda request: request.flush(),
            lambda request: request.cut(),
            lambda request: request.refuse(NotAllowed("No.")),
        ]
        for begun in (False, True):
            for action in actions:
                request = self.ask()
                left = request.notifyFinish()
                if begun:
                    request.begin(200, b"OK", [])
                self.line.hang_up()
                self.failureResultOf(left, ConnectionLost)
                action(request)
                self.assertEqual((b"", b""), (self.line.take(), self.line.too_late))

    def test_told_of_leaving(self) -> None:
        """
        Whoever wants to know is told once that the client has left, and not if it leaves after the answer.
        """
        told: list[str] = []
        for name, answer in (("finish", Request.finish), ("finish_with", lambda request: request.finish_with(b"a"))):
            request = self.ask()
            request.when_left(lambda name=name: told.append(name))  # type: ignore[misc]
            request.begin(200, b"OK", [])
            answer(request)
            self.line.hang_up()
            self.assertEqual([], told)
        request = self.ask()
        request.when_left(lambda: told.append("early"))
        self.line.hang_up()
        self.assertEqual(["early"], told)

    def test_cut_chunks(self) -> None:
        """
        An answer in chunks that cannot go on ends without its last chunk: what was written arrives.
        """
        request = self.ask()
        left = request.notifyFinish()
        request.write(b"hello")
        request.cut()
        self.assertEqual("closed", self.line.state)
        self.assertTrue(self.line.take().endswith(b"5\r\nhello\r\n"))
        self.failureResultOf(left)

    def test_cut_length(self) -> None:
        """
        One with a length ends before it; a head that was still held arrives as well.
        """
        request = self.ask()
        request.begin(200, b"OK", [(b"Content-Length", b"5")])
        request.cut()
        self.assertEqual("closed", self.line.state)
        self.assertTrue(self.line.take().endswith(b"Content-Length: 5\r\n\r\n"))

    def test_cut_open_end(self) -> None:
        """
        One that would end with the connection is ended by a reset, the only sign that something is missing.
        """
        request = self.ask(version=b"1.0")
        request.write(b"hello")
        request.cut()
        self.assertEqual("reset", self.line.state)

    def test_nothing_after_a_cut(self) -> None:
        """
        What is pipelined behind is not processed.
        """
        request = self.ask()
        self.line.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        request.write(b"hello")
        request.cut()
        self.line.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(1, len(self.stand.place.requests))

    def test_upgrade(self) -> None:
        """
        101 with the lines given, and no more.
        """
        request = self.ask(lines=b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
        request.upgrade([(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")], Protocol())
        expected = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        self.assertEqual(expected, self.line.take())
        request.finish()
        self.assertEqual(b"", self.line.take())


class TestRefusals(Conversation):
    """
    Requests that end badly.
    """

    def envelope(self, answer: Answer) -> dict[str, str]:
        content = json.loads(answer.body)
        self.assertEqual({"error", "message", "detail"}, content.keys())
        self.assertEqual({"message", "type", "param", "code"}, content["error"].keys())
        self.assertEqual(str(answer.status), content["error"]["code"])
        self.assertEqual(content["message"], content["error"]["message"])
        self.assertEqual((b"application/json", b"dheera"),
                         (answer.field(b"content-type"), answer.field(b"x-dheera-error-source")))  # fmt: skip
        return content["error"]  # type: ignore[no-any-return]  # JSON

    def test_refused(self) -> None:
        """
        A refusal is answered in our JSON shape, and the connection stays.
        """
        self.ask().refuse(NotAllowed("Ask somebody else."))
        answer = self.answer()
        self.assertEqual((403, b"Forbidden"), (answer.status, answer.reason))
        self.assertEqual("Ask somebody else.", self.envelope(answer)["message"])
        self.assertEqual("open", self.line.state)

    def test_retry_after(self) -> None:
        """
        With the header lines that belong to it.
        """
        self.ask().refuse(Unavailable("Later.", retry_after_seconds=7))
        self.assertEqual(b"7", self.answer().field(b"retry-after"))

    def test_raised(self) -> None:
        """
        A resource may raise it.
        """

        def render(_: Request) -> bytes:
            raise NotAllowed("No.")

        self.stand = Stand(render)
        self.ask()
        self.assertEqual((403, "No."), ((answer := self.answer()).status, self.envelope(answer)["message"]))

    def test_failed(self) -> None:
        """
        Anything else is a fault of ours: it is logged, and the client gets no piece of it.
        """

        def render(_: Request) -> bytes:
            raise ZeroDivisionError("secret")

        self.stand = Stand(render)
        self.ask()
        answer = self.answer()
        self.assertEqual((500, "api_error"), (answer.status, self.envelope(answer)["type"]))
        self.assertNotIn(b"secret", answer.body)
        self.assertNotIn(b"Traceback", answer.body)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_too_late(self) -> None:
        """
        An answer that has begun is cut instead.
        """
        request = self.ask()
        request.write(b"hello")
        request.processingFailed(Failure(NotAllowed("No.")))
        self.assertEqual("closed", self.line.state)
        self.assertTrue(self.line.take().endswith(b"hello\r\n"))

    def test_reason(self) -> None:
        """
        Known statuses have their usual reason, others none.
        """
        self.assertEqual((b"Not Found", b""), (reason_phrase(404), reason_phrase(599)))
