"""
An answer on its way out: one piece after another, no faster than the client reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

EVENT_SECONDS = 0.03
"""
Between two events, so that a stream can be seen to stream.
"""
SLICE_BYTES = 64 * 1024


class Outlet(Protocol):
    """
    Of a request, what a flow needs.
    """

    def write(self, data: bytes, /) -> object:
        """
        Send one piece.
        """
        ...

    def registerProducer(self, producer: object, streaming: bool, /) -> object:  # noqa: FBT001 - Twisted's
        """
        Let *producer* be paused and resumed.
        """
        ...

    def unregisterProducer(self) -> object:
        """
        Nothing more comes.
        """
        ...


@implementer(IPushProducer)
@define(eq=False)
class Flow:
    """
    Writes *pieces*, with so many seconds between two of them, while the client keeps up.
    """

    _clock: IReactorTime
    _outlet: Outlet
    _pieces: Iterator[bytes]
    _seconds: float
    _paused: bool = field(init=False, default=False)
    _next: IDelayedCall | None = field(init=False, default=None)
    _done: Deferred[None] = field(init=False)

    def run(self) -> Deferred[None]:
        """
        Begin.

        :return: fires after the last piece. Cancelling it, which is what happens when the client
            leaves, stops the flow at once.
        """
        self._done = Deferred(lambda _: self._wait())
        self._outlet.registerProducer(self, True)  # noqa: FBT003 - Twisted's signature
        self._send()
        return self._done

    def pauseProducing(self) -> None:
        """
        The client does not keep up.
        """
        self._paused = True
        self._wait()

    def resumeProducing(self) -> None:
        """
        The client has caught up.
        """
        self._paused = False
        if self._next is None and not self._done.called:
            self._next = self._clock.callLater(self._seconds, self._send)

    def stopProducing(self) -> None:
        """
        The connection is gone.
        """
        self.pauseProducing()

    def _wait(self) -> None:
        upcoming, self._next = self._next, None
        if upcoming is not None:
            upcoming.cancel()

    def _send(self) -> None:
        self._next = None
        try:
            piece = next(self._pieces, None)
        except Exception:  # noqa: BLE001 - whoever awaits the flow logs it
            self._outlet.unregisterProducer()
            self._done.errback()
            return
        if piece is None:
            self._outlet.unregisterProducer()
            self._done.callback(None)
            return
        self._outlet.write(piece)
        if not self._paused and not self._done.called:
            self._next = self._clock.callLater(self._seconds, self._send)


def slices(body: bytes) -> Iterator[bytes]:
    """
    *body* in pieces of 64 KiB.
    """
    view = memoryview(body)
    return (bytes(view[i : i + SLICE_BYTES]) for i in range(0, len(body), SLICE_BYTES))
