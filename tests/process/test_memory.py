"""
What the daemon takes while much passes through it, and while one side does not keep up.
"""

from __future__ import annotations

from threading import Semaphore
from unittest import TestCase

from tests.process.daemon import PATIENCE_SECONDS, Memory, eventually, in_front_of
from tests.process.peers import Peer, Upstream, answer, connect, request

MEBIBYTE = 1 << 20
WARM_UP = 16 * MEBIBYTE
LARGE = 256 * MEBIBYTE
STALL_SECONDS = 1.0
MOST_GROWTH = 5 * MEBIBYTE


class PassingTests(TestCase):
    """
    A quarter of a gibibyte, each way.
    """

    def test_upload(self) -> None:
        """
        An upload of 256 MiB, after one of 16, makes the daemon grow by less than 5 MiB at any time.
        """

        def script(peer: Peer) -> None:
            while True:
                head = peer.head()
                peer.swallow(int(head.rpartition(b"Content-Length: ")[2]))
                peer.send(answer(b"taken"))

        with Upstream(script) as upstream, in_front_of(upstream.url) as daemon, connect(daemon.port) as client:

            def upload(size: int) -> None:
                client.send(b"POST /mistral/v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size)
                self.assertEqual(size, client.pour(size))
                self.assertEqual(b"taken", client.message()[1])

            memory = Memory(daemon)
            upload(WARM_UP)
            memory.forget_peak()
            before = memory.peak_bytes
            upload(LARGE)
            self.assertLess(memory.peak_bytes - before, MOST_GROWTH)

    def test_download(self) -> None:
        """
        So it is with a download, with a length and in chunks.
        """
        piece = b"%x\r\n%b\r\n" % (MEBIBYTE, bytes(MEBIBYTE))

        def script(peer: Peer) -> None:
            while True:
                path = peer.head().split(b" ")[1]
                kind, _, size = path.rpartition(b"/")
                if kind == b"/v1/chunked":
                    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    for _ in range(int(size) // MEBIBYTE):
                        peer.send(piece)
                    peer.send(b"0\r\n\r\n")
                else:
                    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n" % size)
                    peer.pour(int(size))

        with Upstream(script) as upstream, in_front_of(upstream.url) as daemon, connect(daemon.port) as client:

            def download(kind: str, size: int) -> None:
                client.send(request("GET", f"/mistral/{kind}/{size}"))
                if kind == "sized":
                    self.assertIn(b"Content-Length: %d\r\n" % size, client.head())
                    client.swallow(size)
                else:
                    client.head()
                    self.assertEqual(size, sum(map(len, client.chunks())))

            memory = Memory(daemon)
            for kind, size in ("sized", LARGE), ("chunked", LARGE // 4):
                with self.subTest(kind):
                    download(kind, WARM_UP)
                    memory.forget_peak()
                    before = memory.peak_bytes
                    download(kind, size)
                    self.assertLess(memory.peak_bytes - before, MOST_GROWTH)


class StuckTests(TestCase):
    """
    One side goes on sending, the other does not read.
    """

    def test_client_never_reads(self) -> None:
        """
        Upstream is made to wait: it can send no more than fits into the kernel's buffers, the daemon does not grow,
        and serves others. When the client leaves, upstream's connection is closed.
        """
        stuck, gone = Semaphore(0), Semaphore(0)
        sent: list[int] = []

        def script(peer: Peer) -> None:
            while b"/large" not in peer.head():
                peer.send(answer(b"other"))
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
            sent.append(peer.pour(LARGE, STALL_SECONDS))
            stuck.release()
            peer.gone()
            gone.release()

        with Upstream(script) as upstream, in_front_of(upstream.url) as daemon:
            memory = Memory(daemon)
            with connect(daemon.port) as other:
                other.send(request("GET", "/mistral/v1/other"))
                other.message()
                memory.forget_peak()
                before = memory.peak_bytes
                with connect(daemon.port, receive_bytes=MEBIBYTE) as client:
                    client.send(request("GET", "/mistral/v1/large"))
                    client.head()
                    self.assertTrue(stuck.acquire(timeout=PATIENCE_SECONDS))
                    self.assertLess(sent[0], LARGE // 4)
                    self.assertLess(memory.peak_bytes - before, MOST_GROWTH)
                    other.send(request("GET", "/mistral/v1/other"))
                    self.assertEqual(b"other", other.message()[1])
                    client.reset()
            self.assertTrue(gone.acquire(timeout=PATIENCE_SECONDS))

    def test_upstream_never_reads(self) -> None:
        """
        The client is made to wait, for an upload with a length and for a chunked one; the daemon does not grow. When
        the client leaves, so does upstream's connection, and upstream can see that the body is not whole.
        """
        for line, head in (
            (b"Content-Length: %d" % LARGE, b""),
            (b"Transfer-Encoding: chunked", b"%x\r\n" % LARGE),
        ):
            asked, read_on, cut = Semaphore(0), Semaphore(0), Semaphore(0)

            def script(
                peer: Peer, asked: Semaphore = asked, read_on: Semaphore = read_on, cut: Semaphore = cut
            ) -> None:
                while b"/files" not in peer.head():
                    peer.send(answer())
                asked.release()
                assert read_on.acquire(timeout=PATIENCE_SECONDS)
                peer.gone()
                cut.release()

            with self.subTest(line), Upstream(script) as upstream, in_front_of(upstream.url) as daemon:
                memory = Memory(daemon)
                with connect(daemon.port) as other:
                    other.send(request("GET", "/mistral/v1/other"))
                    other.message()
                memory.forget_peak()
                before = memory.peak_bytes
                with connect(daemon.port) as client:
                    client.send(b"POST /mistral/v1/files HTTP/1.1\r\nHost: localhost\r\n" + line + b"\r\n\r\n" + head)
                    sent = client.pour(LARGE, STALL_SECONDS)
                    self.assertTrue(asked.acquire(timeout=PATIENCE_SECONDS))
                    self.assertLess(sent, LARGE // 4)
                    self.assertLess(memory.peak_bytes - before, MOST_GROWTH)
                    client.reset()
                read_on.release()
                self.assertTrue(cut.acquire(timeout=PATIENCE_SECONDS))

    def test_tunnel(self) -> None:
        """
        Nor does a tunnel keep what its other end does not take.
        """
        stuck = Semaphore(0)
        sent: list[int] = []

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            sent.append(peer.pour(LARGE, STALL_SECONDS))
            stuck.release()
            peer.gone()

        with Upstream(script) as upstream, in_front_of(upstream.url) as daemon:
            memory = Memory(daemon)
            with connect(daemon.port, receive_bytes=MEBIBYTE) as client:
                client.send(
                    request(
                        *("GET", "/mistral/v1/audio/transcriptions/realtime"),
                        *(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
                        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
                    )
                )
                self.assertTrue(client.head().startswith(b"HTTP/1.1 101 "))
                memory.forget_peak()
                before = memory.peak_bytes
                self.assertTrue(stuck.acquire(timeout=PATIENCE_SECONDS))
                self.assertLess(sent[0], LARGE // 4)
                self.assertLess(memory.peak_bytes - before, MOST_GROWTH)


class ManyTests(TestCase):
    """
    Connections that come and go.
    """

    def test_nothing_is_left(self) -> None:
        """
        After a thousand connections, each reset by the client at some moment of its request, none is left open, and
        the daemon is about as large as after the first two hundred.
        """

        def script(peer: Peer) -> None:
            while True:
                peer.message()
                peer.send(answer(bytes(10_000)))

        with Upstream(script) as upstream, in_front_of(upstream.url) as daemon:
            memory = Memory(daemon)
            quiet = memory.sockets

            def visit(count: int) -> None:
                whole = request("POST", "/mistral/v1/x", body=bytes(100))
                for number in range(count):
                    with connect(daemon.port) as client:
                        match number % 3:
                            case 0:
                                client.send(whole[:-1])
                            case 1:
                                client.send(whole)
                                client.exactly(100)
                            case 2:
                                client.send(whole)
                                client.message()
                        client.reset()

            visit(200)
            eventually(lambda: memory.sockets <= quiet + 2, "the connections are closed")
            before = memory.bytes
            visit(800)
            eventually(lambda: memory.sockets <= quiet + 2, "the connections are closed")
            self.assertLess(memory.bytes - before, MOST_GROWTH)
