"""
The whole house wired on one page. Knows every concrete class; nobody imports it but the two ways in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from attrs import define, field, frozen
from twisted.application.service import IService, Service
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError
from twisted.web.client import BrowserLikePolicyForHTTPS

from dheera import config as configuration
from dheera.call_ids import new_call_id
from dheera.config import Config, ConfigurationError, Listen
from dheera.demo import demo_root
from dheera.gate import make_gate
from dheera.keys import Secret
from dheera.lifecycle import InOrder, Room
from dheera.proxy.exchange import CALL_ID, Exchanges
from dheera.proxy.target import parse_base
from dheera.proxy.upstream import Upstream
from dheera.run import endpoint_problems, raise_file_limit, settle_heap, start_problem
from dheera.web.api import Branch
from dheera.web.root import make_root
from dheera.wire.certificate import ReloadingCertificate
from dheera.wire.client import Agent
from dheera.wire.heads import Fields
from dheera.wire.limits import ServerLimits
from dheera.wire.server import Server

log = Logger()

BACKLOG = 4096
"""
Connections that the kernel keeps for us until we take them.
"""

DEMO_LINES = """
This is the demo: a stand-in answers, nothing leaves this machine. Try:

  curl BASE/mistral/v1/models
  curl BASE/mistral/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"model": "mistral-small-latest", "messages": [{"role": "user", "content": "Hello!"}]}'
  curl -N BASE/mistral/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"model": "mistral-small-latest", "stream": true, "messages": [{"role": "user", "content": "Hello!"}]}'
"""


def build(reactor: Any, config: Config, announce: Callable[[str], None]) -> InOrder:
    """
    The daemon that *config* describes.

    :param announce: told where it serves, one text at a time.
    """
    gate = make_gate(config.master_key, open_to_network=config.listen.open_to_network)
    agent = Agent(reactor, config.client_limits, _trust(config))
    key = Secret("demo") if config.demo else config.mistral.api_key
    upstream = Upstream(agent, parse_base(config.mistral.api_base), key)
    exchanges = Exchanges(gate, upstream)
    site = Server(reactor, Branch(), config.server_limits, _stamp)
    site.resource = make_root(exchanges, lambda: site.draining)
    doors = _doors(reactor, config.listen)
    front = Front(reactor, site, doors, config.drain_seconds, announce, DEMO_LINES if config.demo else "")
    rooms: list[Room] = [Pool(upstream), *([Demo(reactor, upstream)] if config.demo else []), front]
    log.info(gate.describe())
    if key is None:
        log.warn("No upstream key: set MISTRAL_API_KEY. Until then each call is answered with 503.")
    if config.database_url is not None:
        log.warn("DATABASE_URL is set; this version of dheera keeps nothing in a database yet.")
    return InOrder(rooms)


def _stamp() -> Fields:
    return [(CALL_ID, new_call_id().encode("ascii"))]


def _trust(config: Config) -> BrowserLikePolicyForHTTPS:
    """
    Whom TLS to upstream trusts: the system's authorities, or the operator's own bundle.
    """
    if config.mistral.ca_file is None:
        return BrowserLikePolicyForHTTPS()
    bundle = config.mistral.ca_file.read_bytes()
    begin = b"-----BEGIN CERTIFICATE-----"
    parts = [begin + part for part in bundle.split(begin)[1:]]
    return BrowserLikePolicyForHTTPS(trustRootFromCertificates([Certificate.loadPEM(part) for part in parts]))


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


def _doors(reactor: Any, listen: Listen) -> list[Door]:
    if listen.endpoints:
        return [
            Door(serverFromString(reactor, text), "https" if text.startswith(("ssl:", "tls:")) else "http")
            for text in listen.endpoints
        ]
    kind = TCP6ServerEndpoint if ":" in listen.host else TCP4ServerEndpoint
    endpoint = kind(reactor, listen.port, backlog=BACKLOG, interface=listen.host)
    if listen.tls_certificate is None:
        return [Door(endpoint, "http")]
    key = listen.tls_key or listen.tls_certificate
    return [Door(endpoint, "https", ReloadingCertificate(reactor, listen.tls_certificate, key))]


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


class Options(UsageOptions):
    """
    The options of ``twistd dheera``: those of ``dheera_ai``, in twistd's manner.
    """

    optParameters: ClassVar[list[list[str | None]]] = [
        ["host", None, None, "Address to listen on [default: 0.0.0.0]."],
        ["port", None, None, "Port to listen on [default: 4000]."],
        ["config", "c", None, "TOML file with settings; conf/dheera.toml shows them all."],
    ]
    optFlags: ClassVar[list[list[str | None]]] = [
        ["demo", None, "Serve from a built-in stand-in for Mistral: no key, no network."],
    ]

    def __init__(self) -> None:
        UsageOptions.__init__(self)
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """
        Twisted endpoint string to listen at, such as tcp:4000 or unix:/run/dheera.sock; may be given several times.
        """
        self["listen"].append(endpoint)

    def postOptions(self) -> None:
        """
        Read the configuration, so that what is wrong with it is told as twistd tells wrong options.

        :raises UsageError: it cannot be used.
        """
        said = {"host": self["host"], "port": self["port"], "listen": self["listen"], "demo": bool(self["demo"])}
        try:
            self.config = configuration.load(Path(self["config"]) if self["config"] else None, os.environ, said)
        except ConfigurationError as error:
            raise UsageError(str(error)) from error
        from twisted.internet import reactor  # twistd has chosen one by now

        problems = endpoint_problems(reactor, self.config.listen.endpoints)
        if problems:
            raise UsageError("\n".join(problems))


def makeService(options: Options) -> IService:
    """
    The daemon for ``twistd dheera``. It says where it serves in twistd's log; if it cannot start, the process ends.
    """
    from twisted.internet import reactor

    raise_file_limit()
    return _Daemon(build(reactor, options.config, lambda text: log.info("{text}", text=text)), reactor)


class _Daemon(Service):
    """
    Ends the process if the daemon cannot start: twistd itself would go on without it.
    """

    def __init__(self, rooms: InOrder, reactor: Any) -> None:
        self._rooms = rooms
        self._reactor = reactor
        self._failure: Failure | None = None

    def startService(self) -> None:
        """
        Open the rooms. What fails at once, as a port does that is taken, is raised: so twistd tells it to whoever
        started it, and exits 1.
        """
        Service.startService(self)
        self._rooms.startService().addCallbacks(lambda _: settle_heap(), self._give_up)
        if self._failure is not None:
            self._failure.raiseException()

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return self._rooms.stopService()

    def _give_up(self, failure: Failure) -> None:
        if failure.value is not None and not failure.check(CancelledError):
            self._failure = failure
            log.critical("dheera {problem}", problem=start_problem(failure.value))
            self._reactor.callWhenRunning(self._reactor.stop)
