"""
After an upgrade: two transports joined, byte for byte, with back-pressure both ways.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from dheera.errors import AnswerCut, ClientLeft
from dheera.wire.body import Watcher
from dheera.wire.deadlines import NEVER, Deadlines
from dheera.wire.heads import Fields
from dheera.wire.request import Request
from dheera.wire.response import Response

FAREWELL_SECONDS = 10.0
"""
How long one end may take to read the last bytes when the other has closed.
"""


class _End(Protocol):
    """
    One end: what comes in here goes out at the other.
    """

    def __init__(self, deadlines: Deadlines, watch: Watcher) -> None:
        self.other: _End
        self.open = False
        self.broke_off = False
        self.closed: Deferred[None] = Deferred()
        self.deadline = NEVER
        self._deadlines = deadlines
        self._early: list[bytes] = []
        self._watch = watch

    def connectionMade(self) -> None:
        """
        This end is up. Once both are, each reads only as fast as the other takes.
        """
        self.open = True
        if ITCPTransport.providedBy(self.transport):
            # A tunnel may be silent for as long as it likes: a peer that is no longer there must be found out.
            self.transport.setTcpKeepAlive(True)
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
        elif not self.other.closed.called:
            self._early.append(data)
        self._watch(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Close the other end as this one was closed: in order, or not.
        """
        self.open = False
        self._deadlines.forget(self)
        if self.other.open:
            self.broke_off = reason.check(ConnectionDone) is None
            self.other._close(in_order=not self.broke_off)  # noqa: SLF001 - the same class
        self.closed.callback(None)

    def _close(self, *, in_order: bool) -> None:
        transport: Any = self.transport
        transport.unregisterProducer()
        if not in_order:
            transport.abortConnection()
            return
        self.deadline = self._deadlines.after(FAREWELL_SECONDS)
        self._deadlines.watch(self)
        transport.loseConnection()

    def deadline_passed(self) -> None:
        """
        What is left to read is not read: give up.
        """
        self._deadlines.forget(self)
        transport: Any = self.transport
        transport.abortConnection()


async def tunnel(response: Response, request: Request, fields: Fields, up: Watcher, down: Watcher) -> None:
    """
    Answer the client's handshake with upstream's 101 and join both connections until they are closed.

    :param fields: the header lines of the 101.
    :param up: sees what the client sends, after it has gone on; it must not raise.
    :param down: likewise, what upstream sends.
    :raises ClientLeft: the client broke off.
    :raises AnswerCut: upstream did.
    """
    deadlines = request.channel.site.deadlines
    client, upstream = _End(deadlines, up), _End(deadlines, down)
    client.other, upstream.other = upstream, client
    request.upgrade(fields, client)
    response.deliverBody(upstream)
    await client.closed
    await upstream.closed
    if client.broke_off:
        raise ClientLeft
    if upstream.broke_off:
        raise AnswerCut("Upstream broke off in the middle of a session.")
