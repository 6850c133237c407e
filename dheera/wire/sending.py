"""
What Twisted's transports do not offer: writing at once, and a look at the socket below.

Twisted keeps what is written until the reactor finds the socket writable, which for the small pieces of a stream costs
more than the piece: two changes of the epoll set and another round of the loop. So the socket is tried first
(``docs/performance.md`` has the figures).
"""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.error import ConnectionAborted
from twisted.internet.tcp import Connection
from twisted.internet.tcp import Server as TCPServer
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure

LONGEST_WAITING = 16 * 1024
"""
Of bytes that wait for one connection.
"""


@define(eq=False)
class Outbox:
    """
    What is sent while the reactor has several things to do waits here, and leaves together: the first piece wakes
    the peer, the others find it awake. A tenth of a millisecond apart, each would find it asleep again, and to wake it
    each time was a quarter of the time of a request.

    :ivar is_open: what is sent waits here, until `empty`.
    """

    is_open: bool = field(default=False, init=False)
    _waiting: list[Any] = field(factory=list, init=False)

    def put(self, transport: Any, data: bytes) -> None:
        """
        Keep *data* where Twisted keeps what it has not sent, so that all else that happens to *transport* goes by it.
        """
        pieces = transport._tempDataBuffer  # noqa: SLF001 - as said
        if not pieces:
            self._waiting.append(transport)
        pieces.append(data)
        transport._tempDataLen += len(data)  # noqa: SLF001

    def empty(self) -> None:
        """
        Send what waits; from now on nothing does.
        """
        self.is_open = False
        if self._waiting:
            self.send()

    def send(self) -> None:
        """
        Send what waits up to now.
        """
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            pieces = transport._tempDataBuffer  # noqa: SLF001
            # If it is not here any more, or more than this, Twisted sends it, or has done so.
            if pieces and transport.connected and not transport.dataBuffer:
                rest = _rest(transport, pieces[0] if len(pieces) == 1 else b"".join(pieces))
                pieces.clear()
                transport._tempDataLen = len(rest)  # noqa: SLF001
                if rest:
                    pieces.append(rest)
                    transport.startWriting()


def sender(transport: Any) -> Callable[[bytes], None]:
    """
    A function that writes bytes to *transport*: to a plain socket with nothing queued at once, or with others when the
    reactor is busy (`Outbox`); otherwise, and whatever the socket does not take, in Twisted's usual way. So order,
    back-pressure and the telling of errors stay Twisted's.
    """
    if not isinstance(transport, Connection) or transport.TLS:
        return transport.write  # type: ignore[no-any-return]  # untyped there
    outbox: Outbox = getattr(transport.reactor, "outbox", None) or Outbox()

    def send(data: bytes) -> None:
        if transport.connected and not (transport.dataBuffer or transport.disconnecting):
            if outbox.is_open and transport._tempDataLen + len(data) <= LONGEST_WAITING:  # noqa: SLF001 - as there
                outbox.put(transport, data)
                return
            if not transport._tempDataBuffer:  # noqa: SLF001
                data = _rest(transport, data)
                if not data:
                    return
        transport.write(data)

    return send


def _rest(transport: Any, data: bytes) -> bytes:
    """
    What is left of *data* once its socket has taken what it takes now.
    """
    try:
        sent = transport.socket.send(data)
    except OSError:
        return data  # full, or broken: Twisted will find out
    return b"" if sent == len(data) else data[sent:]


def _lowest(transport: Any) -> Any:
    """
    The transport below TLS, and whatever else is wrapped around it.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def _socket_of(transport: Any) -> socket.socket | None:
    """
    The socket below *transport*, through TLS; ``None`` in memory.
    """
    transport = _lowest(transport)
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    return handle if isinstance(handle, socket.socket) else None


def file_number(transport: Any) -> int | None:
    """
    The number of the socket below *transport* among the files of this process; ``None`` in memory.
    """
    below = _socket_of(transport)
    return None if below is None else below.fileno()


def drop(transport: Any) -> None:
    """
    Reset a connection that has just been accepted. Twisted would close its socket in the reactor's next turn; when a
    hundred are accepted in one turn there may be no file left by then. Below TLS it has to be so.
    """
    if isinstance(transport, TCPServer):
        transport.connectionLost(Failure(ConnectionAborted()))
    else:
        transport.abortConnection()


def quiet(transport: Any) -> bool:
    """
    Whether nothing, not even the end, has arrived unread.
    """
    below = _socket_of(transport)
    if below is None:
        return True
    try:
        socket.socket.recv(below, 1, socket.MSG_PEEK)  # below TLS, too
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def has_left(transport: Any) -> bool:
    """
    Whether the peer has closed or reset the connection, which the reactor does not tell while we do not read.
    """
    below = _socket_of(transport)
    if below is None:
        return False
    poll = select.poll()
    poll.register(below, select.POLLRDHUP)
    return bool(poll.poll(0))


def unsent(transport: Any) -> int:
    """
    How many of the bytes written the peer has not acknowledged yet: in the kernel's hands, or still in Twisted's.
    """
    below = _socket_of(transport)
    tcp = _lowest(transport)
    if below is None or not isinstance(tcp, Connection):
        return 0
    held = len(tcp.dataBuffer) - tcp.offset + tcp._tempDataLen  # noqa: SLF001 - as above
    try:
        (queued,) = struct.unpack("i", fcntl.ioctl(below, termios.TIOCOUTQ, b"\0\0\0\0"))
    except OSError:
        queued = 0  # not a kind of socket that can tell
    return int(held + queued)
