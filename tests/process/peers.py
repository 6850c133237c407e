"""
Clients and upstreams made of sockets: what they send is sent as it is, and what they hear is kept byte for byte.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from threading import Lock, Thread
from types import TracebackType
from typing import Self

from tests.process.daemon import PATIENCE_SECONDS

READ_BYTES = 256 * 1024


class Peer:
    """
    One end of a connection.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE_SECONDS)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self._heard = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """
        Send all of *data*.
        """
        self.socket.sendall(data)

    def until(self, mark: bytes) -> bytes:
        """
        All that comes up to *mark*, and the mark.
        """
        while (end := self._heard.find(mark)) < 0:
            self._hear()
        return self.exactly(end + len(mark))

    def exactly(self, count: int) -> bytes:
        """
        The next *count* bytes.
        """
        while len(self._heard) < count:
            self._hear()
        heard, self._heard = self._heard[:count], self._heard[count:]
        return heard

    def _hear(self) -> None:
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise EOFError(f"The connection has ended after: {self._heard[-200:]!r}")
        self._heard += data

    def head(self) -> bytes:
        """
        The next head of a message, with the empty line.
        """
        return self.until(b"\r\n\r\n")

    def chunk(self) -> bytes:
        """
        The next chunk of a chunked body; empty at its end.
        """
        size = int(self.until(b"\r\n"), 16)
        data = self.exactly(size)
        assert self.exactly(2) == b"\r\n"
        return data

    def chunks(self) -> Iterator[bytes]:
        """
        The rest of a chunked body without trailers.
        """
        while piece := self.chunk():
            yield piece

    def message(self) -> tuple[bytes, bytes]:
        """
        The next whole message: its head, and its body without its framing.
        """
        head = self.head()
        lines = dict(line.lower().split(b": ", 1) for line in head[:-4].split(b"\r\n")[1:])
        if lines.get(b"transfer-encoding") == b"chunked":
            return head, b"".join(self.chunks())
        return head, self.exactly(int(lines.get(b"content-length", b"0")))

    def rest(self) -> bytes:
        """
        All that comes until the other end closes in order.
        """
        while data := self.socket.recv(READ_BYTES):
            self._heard += data
        heard, self._heard = self._heard, b""
        return heard

    def swallow(self, count: int) -> None:
        """
        Read *count* bytes and keep none.
        """
        count -= len(self._heard)
        self._heard = b""
        space = memoryview(bytearray(READ_BYTES))
        while count > 0:
            got = self.socket.recv_into(space[: min(count, READ_BYTES)])
            if not got:
                raise EOFError(f"The connection has ended, {count} bytes before it should")
            count -= got

    def pour(self, count: int, stall_seconds: float = PATIENCE_SECONDS) -> int:
        """
        Send *count* bytes, or as many as the other end takes before it takes none for *stall_seconds*.

        :return: how many were sent.
        """
        self.socket.settimeout(stall_seconds)
        sent, data = 0, memoryview(bytes(READ_BYTES))
        with contextlib.suppress(TimeoutError):
            while sent < count:
                sent += self.socket.send(data[: count - sent])
        self.socket.settimeout(PATIENCE_SECONDS)
        return sent

    def gone(self) -> bool:
        """
        Wait until the other end has closed the connection, in order or not.
        """
        try:
            while self.socket.recv(READ_BYTES):
                pass
        except ConnectionError:
            pass
        return True

    def reset(self) -> None:
        """
        Close the connection at once, so that the other end sees a reset.
        """
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """
        Close the connection.
        """
        self.socket.close()


def connect(port: int, receive_bytes: int | None = None) -> Peer:
    """
    A client connected to *port* of this machine.

    :param receive_bytes: how much the kernel may keep for a client that does not read.
    """
    sock = socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    try:
        sock.settimeout(PATIENCE_SECONDS)
        sock.connect(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return Peer(sock)


Script = Callable[[Peer], None]


class Upstream:
    """
    An upstream that serves inside ``with``: each connection is given to *script*, in a thread of its own, and closed
    when it returns. A connection that ends sooner than the script expects ends the script; anything else that it
    raises is raised on leaving.

    :param tls: speaks TLS.
    :param port: 0 takes any free one.
    """

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._script = script
        self._tls = tls
        self._lock = Lock()
        self._peers: list[Peer] = []
        self._failures: list[Exception] = []
        self._threads: list[Thread] = []
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listening.getsockname()[1]

    @property
    def url(self) -> str:
        """
        Its base URL.
        """
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """
        How many were ever made.
        """
        with self._lock:
            return len(self._peers)

    def __enter__(self) -> Self:
        self._accepting = Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join(PATIENCE_SECONDS)
        self._listening.close()
        with self._lock:
            peers = [*self._peers]
        for peer in peers:
            with contextlib.suppress(OSError):
                peer.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        if self._failures and error is None:
            raise self._failures[0]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            thread = Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            sock.settimeout(PATIENCE_SECONDS)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with Peer(sock) as peer:
                with self._lock:
                    self._peers.append(peer)
                self._script(peer)
        except (OSError, EOFError):
            pass
        except Exception as error:  # noqa: BLE001 - raised again where the test can see it
            self._failures.append(error)
        finally:
            sock.close()


def request(method: str, path: str, *lines: bytes, body: bytes | None = None) -> bytes:
    """
    A request as a plain client sends it.
    """
    head = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", *lines]
    if body is not None:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + (body or b"")


def answer(body: bytes = b"{}", *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """
    A complete answer.
    """
    head = [b"HTTP/1.1 " + status, b"Content-Type: application/json", *lines, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def always(reply: bytes) -> Script:
    """
    A script that answers each request with *reply*.
    """

    def script(peer: Peer) -> None:
        while True:
            peer.message()
            peer.send(reply)

    return script


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """
    One chunk of a chunked body; an empty one ends it.
    """
    return b"%x\r\n%b\r\n" % (len(data), data)
