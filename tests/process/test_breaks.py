"""
What breaks behind the daemon: an answer that is cut, a kept connection that has gone, an upstream that dies and comes
back.
"""

from __future__ import annotations

import select
import signal
import subprocess
from collections.abc import Callable
from threading import Semaphore
from unittest import TestCase

from tests.process.daemon import ANY_PORT, PATIENCE_SECONDS, Daemon, environment, eventually, in_front_of
from tests.process.peers import STREAM_HEAD, Peer, Upstream, answer, chunk, connect, request

PARTIAL_FILE = 18
"""
curl: "A file transfer was shorter or larger than expected."
"""


def curl(url: str) -> tuple[int, bytes]:
    """
    The exit code of curl and what it got.
    """
    done = subprocess.run(["curl", "-sS", url], env=environment(), capture_output=True, check=False)
    return done.returncode, done.stdout


class CutTests(TestCase):
    """
    An upstream that breaks off in the middle of its answer.
    """

    def cut(self, sent: bytes, leave: Callable[[Peer], None] = Peer.close) -> tuple[int, bytes]:
        """
        What curl makes of an answer that ends after *sent*.
        """

        def script(peer: Peer) -> None:
            peer.message()
            peer.send(sent)
            leave(peer)

        with Upstream(script) as upstream, in_front_of(upstream.url) as daemon:
            result = curl(daemon.mistral + "/v1/models")
            daemon.wait_for_log("Upstream closed the connection in the middle of its answer")
            return result

    def test_sized(self) -> None:
        """
        An answer with a length: curl gets what there was, and knows that it is not all.
        """
        self.assertEqual((PARTIAL_FILE, b"half"), self.cut(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"))

    def test_stream(self) -> None:
        """
        A stream without its last chunk.
        """
        self.assertEqual((PARTIAL_FILE, b"data: 1\n\n"), self.cut(STREAM_HEAD + chunk(b"data: 1\n\n")))

    def test_inside_a_chunk(self) -> None:
        """
        A stream in the middle of a chunk.
        """
        self.assertEqual((PARTIAL_FILE, b"half"), self.cut(STREAM_HEAD + b"8\r\nhalf"))

    def test_ended_by_closing(self) -> None:
        """
        An answer that was to end by closing, and ends by a reset.
        """
        code, _ = self.cut(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhalf", Peer.reset)
        self.assertEqual(PARTIAL_FILE, code)

    def test_before_any_answer(self) -> None:
        """
        No answer at all is a 502 which says so.
        """

        def script(peer: Peer) -> None:
            peer.message()

        with Upstream(script) as upstream, in_front_of(upstream.url) as daemon, connect(daemon.port) as client:
            client.send(request("POST", "/mistral/v1/chat/completions", body=b"{}"))
            head, body = client.message()
            self.assertTrue(head.startswith(b"HTTP/1.1 502 "))
            self.assertIn(b"\r\nx-dheera-error-source: dheera\r\n", head.lower())
            self.assertIn(b"without an answer", body)
            self.assertEqual(1, upstream.connections)  # a POST is not sent twice
            client.send(request("GET", "/health/liveness"))
            self.assertTrue(client.message()[0].startswith(b"HTTP/1.1 200 "))


class KeptConnectionTests(TestCase):
    """
    A connection to upstream that was kept, and is none any more.
    """

    def test_closed_meanwhile(self) -> None:
        """
        When upstream has closed it in the meantime, the next request, of any method, goes over a new one.
        """
        served = Semaphore(0)

        def script(peer: Peer) -> None:
            peer.message()
            peer.send(answer(b"one each"))
            peer.close()
            served.release()

        with Upstream(script) as upstream, in_front_of(upstream.url) as daemon, connect(daemon.port) as client:
            for method in "GET", "POST", "GET", "DELETE", "POST":
                client.send(request(method, "/mistral/v1/x", body=b"{}"))
                self.assertEqual(b"one each", client.message()[1])
                self.assertTrue(served.acquire(timeout=PATIENCE_SECONDS))
            self.assertEqual(5, upstream.connections)

    def test_closed_by_the_request(self) -> None:
        """
        When upstream closes it on the next request, and no byte of an answer has come, a GET is sent once more; a POST,
        which upstream may have begun to work on, is not.
        """
        heard: list[bytes] = []

        def script(peer: Peer) -> None:
            heard.append(peer.message()[0].partition(b" ")[0])
            peer.send(answer(b"one each"))
            heard.append(peer.message()[0].partition(b" ")[0])
            peer.reset()

        for method, status in ("GET", b"200"), ("POST", b"502"):
            with (
                self.subTest(method),
                Upstream(script) as upstream,
                in_front_of(upstream.url) as daemon,
                connect(daemon.port) as client,
            ):
                heard.clear()
                client.send(request("GET", "/mistral/v1/x"))
                client.message()
                client.send(request(method, "/mistral/v1/x", body=b"{}"))
                head, _ = client.message()
                self.assertEqual(status, head.split(b" ")[1])
                self.assertEqual(2 if method == "POST" else 3, len(heard))

    def test_unasked_answer(self) -> None:
        """
        What upstream sends while nobody asks it is never taken for the answer to the next request.
        """
        served = Semaphore(0)

        def script(peer: Peer) -> None:
            peer.message()
            peer.send(answer(b"right") + answer(b"wrong"))
            served.release()
            peer.gone()

        with Upstream(script) as upstream, in_front_of(upstream.url) as daemon, connect(daemon.port) as client:
            for _ in range(3):
                client.send(request("GET", "/mistral/v1/x"))
                self.assertEqual(b"right", client.message()[1])
                self.assertTrue(served.acquire(timeout=PATIENCE_SECONDS))


class DeathTests(TestCase):
    """
    An upstream that is killed.
    """

    def test_comes_back(self) -> None:
        """
        With ``kill -9`` of upstream a stream under way is cut, the next request is a 502, and when upstream is back the
        next one works; the daemon has not been touched.
        """
        stream = request(
            "POST",
            "/mistral/v1/chat/completions",
            body=b'{"model":"mistral-small-latest","stream":true,"messages":[{"role":"user","content":"%b"}]}'
            % (b"long " * 2000),
        )
        models = request("GET", "/mistral/v1/models")
        with Daemon("--demo", *ANY_PORT) as first, in_front_of(first.mistral) as daemon, connect(daemon.port) as client:
            with connect(daemon.port) as listener:
                listener.send(stream)
                self.assertTrue(listener.head().startswith(b"HTTP/1.1 200 "))
                client.send(models)
                client.message()
                first.signal(signal.SIGKILL)
                self.assertEqual(-signal.SIGKILL, first.ended())
                with self.assertRaises((ConnectionError, EOFError)):
                    list(listener.chunks())
            client.send(models)
            head, body = client.message()
            self.assertTrue(head.startswith(b"HTTP/1.1 502 "))
            self.assertIn(b"cannot be reached", body)
            with Daemon("--demo", "--host", "127.0.0.1", "--port", str(first.port)):
                client.send(models)
                head, _ = client.message()
                self.assertTrue(head.startswith(b"HTTP/1.1 200 "))


class DeadlineTests(TestCase):
    """
    An upstream that keeps us waiting.
    """

    def test_no_first_byte(self) -> None:
        """
        No answer in time is a 504, and upstream's connection is closed.
        """
        gone = Semaphore(0)

        def script(peer: Peer) -> None:
            peer.message()
            peer.gone()
            gone.release()

        settings = "[upstream_limits]\nfirst_byte_seconds = 0.2\n"
        with (
            Upstream(script) as upstream,
            in_front_of(upstream.url, settings=settings) as daemon,
            connect(daemon.port) as client,
        ):
            client.send(request("POST", "/mistral/v1/chat/completions", body=b"{}"))
            head, body = client.message()
            self.assertTrue(head.startswith(b"HTTP/1.1 504 "))
            self.assertIn(b"did not begin its answer", body)
            self.assertTrue(gone.acquire(timeout=PATIENCE_SECONDS))

    def test_silence(self) -> None:
        """
        An answer that goes silent for too long is cut, on both sides.
        """
        gone = Semaphore(0)

        def script(peer: Peer) -> None:
            peer.message()
            peer.send(STREAM_HEAD + chunk(b"data: 1\n\n"))
            peer.gone()
            gone.release()

        settings = "[upstream_limits]\nbetween_chunks_seconds = 0.2\n"
        with Upstream(script) as upstream, in_front_of(upstream.url, settings=settings) as daemon:
            code, got = curl(daemon.mistral + "/v1/x")
            self.assertEqual((PARTIAL_FILE, b"data: 1\n\n"), (code, got))
            self.assertTrue(gone.acquire(timeout=PATIENCE_SECONDS))
            daemon.wait_for_log("Upstream was silent")


class HeldBackTests(TestCase):
    """
    A client that resets its connection while its upload is held back, so that nobody reads from it.
    """

    def test_left(self) -> None:
        """
        Upstream, which takes nothing, is left all the same.
        """
        stuck, gone = Semaphore(0), Semaphore(0)

        def script(peer: Peer) -> None:
            peer.head()
            stuck.release()
            eventually(lambda: readable_end(peer), "the connection ends behind what is not read")
            gone.release()

        with Upstream(script) as upstream, in_front_of(upstream.url) as daemon:
            with connect(daemon.port) as client:
                client.send(b"POST /mistral/v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
                client.pour(99999999, 1.0)
                self.assertTrue(stuck.acquire(timeout=PATIENCE_SECONDS))
                client.reset()
            self.assertTrue(gone.acquire(timeout=PATIENCE_SECONDS))


def readable_end(peer: Peer) -> bool:
    """
    Whether the other end has closed, seen without reading.
    """
    poll = select.poll()
    poll.register(peer.socket, select.POLLRDHUP)
    return bool(poll.poll(0))


class LeavingTests(TestCase):
    """
    A client that leaves.
    """

    def test_in_the_middle_of_its_upload(self) -> None:
        """
        Upstream can see that the body is not whole: its connection is closed before the body's end.
        """
        for line in b"Content-Length: 1000000", b"Transfer-Encoding: chunked":
            begun = Semaphore(0)
            heard: list[bytes] = []

            def script(peer: Peer, begun: Semaphore = begun, heard: list[bytes] = heard) -> None:
                peer.head()
                peer.until(b"half")
                begun.release()
                try:
                    heard.append(peer.rest())
                except ConnectionError:
                    heard.append(b"")

            with self.subTest(line), Upstream(script) as upstream, in_front_of(upstream.url) as daemon:
                with connect(daemon.port) as client:
                    head = b"POST /mistral/v1/files HTTP/1.1\r\nHost: localhost\r\n" + line
                    client.send(head + b"\r\n\r\n" + (chunk(b"half") if b"chunked" in line else b"half"))
                    self.assertTrue(begun.acquire(timeout=PATIENCE_SECONDS))
                eventually(lambda heard=heard: bool(heard), "upstream's connection is closed")  # type: ignore[misc]  # bound
                self.assertNotIn(b"0\r\n\r\n", heard[0])

    def test_before_the_answer(self) -> None:
        """
        Upstream's connection is closed, though it has not answered yet.
        """
        asked, gone = Semaphore(0), Semaphore(0)

        def script(peer: Peer) -> None:
            peer.message()
            asked.release()
            peer.gone()
            gone.release()

        with Upstream(script) as upstream, in_front_of(upstream.url) as daemon:
            with connect(daemon.port) as client:
                client.send(request("GET", "/mistral/v1/x"))
                self.assertTrue(asked.acquire(timeout=PATIENCE_SECONDS))
            self.assertTrue(gone.acquire(timeout=PATIENCE_SECONDS))
