"""
Which kinds of sinks there are, and how a table of the configuration becomes one. A vendor's module is imported when
somebody uses it; a kind that is not ours is looked for among Twisted's plugins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, cast

from attrs import frozen
from twisted.plugin import getPlugins

from dheera.config import ConfigurationError
from dheera.sinks.contract import ILogSinkFactory, Sink, SinkFactory, SinkSettings, Tools
from dheera.sinks.tables import read_table

KINDS: Mapping[str, str] = {
    "datadog": "dheera.sinks.datadog",
    "elasticsearch": "dheera.sinks.elasticsearch",
    "file": "dheera.sinks.file",
    "langfuse": "dheera.sinks.langfuse",
    "langsmith": "dheera.sinks.langsmith",
    "loki": "dheera.sinks.loki",
    "opensearch": "dheera.sinks.elasticsearch",
    "otlp": "dheera.sinks.otlp",
    "s3": "dheera.sinks.s3",
    "sentry": "dheera.sinks.sentry",
    "slack": "dheera.sinks.slack",
    "splunk": "dheera.sinks.splunk",
    "stdout": "dheera.sinks.stdout",
    "webhook": "dheera.sinks.webhook",
}
"""
Where the factory of each kind is: in this module, under the name ``FACTORY``.
"""

NAME = "[A-Za-z0-9_-]{1,64}"
"""
Of a sink; files in the state directory bear it too.
"""

NO_SINKS: Mapping[str, str] = {
    "postgres": "the ledger is always kept: DATABASE_URL says in which database",
    "prometheus": "metrics are always there, at /metrics",
    "syslog": 'write to standard output, with kind = "stdout": systemd\'s journal passes it on',
}
"""
What somebody may look for here, and where it is.
"""


@frozen(kw_only=True)
class Configured:
    """
    A sink that is configured, and what it was made from.
    """

    name: str
    factory: SinkFactory
    settings: SinkSettings
    sink: Sink


def make_sinks(tables: Mapping[str, Mapping[str, Any]], tools: Callable[[str], Tools]) -> Sequence[Configured]:
    """
    The sinks that the tables ``[sinks.NAME]`` describe, in their order; nobody is called yet.

    :param tools: what the sink of that name may use.
    :raises ConfigurationError: with all that is wrong in any of them.
    """
    made: list[Configured] = []
    problems: list[str] = []
    for name, table in tables.items():
        try:
            made.append(make_sink(name, table, tools(name)))
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(problems)
    return made


def make_sink(name: str, table: Mapping[str, Any], tools: Tools) -> Configured:
    """
    The sink of one table.

    :raises ConfigurationError: each sentence says ``[sinks.NAME]`` first.
    """
    if not re.fullmatch(NAME, name):
        raise ConfigurationError([f"[sinks.{json.dumps(name)}] found no name, wanted 1 to 64 letters, digits, - and _"])
    factory = find_factory(name, table)
    settings = parsed_settings(factory, name, table)
    try:
        sink = factory.make(settings, tools)
    except ConfigurationError as error:
        raise ConfigurationError([_placed(name, each) for each in error.problems]) from None
    return Configured(name=name, factory=factory, settings=settings, sink=sink)


def find_factory(name: str, table: Mapping[str, Any]) -> SinkFactory:
    """
    The factory that a table asks for.

    :raises ConfigurationError: there is none of that kind.
    """
    kind = table.get("kind") or name
    if not isinstance(kind, str):
        raise ConfigurationError([_placed(name, "kind: found no text, wanted the kind of the sink")])
    if kind in KINDS:
        return cast("SinkFactory", import_module(KINDS[kind]).FACTORY)
    others = {each.kind: each for each in plugins()}
    if kind in others:
        return others[kind]
    raise ConfigurationError([_placed(name, _unknown(kind, [*KINDS, *others]))])


def plugins() -> Iterable[SinkFactory]:
    """
    The factories that Twisted's plugins bring.
    """
    return cast("Iterable[SinkFactory]", getPlugins(ILogSinkFactory))


def parsed_settings(factory: SinkFactory, name: str, table: Mapping[str, Any]) -> SinkSettings:
    """
    What a table says, as its factory has it.

    :raises ConfigurationError: with all that is wrong.
    """
    settings, problems = read_table(factory.settings, table)
    if settings is None:
        raise ConfigurationError([_placed(name, each) for each in problems])
    return settings


def _unknown(kind: str, known: Sequence[str]) -> str:
    if kind in NO_SINKS:
        return f'kind: "{kind}" is no sink: {NO_SINKS[kind]}'
    if near := get_close_matches(kind, known, n=1):
        return f'kind: there is no "{kind}", did you mean "{near[0]}"?'
    return f'kind: there is no "{kind}", wanted one of {", ".join(sorted(known))}, or the kind of an installed plugin'


def _placed(name: str, problem: str) -> str:
    return f"[sinks.{name}] {problem}"
