"""
A client's connection to a server in memory: real bytes, no network, a clock that the test turns.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IHalfCloseableDescriptor
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from dheera.errors import ClientLeft
from dheera.web.api import Branch
from dheera.wire.body import read
from dheera.wire.channel import Channel
from dheera.wire.heads import Fields
from dheera.wire.limits import ServerLimits
from dheera.wire.request import Request
from dheera.wire.server import Server
from tests.wire.reference import Answer, Asked, answers

READ_BYTES = 64 * 1024
"""
As much as Twisted takes from a socket at once.
"""


@implementer(IHalfCloseableDescriptor)
class Line(StringTransport):
    """
    A transport that does what a socket of Twisted's does as far as a channel can tell: closing takes effect only when
    what was written has been taken; a producer is paused while the client takes nothing; what the client sends while
    nobody reads waits outside.

    :param room: bytes that may be written before the producer is paused; they are all taken at once by ``take``.
    """

    def __init__(self, server: Server, address: IAddress | None = None, room: int = 1 << 30) -> None:
        super().__init__(peerAddress=address or IPv4Address("TCP", "192.0.2.1", 50000))  # type: ignore[no-untyped-call]  # Twisted's
        self.room = room
        self.reading = True
        self.blocked = False
        self.write_closed = False
        self.aborted = False
        self.lost = False
        self.pauses = 0
        self.too_late = b""
        self._underway: list[bytes] = []
        self.channel: Channel = server.buildProtocol(None)
        self.channel.makeConnection(self)

    # What the client does.

    def send(self, *pieces: bytes) -> None:
        """
        Send each piece so that it is read on its own, if somebody reads.
        """
        for piece in pieces:
            self._underway += [piece[at : at + READ_BYTES] for at in range(0, len(piece), READ_BYTES)]
            self.pump()

    def take(self) -> bytes:
        """
        Read everything that has been written.
        """
        data: bytes = self.value()
        self.clear()
        if self.blocked:
            self.blocked = False
            if self.producer is not None:
                self.producer.resumeProducing()
        self.pump()
        return data

    def answers(self, *methods: bytes) -> list[Answer]:
        """
        What has been written, understood. The last answer may be open-ended if the server has closed.
        """
        return answers(self.take(), *methods, closed=self.state != "open")

    def answer(self, method: bytes = b"GET") -> Answer:
        """
        The one answer that has been written.
        """
        [answer] = self.answers(method)
        return answer

    def hang_up(self) -> None:
        """
        Leave without a word.
        """
        self._lose(ConnectionLost())

    @property
    def unheard(self) -> int:
        """
        Bytes sent that nobody has read.
        """
        return sum(map(len, self._underway))

    @property
    def state(self) -> str:
        """
        How the client finds the connection.
        """
        self.pump()
        if self.lost:
            return "reset" if self.aborted else "closed"
        return "half-closed" if self.write_closed else "open"

    def pump(self) -> None:
        """
        Let pass what can pass.
        """
        while self._underway and self.reading and not self.lost and not self.disconnecting:
            self.channel.dataReceived(self._underway.pop(0))
        if self.lost or not self.disconnecting:
            return
        if self.aborted:
            self._lose(ConnectionAborted())
        elif not self.blocked:
            self._lose(ConnectionDone())

    def _lose(self, reason: Exception) -> None:
        if not self.lost:
            self.lost = self.disconnecting = True
            if self.producer is not None:
                self.producer.stopProducing()
            self.channel.connectionLost(Failure(reason))

    # What the channel does.

    def write(self, data: bytes) -> None:
        if self.write_closed or self.disconnecting:
            self.too_late += data
            return
        self.io.write(data)
        if len(self.value()) > self.room and self.producer is not None:
            self.blocked = True
            self.producer.pauseProducing()

    def pauseProducing(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False
        self.pauses += 1

    def resumeProducing(self) -> None:
        assert not self.reading, "resumed twice"
        self.reading = True

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseConnection(self) -> None:
        assert self.producer is None, "a producer that is paused would hold it open"
        self.disconnecting = True

    def loseWriteConnection(self) -> None:  # noqa: N802 - Twisted's name
        assert self.producer is None, "a producer that is paused would hold it open"
        self.write_closed = True

    def readConnectionLost(self, _reason: Failure) -> None:
        """
        Not told: a channel takes the end of what it reads for the end of all.
        """

    def writeConnectionLost(self, _reason: Failure) -> None:
        """
        Not told either.
        """

    def abortConnection(self) -> None:
        self.disconnecting = self.aborted = True


class Place(Branch):
    """
    The one resource of a server under test.

    :ivar requests: all requests that were rendered.
    :ivar asked: those whose bodies have been read to their end, by ``echo``.
    """

    isLeaf = True

    def __init__(self, render: Callable[[Request], bytes | int] | None = None) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.asked: list[Asked] = []
        self._render = render or self.echo

    def render(self, request: Request) -> bytes | int:  # type: ignore[override]  # NOT_DONE_YET is an int
        self.requests.append(request)
        return self._render(request)

    def echo(self, request: Request) -> int:
        """
        Answer with the body, when it is all here.
        """
        Deferred.fromCoroutine(self._echo(request)).addErrback(request.processingFailed)
        return NOT_DONE_YET

    async def _echo(self, request: Request) -> None:
        try:
            body = await read(request.body, 1 << 20)
        except ClientLeft:
            return
        self.asked.append(Asked(request.method, request.uri, [*request.fields], body))
        request.setHeader(b"Content-Length", b"%d" % len(body))
        request.write(body)
        request.finish()


def later(_request: Request) -> int:
    """
    Answer when the test does.
    """
    return NOT_DONE_YET


class Stand:
    """
    A server that stands in memory, with one resource.
    """

    def __init__(
        self,
        render: Callable[[Request], bytes | int] | None = None,
        limits: ServerLimits | None = None,
        stamp: Callable[[], Fields] = list,
    ) -> None:
        self.clock = Clock()
        self.place = Place(render)
        self.server = Server(self.clock, self.place, limits or ServerLimits(), stamp)

    def connect(self, address: IAddress | None = None, room: int = 1 << 30) -> Line:
        """
        A new connection.
        """
        return Line(self.server, address, room)

    def wait(self, seconds: float) -> None:
        """
        Let time pass, second by second.
        """
        self.clock.pump([1.0] * int(seconds))

    @property
    def request(self) -> Request:
        """
        The latest request.
        """
        return self.place.requests[-1]
