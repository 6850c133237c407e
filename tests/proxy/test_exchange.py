"""
Whole exchanges: a client, dheera, upstream, and all that can happen between them.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from dheera.boundaries import Add, Admission, Bearer, Caller, Put
from dheera.entities import Key, now
from dheera.keys import digest
from dheera.lifecycle import Hurry
from dheera.settings import AllowanceSettings
from dheera.wire.body import read
from dheera.wire.limits import ClientLimits, ServerLimits
from tests.house import LAST_CHUNK, UPSTREAM_KEY, Answer, House, Overheard, in_chunks, read_answer, request
from tests.network import READ_BYTES, UPSTREAM_HOST, UPSTREAM_PORT, Peer
from tests.strategies import bodies, chunked, chunkings
from tests.wire.caller import OK

EMPTY = OK + b"Content-Length: 0\r\n\r\n"
MASTER = "sk-master-canary"
PROMPT = b'{"model": "m", "prompt": "prompt-canary"}'
BOUND = 4 * READ_BYTES


class Exchanging(SynchronousTestCase):
    """
    A house whose upstream is a script.
    """

    def setUp(self) -> None:
        self.house = House()
        self.overheard = Overheard.by(self)

    @property
    def upstream(self) -> Peer:
        return self.house.script.last

    def post(self, body: bytes | None = PROMPT, *fields: tuple[bytes, bytes], **how: Any) -> Peer:
        return self.house.ask(b"/mistral/v1/ocr", *fields, method=how.pop("method", b"POST"), body=body, **how)

    def upload(self, *fields: tuple[bytes, bytes]) -> Peer:
        """
        A request of which the head is here; the body is chunked, or as *fields* say.
        """
        framing = fields or ((b"Transfer-Encoding", b"chunked"),)
        return self.house.send(request(b"/mistral/v1/files", *framing, method=b"POST"))

    def assert_refused(self, client: Peer, status: int, method: bytes = b"POST") -> str:
        """
        The client has a refusal of ours, in its shape.

        :return: its message.
        """
        answer = read_answer(client.received, method)
        self.assertEqual((status, True, b""), (answer.status, answer.complete, answer.rest))
        self.assertEqual([b"application/json"], answer.values(b"content-type"))
        self.assertEqual([b"dheera"], answer.values(b"x-dheera-error-source"))
        self.assert_stamped(answer)
        said = json.loads(answer.body)
        error = said["error"]
        self.assertEqual({"message", "type", "param", "code"}, set(error))
        self.assertEqual(
            (str(status), error["message"], error["message"]), (error["code"], said["message"], said["detail"])
        )
        return str(error["message"])

    def assert_stamped(self, answer: Answer) -> str:
        (call_id,) = answer.values(b"x-dheera-call-id")
        self.assertEqual(7, UUID(call_id.decode()).version)
        return call_id.decode()

    def assert_nothing_left(self) -> None:
        self.house.network.settle()
        self.house.network.turn(1)
        self.assertTrue(self.house.is_empty(), (self.house.network.ends, self.house.network.getDelayedCalls()))

    def assert_quiet(self) -> None:
        """
        Nobody was told of anything that went wrong.
        """
        for level in (LogLevel.warn, LogLevel.error, LogLevel.critical):
            self.assertEqual([], self.overheard.lines(level))


class Passing(Exchanging):
    """
    Requests and answers that pass.
    """

    def test_answer(self) -> None:
        """
        Status, reason and header lines come back as upstream wrote them, with a call id, the time that dheera took, and
        nothing else: this call has no price.
        """
        client = self.post()
        self.upstream.send(
            b"HTTP/1.1 299 So  so\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-a: 1\r\nContent-Type: text/plain\r\n"
            b"x-A: 2\r\nContent-Length: 3\r\nServer: kong\r\n\r\nabc"
        )
        head, _, body = client.received.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        self.assertEqual(
            [
                b"HTTP/1.1 299 So  so",
                b"Date: Sun, 06 Nov 1994 08:49:37 GMT",
                b"X-a: 1",
                b"Content-Type: text/plain",
                b"x-A: 2",
                b"Content-Length: 3",
                b"Server: kong",
            ],
            lines[:-2],
        )
        ours = [line.partition(b":")[0] for line in lines[-2:]]
        self.assertEqual([b"x-dheera-call-id", b"x-dheera-overhead-ms"], ours)
        self.assertEqual(b"abc", body)
        self.assert_quiet()

    def test_errors_of_upstream(self) -> None:
        """
        Errors of upstream's pass as they are, and say whose they are.
        """
        for status in (400, 401, 404, 422, 429, 500, 503, 599):
            client = self.post()
            self.upstream.send(
                b"HTTP/1.1 %d Oh\r\nRetry-After: 3\r\nx-dheera-error-source: forged\r\nX-Dheera-Call-Id: forged\r\n"
                b"Content-Length: 16\r\n\r\n" % status + b'{"detail": "no"}'
            )
            answer = read_answer(client.received)
            self.assertEqual((status, b"Oh", b'{"detail": "no"}'), (answer.status, answer.reason, answer.body))
            self.assertEqual([b"upstream"], answer.values(b"x-dheera-error-source"))
            self.assertEqual([b"3"], answer.values(b"retry-after"))
            self.assert_stamped(answer)
        for status in (200, 302, 399):
            client = self.post()
            self.upstream.send(b"HTTP/1.1 %d Fine\r\nContent-Length: 0\r\n\r\n" % status)
            self.assertEqual([], read_answer(client.received).values(b"x-dheera-error-source"))

    def test_location(self) -> None:
        """
        A redirect within upstream leads to us, by whatever name and scheme the client knows us.
        """
        client = self.post()
        self.upstream.send(b"HTTP/1.1 307 Go\r\nLocation: http://10.0.0.9:8000/v1/x\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual([b"/mistral/v1/x"], read_answer(client.received).values(b"location"))

    def test_interim(self) -> None:
        """
        Interim answers pass, sifted, before the answer; 100 is between us and upstream; HTTP/1.0 clients get none.
        """
        for version in (b"1.1", b"1.0"):
            client = self.post(version=version)
            self.upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.assertEqual(b"", client.received)
            self.upstream.send(
                b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nSet-Cookie: a=b\r\nConnection: x\r\nX: y\r\n\r\n"
            )
            expected = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" if version == b"1.1" else b""
            self.assertEqual(expected, client.taken())
            self.upstream.send(EMPTY)
            self.assertEqual(200, read_answer(client.received).status)

    def test_flood_of_interim(self) -> None:
        """
        Too many interim answers are a 502.
        """
        client = self.post()
        self.upstream.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 17 + EMPTY)
        client.received = client.received.rpartition(b"Processing\r\n\r\n")[2]
        self.assertIn("interim", self.assert_refused(client, 502))

    def test_keep_alive(self) -> None:
        """
        Both connections serve one exchange after the other, HEAD and errors included.
        """
        client = self.house.connect()
        for method, body in [(b"GET", b"abc"), (b"HEAD", b""), (b"POST", b"xyz"), (b"DELETE", b"123")]:
            client.send(request(b"/mistral/v1/x", method=method))
            self.upstream.send(b"HTTP/1.1 404 No\r\nContent-Length: 3\r\n\r\n" + body)
            answer = read_answer(client.taken(), method)
            self.assertEqual((404, body, b""), (answer.status, answer.body, answer.rest))
        self.assertEqual((1, "open"), (len(self.house.script.connections), client.ended))

    def test_pipelined(self) -> None:
        """
        Requests that a client sends at once go up one after the other; their answers come in order, each with an id of
        its own.
        """
        client = self.house.send(b"".join(request(b"/mistral/v1/%d" % number) for number in range(3)))
        ids = set()
        for number in range(3):
            self.assertEqual(b"GET /v1/%d HTTP/1.1" % number, self.upstream.taken().split(b"\r\n")[0])
            self.upstream.send(OK + b"Content-Length: 1\r\n\r\n%d" % number)
            answer = read_answer(client.taken())
            self.assertEqual(b"%d" % number, answer.body)
            ids.add(self.assert_stamped(answer))
        self.assertEqual((3, 1), (len(ids), len(self.house.script.connections)))

    def test_at_the_same_time(self) -> None:
        """
        Exchanges of many clients do not touch each other, in whatever order upstream answers.
        """
        clients = [self.house.ask(b"/mistral/v1/%d" % number) for number in range(5)]
        for number in (3, 0, 4, 1, 2):
            self.house.script.connections[number].send(OK + b"Content-Length: 1\r\n\r\n%d" % number)
        self.assertEqual([b"%d" % number for number in range(5)], [read_answer(one.received).body for one in clients])

    def test_old_client(self) -> None:
        """
        An HTTP/1.0 client, without ``Host`` too, is served, and its connection closed.
        """
        client = self.house.send(b"POST /mistral/v1/ocr HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
        self.assertTrue(self.upstream.received.startswith(b"POST /v1/ocr HTTP/1.1\r\nHost: 10.0.0.9:8000\r\n"))
        self.upstream.send(OK + b"Content-Length: 2\r\n\r\nok")
        self.assertEqual((b"ok", "closed"), (read_answer(client.received).body, client.ended))

    def test_not_json(self) -> None:
        """
        A body that is no JSON passes: upstream answers it.
        """
        self.post(b"{nonsense")
        self.assertTrue(self.upstream.received.endswith(b"\r\n\r\n{nonsense"))


class Uploads(Exchanging):
    """
    Request bodies.
    """

    @settings(deadline=None)
    @given(st.data(), bodies(), st.booleans(), st.booleans())
    def test_any_chunking(self, data: st.DataObject, content: bytes, sized: bool, tight: bool) -> None:  # noqa: FBT001
        """
        For any chunking of any body, and however little upstream reads at a time, it gets exactly those bytes, and the
        next request of that client is found behind them.
        """
        house = House()
        house.network.sizes = [3, 1, 50] if tight else []
        if sized:
            raw = request(b"/mistral/v1/files", method=b"POST", body=content)
        else:
            raw = request(b"/mistral/v1/files", (b"Transfer-Encoding", b"chunked"), method=b"POST")
            raw += data.draw(chunked(content))
        client = house.connect()
        for piece in data.draw(chunkings(raw)):
            client.send(piece)
        received = house.script.last.received
        if sized:
            body = received.partition(b"\r\n\r\n")[2]
        else:
            body = read_answer(OK + b"Transfer-Encoding: chunked\r\n\r\n" + received.partition(b"\r\n\r\n")[2]).body
            self.assertTrue(received.endswith(LAST_CHUNK))
        self.assertEqual(content, body)
        house.script.last.taken()
        house.script.last.send(EMPTY)
        client.send(request(b"/mistral/v1/next"))
        self.assertTrue(house.script.last.received.startswith(b"GET /v1/next "))

    def test_flow(self) -> None:
        """
        Each piece goes up when it comes, the head before any.
        """
        client = self.upload()
        self.assertTrue(self.upstream.taken().endswith(b"Transfer-Encoding: chunked\r\n\r\n"))
        for piece in (b"abc", b"d", b"\x00" * 1000):
            client.send(in_chunks(piece))
            self.assertEqual(in_chunks(piece), self.upstream.taken())
        client.send(LAST_CHUNK)
        self.assertEqual(LAST_CHUNK, self.upstream.taken())

    def test_bounded(self) -> None:
        """
        While upstream does not read the client is not read on, whatever the framing; then every byte goes up.
        """
        content = bytes(range(256)) * 40_000
        for fields, raw in [
            (((b"Content-Length", b"%d" % len(content)),), content),
            ((), in_chunks(content) + LAST_CHUNK),
        ]:
            client = self.upload(*fields)
            upstream = self.upstream
            upstream.taken()
            upstream.stop_reading()
            client.send(raw)
            self.assertGreater(len(client.transport.queued), len(content) - BOUND)
            self.assertLess(upstream.transport.other.most_queued, BOUND)
            upstream.go_on_reading()
            body = upstream.received
            if not fields:
                body = read_answer(OK + b"Transfer-Encoding: chunked\r\n\r\n" + body).body
            self.assertEqual(content, body)
            upstream.send(EMPTY)
            self.assertEqual(200, read_answer(client.received).status)

    def test_continue(self) -> None:
        """
        A client that waits for permission gets it when its body is wanted, which upstream is not asked about; one that
        is refused never sends.
        """
        client = self.upload((b"Expect", b"100-continue"), (b"Content-Length", b"3"))
        self.assertEqual((b"HTTP/1.1 100 Continue\r\n\r\n", []), (client.taken(), self.house.script.connections))
        client.send(b"abc")
        self.assertNotIn(b"expect", self.upstream.received.lower())
        self.assertTrue(self.upstream.received.endswith(b"\r\n\r\nabc"))
        client = self.upload((b"Expect", b"100-continue"), (b"Content-Length", b"300000"))
        self.assertEqual(b"HTTP/1.1 100 Continue\r\n\r\n", client.taken())
        self.assertNotIn(b"expect", self.upstream.received.lower())
        self.house = House(master_key=MASTER)
        client = self.upload((b"Expect", b"100-continue"), (b"Content-Length", b"3"))
        self.assert_refused(client, 401)

    def test_early_answer(self) -> None:
        """
        An answer that comes before the request is complete is passed at once, all of it; then upstream gets no more,
        and the client's connection is closed.
        """
        client = self.upload((b"Content-Length", b"1000000"))
        client.send(b"x" * 1000)
        self.upstream.send(b"HTTP/1.1 413 Too much\r\nContent-Length: 4\r\n\r\nmu")
        self.assertEqual(b"mu", read_answer(client.received).body)
        client.send(b"x" * 1000)
        self.assertEqual(2000, self.upstream.received.count(b"x"))
        self.upstream.send(b"ch")
        answer = read_answer(client.received)
        self.assertEqual((413, b"much", [b"close"]), (answer.status, answer.body, answer.values(b"connection")))
        self.assertEqual(("closed", "reset"), (client.ended, self.upstream.ended))
        self.assert_nothing_left()
        self.assert_quiet()

    def test_too_large(self) -> None:
        """
        A body over the limit is refused at once if it says so; else upstream sees that it breaks off.
        """
        self.house = House(server_limits=ServerLimits(body_bytes=1000))
        self.assert_refused(self.upload((b"Content-Length", b"1001")), 413)
        self.assertEqual([], self.house.script.connections)
        client = self.upload()
        client.send(in_chunks(b"x" * 600))
        client.send(in_chunks(b"x" * 600))
        self.assert_refused(client, 413)
        self.assertEqual("reset", self.upstream.ended)
        self.assertNotIn(LAST_CHUNK, self.upstream.received)
        client.close()
        self.assert_nothing_left()

    def test_bad_chunk(self) -> None:
        """
        A body that turns out to be no HTTP is refused, and upstream sees that it breaks off.
        """
        client = self.upload()
        client.send(in_chunks(b"abc"))
        client.send(b"zzz\r\n")
        self.assert_refused(client, 400)
        self.assertEqual("reset", self.upstream.ended)
        self.assertNotIn(LAST_CHUNK, self.upstream.received)

    def test_stalled_upstream(self) -> None:
        """
        An upstream that takes nothing for too long is given up: 504.
        """
        client = self.upload()
        self.upstream.stop_reading()
        client.send(in_chunks(bytes(1_000_000)))
        self.house.network.turn(301)
        self.assertIn("has not moved", self.assert_refused(client, 504))


class Leaving(Exchanging):
    """
    The client goes. Upstream's connection is closed at once, nobody calls it an error, nothing is left.
    """

    def leave(self, client: Peer, end: str) -> None:
        getattr(client, end)()
        for upstream in self.house.script.connections:
            self.assertEqual("reset", upstream.ended)
        self.assert_nothing_left()
        self.assert_quiet()

    def test_before_the_answer(self) -> None:
        """
        While upstream thinks.
        """
        for end in ("close", "reset"):
            self.leave(self.post(), end)

    def test_within_interim(self) -> None:
        """
        After an interim answer.
        """
        client = self.post()
        self.upstream.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        self.leave(client, "close")

    def test_within_upload(self) -> None:
        """
        In the middle of its body, framed either way: upstream does not see the end of one.
        """
        for end in ("close", "reset"):
            client = self.upload()
            client.send(in_chunks(b"abc"))
            self.leave(client, end)
            self.assertTrue(self.upstream.received.endswith(in_chunks(b"abc")))
            client = self.upload((b"Content-Length", b"10"))
            client.send(b"abc")
            self.leave(client, end)

    def test_within_both(self) -> None:
        """
        In the middle of its body and of the answer.
        """
        client = self.upload()
        self.upstream.send(OK + b"Transfer-Encoding: chunked\r\n\r\n" + in_chunks(b"abc"))
        self.leave(client, "reset")

    def test_while_connecting(self) -> None:
        """
        Before there is an upstream.
        """
        self.house.network.silent.add((UPSTREAM_HOST, UPSTREAM_PORT))
        for end in ("close", "reset"):
            self.leave(self.post(), end)
            self.assertEqual([], self.house.script.connections)

    def test_with_more_behind(self) -> None:
        """
        With another request behind the first: that one is never sent.
        """
        client = self.post()
        client.send(request(b"/mistral/v1/second"))
        self.leave(client, "reset")
        self.assertNotIn(b"second", self.upstream.received)

    def test_with_an_answer_on_its_way(self) -> None:
        """
        While the answer is on its way: whoever is first, nothing is left.
        """
        client = self.post()
        self.upstream.transport.write(EMPTY)
        client.reset()
        client = self.post()
        self.upstream.transport.write(OK + b"Content-Length: 10\r\n\r\nabc")
        client.reset()
        self.house.network.turn(61)
        self.assertTrue(self.house.is_empty())
        self.assert_quiet()


class Failing(Exchanging):
    """
    Upstream cannot be used.
    """

    def test_unreachable(self) -> None:
        """
        Nobody listens, nobody knows the name, nobody answers: 502, with the reason, and the operator is told.
        """
        for base, words in [
            ("http://10.0.0.1:1", "refused"),
            ("http://nowhere.test", "no results for hostname lookup"),
            ("https://nowhere.test/v1", "no results for hostname lookup"),
        ]:
            self.house = House(base=base)
            client = self.post()
            self.house.network.turn(2)
            self.assertIn(words, self.assert_refused(client, 502))
            self.assertIn(words, self.overheard.lines(LogLevel.warn)[-1])
        self.house = House()
        self.house.network.silent.add((UPSTREAM_HOST, UPSTREAM_PORT))
        client = self.post()
        self.house.network.turn(10)
        self.assertIn("did not answer in time", self.assert_refused(client, 502))

    def test_no_first_byte(self) -> None:
        """
        An upstream that never begins is a 504.
        """
        self.house = House(client_limits=ClientLimits(first_byte_seconds=7))
        client = self.post()
        self.house.network.turn(8)
        self.assertIn("7 seconds", self.assert_refused(client, 504))
        self.assertEqual("reset", self.upstream.ended)

    def test_nonsense(self) -> None:
        """
        What is no HTTP is a 502, and none of it reaches the client.
        """
        for said in (b"SSH-2.0-OpenSSH\r\n", OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"\0" * 100):
            client = self.post()
            self.upstream.send(said)
            self.assertIn("not valid HTTP/1.1", self.assert_refused(client, 502))
            self.assertEqual("reset", self.upstream.ended)

    def test_cut(self) -> None:
        """
        An upstream that goes without an answer, or in the middle of its head, is a 502.
        """
        for said in (b"", b"HTTP/1.1 200"):
            for end in ("close", "reset"):
                client = self.post()
                self.upstream.send(said)
                getattr(self.upstream, end)()
                self.assertIn("closed the connection", self.assert_refused(client, 502))
                self.assertEqual("open", client.ended)

    def test_stale(self) -> None:
        """
        A kept connection that upstream closed just now costs an idempotent request nothing; a POST is not sent twice.
        """
        for method, sent, status in [(b"GET", 2, 200), (b"DELETE", 2, 200), (b"PUT", 2, 200), (b"POST", 1, 502)]:
            self.house = House()
            self.post()
            self.upstream.send(EMPTY)
            client = self.post(method=method)
            self.upstream.reset()
            if sent == 2:
                self.upstream.send(EMPTY)
            self.assertEqual(status, read_answer(client.received).status)
            requests = b"".join(one.received for one in self.house.script.connections).count(method + b" /v1/ocr")
            self.assertEqual(sent + (method == b"POST"), requests)

    def test_upload_and_no_connection(self) -> None:
        """
        An upload that cannot be sent anywhere is refused, however much of it is still to come.
        """
        self.house = House(base="http://10.0.0.1:1")
        client = self.upload((b"Content-Length", b"100000000"))
        client.send(bytes(1_000_000))
        self.house.network.turn(2)
        self.assert_refused(client, 502)
        self.assertNotEqual("open", client.ended)
        self.assert_nothing_left()


class Refusing(Exchanging):
    """
    What dheera answers itself.
    """

    def test_targets(self) -> None:
        """
        Paths that could mean two things are refused before anybody is asked anything.
        """
        self.house = House(master_key=MASTER)
        for path in (b"../admin", b"v1/%2e%2E/x", b"v1/..%2fx", b"a%5cb", b"a%00b", b"."):
            self.assert_refused(self.house.ask(b"/mistral/" + path), 400)
        for path in (b"/mistralx/v1/ocr", b"/%6distral/v1/ocr"):
            self.assert_refused(self.house.ask(path), 404)
        self.assertEqual([], self.house.script.connections)

    def test_other_forms(self) -> None:
        """
        A request cannot name another upstream: not by its target, not by a header.
        """
        for line in (b"GET http://10.0.0.9:8000/mistral/v1/x", b"GET 10.0.0.9:8000", b"CONNECT 10.0.0.9:8000"):
            self.house.send(line + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual([], self.house.script.connections)
        fields = [(b"X-Original-URL", b"/admin"), (b"X-Rewrite-URL", b"/admin"), (b"X-Forwarded-Host", b"evil.test")]
        self.house.ask(b"/mistral/v1/x", (b"Host", b"127.0.0.1"), *fields)
        self.assertTrue(self.upstream.received.startswith(b"GET /v1/x HTTP/1.1\r\nHost: 10.0.0.9:8000\r\n"))
        self.assertNotIn(b"evil.test", self.upstream.received)

    def test_master_key(self) -> None:
        """
        With a master key that alone opens, wherever it is offered; the refusal says how to authenticate.
        """
        self.house = House(master_key=MASTER)
        key = MASTER.encode()
        for line in [
            (b"Authorization", b"Bearer " + key),
            (b"authorization", b"bearer " + key),
            (b"AUTHORIZATION", b"BEARER   " + key),
            (b"x-api-key", key),
            (b"API-KEY", key),
        ]:
            client = self.post(PROMPT, line)
            self.assertNotIn(key, self.upstream.received)
            self.upstream.send(EMPTY)
            self.assertEqual(200, read_answer(client.received).status)
        sent = len(self.upstream.received)
        for line in [
            (b"X-Nothing", b""),
            (b"Authorization", b"Bearer sk-wrong"),
            (b"Authorization", b"Basic " + key),
            (b"Authorization", key),
            (b"Authorization", b"Bearer"),
            (b"x-api-key", key + b"x"),
            (b"Cookie", b"api-key=" + key),
        ]:
            client = self.post(PROMPT, line)
            self.assert_refused(client, 401)
            self.assertEqual([b"Bearer"], read_answer(client.received).values(b"www-authenticate"))
        self.assertEqual(sent, len(self.upstream.received))

    def test_open_mode(self) -> None:
        """
        Without one this machine is served, others are told what to do; a page from elsewhere is not served either.
        """
        stranger = IPv4Address("TCP", "203.0.113.7", 1)
        self.assertIn("DHEERA_AI_MASTER_KEY", self.assert_refused(self.post(address=stranger), 403))
        self.assert_refused(self.post(PROMPT, (b"Host", b"evil.test:4000")), 403)
        self.assert_refused(self.post(PROMPT, (b"Origin", b"https://evil.test")), 403)
        self.assertEqual([], self.house.script.connections)
        self.post(PROMPT, (b"Authorization", b"bearer anything"), (b"Origin", b"http://localhost:3000"))
        self.assertEqual(1, len(self.house.script.connections))
        self.house = House(open_to_network=True)
        self.post(PROMPT, (b"Host", b"dheera.team.test"), address=stranger)
        self.assertEqual(1, len(self.house.script.connections))

    def test_wire(self) -> None:
        """
        What is refused before it is a request has our shape and a call id as well.
        """
        for raw, status in [
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET /mistral/v1/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (b"\x16\x03\x01\x02\x00", 400),
            (b"GET /" + b"x" * 40_000, 414),
            (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        ]:
            client = self.house.send(raw)
            self.assert_refused(client, status)
            self.assertNotEqual("open", client.ended)


class Secrets(Exchanging):
    """
    Secrets and prompts stay where they belong.
    """

    def test_canaries(self) -> None:
        """
        No key, prompt or header value is found in any log or in any answer of ours, whatever goes wrong.
        """
        self.house = House(master_key=MASTER)
        canaries = [MASTER, UPSTREAM_KEY, "sk-wrong-canary", "prompt-canary", "header-canary", "query-canary"]
        said = b""
        for key in (MASTER.encode(), b"sk-wrong-canary"):
            for path in (b"/mistral/v1/ocr", b"/mistral/../x", b"/nowhere", b"/mistral/%00"):
                for act in ("reset", "nonsense", "cut", "late", "leave"):
                    client = self.house.ask(
                        path + b"?q=query-canary",
                        (b"Authorization", b"Bearer " + key),
                        (b"X-Header", b"header-canary"),
                        method=b"POST",
                        body=PROMPT,
                    )
                    if self.house.script.connections and self.upstream.ended == "open":
                        self.act(client, act)
                    said += client.received
        self.house.send(
            b"GET /mistral/v1/ocr HTTP/1.1\r\nAuthorization: Bearer %b\r\nBad Line\r\n\r\n" % MASTER.encode()
        )
        self.assertNotEqual([], self.overheard.lines())
        for canary in canaries:
            self.assertNotIn(canary, self.overheard.everything())
            self.assertNotIn(canary.encode(), said)

    def act(self, client: Peer, act: str) -> None:
        upstream = self.upstream
        if act == "nonsense":
            upstream.send(b"nonsense\r\n\r\n")
        elif act == "cut":
            upstream.send(OK + b"Content-Length: 9\r\n\r\n")
            upstream.reset()
        elif act == "late":
            self.house.network.turn(301)
        elif act == "leave":
            client.reset()
        else:
            upstream.reset()


class Broken(Exchanging):
    """
    Something is wrong inside dheera itself.
    """

    def test_told(self) -> None:
        """
        The client gets a 500 that says nothing of the inside, the log all, and the next request is served.
        """

        class BrokenGate:
            """
            A gate that is broken.
            """

            def identify(self, _caller: Caller) -> Deferred[Bearer]:
                raise NotImplementedError

            def admit_at_once(self, _caller: Caller, _method: bytes, _target: bytes) -> Admission | None:
                raise RuntimeError("inside-canary")

            def admit(self, _caller: Caller, _method: bytes, _target: bytes) -> Deferred[Admission]:
                raise NotImplementedError

            def describe(self) -> str:
                return "Broken."

        gate = self.house.exchanges._gate
        self.house.exchanges._gate = BrokenGate()
        client = self.post()
        message = self.assert_refused(client, 500)
        self.assertNotIn("inside-canary", message)
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertIn("inside-canary", failure.getErrorMessage())
        self.house.exchanges._gate = gate
        client.received = b""
        client.send(request(b"/mistral/v1/x"))
        self.upstream.send(EMPTY)
        self.assertEqual(200, read_answer(client.received).status)

    def test_slow_gate(self) -> None:
        """
        A gate may take its time; who leaves meanwhile is not waited for.
        """
        opened: list[Deferred[Admission]] = []
        left: list[bool] = []

        class SlowGate:
            """
            A gate that thinks.
            """

            def identify(self, _caller: Caller) -> Deferred[Bearer]:
                raise NotImplementedError

            def admit_at_once(self, _caller: Caller, _method: bytes, _target: bytes) -> Admission | None:
                return None

            def admit(self, _caller: Caller, _method: bytes, _target: bytes) -> Deferred[Admission]:
                opened.append(Deferred(lambda _: left.append(True)))
                return opened[-1]

            def describe(self) -> str:
                return "Slow."

        self.house.exchanges._gate = SlowGate()
        client = self.post()
        self.assertEqual([], self.house.script.connections)
        opened[0].callback(Admission(alias="anyone"))
        self.house.network.settle()
        self.upstream.send(EMPTY)
        self.assertEqual(200, read_answer(client.received).status)
        self.post().reset()
        self.assertEqual([True], left)
        self.assert_quiet()


class Echo(Resource):
    """
    An upstream made of Twisted's own parts, which gives back what it got.
    """

    isLeaf = True

    def render(self, request: Any) -> int:
        async def answer() -> None:
            content = await read(request.body, 1 << 20)
            request.setHeader(b"X-Method", request.method)
            request.setHeader(b"X-Target", request.uri)
            request.setHeader(b"Content-Length", b"%d" % len(content))
            request.write(content)
            request.finish()

        Deferred.fromCoroutine(answer())
        return NOT_DONE_YET


class Between(SynchronousTestCase):
    """
    A house before an upstream that is a resource behind a server of ours: both halves of the wire, back to back.
    """

    @settings(deadline=None)
    @given(bodies(), st.lists(st.integers(1, 40), max_size=4))
    def test_round_trip(self, content: bytes, sizes: list[int]) -> None:
        """
        Any body goes up and comes back, however few bytes are read at a time.
        """
        house = House(resource=Echo())
        house.network.sizes = sizes
        for method in (b"POST", b"PUT", b"DELETE"):
            client = house.ask(b"/mistral/files?a=%2F", method=method, body=content)
            answer = read_answer(client.received)
            self.assertEqual((200, content, True), (answer.status, answer.body, answer.complete))
            self.assertEqual([b"/v1/files?a=%2F"], answer.values(b"x-target"))
            self.assertEqual([method], answer.values(b"x-method"))
            client.close()
        house.network.turn(100)
        self.assertTrue(house.is_empty())


class Places(Exchanging):
    """
    Where only one call at once is passed on.
    """

    def setUp(self) -> None:
        super().setUp()
        self.house = House(server_limits=ServerLimits(requests=1, queue=2, queue_seconds=5.0))

    def test_waiting(self) -> None:
        """
        One more waits until the first is over, however that ends, and reaches upstream then.
        """
        for how in ("answered", "cut", "left"):
            first, second = self.post(), self.post()
            self.assertEqual((1, 1), (self.house.capacity.under_way, self.house.capacity.waiting))
            self.upstream.taken()
            if how == "answered":
                self.upstream.send(EMPTY)
            else:
                (self.upstream if how == "cut" else first).reset()
            self.assertEqual((1, 0), (self.house.capacity.under_way, self.house.capacity.waiting))
            self.assertTrue(self.upstream.received.startswith(b"POST /v1/ocr"))
            self.upstream.send(EMPTY)
            self.assertEqual(200, read_answer(second.received).status)
            self.assertEqual(0, self.house.capacity.under_way)

    def test_left(self) -> None:
        """
        Who leaves the queue, or waits too long, has taken no place.
        """
        first, second, third = (self.post() for _ in range(3))
        second.close()
        self.house.network.turn(6)
        self.assert_refused(third, 503)
        self.upstream.send(EMPTY)
        self.assertEqual(200, read_answer(first.received).status)
        self.assertEqual((0, 0), (self.house.capacity.under_way, self.house.capacity.waiting))


class Changed(SynchronousTestCase):
    """
    A key that is changed while its call waits in the queue.
    """

    def setUp(self) -> None:
        self.house = House(master_key=MASTER, server_limits=ServerLimits(requests=1))
        self.key = Key(
            id="k", alias="k", digest=digest(b"sk-virtual-0123456789"), name="sk-", created_at=now(), updated_at=now()
        )
        self.successResultOf(self.house.store.apply([Add(self.key)], []))
        self.first, self.second = self.ask(), self.ask()
        self.assertEqual(1, self.house.capacity.waiting)

    def ask(self) -> Peer:
        return self.house.ask(
            b"/mistral/v1/ocr",
            (b"Authorization", b"Bearer sk-virtual-0123456789"),
            method=b"POST",
            body=b'{"model":"m"}',
        )

    def change(self, **said: Any) -> None:
        """
        The key is as *said* from now on, and the first call is over.
        """
        self.successResultOf(self.house.store.apply([Put(structs.replace(self.key, **said))], []))
        self.house.script.last.send(EMPTY)

    def test_blocked(self) -> None:
        """
        It was blocked: the call is refused when its turn comes, and takes no place.
        """
        self.change(blocked=True)
        self.assertEqual(401, read_answer(self.second.received).status)
        self.assertEqual(0, self.house.capacity.under_way)
        self.assertEqual(["complete", "refused"], [record.outcome for record in self.house.records()])

    def test_other_models(self) -> None:
        """
        It may use other models: what it may now is what counts.
        """
        self.change(models=["other"])
        self.assertEqual(403, read_answer(self.second.received).status)
        self.assertEqual(0, self.house.capacity.under_way)

    def test_not_changed(self) -> None:
        """
        It is as it was: the call goes on.
        """
        self.house.script.last.send(EMPTY)
        self.house.script.last.send(EMPTY)
        self.assertEqual(200, read_answer(self.second.received).status)


class Stopping(Exchanging):
    """
    Stopping while answers are read whose clients have left.
    """

    def setUp(self) -> None:
        super().setUp()
        self.house = House(allowances=AllowanceSettings(on_client_left="finish"))
        self.post().close()
        self.over = Hurry()
        self.closed = Deferred.fromCoroutine(self.house.departed.close(self.over))

    def test_finish(self) -> None:
        """
        They are waited for.
        """
        self.assertNoResult(self.closed)
        self.upstream.send(EMPTY)
        self.successResultOf(self.closed)
        self.assertEqual("client_left", self.house.records()[0].outcome)

    def test_over(self) -> None:
        """
        When the time is over they are ended, and written down.
        """
        self.over.begin()
        self.successResultOf(self.closed)
        self.house.network.settle()
        self.assertEqual("reset", self.upstream.ended)
        self.assertEqual("client_left", self.house.records()[0].outcome)
