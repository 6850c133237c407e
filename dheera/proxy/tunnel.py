"""
After an upgrade: two transports joined, byte for byte, with back-pressure both ways.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from dheera.wire.heads import Fields
from dheera.wire.request import Request
from dheera.wire.response import Response


class _End(Protocol):
    """
    One end: what comes in here goes out at the other.
    """

    def __init__(self) -> None:
        self.other: _End
        self.open = False
        self.closed: Deferred[None] = Deferred()
        self._early: list[bytes] = []

    def connectionMade(self) -> None:
        """
        This end is up. Once both are, each reads only as fast as the other takes.
        """
        self.open = True
        if self.other.open:
            self._join(self.other)
            self.other._join(self)  # noqa: SLF001 - the same class

    def _join(self, other: _End) -> None:
        transport: Any = self.transport
        transport.registerProducer(other.transport, True)  # noqa: FBT003 - Twisted's signature
        early, other._early = other._early, []
        for piece in early:
            transport.write(piece)

    def dataReceived(self, data: bytes) -> None:
        """
        Pass it on; what comes before the other end is up waits.
        """
        if self.other.open:
            self.other.transport.write(data)  # type: ignore[union-attr]  # open
        else:
            self._early.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Close the other end as this one was closed: in order, or not.
        """
        self.open = False
        if self.other.open:
            transport: Any = self.other.transport
            transport.unregisterProducer()
            if reason.check(ConnectionDone):
                transport.loseConnection()
            else:
                transport.abortConnection()
        self.closed.callback(None)


async def tunnel(response: Response, request: Request, fields: Fields) -> None:
    """
    Answer the client's handshake with upstream's 101 and join both connections until they are closed.

    :param fields: the header lines of the 101.
    """
    client, upstream = _End(), _End()
    client.other, upstream.other = upstream, client
    request.upgrade(fields, client)
    response.deliverBody(upstream)
    await client.closed
    await upstream.closed
