"""
A network in memory, and the reactor that has it: back-pressure, orderly ends and resets, and a clock that the test
turns.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, UserError
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableDescriptor,
    IPushProducer,
    IReactorPluggableNameResolver,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

UPSTREAM_HOST = "10.0.0.9"
UPSTREAM_PORT = 8000
LOCAL = IPv4Address("TCP", "127.0.0.1", 50000)
READ_BYTES = 65536
"""
What Twisted reads at once, and what may wait to be written before a producer is paused.
"""


@implementer(ITCPTransport, IHalfCloseableDescriptor, IConsumer, IPushProducer)
class End:
    """
    One end of a connection in memory, as a TCP transport of Twisted's behaves: what is written waits until the other
    end reads, a producer is paused when too much waits, and the end of a connection is noticed by who reads or writes.
    """

    def __init__(self, network: Network, host: IAddress, peer: IAddress) -> None:
        self.other: End
        self.protocol: Any = None
        self.queued = bytearray()
        self.most_queued = 0
        self.connected = True
        self.disconnecting = False
        self.reading = True
        self.producer: Any = None
        self._network = network
        self._addresses = host, peer
        self._producer_paused = False
        self._write_closed = False
        self._news: Failure | None = None
        self._last: Failure | None = None

    # What Twisted's transports have.

    def write(self, data: bytes) -> None:
        if not self.connected or self._write_closed or not data:
            return
        self.queued += data
        self.most_queued = max(self.most_queued, len(self.queued))
        if self.producer is not None and len(self.queued) > READ_BYTES:
            self._producer_paused = True
            self.producer.pauseProducing()

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        self.write(b"".join(pieces))

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001 - Twisted's signature
        assert streaming
        assert self.producer is None, "a producer is registered already"
        if self.connected:
            self.producer, self._producer_paused = producer, False
        else:
            producer.stopProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        if self.connected and not self.disconnecting:
            self.reading = True

    def stopProducing(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        if self.connected and not self.disconnecting:
            self.reading, self.disconnecting = False, True

    def loseWriteConnection(self) -> None:  # noqa: N802 - Twisted's name
        self._write_closed = True

    def abortConnection(self) -> None:
        if self.connected and self._last is None:
            self._last = Failure(ConnectionAborted())
            self.queued.clear()
            self.other.told(Failure(ConnectionLost()))

    def readConnectionLost(self, reason: Failure) -> None:
        """
        What Twisted's reactors call; ours does not.
        """

    def writeConnectionLost(self, reason: Failure) -> None:
        """
        What Twisted's reactors call; ours does not.
        """

    def getPeer(self) -> Any:
        return self._addresses[1]

    def getHost(self) -> Any:
        return self._addresses[0]

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: FBT001, N802 - Twisted's signature
        """
        Nothing is delayed here.
        """

    def setTcpKeepAlive(self, enabled: bool) -> None:  # noqa: FBT001, N802 - Twisted's signature
        self.kept_alive = enabled

    def getTcpNoDelay(self) -> bool:  # noqa: N802 - Twisted's name
        return True

    def getTcpKeepAlive(self) -> bool:  # noqa: N802 - Twisted's name
        return self.kept_alive

    # What the network does.

    def told(self, news: Failure) -> None:
        """
        The other end has closed (``ConnectionDone``) or reset the connection.
        """
        self._news = self._news or news
        if not news.check(ConnectionDone):
            self._news = news
            self.queued.clear()

    def move(self) -> bool:
        """
        Take one step.

        :return: whether anything happened.
        """
        if not self.connected:
            return False
        if self._last is not None:
            self.lose(self._last)
            return True
        if self._move_bytes():
            return True
        if self.producer is not None and self._producer_paused and not self.queued:
            self._producer_paused = False
            self.producer.resumeProducing()
            return True
        return self._move_ends()

    def _move_bytes(self) -> bool:
        other = self.other
        if not self.queued:
            return False
        if not other.connected or other.disconnecting:
            if other.connected:
                return False
            self.told(Failure(ConnectionLost()))
            return True
        if not other.reading:
            return False
        size = self._network.next_size()
        piece = bytes(self.queued[:size])
        del self.queued[:size]
        other.protocol.dataReceived(piece)
        return True

    def _move_ends(self) -> bool:
        if self._news is not None and (self.reading or self.queued or not self._news.check(ConnectionDone)):
            if not self.other.queued or not self._news.check(ConnectionDone):
                self.lose(self._news)
                return True
            return False
        if self.queued or self.producer is not None:
            return False
        if self.disconnecting:
            self.lose(Failure(ConnectionDone()))
            return True
        if self._write_closed and not self.other.heard_end:
            self.other.told(Failure(ConnectionDone()))
            return True
        return False

    @property
    def heard_end(self) -> bool:
        return self._news is not None or not self.connected

    def lose(self, reason: Failure) -> None:
        self.connected = self.reading = False
        self._network.ends.remove(self)
        if reason.check(ConnectionDone):
            self.other.told(reason)
        if self.producer is not None:
            producer, self.producer = self.producer, None
            producer.stopProducing()
        self.protocol.connectionLost(reason)


class Peer(Protocol):
    """
    Somebody at the far end of a connection who does only what a test says.
    """

    transport: End

    def __init__(self, network: Network) -> None:
        self.received = b""
        self.pieces: list[bytes] = []
        self.lost: Failure | None = None
        self._network = network

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    def send(self, data: bytes) -> None:
        """
        Send, and let everybody act on it.
        """
        self.transport.write(data)
        self._network.settle()

    def close(self) -> None:
        """
        Close in order.
        """
        self.transport.loseConnection()
        self._network.settle()

    def reset(self) -> None:
        """
        Close by a reset.
        """
        self.transport.abortConnection()
        self._network.settle()

    def stop_reading(self) -> None:
        self.transport.pauseProducing()

    def go_on_reading(self) -> None:
        self.transport.resumeProducing()
        self._network.settle()

    def taken(self) -> bytes:
        """
        What has come since this was asked last.
        """
        received, self.received = self.received, b""
        return received

    @property
    def ended(self) -> str:
        """
        How the connection ended, from here: ``"open"`` while it has not, ``"closed"`` in order, or ``"reset"``.
        """
        if self.lost is None:
            return "open"
        return "closed" if self.lost.check(ConnectionDone) else "reset"


class _Attempt:
    """
    A connection that is being made: of ``IConnector``, what endpoints use.
    """

    def __init__(self, host: str, port: int, factory: Any) -> None:
        self.address = IPv4Address("TCP", host, port)
        self.factory = factory
        self.given_up = False
        self.timer: Any = None

    def getDestination(self) -> IAddress:  # noqa: N802 - Twisted's name
        return self.address

    def stopConnecting(self) -> None:  # noqa: N802 - Twisted's name
        self.fail(UserError())

    def fail(self, reason: Exception) -> None:
        if not self.given_up:
            self.given_up = True
            if self.timer is not None and self.timer.active():
                self.timer.cancel()
            self.factory.clientConnectionFailed(self, Failure(reason))


@implementer(IReactorPluggableNameResolver)
class Network(Clock):
    """
    The reactor: a clock, names, listeners, and the connections between them.

    :ivar sizes: how many bytes each next read takes, in turn; everything that fits if there are none.
    :ivar silent: places where nobody answers when one connects.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver: Any = self
        self.ends: list[End] = []
        self.names: dict[str, list[str]] = {}
        self.sizes: list[int] = []
        self.silent: set[tuple[str, int]] = set()
        self.attempts: list[_Attempt] = []
        self._turn = 0
        self._listeners: dict[tuple[str, int], Any] = {}

    def next_size(self) -> int:
        if not self.sizes:
            return READ_BYTES
        self._turn += 1
        return self.sizes[self._turn % len(self.sizes)]

    def listen(self, factory: Any, host: str = UPSTREAM_HOST, port: int = UPSTREAM_PORT) -> None:
        self._listeners[host, port] = factory

    def connectTCP(  # noqa: N802 - Twisted's name
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30,
        bindAddress: Any = None,  # noqa: ARG002, N803
    ) -> _Attempt:
        attempt = _Attempt(host, port, factory)
        self.attempts.append(attempt)
        factory.doStart()
        factory.startedConnecting(attempt)
        if (host, port) in self.silent:
            attempt.timer = self.callLater(timeout, attempt.fail, error.TimeoutError())
        else:
            self.callLater(0, self._connect, attempt)
        return attempt

    def _connect(self, attempt: _Attempt) -> None:
        if attempt.given_up:
            return
        listener = self._listeners.get((attempt.address.host, attempt.address.port))
        if listener is None:
            attempt.fail(error.ConnectionRefusedError())
        else:
            attempt.given_up = True
            self.join(attempt.factory.buildProtocol(attempt.address), listener.buildProtocol(LOCAL), attempt.address)

    def join(self, client: Any, server: Any, address: IAddress, client_address: IAddress = LOCAL) -> None:
        """
        Connect two protocols.
        """
        near, far = End(self, client_address, address), End(self, address, client_address)
        near.other, far.other = far, near
        self.ends += [near, far]
        near.protocol, far.protocol = client, server
        server.makeConnection(far)
        client.makeConnection(near)

    def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0, *_: Any, **__: Any) -> Any:  # noqa: N802, N803
        """
        Names are known from ``names``.
        """
        receiver.resolutionBegan(None)
        for host in self.names.get(name, []):
            receiver.addressResolved(IPv4Address("TCP", host, portNumber))
        receiver.resolutionComplete()
        return receiver

    def installNameResolver(self, resolver: Any) -> Any:  # noqa: N802 - Twisted's name
        self.nameResolver = resolver

    def settle(self) -> None:
        """
        Let everybody act until there is nothing left to do without time passing.
        """
        moved = True
        while moved:
            self.advance(0)
            moved = False
            for end in [*self.ends]:
                moved = (end.connected and end.move()) or moved
            moved = moved or any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())

    def turn(self, seconds: int) -> None:
        """
        Let *seconds* pass, one after the other.
        """
        for _ in range(seconds):
            self.advance(1)
            self.settle()


class Script:
    """
    An upstream that does only what a test says: a listener that keeps its connections.
    """

    def __init__(self, network: Network) -> None:
        self.connections: list[Peer] = []
        self.reads = True
        self._network = network

    def buildProtocol(self, _address: IAddress) -> Peer:
        peer = Peer(self._network)
        self.connections.append(peer)
        return peer

    @property
    def last(self) -> Peer:
        return self.connections[-1]
