"""
The rooms that are opened and closed: store, pool of connections, demo, and the front with its doors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from dheera.boundaries import Store
from dheera.demo import demo_root
from dheera.proxy.exchange import Exchanges
from dheera.proxy.target import parse_base
from dheera.proxy.upstream import Upstream
from dheera.wire.certificate import ReloadingCertificate
from dheera.wire.limits import ServerLimits
from dheera.wire.server import Server

log = Logger()

BACKLOG = 4096
"""
Connections that the kernel keeps for us until we take them.
"""


@define(eq=False)
class Directory:
    """
    Keys, and whom they belong to.
    """

    _store: Store

    async def open(self) -> None:
        """
        Connect, and bring the schema up to date.
        """
        await self._store.open()

    async def close(self) -> None:
        """
        Finish what is being written.
        """
        await self._store.close()


@frozen
class Door:
    """
    One place to listen at.

    :param scheme: what clients speak there.
    """

    endpoint: IStreamServerEndpoint
    scheme: str
    certificate: ReloadingCertificate | None = None

    def dress(self, factory: IProtocolFactory) -> IProtocolFactory:
        """
        *factory*, behind TLS if the certificate is ours to show.
        """
        if self.certificate is None:
            return factory
        return TLSMemoryBIOFactory(self.certificate, isClient=False, wrappedFactory=factory)


@define(eq=False)
class Pool:
    """
    The connections to upstream.
    """

    _upstream: Upstream

    async def open(self) -> None:
        """
        Nothing to do: connections are made when they are needed.
        """

    async def close(self) -> None:
        """
        Close what is kept.
        """
        self._upstream.close()


@define(eq=False)
class Demo:
    """
    The stand-in for Mistral, on a port of its own that only this machine reaches.
    """

    _reactor: Any
    _upstream: Upstream
    _port: IListeningPort | None = None

    async def open(self) -> None:
        """
        Listen, and turn upstream to it.
        """
        site = Server(self._reactor, demo_root(self._reactor), ServerLimits())
        self._port = self._reactor.listenTCP(0, site, backlog=BACKLOG, interface="127.0.0.1")
        address: Any = self._port.getHost()
        self._upstream.base = parse_base(f"http://127.0.0.1:{address.port}")

    async def close(self) -> None:
        """
        Listen no longer.
        """
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)


@define(eq=False)
class Finishing:
    """
    The exchanges whose clients have left, and whose answers are read all the same.
    """

    _reactor: Any
    _exchanges: Exchanges
    _drain_seconds: float

    async def open(self) -> None:
        """
        Nothing to do.
        """

    async def close(self) -> None:
        """
        Let them finish within the drain time, then end the rest.
        """
        await self._exchanges.close(self._drain_seconds, self._reactor)


@define(eq=False)
class Front:
    """
    The listeners, and the exchanges that came through them.
    """

    _reactor: Any
    _site: Server
    _doors: Sequence[Door]
    _drain_seconds: float
    _announce: Callable[[str], None]
    _epilogue: str = ""
    _ports: list[IListeningPort] = field(factory=list)

    async def open(self) -> None:
        """
        Listen at all doors, then tell where.
        """
        addresses = []
        try:
            for door in self._doors:
                port = await door.endpoint.listen(door.dress(self._site))
                self._ports.append(port)
                addresses.append(_url(door.scheme, port.getHost()))
        except BaseException:
            await self._shut()
            raise
        for address in addresses:
            self._announce(f"RUNNING on {address}")
        if self._epilogue:
            path = addresses[0].removeprefix("unix:")
            base = addresses[0] if path == addresses[0] else f"--unix-socket {path} http://localhost"
            self._announce(self._epilogue.replace("BASE", base))

    async def close(self) -> None:
        """
        Listen no longer, let the exchanges finish within the drain time, then end the rest visibly.
        """
        await self._shut()
        drained = self._site.drain()
        if not drained.called:
            log.info("Stopping: waiting up to {seconds:g} s for open exchanges", seconds=self._drain_seconds)
        too_late = self._reactor.callLater(self._drain_seconds, self._site.end)
        await drained
        if too_late.active():
            too_late.cancel()

    async def _shut(self) -> None:
        while self._ports:
            await maybeDeferred(self._ports.pop().stopListening)


def _url(scheme: str, address: IAddress) -> str:
    if isinstance(address, UNIXAddress):
        return f"unix:{os.fsdecode(address.name or b'')}"
    host = getattr(address, "host", "")
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{getattr(address, 'port', '')}"
