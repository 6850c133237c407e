"""
The whole house put together on one page, and how it is started, changed and stopped. Knows every concrete class; nobody
imports it but the two ways in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.logger import Logger

from dheera.accounts import Levels, make_accounts
from dheera.allowances.room import Allowances
from dheera.call_ids import new_call_id
from dheera.choices import Choices, node_of, read_all, read_choices, tools_for
from dheera.crew import Crew
from dheera.customers import EndUsers
from dheera.daemon import Daemon, Reader
from dheera.entities import now
from dheera.furnishing import Walls, furnish, put_in_force
from dheera.lifecycle import Hurry, InOrder, Room
from dheera.metrics import Level
from dheera.notify import Notifier
from dheera.ports import BACKLOG, Ports
from dheera.proxy.capacity import Capacity
from dheera.proxy.exchange import CALL_ID, Departed
from dheera.proxy.upstreams import key_levels
from dheera.rooms import Demo, Directory, Door, Drain, Finishing, Front, Pool
from dheera.run import leave
from dheera.settings import Config, Listen
from dheera.sinks.courier import HttpCourier
from dheera.stores import make_stores, place_of
from dheera.succession import Succession
from dheera.supervisor.leash import orphaned
from dheera.supervisor.room import Supervisor, count
from dheera.trust import Agents
from dheera.web.api import Branch
from dheera.wire.certificate import ReloadingCertificate
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


def build(
    reactor: Any,
    config: Config,
    announce: Callable[[str], None],
    *,
    read: Reader | None = None,
    environment: MutableMapping[str, str] | None = None,
    command: Sequence[str] = (),
) -> Daemon:
    """
    The daemon that *config* describes.

    :param announce: told where it serves, one text at a time.
    :param read: reads the configuration anew.
    :param environment: of this process. What is said there to this process alone is taken out.
    :param command: starts this program anew, as it was started; if there is none nobody can take over.
    :raises ConfigurationError: with all that is wrong.
    """
    environment = os.environ if environment is None else environment
    hurry = Hurry()
    ports, notifier = Ports(reactor, environment), Notifier(reactor, environment)

    def levels() -> Iterator[Level]:
        yield from key_levels(daemon.furniture.upstreams.values())

    walls, choices = _walls(reactor, config, environment, hurry, levels)
    furniture = furnish(walls, config, choices)
    put_in_force(walls, furniture)
    drain = Drain(reactor, lambda: daemon.settings, hurry)
    front = Front(
        walls.site,
        walls.capacity,
        ports,
        _doors(ports, config.listen, walls.certificate),
        drain,
        announce,
        _demo_lines(config),
    )
    demo: list[Room] = [] if walls.demo is None else [walls.demo]
    rooms: list[Room] = [
        *(Directory(walls.stores.directory), *walls.accounts.rooms, walls.end_users, walls.allowances),
        *(Pool(walls.agents), *demo, Finishing(walls.departed, drain), front, notifier),
    ]
    succession = None
    # Of workers it is the supervisor who knows when one has died, or others serve in their place.
    orphaned(reactor, environment, lambda: leave(reactor), lambda: daemon.give_way())  # noqa: PLW0108 - made below
    if command:
        succession = Succession(
            reactor,
            command,
            ports.sockets,
            front.let_go,
            notifier.main_pid,
            lambda: leave(reactor),
            {**environment, **notifier.environment()},
        )
    daemon = Daemon(
        reactor=reactor,
        read=read,
        walls=walls,
        furniture=furniture,
        rooms=InOrder(rooms),
        front=front,
        notifier=notifier,
        hurry=hurry,
        succession=succession,
    )
    return daemon


def build_crew(
    reactor: Any, config: Config, announce: Callable[[str], None], *, read: Reader, command: Sequence[str]
) -> Crew:
    """
    The daemon that *config* describes where it is several processes.

    :param announce: told where they serve, one text at a time.
    :param read: reads the configuration anew.
    :param command: starts this program anew, as it was started.
    """
    environment = os.environ
    notifier = Notifier(reactor, environment)
    supervisor = Supervisor(
        reactor, config, count(config.workers), command, environment, announce, notifier.main_pid, notifier.environment
    )
    return Crew(config, read, supervisor, notifier)


def _walls(
    reactor: Any, config: Config, environment: Mapping[str, str], hurry: Hurry, others: Levels
) -> tuple[Walls, Choices]:
    courier = HttpCourier(reactor, now)
    tools = tools_for(reactor, config, environment, courier)

    def observe(work: str, seconds: float) -> None:
        accounts.metrics.store_took(work, seconds)

    stores, choices = read_all(
        lambda: make_stores(reactor, config, environment, observe),
        lambda: read_choices(config, environment, tools),
    )
    store = stores.directory
    log.info("Keys and the ledger are kept in {place}", place=place_of(config, environment))
    limits = config.server_limits
    agents, capacity = Agents(reactor, config.client_limits), Capacity(reactor, limits)
    site = Server(reactor, Branch(), limits, _stamp)

    def levels() -> Iterator[Level]:
        yield Level(name="client_connections", value=site.connections)
        yield Level(name="upstream_connections", labels=("idle",), value=agents.idle_connections)
        yield Level(name="store_away", value=store.is_away())
        yield Level(name="queued_requests", value=capacity.waiting)

    accounts = make_accounts(
        reactor, config, choices, courier=courier, books=stores.books, levels=[levels, others], hurry=hurry
    )
    walls = Walls(
        reactor=reactor,
        courier=courier,
        stores=stores,
        accounts=accounts,
        allowances=Allowances(
            reactor,
            stores.allowances,
            config.allowances,
            lives=accounts.lives,
            node=node_of(config),
            alert=accounts.alert,
        ),
        end_users=EndUsers(reactor, store, config.end_user_limits),
        agents=agents,
        site=site,
        capacity=capacity,
        headroom=Headroom(config.keys.inspected_together_bytes),
        departed=Departed(),
        certificate=_certificate(reactor, config.listen),
        demo=Demo(reactor) if config.demo else None,
    )
    return walls, choices


def _certificate(reactor: Any, listen: Listen) -> ReloadingCertificate | None:
    if listen.endpoints or listen.tls_certificate is None:
        return None
    return ReloadingCertificate(reactor, listen.tls_certificate, listen.tls_key or listen.tls_certificate)


def _doors(ports: Ports, listen: Listen, certificate: ReloadingCertificate | None) -> list[Door]:
    if listen.endpoints:
        return [
            Door(serverFromString(ports, text), "https" if text.startswith(("ssl:", "tls:")) else "http")
            for text in listen.endpoints
        ]
    kind = TCP6ServerEndpoint if ":" in listen.host else TCP4ServerEndpoint
    endpoint = kind(ports, listen.port, backlog=BACKLOG, interface=listen.host)
    return [Door(endpoint, "http" if certificate is None else "https", certificate)]


def _demo_lines(config: Config) -> str:
    if not config.demo:
        return ""
    if config.master_key is None:
        return DEMO_LINES
    return DEMO_LINES + DEMO_KEY_LINES.replace("PLACE", place_of(config, os.environ))


def _stamp() -> Fields:
    return [(CALL_ID, new_call_id().encode("ascii"))]
