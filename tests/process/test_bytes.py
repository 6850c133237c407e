"""
Byte for byte: what upstream hears of a client, and what the client hears of upstream.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import tempfile
import zlib
from pathlib import Path
from threading import Semaphore
from typing import ClassVar
from unittest import TestCase

from tests.process.daemon import PATIENCE_SECONDS, UPSTREAM_KEY, Daemon, environment, in_front_of
from tests.process.peers import STREAM_HEAD, Peer, Upstream, answer, chunk, connect, request

DATE = b"Date: Sun, 22 Nov 2026 18:30:00 GMT"
OVERHEAD = re.compile(rb"x-dheera-overhead-ms: [0-9]+\.[0-9]{3}\r\n")
CALL_ID = re.compile(rb"x-dheera-call-id: [0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\r\n")


class Keeper:
    """
    An upstream that keeps what it hears and gives each request the answer that was put in.
    """

    def __init__(self, reply: bytes = b"") -> None:
        self.reply = reply or answer(b"{}", DATE)
        self.heard: list[tuple[bytes, bytes]] = []

    def script(self, peer: Peer) -> None:
        """
        One connection.
        """
        while True:
            self.heard.append(peer.message())
            peer.send(self.reply)


class OverTheWireTests(TestCase):
    """
    A client made of a socket.
    """

    def setUp(self) -> None:
        self.keeper = Keeper()
        self.upstream = self.enterContext(Upstream(self.keeper.script))
        # Open to all, since one of the requests says that another proxy has passed it on.
        settings = "[listen]\nopen_to_network = true\n"
        self.daemon = self.enterContext(in_front_of(self.upstream.url + "/llm/v1/", settings=settings))
        self.client = self.enterContext(connect(self.daemon.port))

    def test_request(self) -> None:
        """
        Target, header lines and body go up as they were written, in their order and spelling. What is missing is what
        the house rules name; what is new is Host, the credential, and the length.
        """
        self.client.send(
            b"POST /mistral/v1/a%2Fb%c3%A9;p=1/~x?k=1&k=2&empty=&plus=a+b&%5B%5D=%22#".rstrip(b"#") + b" HTTP/1.1\r\n"
            b"X-First: 1\r\n"
            b"hOsT: localhost:4000\r\n"
            b"ACCEPT: text/event-stream\r\n"
            b"x-repeated: b\r\n"
            b"Accept-Encoding: zstd;q=1, gzip;q=0.5, br, deflate\r\n"
            b"Authorization: Bearer sk-mine\r\n"
            b"X-Repeated:   a  b\t\r\n"
            b"X-Api-Key: sk-mine\r\n"
            b"api-key: sk-mine\r\n"
            b"Cookie: a=b\r\n"
            b"X-Dheera-Anything: 1\r\n"
            b"Connection: keep-alive, X-Named\r\n"
            b"Keep-Alive: timeout=5\r\n"
            b"X-Named: hop by hop\r\n"
            b"TE: trailers\r\n"
            b"Proxy-Authorization: Basic eA==\r\n"
            b"Forwarded: for=10.0.0.1\r\n"
            b"X-Forwarded-For: 10.0.0.1\r\n"
            b"Via: 1.1 other\r\n"
            b"User-Agent: M\xfcller/1.0\r\n"
            b"X-Empty:\r\n"
            b"Content-Type: application/json; charset=UTF-8\r\n"
            b"Content-Length: 7\r\n"
            b"\r\n"
            b'\x00{"a":\xff'
        )
        self.client.message()
        [(head, body)] = self.keeper.heard
        self.assertEqual(
            [
                b"POST /llm/v1/a%2Fb%c3%A9;p=1/~x?k=1&k=2&empty=&plus=a+b&%5B%5D=%22 HTTP/1.1",
                b"Host: 127.0.0.1:%d" % self.upstream.port,
                b"X-First: 1",
                b"ACCEPT: text/event-stream",
                b"x-repeated: b",
                b"Accept-Encoding: gzip;q=0.5, deflate",
                b"X-Repeated: a  b",
                b"User-Agent: M\xfcller/1.0",
                b"X-Empty: ",
                b"Content-Type: application/json; charset=UTF-8",
                b"Authorization: Bearer " + UPSTREAM_KEY.encode(),
                b"Content-Length: 7",
                b"",
                b"",
            ],
            head.split(b"\r\n"),
        )
        self.assertEqual(b'\x00{"a":\xff', body)

    def test_answer(self) -> None:
        """
        Status, reason, header lines and body come back as they were written. What is missing is what the house rules
        name; what is new is the call's id, its cost, and what of its time was ours.
        """
        body = bytes(range(256))
        self.keeper.reply = (
            b"HTTP/1.1 299 Quite  All Right\r\n"
            b"X-RateLimit-Remaining: 1\r\n"
            b"content-type: application/x-thing; a=b\r\n"
            b"x-repeated: 2\r\n"
            b"Set-Cookie: __cf_bm=1; domain=.mistral.ai\r\n"
            b"X-Repeated: 1\r\n"
            b'Alt-Svc: h3=":443"\r\n'
            b"Strict-Transport-Security: max-age=1\r\n"
            b"Connection: X-Named\r\n"
            b"X-Named: hop by hop\r\n"
            b"x-dheera-anything: 1\r\n"
            b"Content-Encoding: x-ours\r\n"
            b"X-Latin: \xe9\r\n" + DATE + b"\r\nLocation: " + self.upstream.url.encode() + b"/llm/v1/files/1?a=b#c\r\n"
            b"Content-Length: 256\r\n\r\n" + body
        )
        self.client.send(request("GET", "/mistral/files/1"))
        head, heard = self.client.message()
        self.assertRegex(head, CALL_ID)
        self.assertRegex(head, OVERHEAD)
        self.assertEqual(
            [
                b"HTTP/1.1 299 Quite  All Right",
                b"X-RateLimit-Remaining: 1",
                b"content-type: application/x-thing; a=b",
                b"x-repeated: 2",
                b"X-Repeated: 1",
                b"Content-Encoding: x-ours",
                b"X-Latin: \xe9",
                DATE,
                b"Location: /mistral/v1/files/1?a=b#c",
                b"Content-Length: 256",
                b"x-dheera-response-cost: 0",
                b"",
                b"",
            ],
            OVERHEAD.sub(b"", CALL_ID.sub(b"", head)).split(b"\r\n"),
        )
        self.assertEqual(body, heard)

    def test_error(self) -> None:
        """
        An error of upstream's passes as it is, with a line that tells whose it is.
        """
        self.keeper.reply = answer(b'{"object":"error"}', DATE, b"Retry-After: 7", status=b"429 Too Many Requests")
        self.client.send(request("GET", "/mistral/v1/models"))
        head, body = self.client.message()
        self.assertIn(b"\r\nRetry-After: 7\r\n", head)
        self.assertIn(b"\r\nx-dheera-error-source: upstream\r\n", head)
        self.assertEqual(b'{"object":"error"}', body)

    def test_methods(self) -> None:
        """
        Each method passes, a DELETE with a body and a POST without one too; a HEAD keeps the length of the body that it
        has not.
        """
        for method in "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
            for body in None, b"", b"{}":
                self.keeper.heard.clear()
                self.client.send(request(method, "/mistral/x", body=body))
                head = self.client.head()
                self.assertIn(b"\r\nContent-Length: 2\r\n", head, method)
                if method != "HEAD":
                    self.assertEqual(b"{}", self.client.exactly(2))
                [(heard, heard_body)] = self.keeper.heard
                self.assertTrue(heard.startswith(method.encode() + b" /llm/v1/x HTTP/1.1\r\n"))
                self.assertEqual(body or b"", heard_body)
                self.assertEqual(body is not None, b"\r\nContent-Length: " in heard, method)

    def test_unframed_answers(self) -> None:
        """
        An answer that upstream ends by closing becomes a whole chunked one; 204 and 304 have no body.
        """
        self.client.send(request("GET", "/mistral/x"))
        self.client.message()
        for status in b"204 No Content", b"304 Not Modified":
            self.keeper.reply = b"HTTP/1.1 %b\r\n%b\r\n\r\n" % (status, DATE)
            self.client.send(request("GET", "/mistral/x"))
            head = self.client.head()
            self.assertTrue(head.startswith(b"HTTP/1.1 " + status))
            self.assertNotIn(b"transfer-encoding", head.lower())

        def closes(peer: Peer) -> None:
            peer.message()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\none ")
            peer.send(b"two")

        with (
            Upstream(closes) as upstream,
            in_front_of(upstream.url) as daemon,
            connect(daemon.port) as client,
        ):
            client.send(request("GET", "/mistral/x"))
            self.assertEqual(b"one two", client.message()[1])

    def test_thousand_on_one_connection(self) -> None:
        """
        A thousand requests on one connection, each with its own answer, over one connection to upstream; then ten
        pipelined ones, answered in order.
        """

        def mirror(peer: Peer) -> None:
            while True:
                head, body = peer.message()
                peer.send(answer(head.split(b" ")[1] + body, DATE))

        with Upstream(mirror) as upstream, in_front_of(upstream.url) as daemon, connect(daemon.port) as client:
            for number in range(1000):
                client.send(request("POST", f"/mistral/v1/{number}", body=b"!"))
                self.assertEqual(b"/v1/%d!" % number, client.message()[1])
            client.send(b"".join(request("GET", f"/mistral/v1/{number}") for number in range(10)))
            self.assertEqual([b"/v1/%d" % number for number in range(10)], [client.message()[1] for _ in range(10)])
            self.assertEqual(1, upstream.connections)


class StreamTests(TestCase):
    """
    Streams leave piece by piece.
    """

    def stream(self, *pieces: bytes, coding: bytes = b"") -> list[bytes]:
        """
        What the client has got after each piece; upstream sends one only when the one before has been heard.
        """
        heard = Semaphore(0)

        def script(peer: Peer) -> None:
            peer.message()
            peer.send(STREAM_HEAD.replace(b"\r\n\r\n", b"\r\n" + coding + b"\r\n", 1) if coding else STREAM_HEAD)
            for piece in (*pieces, b""):
                assert heard.acquire(timeout=PATIENCE_SECONDS)
                peer.send(chunk(piece))

        with Upstream(script) as upstream, in_front_of(upstream.url) as daemon, connect(daemon.port) as client:
            client.send(request("POST", "/mistral/v1/chat/completions", b"Accept-Encoding: gzip", body=b"{}"))
            head = client.head()  # before the first piece
            self.assertIn(coding, head)
            got = []
            for _ in pieces:
                heard.release()
                got.append(client.chunk())
            heard.release()
            self.assertEqual(b"", client.chunk())
            return got

    def test_events(self) -> None:
        """
        The head leaves before the first event, and each event, even half of one, before the next.
        """
        pieces = [b"data: 1\n\n", b"dat", b"a: 2\n\n", b": silence\n", b"data: [DONE]\n\n"]
        self.assertEqual(pieces, self.stream(*pieces))

    def test_gzip(self) -> None:
        """
        So it is with events inside gzip: the coding passes, and each flushed piece can be read at once.
        """
        packer = zlib.compressobj(wbits=31)
        texts = [b"data: %d\n\n" % number for number in range(5)]
        pieces = [packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH) for text in texts]
        reader = zlib.decompressobj(wbits=31)
        got = self.stream(*pieces, coding=b"Content-Encoding: gzip\r\n")
        self.assertEqual(texts, [reader.decompress(piece) for piece in got])

    def test_both_ways(self) -> None:
        """
        An upload goes up while it comes in: upstream hears the first piece before the client has sent the second, and
        its early answer passes at once.
        """
        first = Semaphore(0)

        def script(peer: Peer) -> None:
            peer.head()
            assert peer.chunk() == b"one"
            first.release()
            peer.send(STREAM_HEAD + chunk(b"heard one"))
            peer.send(chunk(b"".join(peer.chunks())) + chunk(b""))

        with Upstream(script) as upstream, in_front_of(upstream.url) as daemon, connect(daemon.port) as client:
            client.send(
                b"POST /mistral/v1/files HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                + chunk(b"one")
            )
            self.assertTrue(first.acquire(timeout=PATIENCE_SECONDS))
            client.head()
            self.assertEqual(b"heard one", client.chunk())
            client.send(chunk(b"two") + chunk(b""))
            self.assertEqual(b"two", b"".join(client.chunks()))


class CurlTests(TestCase):
    """
    What curl does by itself.
    """

    keeper: ClassVar[Keeper]
    daemon: ClassVar[Daemon]
    content: ClassVar[bytes]
    file: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        cls.keeper = Keeper(answer(b"taken"))
        upstream = cls.enterClassContext(Upstream(cls.keeper.script))
        cls.daemon = cls.enterClassContext(in_front_of(upstream.url))
        cls.content = os.urandom(2 << 20)
        cls.file = Path(cls.enterClassContext(tempfile.TemporaryDirectory()), "two-megabytes")
        cls.file.write_bytes(cls.content)

    def curl(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """
        One run, with what it heard and said of the heads.
        """
        self.keeper.heard.clear()
        return subprocess.run(
            ["curl", "-sS", "--verbose", *arguments, f"{self.daemon.mistral}/v1/files"],
            env=environment(),
            input=self.content,
            capture_output=True,
            check=False,
        )

    def test_100_continue(self) -> None:
        """
        A body of more than a megabyte waits for permission, and gets it; upstream gets it as one request without
        Expect.
        """
        done = self.curl("--data-binary", f"@{self.file}", "--expect100-timeout", str(PATIENCE_SECONDS))
        self.assertEqual((0, b"taken"), (done.returncode, done.stdout))
        self.assertIn(b"> Expect: 100-continue", done.stderr)
        self.assertIn(b"< HTTP/1.1 100 Continue", done.stderr)
        [(head, body)] = self.keeper.heard
        self.assertNotIn(b"expect", head.lower())
        self.assertEqual(self.content, body)

    def test_chunked_upload(self) -> None:
        """
        An upload of unknown length stays one.
        """
        done = self.curl("--upload-file", "-", "--header", "Expect:")
        self.assertEqual((0, b"taken"), (done.returncode, done.stdout))
        [(head, body)] = self.keeper.heard
        self.assertTrue(head.startswith(b"PUT /v1/files HTTP/1.1\r\n"))
        self.assertIn(b"\r\nTransfer-Encoding: chunked\r\n", head)
        self.assertEqual(self.content, body)

    def test_form(self) -> None:
        """
        A form passes unparsed: its boundary, its length and each of its bytes.
        """
        done = self.curl("--form", "purpose=ocr", "--form", f"file=@{self.file}")
        self.assertEqual((0, b"taken"), (done.returncode, done.stdout))
        [(head, body)] = self.keeper.heard
        boundary = re.search(rb"boundary=(\S+)", head)
        assert boundary is not None
        self.assertTrue(body.startswith(b"--" + boundary[1]))
        self.assertTrue(body.endswith(b"--" + boundary[1] + b"--\r\n"))
        self.assertIn(self.content, body)

    def test_http_1_0(self) -> None:
        """
        A client of HTTP/1.0 is answered; upstream is asked in HTTP/1.1.
        """
        done = self.curl("--http1.0")
        self.assertEqual((0, b"taken"), (done.returncode, done.stdout))
        [(head, _)] = self.keeper.heard
        self.assertTrue(head.startswith(b"GET /v1/files HTTP/1.1\r\n"))

    def test_http_1_0_and_a_stream(self) -> None:
        """
        A stream for HTTP/1.0 is not chunked: closing ends it.
        """

        def script(peer: Peer) -> None:
            peer.message()
            peer.send(STREAM_HEAD + chunk(b"one ") + chunk(b"two") + chunk(b""))

        with Upstream(script) as upstream, in_front_of(upstream.url) as daemon, connect(daemon.port) as client:
            client.send(b"GET /mistral/v1/x HTTP/1.0\r\n\r\n")
            self.assertNotIn(b"transfer-encoding", client.head().lower())
            self.assertEqual(b"one two", client.rest())

    def test_compressed(self) -> None:
        """
        What upstream has compressed arrives so, and curl can read it.
        """
        packed = gzip.compress(b"hello " * 1000)
        keeper = Keeper(answer(packed, b"Content-Encoding: gzip"))
        with Upstream(keeper.script) as upstream, in_front_of(upstream.url) as daemon:
            done = subprocess.run(
                ["curl", "-sS", "--compressed", f"{daemon.mistral}/v1/x"],
                env=environment(),
                capture_output=True,
                check=False,
            )
        self.assertEqual(b"hello " * 1000, done.stdout)
        self.assertIn(b"\r\nAccept-Encoding: deflate, gzip\r\n", keeper.heard[0][0])
