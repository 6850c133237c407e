"""
What the commands about sinks do: reading the configuration, trying the sinks, and words for both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import click
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dheera.choices import node_of, tools_for
from dheera.commands.tables import Column, clean, table
from dheera.config import ConfigurationError, load
from dheera.entities import now
from dheera.settings import Config
from dheera.sinks.catalogue import KINDS, Configured, make_sinks, plugins
from dheera.sinks.courier import HttpCourier
from dheera.sinks.trying import Tried, try_sinks


class Unusable(click.ClickException):
    """
    The configuration, or what is asked for, cannot be used: exit 2.
    """

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """
        Tell it.
        """
        click.echo(f"dheera_ai: {self.message}", file=file, err=True)


def told(tried: Tried) -> str:
    """
    What came of a test, in a sentence.
    """
    if tried.arrived:
        return f"{tried.name} ({tried.kind}): arrived in {tried.seconds:.2f} s. Look there for {tried.sent}."
    return clean(f"{tried.name} ({tried.kind}): did not arrive: {tried.reason}")


def configured_sinks(path: Path | None) -> Sequence[Configured]:
    """
    The sinks of a configuration; nobody is called.

    :param path: of its file.
    :raises Unusable: it has something wrong.
    """
    from twisted.internet import reactor

    return _made(reactor, _loaded(path))[0]


def tried_sinks(path: Path | None, names: Sequence[str]) -> Sequence[Tried]:
    """
    Try sinks of a configuration; turns the reactor, which can be done once.

    :param names: which; all if there are none.
    :raises Unusable: something is wrong with the configuration, or there is no such sink.
    """
    from twisted.internet import reactor

    config = _loaded(path)
    configured, courier = _made(reactor, config)
    unknown = [each for each in names if each not in config.sinks]
    if unknown:
        there = ", ".join(config.sinks) or "none"
        raise Unusable(f"there is no sink {', '.join(unknown)} in the configuration; there is {there}.")
    chosen = [each for each in configured if not names or each.name in names]
    return _run(reactor, chosen, courier, node_of(config))


def _loaded(path: Path | None) -> Config:
    try:
        return load(path, os.environ, {})
    except ConfigurationError as error:
        raise Unusable(_problems(error)) from None


def _made(reactor: Any, config: Config) -> tuple[Sequence[Configured], HttpCourier]:
    courier = HttpCourier(reactor, now)
    try:
        return make_sinks(config.sinks, tools_for(reactor, config, os.environ, courier)), courier
    except ConfigurationError as error:
        raise Unusable(_problems(error)) from None


def _problems(error: ConfigurationError) -> str:
    return "\n  ".join(["the configuration cannot be used", *error.problems])


def _run(reactor: Any, chosen: Sequence[Configured], courier: HttpCourier, node: str) -> Sequence[Tried]:
    results: list[list[Tried] | Failure] = []

    async def work() -> list[Tried]:
        tried = await try_sinks(reactor, chosen, node, now)
        for each in chosen:
            await each.sink.close()
        courier.close()
        return tried

    def finish(result: list[Tried] | Failure) -> None:
        results.append(result)
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(work()).addBoth(finish))
    reactor.run()
    if not results:
        raise click.Abort  # Ctrl-C
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


_COLUMNS = (
    Column(title="NAME", least=8),
    Column(title="KIND"),
    Column(title="CONTENT"),
    Column(title="ONLY"),
    Column(title="TAKES", spare=True),
    Column(title="BATCH", right=True, spare=True),
    Column(title="SECONDS", right=True, spare=True),
)


def row(each: Configured) -> dict[str, object]:
    """
    A sink as scripts see it.
    """
    return {
        "name": each.name,
        "kind": each.factory.kind,
        "content": each.settings.content,
        "only": each.settings.only,
        "takes": each.factory.takes,
        "batch_records": each.settings.batch_records,
        "batch_seconds": each.settings.batch_seconds,
    }


def lines(configured: Sequence[Configured], width: int | None) -> Iterator[str]:
    """
    Sinks as people see them.

    :param width: of the terminal; ``None`` if it is none.
    """
    if configured:
        rows = [
            [f"{value:g}" if isinstance(value, float) else str(value) for value in row(each).values()]
            for each in configured
        ]
        yield from table(_COLUMNS, rows, width)
    else:
        yield "No sinks are configured: write a table [sinks.NAME] into the configuration."
    kinds = sorted({*KINDS, *(each.kind for each in plugins())})
    yield f"Kinds: {', '.join(kinds)}."
