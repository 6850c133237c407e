"""
What the house is furnished with by a configuration: gate, upstreams, prices, limits, and the tree of resources above
them. When the configuration is read anew all of it is made anew beside the old and swapped in by one assignment.
Exchanges that have begun go on with what they began with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from attrs import frozen
from twisted.logger import Logger
from twisted.web.resource import Resource

from dheera.accounts import Accounts
from dheera.allowances.room import Allowances
from dheera.boundaries import Gate
from dheera.choices import Choices, read_choices, tools_for
from dheera.config import ConfigurationError
from dheera.customers import EndUsers
from dheera.descriptors import Room as FileRoom
from dheera.descriptors import file_limit, made_room
from dheera.entities import now
from dheera.gate import KeyGate, make_key_gate
from dheera.keys import SHORTEST, Digest, digest
from dheera.limits import Limits
from dheera.management.authority import KeyAuthority
from dheera.management.catalogue import ROUTES
from dheera.management.routes import Office
from dheera.open_gate import OpenGate
from dheera.proxy.affording import Affording
from dheera.proxy.capacity import Capacity
from dheera.proxy.exchange import Departed, Exchanges
from dheera.proxy.upstream import Upstream
from dheera.proxy.upstreams import make_upstreams
from dheera.rooms import Demo
from dheera.settings import Config
from dheera.sinks.courier import HttpCourier
from dheera.stores import Stores
from dheera.trust import Agents
from dheera.web.guarded import Guarded
from dheera.web.health import Watch
from dheera.web.management import management
from dheera.web.metrics import MetricsPage
from dheera.web.root import make_root
from dheera.wire.certificate import ReloadingCertificate
from dheera.wire.headroom import Headroom
from dheera.wire.server import Server

log = Logger()


@frozen(kw_only=True)
class Walls:
    """
    What stays as long as the process, whatever is read anew.

    :param departed: exchanges whose clients have left, and whose answers are read all the same.
    :param certificate: the one that is shown to clients, if it is ours to show.
    """

    reactor: Any
    courier: HttpCourier
    stores: Stores
    accounts: Accounts
    allowances: Allowances
    end_users: EndUsers
    agents: Agents
    site: Server
    capacity: Capacity
    headroom: Headroom
    departed: Departed
    certificate: ReloadingCertificate | None
    demo: Demo | None


@frozen(kw_only=True)
class Furniture:
    """
    What is made of one configuration.
    """

    config: Config
    choices: Choices
    gate: Gate
    upstreams: Mapping[str, Upstream]
    exchanges: Exchanges
    root: Resource


def furnish(walls: Walls, config: Config, choices: Choices, before: Furniture | None = None) -> Furniture:
    """
    The furniture that *config* asks for, not yet in use.

    :param before: from which is taken over what is known of keys, and of the health of upstreams.
    :raises ConfigurationError: a file that it names cannot be read any more.
    """
    accounts = walls.accounts
    try:
        upstreams = make_upstreams(
            walls.reactor, config, walls.agents.of, None if before is None else before.upstreams, accounts.alert
        )
    except OSError as error:
        raise ConfigurationError([f"{error.filename}: cannot be read ({error.strerror})"]) from None
    if walls.demo is not None and walls.demo.base is not None:
        upstreams["mistral"].base = walls.demo.base
    gate = _gate(walls, config, before)
    trusted = config.listen.trusted_proxies
    exchanges = Exchanges(
        gate,
        accounts.accountant(config, choices),
        config.keys.inspected_bytes,
        walls.headroom,
        trusted,
        affording=Affording(
            walls.allowances,
            walls.end_users,
            Limits.of_settings(config.proxy_limits),
            choices.prices,
            config.allowances,
            config.keys.inspected_bytes,
            walls.headroom,
        ),
        capacity=walls.capacity,
        departed=walls.departed,
        finishes=config.allowances.on_client_left == "finish",
    )
    return Furniture(
        config=config,
        choices=choices,
        gate=gate,
        upstreams=upstreams,
        exchanges=exchanges,
        root=_tree(walls, config, gate, exchanges, upstreams),
    )


def refurnish(walls: Walls, before: Furniture, config: Config) -> Furniture:
    """
    Put *config* in force in place of what was *before*, but for sinks (`change_sinks`).

    :raises ConfigurationError: with all that is wrong; then all stays as it was.
    """
    choices = read_choices(config, os.environ, tools_for(walls.reactor, config, os.environ, walls.courier))
    furniture = furnish(walls, config, choices, before)
    # From here on nothing fails, and nothing waits until all is in force.
    certificate = config.listen.tls_certificate
    if walls.certificate is not None and certificate is not None:
        walls.certificate.change(certificate, config.listen.tls_key or certificate)
    put_in_force(walls, furniture)
    if isinstance(before.gate, KeyGate) and not isinstance(furniture.gate, KeyGate):
        before.gate.close()
    return furniture


async def change_sinks(walls: Walls, before: Furniture, furniture: Furniture) -> None:
    """
    Replace the sinks that have changed: that takes as long as the old ones need.
    """
    were, tables = before.config.sinks, furniture.config.sinks
    same = {name for name, table in tables.items() if were.get(name) == table}
    await walls.accounts.change_sinks(furniture.choices, same)


def put_in_force(walls: Walls, furniture: Furniture) -> None:
    """
    Serve with *furniture* from now on.
    """
    config = furniture.config
    room = made_room(config, file_limit())
    if walls.demo is not None:
        walls.demo.turn = partial(setattr, furniture.upstreams["mistral"], "base")
    walls.accounts.change(furniture.choices)
    walls.end_users.change(config.end_user_limits)
    walls.allowances.change(config.allowances)
    walls.agents.change(config.client_limits, [each.agent for each in furniture.upstreams.values()])
    walls.capacity.resize(room.limits)
    walls.headroom.room_bytes = config.keys.inspected_together_bytes
    walls.site.limits = room.limits
    walls.site.accepting(room.shares.connections)
    walls.site.resource = furniture.root
    log.info(furniture.gate.describe())
    _warn(config, room)


def _gate(walls: Walls, config: Config, before: Furniture | None) -> Gate:
    if config.master_key is None:
        return OpenGate(to_network=config.listen.open_to_network)
    if before is not None and isinstance(before.gate, KeyGate):
        return before.gate.changed(config.master_key, config.keys)
    return make_key_gate(walls.reactor, walls.stores.directory, config.master_key, config.keys)


def _tree(
    walls: Walls, config: Config, gate: Gate, exchanges: Exchanges, upstreams: Mapping[str, Upstream]
) -> Resource:
    site, accounts, stores = walls.site, walls.accounts, walls.stores
    trusted = config.listen.trusted_proxies
    authority = KeyAuthority(gate, stores.directory)
    watch = Watch(
        draining=lambda: site.leaving or site.draining,
        store=stores.directory,
        spool_problem=accounts.problem,
        in_flight=lambda: accounts.metrics.in_flight,
        services=accounts.services,
    )
    office = Office(
        store=stores.directory,
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
    return make_root(
        exchanges,
        upstreams,
        watch,
        management(office, authority, ROUTES, trusted),
        guard(metrics) if config.metrics.auth == "admin" else metrics,
        guard,
    )


def _reserved(config: Config) -> frozenset[Digest]:
    return frozenset() if config.master_key is None else frozenset({digest(config.master_key.reveal().encode())})


def _warn(config: Config, room: FileRoom) -> None:
    if few := room.describe():
        log.warn("{few}", few=few)
    if config.mistral.api_key is None and not config.mistral.api_keys and not config.demo:
        log.warn("No upstream key: set MISTRAL_API_KEY. Until then each call is answered with 503.")
    if config.master_key is None:
        if config.store.url is not None:
            log.warn("DATABASE_URL is set, but no master key: virtual keys are neither made nor checked.")
    elif len(config.master_key.reveal()) < SHORTEST:
        log.warn(
            "The master key is short: whoever guesses it may do everything. Make a long one: "
            "python3 -c 'import secrets; print(\"sk-\" + secrets.token_urlsafe(24))'"
        )
