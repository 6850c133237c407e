"""
All upstreams that a configuration names, with what is known of their keys from the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from dheera.choices import node_of
from dheera.entities import now as current_time
from dheera.keys import Secret, WeightedKey
from dheera.metrics import Level
from dheera.proxy.credentials import Credentials, make_credentials
from dheera.proxy.retrying import RetryBudget
from dheera.proxy.target import PREFIX, parse_base
from dheera.proxy.upstream import Upstream
from dheera.records import MISTRAL, Alert
from dheera.settings import BalanceSettings, Config, Mistral, OtherUpstream
from dheera.wire.client import Agent

DEMO_KEY = Secret("demo")


def make_upstreams(  # noqa: PLR0917 - what all are made with
    reactor: IReactorTime,
    config: Config,
    agents: Callable[[Path | None], Agent],
    before: Mapping[str, Upstream] | None,
    alert: Callable[[Alert], None],
    now: Callable[[], datetime] = current_time,
) -> Mapping[str, Upstream]:
    """
    The upstreams, by their names; Mistral's own is always among them, and first.

    :param agents: the agent that trusts the authorities in a file, or those of the system.
    :param before: those of the configuration before: of keys that stay, what is known of them stays too.
    :param alert: told when one of several keys is not known, and when it is again.
    :param now: aware, in UTC.
    :raises OSError: from *agents*.
    """
    workshop = _Workshop(
        reactor=reactor,
        rules=config.balance,
        agents=agents,
        before=before or {},
        alert=alert,
        now=now,
        node=node_of(config),
    )
    keys = [WeightedKey(DEMO_KEY)] if config.demo else _keys(config.mistral)
    made = {MISTRAL: workshop.make(MISTRAL, config.mistral, keys, prefix=PREFIX)}
    for name, settings in config.upstreams.items():
        prefix = b"/" + (settings.prefix.strip("/") or name).encode("ascii")
        made[name] = workshop.make(name, settings, _keys(settings), prefix=prefix, priced=settings.priced)
    return made


def key_levels(upstreams: Iterable[Upstream]) -> Iterator[Level]:
    """
    Which keys rest, for the metrics; of upstreams that have several.
    """
    for upstream in upstreams:
        if upstream.credentials is not None:
            for name, rests in upstream.credentials.resting().items():
                yield Level(name="upstream_key_resting", labels=(upstream.name, name), value=rests)


@frozen(kw_only=True)
class _Workshop:
    """
    What all upstreams are made with.
    """

    reactor: IReactorTime
    rules: BalanceSettings
    agents: Callable[[Path | None], Agent]
    before: Mapping[str, Upstream]
    alert: Callable[[Alert], None]
    now: Callable[[], datetime]
    node: str

    def make(
        self,
        name: str,
        settings: Mistral | OtherUpstream,
        keys: Sequence[WeightedKey],
        *,
        prefix: bytes,
        priced: bool = True,
    ) -> Upstream:
        predecessor = self.before.get(name)
        known = None if predecessor is None else predecessor.credentials
        made = make_credentials(keys, {} if known is None else known.healths())
        several = None
        if len(made) > 1:
            several = Credentials(
                all=made,
                reactor=self.reactor,
                rules=self.rules,
                upstream=name,
                node=self.node,
                alert=self.alert,
                now=self.now,
            )
        return Upstream(
            self.reactor,
            self.agents(settings.ca_file),
            parse_base(settings.api_base),
            budget=RetryBudget(self.rules),
            now=self.now,
            credentials=several,
            authorization=made[0].authorization if len(made) == 1 else None,
            name=name,
            prefix=prefix,
            priced=priced,
        )


def _keys(settings: Mistral | OtherUpstream) -> Sequence[WeightedKey]:
    return settings.api_keys or ([] if settings.api_key is None else [WeightedKey(settings.api_key)])
