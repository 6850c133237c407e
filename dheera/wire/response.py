"""
An answer of an upstream on its way to us: its head at once, its body when somebody wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IClientRequest, IResponse
from zope.interface import implementer

from dheera.wire.heads import Fields
from dheera.wire.layout import Layout

_DONE = Failure(ResponseDone())


class Stream(Protocol):
    """
    The connection below an answer.
    """

    def hold(self, *, held: bool) -> None:
        """
        Stop, or go on, reading.
        """
        ...

    def abort(self) -> None:
        """
        Close the connection now.
        """
        ...

    def tunnel_to(self, protocol: IProtocol) -> None:
        """
        Give the connection itself to *protocol*, after a 101.
        """
        ...


@implementer(IResponse, IPushProducer)
class Response:
    """
    Status, reason and header lines as upstream wrote them, and a body that comes in pieces.

    ``deliverBody`` makes this object the protocol's transport: it can pause, resume and abort. The protocol's
    ``connectionLost`` gets ``ResponseDone`` for a whole body, anything else for one that was cut. For an answer 101
    the protocol is connected to the upstream's transport itself.

    :ivar layout: the names of all header lines.
    :ivar values: what they say, in the same order.
    :ivar length: bytes of the body, or ``UNKNOWN_LENGTH``.
    :ivar waiting: pieces of the body that nobody has taken: while there are any, nothing more should be read.
    :ivar deliver: takes a piece of the body that has come.
    """

    version = (b"HTTP", 1, 1)
    request: IClientRequest | None = None
    previousResponse: IResponse | None = None

    def __init__(  # noqa: PLR0917 - its head, in its order
        self, stream: Stream, code: int, phrase: bytes, layout: Layout, values: Sequence[bytes], length: int | None
    ) -> None:
        self.code = code
        self.phrase = phrase
        self.layout = layout
        self.values = values
        self.length = UNKNOWN_LENGTH if length is None else length
        self._stream: Stream | None = stream
        self._headers: Headers | None = None
        self.waiting: list[bytes] = []
        self.deliver: Callable[[bytes], object] = self.waiting.append
        self._protocol: IProtocol | None = None
        self._ended: Failure | None = None
        self._full = False

    @cached_property
    def fields(self) -> Fields:
        """
        All header lines in their order and spelling.
        """
        return [*zip(self.layout.names, self.values, strict=True)]

    def said(self, name: bytes) -> bytes | None:
        """
        What the last line of that *name*, which is in small letters, says; ``None`` if there is none.
        """
        place = self.layout.at.get(name)
        return None if place is None else self.values[place]

    @property
    def headers(self) -> Headers:
        """
        The header lines as Twisted has them, made when first asked for.
        """
        if self._headers is None:
            self._headers = Headers()
            for name, value in self.fields:
                self._headers.addRawHeader(name, value)
        return self._headers

    def setPreviousResponse(self, response: IResponse) -> None:
        """
        Remember the answer before this one; we never follow redirects, callers above may.
        """
        self.previousResponse = response

    def whole(self) -> bytes | None:
        """
        The body, if all of it has come and nobody has taken it.
        """
        if self._ended is not _DONE or self._protocol is not None:
            return None
        return self.waiting[0] if len(self.waiting) == 1 else b"".join(self.waiting)

    def deliverBody(self, protocol: IProtocol) -> None:
        """
        Send what has come and all that comes to *protocol*.
        """
        if self.code == 101:  # noqa: PLR2004 - Switching Protocols
            if self._ended is not None:
                protocol.connectionLost(self._ended)
            elif self._stream is not None:
                self._stream.tunnel_to(protocol)
            return
        self._protocol = protocol
        protocol.makeConnection(self)  # type: ignore[arg-type]  # as much of a transport as a body needs
        self.deliver = protocol.dataReceived
        pieces, self.waiting = self.waiting, []
        for piece in pieces:
            protocol.dataReceived(piece)
        if self._ended is not None:
            protocol.connectionLost(self._ended)
        elif pieces and self._stream is not None:
            self._stream.hold(held=self._full)

    # What the connection calls.

    def end(self, reason: Failure = _DONE) -> None:
        """
        The body is complete, or will not be.
        """
        if self._ended is None:
            self._ended = reason
            self._stream = None
            if self._protocol is not None:
                self._protocol.connectionLost(reason)

    # What the consumer's side calls.

    def pauseProducing(self) -> None:
        """
        The consumer is full.
        """
        self._full = True
        if self._stream is not None:
            self._stream.hold(held=True)

    def resumeProducing(self) -> None:
        """
        The consumer has room.
        """
        self._full = False
        if self._stream is not None:
            self._stream.hold(held=False)

    def stopProducing(self) -> None:
        """
        Nobody wants the rest: close the connection.
        """
        self.abortConnection()

    def abortConnection(self) -> None:
        """
        Close the connection below at once; nothing more is delivered.
        """
        if self._stream is not None:
            self._stream.abort()

    loseConnection = abortConnection
