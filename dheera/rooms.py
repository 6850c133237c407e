"""
The rooms that are opened and closed: store, pool of connections, demo, and the front with its doors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger

from dheera.boundaries import Store
from dheera.lifecycle import Hurry
from dheera.ports import BACKLOG, Ports
from dheera.proxy.capacity import Capacity
from dheera.proxy.exchange import Departed
from dheera.proxy.target import Base, parse_base
from dheera.settings import Config
from dheera.sockets import in_url
from dheera.trust import Agents
from dheera.wire.certificate import ReloadingCertificate
from dheera.wire.limits import ServerLimits
from dheera.wire.server import Server

log = Logger()

GRACE_SECONDS = 1.0
HANDOVER_SECONDS = 5.0
"""
How long connections that are open when others take over are served, at least: who calls within that time learns from
the answer that it has to connect anew.
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
        return factory if self.certificate is None else self.certificate.before(factory)


@define(eq=False)
class Pool:
    """
    The connections to upstream.
    """

    _agents: Agents

    async def open(self) -> None:
        """
        Nothing to do: connections are made when they are needed.
        """

    async def close(self) -> None:
        """
        Close what is kept.
        """
        self._agents.close()


@define(eq=False)
class Demo:
    """
    The stand-in for Mistral, on a port of its own that only this machine reaches.

    :ivar turn: told its address when it is open.
    :ivar base: its address; ``None`` until it is open.
    """

    _reactor: Any
    turn: Callable[[Base], None] = field(default=lambda _: None, init=False)
    base: Base | None = field(default=None, init=False)
    _port: IListeningPort | None = field(default=None, init=False)

    async def open(self) -> None:
        """
        Listen, and turn upstream here.
        """
        from dheera.demo import demo_root  # noqa: PLC0415 - the others start without its modules

        site = Server(self._reactor, demo_root(self._reactor), ServerLimits())
        self._port = self._reactor.listenTCP(0, site, backlog=BACKLOG, interface="127.0.0.1")
        address: Any = self._port.getHost()
        self.base = parse_base(f"http://127.0.0.1:{address.port}")
        self.turn(self.base)

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

    _departed: Departed
    _drain: Drain

    async def open(self) -> None:
        """
        Nothing to do.
        """

    async def close(self) -> None:
        """
        Let them finish within the drain time, then end the rest.
        """
        if self._departed.count:
            self._drain.begin()
        await self._departed.close(self._drain.over)
        self._drain.end()


@define(eq=False)
class Drain:
    """
    The time that exchanges are given when dheera stops: up to the drain time, or until there is a hurry.

    :param settings: those in force.
    :ivar over: whether it is.
    """

    _reactor: Any
    _settings: Callable[[], Config]
    _hurry: Hurry
    over: Hurry = field(factory=Hurry, init=False)
    _limit: Deferred[None] | None = field(default=None, init=False)

    async def grace(self) -> None:
        """
        Go on for a moment: clients that were let in last have their request on its way.
        """
        await self._hurry.within(self._reactor, GRACE_SECONDS)

    async def delay(self) -> None:
        """
        Go on as long as the settings say, unless there is a hurry.
        """
        seconds = self._settings().stop_delay_seconds
        if seconds and not self._hurry.is_on:
            log.info("Stopping: serving for {seconds:g} s yet, so that others learn of it", seconds=seconds)
            await self._hurry.within(self._reactor, seconds)

    async def hand_over(self, emptied: Deferred[None]) -> None:
        """
        Go on for those who are connected, while others serve new clients: until *emptied* fires, but not for long.
        """
        seconds = max(self._settings().stop_delay_seconds, HANDOVER_SECONDS)
        waiting = self._hurry.within(self._reactor, seconds)
        waiting.addErrback(lambda failure: failure.trap(CancelledError))
        emptied.addCallback(lambda _: waiting.cancel())
        await waiting

    def begin(self) -> None:
        """
        From now on.
        """
        if self._limit is None:
            seconds = self._settings().drain_seconds
            log.info("Stopping: waiting up to {seconds:g} s for open exchanges", seconds=seconds)
            self._limit = self._hurry.within(self._reactor, seconds)
            self._limit.addCallbacks(lambda _: self.over.begin(), lambda failure: failure.trap(CancelledError))

    def end(self) -> None:
        """
        All exchanges are over.
        """
        if self._limit is not None:
            self._limit.cancel()


@define(eq=False)
class Front:
    """
    The listeners, and the exchanges that came through them.

    :param ports: what the doors are opened with.
    :ivar is_succeeded: another process listens at the same doors.
    """

    _site: Server
    _capacity: Capacity
    _ports: Ports
    _doors: Sequence[Door]
    _drain: Drain
    _announce: Callable[[str], None]
    _epilogue: str = ""
    is_succeeded: bool = field(default=False, init=False)
    addresses: list[str] = field(factory=list, init=False)
    _open: list[IListeningPort] = field(factory=list, init=False)

    async def open(self) -> None:
        """
        Listen at all doors, then tell where.
        """
        try:
            for door in self._doors:
                port = await door.endpoint.listen(door.dress(self._site))
                self._open.append(port)
                self.addresses.append(in_url(door.scheme, port.getHost()))
        except BaseException:
            await self._shut()
            raise
        self._ports.close_rest()
        for address in self.addresses:
            self._announce(f"RUNNING on {address}")
        if self._epilogue:
            path = self.addresses[0].removeprefix("unix:")
            base = self.addresses[0] if path == self.addresses[0] else f"--unix-socket {path} http://localhost"
            self._announce(self._epilogue.replace("BASE", base))

    def let_go(self, successor: int | None) -> None:
        """
        Take no more connections: others do, from the same sockets.

        :param successor: the number of the process that looks after their paths from now on; ``None`` if this one never
            did.
        """
        self.is_succeeded = True
        self._ports.let_go(successor)

    async def close(self) -> None:
        """
        Tell that it is over while still serving, then listen no longer, let the exchanges finish within the drain time,
        and end the rest visibly.
        """
        self._site.leave()
        if self.is_succeeded:
            await self._drain.hand_over(self._site.emptied())
        else:
            await self._drain.delay()
            await self._shut()
            if self._site.newcomers:
                await self._drain.grace()
        drained = self._site.drain()
        if not drained.called:
            self._drain.begin()
            ending = self._drain.over.wait()
            ending.addCallbacks(lambda _: self._end(), lambda failure: failure.trap(CancelledError))
            await drained
            ending.cancel()

    def _end(self) -> None:
        self._capacity.close()  # else the places that become free go to those who wait, only to be cut
        self._site.end()

    async def _shut(self) -> None:
        while self._open:
            await maybeDeferred(self._open.pop().stopListening)
