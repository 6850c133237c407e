"""
Connecting to a host that has several addresses: the first that answers is taken (RFC 8305).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IDelayedCall, IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.tcp import Connection as TCPConnection
from twisted.python.failure import Failure
from zope.interface import implementer

from dheera.wire.addresses import Host

HEAD_START_SECONDS = 0.25
"""
How long an address may take before the next one is tried beside it (RFC 8305 §8).
"""


@implementer(IStreamClientEndpoint)
class Port:
    """
    A port of a host.

    :param seconds: how long an attempt to connect to one address may take.
    """

    def __init__(self, reactor: IReactorTime, host: Host, port: int, seconds: Callable[[], float]) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._seconds = seconds

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - Twisted's name
        """
        Connect to the address that answers first.

        :return: fails with the reason why the last of them could not be reached.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        addresses = await self._host.addresses()
        return await _Race(self._reactor, self._host, addresses, self._attempt, factory).won

    def _attempt(self, address: str, factory: IProtocolFactory) -> Deferred[IProtocol]:
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        connecting = kind(self._reactor, address, self._port, timeout=self._seconds()).connect(factory)
        return connecting.addCallback(_alone)


def _alone(protocol: Any) -> IProtocol:
    """
    *protocol* without the endpoint's own between it and the socket: that has told of the connection, and would only
    pass each piece on.
    """
    if isinstance(protocol.transport, TCPConnection):
        protocol.transport.protocol = protocol
    return cast("IProtocol", protocol)


class _Race:
    """
    Attempts to connect to one address after the other, each with a head start before the next.

    :ivar won: fires with the first connection that is made; the others are given up. Cancelling it gives all up.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        host: Host,
        addresses: list[str],
        attempt: Callable[[str, IProtocolFactory], Deferred[IProtocol]],
        factory: IProtocolFactory,
    ) -> None:
        self.won: Deferred[IProtocol] = Deferred(self._give_up)
        self._reactor = reactor
        self._host = host
        self._left = addresses[::-1]
        self._attempt = attempt
        self._factory = factory
        self._running: dict[str, Deferred[IProtocol]] = {}
        self._next: IDelayedCall | None = None
        self._try_next()

    def _try_next(self) -> None:
        self._stop_waiting()
        address = self._left.pop()
        if self._left:
            self._next = self._reactor.callLater(HEAD_START_SECONDS, self._late)
        attempt = self._running[address] = self._attempt(address, self._factory)
        attempt.addCallbacks(self._connected, self._failed, callbackArgs=(address,), errbackArgs=(address,))

    def _late(self) -> None:
        self._next = None
        self._try_next()

    def _connected(self, protocol: IProtocol, address: str) -> None:
        del self._running[address]
        self._host.answered_at(address)
        for slower in self._running:
            self._host.silent_at(slower)
        self._end()
        self.won.callback(protocol)

    def _failed(self, reason: Failure, address: str) -> None:
        if self._running.pop(address, None) is None:
            return  # we gave it up ourselves
        self._host.silent_at(address)
        if self._left:
            self._try_next()
        elif not self._running:
            self._host.silent_everywhere()
            self.won.errback(reason)

    def _give_up(self, _: Deferred[IProtocol]) -> None:
        if not self._left:
            self._host.silent_everywhere()
        self._end()

    def _end(self) -> None:
        self._stop_waiting()
        running, self._running = self._running, {}
        for attempt in running.values():
            attempt.cancel()

    def _stop_waiting(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
