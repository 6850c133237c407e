"""
The whole house wired on one page. Knows every concrete class; nobody imports it but the two ways in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.resource import Resource

from dheera import config as configuration
from dheera.accounts import make_accounts
from dheera.allowances.room import Allowances
from dheera.boundaries import Gate
from dheera.call_ids import new_call_id
from dheera.choices import node_of, read_all, read_choices, tools_for
from dheera.config import ConfigurationError
from dheera.customers import EndUsers
from dheera.entities import now
from dheera.gate import make_key_gate
from dheera.keys import SHORTEST, Digest, Secret, digest
from dheera.lifecycle import InOrder, Room
from dheera.limits import Limits
from dheera.management.authority import KeyAuthority
from dheera.management.catalogue import ROUTES
from dheera.management.routes import Office
from dheera.metrics import Level
from dheera.open_gate import OpenGate
from dheera.proxy.affording import Affording
from dheera.proxy.exchange import CALL_ID, Exchanges
from dheera.proxy.target import parse_base
from dheera.proxy.upstream import Upstream
from dheera.rooms import BACKLOG, Demo, Directory, Door, Finishing, Front, Pool
from dheera.run import RunByTwistd, endpoint_problems, raise_file_limit
from dheera.settings import Config, Listen
from dheera.sinks.courier import HttpCourier
from dheera.stores import make_stores, place_of
from dheera.web.api import Branch
from dheera.web.guarded import Guarded
from dheera.web.health import Watch
from dheera.web.management import management
from dheera.web.metrics import MetricsPage
from dheera.web.root import make_root
from dheera.wire.certificate import ReloadingCertificate
from dheera.wire.client import Agent
from dheera.wire.headroom import Headroom
from dheera.wire.heads import Fields
from dheera.wire.server import Server

log = Logger()

DEMO_LINES = """
This is the demo: a stand-in answers, nothing leaves this machine. Try:

  curl BASE/mistral/v1/models
  curl BASE/mistral/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"model": "mistral-small-latest", "messages": [{"role": "user", "content": "Hello!"}]}'
  curl -N BASE/mistral/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"model": "mistral-small-latest", "stream": true, "messages": [{"role": "user", "content": "Hello!"}]}'
"""

DEMO_KEY_LINES = """
A master key is set, so each of these needs a key, as -H 'Authorization: Bearer KEY'. Make one (kept in PLACE):

  curl -X POST BASE/key/generate -H "Authorization: Bearer $DHEERA_AI_MASTER_KEY" -d '{}'
"""


def build(reactor: Any, config: Config, announce: Callable[[str], None]) -> InOrder:
    """
    The daemon that *config* describes.

    :param announce: told where it serves, one text at a time.
    :raises ConfigurationError: with all that is wrong.
    """
    courier = HttpCourier(reactor, now)
    tools = tools_for(reactor, config, os.environ, courier)

    def observe(work: str, seconds: float) -> None:
        accounts.metrics.store_took(work, seconds)

    stores, choices = read_all(
        lambda: make_stores(reactor, config, os.environ, observe), lambda: read_choices(config, os.environ, tools)
    )
    store = stores.directory
    log.info("Keys and the ledger are kept in {place}", place=place_of(config, os.environ))
    gate: Gate = OpenGate(to_network=config.listen.open_to_network)
    if config.master_key is not None:
        gate = make_key_gate(reactor, store, config.master_key, config.keys)
    agent = Agent(reactor, config.client_limits, _trust(config))
    key = Secret("demo") if config.demo else config.mistral.api_key
    upstream = Upstream(agent, parse_base(config.mistral.api_base), key)
    site = Server(reactor, Branch(), config.server_limits, _stamp)

    def levels() -> Iterator[Level]:
        yield Level(name="client_connections", value=site.connections)
        yield Level(name="upstream_connections", labels=("idle",), value=agent.idle_connections)
        yield Level(name="store_away", value=store.is_away())

    accounts = make_accounts(reactor, config, choices, courier=courier, books=stores.books, levels=[levels])
    trusted, headroom = config.listen.trusted_proxies, Headroom(config.keys.inspected_together_bytes)
    allowances = Allowances(
        reactor,
        stores.allowances,
        config.allowances,
        lives=accounts.lives,
        node=node_of(config),
        alert=accounts.alert,
    )
    end_users = EndUsers(reactor, store, config.end_user_limits)
    exchanges = Exchanges(
        gate,
        upstream,
        accounts.accountant,
        config.keys.inspected_bytes,
        headroom,
        trusted,
        affording=Affording(
            allowances,
            end_users,
            Limits.of_settings(config.proxy_limits),
            choices.prices,
            config.allowances,
            config.keys.inspected_bytes,
            headroom,
            now,
        ),
        finishes=config.allowances.on_client_left == "finish",
    )
    watch = Watch(
        draining=lambda: site.draining,
        store=store,
        spool_problem=accounts.problem,
        in_flight=lambda: accounts.metrics.in_flight,
        services=accounts.services,
    )
    authority = KeyAuthority(gate, store)
    office = Office(
        store=store,
        books=stores.books,
        allowances=stores.allowances,
        now=now,
        proxy_limits=config.proxy_limits,
        strict_fields=config.keys.strict_fields,
        reserved=_reserved(config),
    )

    def guard(page: Resource) -> Resource:
        return Guarded(page, authority, trusted)

    metrics: Resource = MetricsPage(accounts.metrics)
    site.resource = make_root(
        exchanges,
        watch,
        management(office, authority, ROUTES, trusted),
        guard(metrics) if config.metrics.auth == "admin" else metrics,
        guard,
    )
    doors = _doors(reactor, config.listen)
    front = Front(reactor, site, doors, config.drain_seconds, announce, _demo_lines(config))
    demo = [Demo(reactor, upstream)] if config.demo else []
    rooms: list[Room] = [
        *(Directory(store), *accounts.rooms, end_users, allowances, Pool(upstream), *demo),
        *(Finishing(reactor, exchanges, config.drain_seconds), front),
    ]
    log.info(gate.describe())
    _warn(config)
    return InOrder(rooms)


def _reserved(config: Config) -> frozenset[Digest]:
    return frozenset() if config.master_key is None else frozenset({digest(config.master_key.reveal().encode())})


def _demo_lines(config: Config) -> str:
    if not config.demo:
        return ""
    if config.master_key is None:
        return DEMO_LINES
    return DEMO_LINES + DEMO_KEY_LINES.replace("PLACE", place_of(config, os.environ))


def _warn(config: Config) -> None:
    if config.mistral.api_key is None and not config.demo:
        log.warn("No upstream key: set MISTRAL_API_KEY. Until then each call is answered with 503.")
    if config.master_key is None:
        if config.store.url is not None:
            log.warn("DATABASE_URL is set, but no master key: virtual keys are neither made nor checked.")
    elif len(config.master_key.reveal()) < SHORTEST:
        log.warn(
            "The master key is short: whoever guesses it may do everything. Make a long one: "
            "python3 -c 'import secrets; print(\"sk-\" + secrets.token_urlsafe(24))'"
        )


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
    The daemon for ``twistd dheera``. It says where it serves in twistd's log; if it cannot start, the process ends with
    exit code 1.
    """
    from twisted.internet import reactor

    raise_file_limit()
    try:
        rooms = build(reactor, options.config, lambda text: log.info("{text}", text=text))
    except ConfigurationError as error:
        raise SystemExit(f"dheera: {error}") from None
    return RunByTwistd(reactor, rooms, {} if options.parent is None else options.parent)
