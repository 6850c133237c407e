"""
A request body on its way in: pieces arrive from the parser and leave for one consumer, with back-pressure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred, fail, succeed
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from dheera.errors import BodyTooLarge, ClientLeft, Refusal, Unavailable
from dheera.wire.headroom import Headroom, Holding

Watcher: TypeAlias = Callable[[bytes], object]


class Consumer(Protocol):
    """
    Where a body goes: of Twisted's ``Consumer``, the part that a body needs.
    """

    def write(self, piece: bytes, /) -> object:
        """
        Take one piece.
        """
        ...


class Source(Protocol):
    """
    Where a body comes from: the channel that reads it.
    """

    def body_wanted(self) -> None:
        """
        Somebody takes the body from now on: read, and say ``100 Continue`` if the client waits for it.
        """
        ...

    def body_paused(self, *, paused: bool) -> None:
        """
        The consumer can (not) take more.
        """
        ...


@implementer(IBodyProducer)
class RequestBody:
    """
    The body of one request. What arrives before somebody wants it is kept, and the channel stops reading meanwhile,
    so that no more than one read's worth is ever here.

    ``length`` is the number of bytes that the client announced, or ``UNKNOWN_LENGTH`` for a chunked body.
    """

    def __init__(self, source: Source, length: int | None) -> None:
        self.length = UNKNOWN_LENGTH if length is None else length
        self.received = 0
        self.complete = False
        self._source = source
        self._pieces: list[bytes] = []
        self._consumer: Consumer | None = None
        self._finished: Deferred[None] | None = None
        self._unwanted = False
        self._lost = False
        self._watcher: Watcher | None = None
        self._holding: Holding | None = None

    @property
    def waiting(self) -> bool:
        """
        Bytes are here that nobody has wanted yet.
        """
        return self._consumer is None and not self._unwanted and bool(self._pieces)

    def whole(self) -> bytes | None:
        """
        The body, if all of it is here and nobody has begun to take it. It can be asked for again: a request on a
        stale connection is sent once more.
        """
        if self._consumer is not None or not self.complete:
            return None
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0] if self._pieces else b""

    def gather(self, limit: int, headroom: Headroom | None = None) -> Deferred[bytes]:
        """
        All of the body, which then is here for whoever takes it next, as if it had come at once. Until the Deferred
        has fired nobody else may take it; if it fails, nobody can.

        :param limit: bytes that will be kept.
        :param headroom: where they are counted until `release`, unless the body is here already. The length that the
            client announced counts at once, a chunked body as it comes.
        :return: fails with ``BodyTooLarge`` as soon as the body is known to be larger, and with ``Unavailable`` as soon
            as there is no room (if the length was announced, before the client is asked to send); with ``ClientLeft``
            if the client goes before. To cancel is to stop the body.
        """
        size = self.received if self.complete else self.length
        if isinstance(size, int) and size > limit:
            return fail(BodyTooLarge(too_large(limit)))
        whole = self.whole()
        if whole is not None:
            return succeed(whole)
        self.release()
        self._holding = None if headroom is None else headroom.hold()
        if self._holding is not None and isinstance(self.length, int):
            try:
                self._holding.grow(self.length)
            except Unavailable as full:
                return fail(full)
        collector = _Collector(self, limit, self._holding)
        self.startProducing(collector).chainDeferred(collector.done)
        return collector.done.addCallback(lambda _: self._keep(collector.pieces))

    def release(self) -> None:
        """
        The body has gone on, or will not: nothing that `gather` kept counts any more. Harmless when repeated.
        """
        if self._holding is not None:
            self._holding.give_back()
            self._holding = None

    def watch(self, watcher: Watcher) -> None:
        """
        Let *watcher* see what is here, and each piece that comes, after it has gone on. It must not raise.
        """
        for piece in self._pieces:
            watcher(piece)
        self._watcher = watcher

    def _keep(self, pieces: list[bytes]) -> bytes:
        whole = b"".join(pieces)
        self._consumer = None
        self._pieces = [whole] if whole else []
        return whole

    # What the channel calls.

    def come(self, whole: bytes) -> None:
        """
        All of it came with the head.
        """
        self.received = len(whole)
        self._pieces.append(whole)
        self.complete = True

    def deliver(self, piece: bytes) -> None:
        """
        A piece has arrived.
        """
        self.received += len(piece)
        if self._consumer is not None:
            self._consumer.write(piece)
        elif not self._unwanted:
            self._pieces.append(piece)
        if self._watcher is not None:
            self._watcher(piece)

    def end(self) -> None:
        """
        That was all.
        """
        self.complete = True
        finished, self._finished = self._finished, None
        if finished is not None:
            finished.callback(None)

    def lose(self) -> None:
        """
        The client has gone before the body was complete.
        """
        self._lost = True
        self.release()
        finished, self._finished = self._finished, None
        if finished is not None:
            finished.errback(ClientLeft())

    # What the consumer's side calls.

    def startProducing(self, consumer: Consumer) -> Deferred[None]:
        """
        Hand all pieces to *consumer*.

        :return: fires after the last one; fails with ``ClientLeft`` if the client goes before.
        """
        finished: Deferred[None] = Deferred(lambda _: self.stopProducing())
        if self._lost:
            finished.errback(ClientLeft())
            return finished
        self._consumer = consumer
        self._finished = finished
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            if not self._unwanted:
                consumer.write(piece)
        if self.complete:
            self.end()
        elif not self._unwanted:
            self._source.body_wanted()
        return finished

    def pauseProducing(self) -> None:
        """
        The consumer is full.
        """
        if not self.complete:
            self._source.body_paused(paused=True)

    def resumeProducing(self) -> None:
        """
        The consumer has room.
        """
        if not self.complete:
            self._source.body_paused(paused=False)

    def stopProducing(self) -> None:
        """
        Nobody wants the rest: what still arrives is dropped.
        """
        self._consumer = None
        self._finished = None
        self._unwanted = True
        self._pieces = []
        self.release()
        self.resumeProducing()


class _Collector:
    """
    A consumer that keeps what it is given, up to a limit and as far as there is room.
    """

    def __init__(self, body: RequestBody, limit: int, holding: Holding | None) -> None:
        self.pieces: list[bytes] = []
        self.done: Deferred[None] = Deferred(lambda _: body.stopProducing())
        self._body = body
        self._limit = limit
        self._holding = holding
        self._size = 0

    def write(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            self._refuse(BodyTooLarge(too_large(self._limit)))
            return
        if self._holding is not None:
            try:
                self._holding.grow(self._size)
            except Unavailable as full:
                self._refuse(full)
                return
        self.pieces.append(piece)

    def _refuse(self, refusal: Refusal) -> None:
        self.pieces = []
        self._body.stopProducing()
        self.done.errback(refusal)


def too_large(limit: int) -> str:
    """
    The sentence for a body of more than *limit* bytes.
    """
    return f"The request body is larger than the limit of {limit} bytes: send less, or raise the limit."


async def read(body: RequestBody | None, limit: int) -> bytes:
    """
    All of *body* at once, for answers of our own.

    :raises BodyTooLarge: it has more than *limit* bytes.
    :raises ClientLeft: the client went before all of it had come.
    """
    return b"" if body is None else await body.gather(limit)
