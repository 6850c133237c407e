"""
What an operator has chosen of what becomes of records: prices, redaction, sinks, where they are counted. Read as far as
that goes before anything is opened, so that a check says what a start would.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from dheera.config import ConfigurationError, state_directory
from dheera.entities import now
from dheera.prices import PriceList
from dheera.redaction import Redaction
from dheera.settings import Config, Mistral, OtherUpstream
from dheera.sinks.catalogue import Configured, make_sinks
from dheera.sinks.contract import Tools
from dheera.sinks.courier import HttpCourier
from dheera.workers import named_directory

FOLDER = "spool"
SHORTEST_SECRET = 6
"""
What is shorter could not be taken out without its being told thereby.
"""


@frozen(kw_only=True)
class Choices:
    """
    All of it.

    :param folder: of the spool; ``None`` if it is kept in memory.
    """

    folder: Path | None
    prices: PriceList
    redaction: Redaction
    sinks: Sequence[Configured]


def read_choices(config: Config, environment: Mapping[str, str], tools: Callable[[str], Tools]) -> Choices:
    """
    The choices in *config*. Nothing is made, and nobody is called.

    :param tools: what the sink of that name may use.
    :raises ConfigurationError: with all that is wrong in any of them.
    """
    folder, prices, redaction, sinks, _ = read_all(
        lambda: None if config.demo else state_directory(config, environment) / FOLDER,
        lambda: PriceList.load(config.prices),
        lambda: _redaction(config),
        lambda: make_sinks(config.sinks, tools),
        named_directory,  # which the metrics find by themselves
    )
    return Choices(folder=folder, prices=prices, redaction=redaction, sinks=sinks)


def read_all(*readers: Callable[[], Any]) -> Sequence[Any]:
    """
    What each of them reads.

    :raises ConfigurationError: with the problems of all, each told once.
    """
    found: list[Any] = []
    problems: dict[str, None] = {}
    for read in readers:
        try:
            found.append(read())
        except ConfigurationError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigurationError(list(problems))
    return found


def tools_for(
    reactor: Any, config: Config, environment: Mapping[str, str], courier: HttpCourier
) -> Callable[[str], Tools]:
    """
    What the sink of a name may use.
    """
    node = node_of(config)
    return lambda name: Tools(reactor=reactor, name=name, courier=courier, environment=environment, node=node, now=now)


def node_of(config: Config) -> str:
    """
    This dheera's name in records.
    """
    return config.records.node or socket.gethostname()


def secrets_of(config: Config) -> Iterator[str]:
    """
    What must be in no record, and in no line of ours: all keys of all upstreams, the master key, the database's URL.
    """
    upstreams: list[Mistral | OtherUpstream] = [config.mistral, *config.upstreams.values()]
    said = [
        config.master_key,
        config.store.url,
        *(each.api_key for each in upstreams),
        *(weighted.key for each in upstreams for weighted in each.api_keys),
    ]
    for secret in said:
        if secret is not None and len(secret.reveal()) >= SHORTEST_SECRET:
            yield secret.reveal()


def _redaction(config: Config) -> Redaction:
    rules = config.records
    try:
        return Redaction.of(rules.redact_paths, rules.redact_patterns, secrets_of(config))
    except ValueError as error:
        raise ConfigurationError([f"[records] redact_paths, redact_patterns: {error}"]) from None
