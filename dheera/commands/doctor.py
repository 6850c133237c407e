"""
``dheera_ai doctor``: whether a set-up works, and what to mend.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from dheera.commands.connection import Exemplified
from dheera.definitions import CONFIG_VARIABLE, OPTIONS


@click.command(
    "doctor",
    cls=Exemplified,
    context_settings={"help_option_names": ["-h", "--help"]},
    examples=["dheera_ai doctor --config /etc/dheera/dheera.toml", "dheera_ai doctor --send --json"],
)
@click.option("--host", metavar="ADDRESS", help="Where the daemon is.")
@click.option("--port", metavar="NUMBER", help="Where the daemon is.")
@click.option("--listen", metavar="ENDPOINT", multiple=True, help="Where the daemon is, in place of address and port.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Read settings from this file.")
@click.option("--demo", is_flag=True, help="As of dheera_ai: upstreams are not asked.")
@click.option("--send", is_flag=True, help='Try each sink with a record of a call that never was, tagged "test: true".')
@click.option(
    "--timeout",
    "seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0.1, max=600.0),
    default=10.0,
    show_default=True,
    help="How long each check may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.pass_context
def doctor(context: click.Context, /, *, send: bool, seconds: float, as_json: bool, **given: Any) -> None:
    """
    Look at a set-up that runs, or is about to, and say what to mend.

    Checks the configuration, the running daemon, each upstream with each key, the clocks, the database, the disk, open
    files and the sinks. A line for each says ok, warn or FAIL, what was found, and what to do. Nothing is changed, and
    nothing is sent to a sink unless --send says so; a key is tried by asking for the list of models, which is free.

    Takes the options of dheera_ai too, before the word "doctor". To see what the daemon sees, run it as the daemon's
    user and with its environment. Exits 0 when no check failed, 1 when one did, 2 when the configuration cannot be
    used.
    """
    from dheera.commands.checkup.findings import summed_up, told  # noqa: PLC0415 - --help does without networks
    from dheera.commands.checkup.visit import visit  # noqa: PLC0415

    said = {name: value or (context.obj or {}).get(name) for name, value in given.items()}
    said = {**(context.obj or {}), **said}
    file = said.pop("config", None) or _named(os.environ)
    found = visit(
        file,
        {name: value for name, value in said.items() if name in OPTIONS},
        seconds=seconds,
        send=send,
        tell=(lambda _: None) if as_json else (lambda finding: click.echo(told(finding))),
    )
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        click.echo(summed_up(found))
    context.exit(1 if any(each.state == "fail" for each in found) else 0)


def _named(environment: Mapping[str, str]) -> Path | None:
    named = environment.get(CONFIG_VARIABLE)
    return Path(named) if named else None
