"""
Limits, small ones from a file, and clients that pass them: each is told or ended, and nobody else notices.
"""

from __future__ import annotations

from contextlib import ExitStack
from time import sleep
from unittest import TestCase

from tests.process.daemon import ANY_PORT, Daemon, alive, eventually, in_front_of
from tests.process.peers import Peer, Upstream, always, answer, connect, request

LIVENESS = request("GET", "/health/liveness")


def limited(settings: str) -> Daemon:
    """
    A demo with these limits.
    """
    return Daemon("--demo", *ANY_PORT, settings=f"[limits]\n{settings}\n")


class ConnectionTests(TestCase):
    """
    More connections than are allowed.
    """

    def test_in_all(self) -> None:
        """
        Two hundred connections beyond the limit are each told 503 and when to come again; those within it go on, and
        when some of them have left there is room again.
        """
        with limited("connections = 20") as daemon, ExitStack() as inside:
            within = [inside.enter_context(connect(daemon.port)) for _ in range(20)]
            for client in within:
                client.send(LIVENESS)
                self.assertTrue(client.message()[0].startswith(b"HTTP/1.1 200 "))
            with ExitStack() as outside:
                for client in [outside.enter_context(connect(daemon.port)) for _ in range(200)]:
                    head, body = client.message()
                    self.assertTrue(head.startswith(b"HTTP/1.1 503 "))
                    self.assertIn(b"\r\nretry-after: 1\r\n", head.lower())
                    self.assertIn(b"Too many connections", body)
            for client in within:
                client.send(LIVENESS)
                self.assertTrue(client.message()[0].startswith(b"HTTP/1.1 200 "))
            inside.close()
            eventually(lambda: answers(daemon.port), "there is room again")

    def test_per_address(self) -> None:
        """
        One address may not take all of them.
        """
        with limited("connections_per_address = 3") as daemon, ExitStack() as inside:
            for _ in range(3):
                client = inside.enter_context(connect(daemon.port))
                client.send(LIVENESS)
                client.message()
            with connect(daemon.port) as one_more:
                head, body = one_more.message()
                self.assertTrue(head.startswith(b"HTTP/1.1 503 "))
                self.assertIn(b"your address", body)


def answers(port: int) -> bool:
    """
    Whether a new client is served.
    """
    with connect(port) as client:
        client.send(LIVENESS)
        return client.message()[0].startswith(b"HTTP/1.1 200 ")


class SlowTests(TestCase):
    """
    Clients that take their time.
    """

    def test_head(self) -> None:
        """
        A head that does not come to its end in time is a 408 and the end, however often a byte of it comes.
        """
        with limited("head_seconds = 0.5") as daemon, connect(daemon.port) as slow:
            slow.send(b"GET /health/liveness HTTP/1.1\r\n")
            slow.socket.settimeout(0.05)
            heard = b""
            while not heard:
                slow.send(b"x-drip: 1\r\n")
                try:
                    heard = slow.socket.recv(1000)
                except TimeoutError:
                    self.assertTrue(alive(daemon.url))
            self.assertTrue(heard.startswith(b"HTTP/1.1 408 "))

    def test_body(self) -> None:
        """
        An upload that does not move ends too: the client is told, and upstream's connection is closed.
        """
        ended: list[bool] = []

        def script(peer: Peer) -> None:
            peer.head()
            ended.append(peer.gone())

        settings = "[upstream_limits]\nbetween_chunks_seconds = 0.5\n"
        with (
            Upstream(script) as upstream,
            in_front_of(upstream.url, settings=settings) as daemon,
            connect(daemon.port) as client,
        ):
            client.send(b"POST /mistral/v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n12345")
            head, _ = client.message()
            self.assertIn(head.split(b" ")[1], (b"408", b"504"))
            eventually(lambda: ended == [True], "upstream's connection is closed")

    def test_idle(self) -> None:
        """
        A connection without a request is closed in order, before its first request and after one.
        """
        with limited("idle_seconds = 0.5") as daemon, connect(daemon.port) as fresh, connect(daemon.port) as used:
            used.send(LIVENESS)
            used.message()
            self.assertEqual(b"", fresh.rest())
            self.assertEqual(b"", used.rest())

    def test_reading(self) -> None:
        """
        A client that takes nothing of its answer is ended.
        """
        with (
            Upstream(always(answer(bytes(64 << 20)))) as upstream,
            in_front_of(upstream.url, settings="[limits]\nsend_seconds = 0.5\n") as daemon,
            connect(daemon.port, receive_bytes=4096) as client,
        ):
            client.send(request("GET", "/mistral/v1/x"))
            eventually(lambda: hung_up(client), "the connection is closed")
            self.assertTrue(alive(daemon.url))

    def test_reading_slowly(self) -> None:
        """
        A client that takes little at a time gets all of its answer, however much longer that takes than the limit.
        """
        size = 6 << 20
        with (
            Upstream(always(answer(bytes(size)))) as upstream,
            in_front_of(upstream.url, settings="[limits]\nsend_seconds = 1.0\n") as daemon,
            connect(daemon.port, receive_bytes=4096) as client,
        ):
            client.send(request("GET", "/mistral/v1/x"))
            client.head()
            taken = 0
            while taken < size:
                client.exactly(min(size // 40, size - taken))
                taken += min(size // 40, size - taken)
                sleep(0.15)


def hung_up(client: Peer) -> bool:
    """
    Whether the other end has reset the connection, without reading from it.
    """
    try:
        client.send(b"GET")
    except ConnectionError:
        return True
    return False


class SizeTests(TestCase):
    """
    Clients that send too much.
    """

    def test_head(self) -> None:
        """
        A head that is too large, or has too many lines, is a 431; a target that is too long a 414.
        """
        with limited("head_bytes = 1000\nheader_count = 20") as daemon:
            for sent, status in (
                (request("GET", "/health/liveness", b"x: " + bytes(2000).replace(b"\0", b"a")), b"431"),
                (request("GET", "/health/liveness", *[b"x: 1"] * 30), b"431"),
                (request("GET", "/health/" + "a" * 2000), b"414"),
            ):
                with connect(daemon.port) as client:
                    client.send(sent)
                    self.assertEqual(status, client.message()[0].split(b" ")[1])

    def test_body(self) -> None:
        """
        A body that says it is too large is a 413 at once, before any of it is sent and before upstream hears of it; a
        chunked one when it has become too large.
        """
        with (
            Upstream(always(answer())) as upstream,
            in_front_of(upstream.url, settings="[limits]\nbody_bytes = 1000\n") as daemon,
        ):
            with connect(daemon.port) as client:
                client.send(b"POST /mistral/v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n")
                head, body = client.message()
                self.assertTrue(head.startswith(b"HTTP/1.1 413 "))
                self.assertIn(b"1000 bytes", body)
            self.assertEqual(0, upstream.connections)
            with connect(daemon.port) as client:
                client.send(b"POST /mistral/v1/files HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
                client.send(b"3e9\r\n" + bytes(1001))
                self.assertTrue(client.head().startswith(b"HTTP/1.1 413 "))
