"""
TLS to an upstream: Twisted's, with a shorter way for what is read and written most.

Twisted asks OpenSSL for more until that says, by an exception, that there is no more, once for what comes in and once
for what goes out; and it keeps what is written until the reactor's next turn. Each is a dozen calls. Who counts records
knows how often to ask. With that, an event of a stream takes 76,000 instructions in place of 107,000, both ends told.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from OpenSSL.SSL import Error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from dheera.wire.sending import sender

RECORD_BYTES = 2**14
"""
What a record holds, at most (RFC 8446 §5.1).
"""

_HEADER_BYTES = 5


class RecordCounter:
    """
    Counts the records of a stream of TLS.
    """

    def __init__(self) -> None:
        self._missing = 0
        self._header = b""

    def count(self, data: bytes) -> int:
        """
        Take what comes next.

        :return: how many records end in it, if the last one ends where it ends; otherwise 0.
        """
        records = int(self._missing > 0)
        if self._header:
            data = self._header + data
        position, end = self._missing, len(data)
        while position + _HEADER_BYTES <= end:
            position += _HEADER_BYTES + (data[position + 3] << 8 | data[position + 4])
            records += 1
        self._missing = max(position - end, 0)
        self._header = data[position:]
        return 0 if self._missing or self._header else records


class UpstreamTLS(TLSMemoryBIOProtocol):
    """
    As Twisted's, which does whatever is not usual: what is begun or left over, and all that goes wrong.
    """

    def makeConnection(self, transport: Any) -> None:
        """
        Begin the handshake.
        """
        self._count = RecordCounter().count
        self._send = sender(transport)
        super().makeConnection(transport)  # type: ignore[no-untyped-call]  # Twisted has no types there

    def dataReceived(self, data: bytes) -> None:
        """
        Bytes from upstream, until the handshake is done.
        """
        self._count(data)
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        if self._handshakeDone and not self._lostTLSConnection:
            self.dataReceived = self._reader(super().dataReceived)  # type: ignore[assignment,method-assign]

    def _reader(self, unusual: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """
        A function that takes what is received from now on. Of records that are whole OpenSSL holds nothing but these,
        so it is asked once for each. It is a function since each look at an attribute takes long here: Twisted's class
        has a ``__getattr__``, and so has OpenSSL's connection.

        :param unusual: takes it in Twisted's way.
        """
        count, connection, deliver = self._count, self.getHandle(), self.wrappedProtocol.dataReceived
        decrypt, read = connection.bio_write, connection.recv

        def receive(data: bytes) -> None:
            records = count(data)
            if not records or self.disconnecting or self._appSendBuffer:
                unusual(data)
                return
            decrypt(data)
            while True:
                try:
                    piece = read(RECORD_BYTES)
                except Error:  # it was of TLS itself, or the end, or cannot be read
                    break
                deliver(piece)
                records -= 1
                if not records:
                    return
                if self.disconnecting:
                    break
            self._flushReceiveBIO()

        return receive

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Upstream has gone.
        """
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.__dict__.pop("dataReceived", None)  # else they hold each other until the garbage collector comes

    def write(self, data: bytes) -> None:
        """
        Send *data*, at once if it is one record.
        """
        if len(data) <= RECORD_BYTES and self._handshakeDone and not (self._appSendBuffer or self._ends):
            connection = self.getHandle()
            with suppress(Error):  # it must read first: Twisted keeps what is written meanwhile
                connection.send(data)
                self._send(connection.bio_read(2 * RECORD_BYTES))
                return
        super().write(data)  # type: ignore[no-untyped-call]

    @property
    def _ends(self) -> bool:
        return bool(self.disconnecting or self._lostTLSConnection)


class UpstreamTLSFactory(TLSMemoryBIOFactory):
    """
    Speaks TLS to one upstream, over a connection that is made.
    """

    protocol = UpstreamTLS


@implementer(IStreamClientEndpoint)
class TLSPort:
    """
    A port where TLS is spoken.

    :param creator: knows whom to trust.
    """

    def __init__(self, clock: IReactorTime, creator: Any, port: IStreamClientEndpoint) -> None:
        self._clock = clock
        self._creator = creator
        self._port = port

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - Twisted's name
        """
        Connect, and begin the handshake; what is connected hears when that is done.
        """
        return self._port.connect(UpstreamTLSFactory(self._creator, True, protocolFactory, self._clock))  # noqa: FBT003
