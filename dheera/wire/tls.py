"""
TLS to an upstream, spoken on the socket itself: to Twisted's transport above it is a socket like any other.

Twisted's own TLS hands all bytes to OpenSSL and back through two buffers in memory, which stay as large as they ever
were: 46 KB for each connection, where this takes 28. And all that knows a plain socket knows this one.
"""

from __future__ import annotations

from contextlib import suppress
from errno import ENOTCONN, EWOULDBLOCK
from socket import SHUT_RD, socket
from ssl import (
    MemoryBIO,
    SSLContext,
    SSLEOFError,
    SSLError,
    SSLSocket,
    SSLWantReadError,
    SSLWantWriteError,
    SSLZeroReturnError,
)
from typing import Any

from twisted.internet import main
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

RECORD_BYTES = 2**14
"""
What a record holds, at most (RFC 8446 §5.1).
"""

PAUSE_SECONDS = 0.05
"""
How long nothing is written where OpenSSL wants to read first.
"""


class TLSSocket(SSLSocket):
    """
    A socket that does not block, and says so as one without TLS does. Before TLS, and after it, nothing crosses it.

    :ivar transport: Twisted's, above it.
    """

    transport: Any = None
    _pausing = False

    def recv(self, buflen: int = RECORD_BYTES, _flags: int = 0) -> bytes:
        """
        What is in the next record; if that is full, so that probably more follow, in the next few. OpenSSL takes no
        more than a record from the kernel at once, so what is left is there, where the reactor sees it.
        """
        try:
            piece = self.read(RECORD_BYTES)
        except (SSLWantReadError, SSLWantWriteError):
            raise _would_block() from None
        except ValueError:  # it speaks no TLS: reset before that began, where ssl itself asks; or shut by us
            raise _not_connected() from None
        return piece if len(piece) < RECORD_BYTES else self._more(piece, buflen)

    def _more(self, piece: bytes, buflen: int) -> bytes:
        """
        *piece* and what follows it, as one: a megabyte costs 2.3 ms in place of 2.9 on its way to the client.
        """
        pieces = [piece]
        try:
            while len(piece) == RECORD_BYTES and len(pieces) * RECORD_BYTES < buflen:
                piece = self.read(RECORD_BYTES)
                pieces.append(piece)
        except (SSLWantReadError, SSLWantWriteError):
            pass
        except OSError:
            piece = b""
        if not piece:
            # OpenSSL tells the end, in order or not, whenever it is asked; the reactor asks a socket that is shut.
            with suppress(OSError):
                socket.shutdown(self, SHUT_RD)
        return b"".join(pieces)

    def send(self, data: Any, _flags: int = 0) -> int:
        """
        Send as much of *data* as the kernel takes, record by record. Of one that it took in part OpenSSL keeps the rest
        and wants to be given the same bytes again: they count as not sent.
        """
        sent = 0
        try:
            while sent < len(data):
                sent += self.write(data[sent : sent + RECORD_BYTES])
        except (SSLWantReadError, SSLWantWriteError) as wish:
            if isinstance(wish, SSLWantReadError):
                self._pause()
            if not sent:
                raise _would_block() from None
        except ValueError:
            raise _not_connected() from None
        return sent

    def _pause(self) -> None:
        """
        In the midst of a message of TLS itself that takes several records OpenSSL does not write before it has come.
        There is room all the while, so the reactor would be kept busy.
        """
        self.transport.stopWriting()
        if not self._pausing:
            self._pausing = True
            self.transport.reactor.callLater(PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._pausing = False
        if self.transport.connected:
            self.transport.startWriting()

    def shutdown(self, how: int) -> None:
        """
        End in order, which is told to the peer; it need not answer.
        """
        with suppress(OSError, ValueError):
            self.unwrap()
        super().shutdown(how)


def _would_block() -> BlockingIOError:
    return BlockingIOError(EWOULDBLOCK, "TLS has nothing to give, or no room, now")


def _not_connected() -> OSError:
    return OSError(ENOTCONN, "TLS is not spoken here")


def _is_end(error: SSLError) -> bool:
    """
    Whether *error* says that the peer has left; in older Pythons only its reason does.
    """
    return isinstance(error, SSLEOFError | SSLZeroReturnError) or error.reason == "UNEXPECTED_EOF_WHILE_READING"


class _Handshake(Protocol):
    """
    Stands where another protocol will when hands are shaken.
    """

    def __init__(self) -> None:
        self._done: Deferred[None] = Deferred(self._give_up)

    def shake(self, context: SSLContext, name: str) -> Deferred[None]:
        """
        Begin.

        :return: fires when TLS is up with a trusted peer that *name* belongs to. Cancelling it closes the connection.
        """
        transport: Any = self.transport
        transport.stopReading()  # the reactor knows it by a socket that goes
        try:
            transport.socket = context.wrap_socket(
                transport.socket, do_handshake_on_connect=False, suppress_ragged_eofs=False, server_hostname=name
            )
        except OSError:
            self._done.errback(Failure())
            transport.abortConnection()
            return self._done
        transport.socket.transport = transport
        transport.fileno = transport.socket.fileno
        transport.doRead = transport.doWrite = self._step  # as Twisted does until it is connected
        transport.startReading()
        transport.startWriting()
        return self._done

    def _step(self) -> Exception | None:
        """
        Go on as far as it goes; for the reactor.
        """
        transport: Any = self.transport
        try:
            transport.socket.do_handshake()
        except SSLWantReadError:
            transport.stopWriting()
            return None
        except SSLWantWriteError:
            transport.startWriting()
            return None
        except OSError as error:
            self._stop()
            return error if isinstance(error, SSLError) and not _is_end(error) else main.CONNECTION_LOST
        self._stop()
        self._done.callback(None)
        return None

    def _stop(self) -> None:
        transport: Any = self.transport
        transport.stopWriting()
        del transport.doRead, transport.doWrite

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        No hand was shaken.
        """
        if not self._done.called:
            self._done.errback(reason)

    def _give_up(self, _: Deferred[None]) -> None:
        transport: Any = self.transport
        transport.abortConnection()


class _Handshakes(Factory[_Handshake]):
    """
    What an endpoint wants to have.
    """

    noisy = False
    protocol = _Handshake


@implementer(IStreamClientEndpoint)
class TLSPort:
    """
    A port where TLS is spoken.

    :param context: knows whom to trust.
    :param name: whom the peer's certificate must be for.
    :raises ValueError: nobody can be called that.
    """

    def __init__(self, context: SSLContext, name: str, port: IStreamClientEndpoint) -> None:
        context.wrap_bio(MemoryBIO(), MemoryBIO(), server_hostname=name)  # which raises it
        self._context = context
        self._name = name
        self._port = port

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - Twisted's name
        """
        Connect, and shake hands.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        handshake: Any = await self._port.connect(_Handshakes())
        await handshake.shake(self._context, self._name)
        transport = handshake.transport
        protocol: Any = factory.buildProtocol(transport.getPeer())
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return protocol  # type: ignore[no-any-return]  # one
