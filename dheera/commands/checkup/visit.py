"""
One visit of the doctor: the configuration is read as a start reads it, then everything is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from dheera.choices import Choices, read_all, read_choices, secrets_of, tools_for
from dheera.commands.checkup.checks import Setting, checks_for
from dheera.commands.checkup.findings import Finding, without_secrets
from dheera.commands.checkup.rounds import examine, turn
from dheera.commands.sink_trials import Unusable
from dheera.config import ConfigurationError, load
from dheera.entities import now
from dheera.redaction import Redaction
from dheera.run import endpoint_problems
from dheera.settings import Config
from dheera.sinks.courier import HttpCourier
from dheera.stores import make_stores


def visit(
    file: Path | None,
    command_line: Mapping[str, Any],
    *,
    seconds: float,
    send: bool,
    tell: Callable[[Finding], None],
) -> Sequence[Finding]:
    """
    Look at everything; turns the reactor, which can be done once.

    :param tell: is told each finding as soon as it is there.
    :raises Unusable: the configuration has something wrong.
    """
    from twisted.internet import reactor

    courier = HttpCourier(reactor, now)
    config, choices = _read(reactor, file, command_line, courier)
    setting = Setting(config=config, choices=choices, file=file, environment=os.environ, seconds=seconds, send=send)
    redaction = Redaction.of((), (), secrets_of(config))
    found: list[Finding] = []

    def show(finding: Finding) -> None:
        found.append(without_secrets(finding, redaction))
        tell(found[-1])

    async def work() -> None:
        await examine(reactor, list(checks_for(reactor, setting)), seconds, show)
        if send:
            for each in choices.sinks:
                await each.sink.close()
        courier.close()

    turn(reactor, lambda: Deferred.fromCoroutine(work()))
    return found


def _read(
    reactor: Any, file: Path | None, command_line: Mapping[str, Any], courier: HttpCourier
) -> tuple[Config, Choices]:
    try:
        config = load(file, os.environ, command_line)
        _require_usable(reactor, config.listen.endpoints)
        tools = tools_for(reactor, config, os.environ, courier)
        _, choices = read_all(
            lambda: make_stores(reactor, config, os.environ), lambda: read_choices(config, os.environ, tools)
        )
    except ConfigurationError as error:
        raise Unusable("\n  ".join(["the configuration cannot be used", *error.problems])) from None
    return config, choices


def _require_usable(reactor: Any, endpoints: Sequence[str]) -> None:
    # systemd hands its sockets to the service, and to nobody else.
    problems = endpoint_problems(reactor, [each for each in endpoints if not each.startswith("systemd:")])
    if problems:
        raise ConfigurationError(problems)
