"""
A client of ours before an upstream that is a script of bytes, in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from dheera.wire.body import RequestBody
from dheera.wire.client import Agent
from dheera.wire.heads import Fields
from dheera.wire.limits import ClientLimits
from dheera.wire.outgoing import Origin, Outgoing, written
from dheera.wire.response import Response
from tests.network import UPSTREAM_HOST, UPSTREAM_PORT, Network, Script

ORIGIN = Origin("http", UPSTREAM_HOST, UPSTREAM_PORT, b"10.0.0.9:8000")
OK = b"HTTP/1.1 200 OK\r\n"


class Caller:
    """
    An agent, its network and upstream's script.
    """

    def __init__(self, limits: ClientLimits | None = None) -> None:
        self.network = Network()
        self.script = Script(self.network)
        self.network.listen(self.script)
        self.agent = Agent(self.network, limits or ClientLimits())

    def send(
        self,
        method: bytes = b"GET",
        fields: Sequence[tuple[bytes, bytes]] = (),
        body: IBodyProducer | None = None,
        informed: Callable[[int, bytes, Fields], None] | None = None,
        origin: Origin = ORIGIN,
    ) -> Deferred[Response]:
        """
        Send a request.
        """
        answered = self.agent.send(
            Outgoing(
                origin=origin, method=method, lines=written(origin, method, b"/", fields), body=body, informed=informed
            )
        )
        self.network.settle()
        return answered

    def hear(self, *pieces: bytes) -> None:
        """
        Upstream says something.
        """
        for piece in pieces:
            self.script.last.send(piece)

    def idle(self) -> int:
        """
        How many connections are kept.
        """
        return sum(map(len, self.agent._idle.values()))


class Body(Protocol):
    """
    What has come of a body.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.reason: Failure | None = None

    @property
    def received(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def whole(self) -> bool:
        return self.reason is not None and self.reason.check(ResponseDone) is not None

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert self.reason is None, "a body ends once"
        self.reason = reason


class Full(Body):
    """
    Takes nothing more after each piece.
    """

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.pauseProducing()  # type: ignore[union-attr]  # a response is one


def body_of(response: Response) -> Body:
    """
    The body of *response*, as far as it has come; the rest will follow.
    """
    body = Body()
    response.deliverBody(body)
    return body


@implementer(IBodyProducer)
class Upload:
    """
    A request body that is sent as a test says.
    """

    def __init__(self, length: Any = UNKNOWN_LENGTH) -> None:
        self.length = length
        self.paused = False
        self.stopped = False
        self.consumer: Any = None
        self.finished: Deferred[None] = Deferred(lambda _: self.stopProducing())

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self.consumer = consumer
        return self.finished

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.stopped = True


class NoSource:
    """
    Where a body comes from that is here already.
    """

    def body_wanted(self) -> None:
        """
        It is here.
        """

    def body_paused(self, *, paused: bool) -> None:
        """
        It is here.
        """


def whole(content: bytes, *, chunked: bool = False) -> RequestBody:
    """
    A body that is all here.
    """
    body = RequestBody(NoSource(), None if chunked else len(content))
    if content:
        body.deliver(content)
    body.end()
    return body
