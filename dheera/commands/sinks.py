"""
``dheera_ai sinks``: which sinks are configured, and whether what is sent to them arrives. No daemon is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from dheera.commands.connection import Exemplified, terminal_width

HELP = """
Look at the sinks: where records of calls go, each in a table [sinks.NAME] of the configuration.

\b
  dheera_ai sinks list --config /etc/dheera/dheera.toml
  dheera_ai sinks test files

Exits 0 when it is done, 1 when a test record did not arrive, 2 when the configuration cannot be used.
"""


@click.group("sinks", help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
def sinks() -> None:
    """
    Nothing of its own.
    """


sinks.command_class = Exemplified
_configuration = click.option(
    "--config", metavar="FILE", type=click.Path(path_type=Path), help="Read settings from this file."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


@sinks.command("list", examples=["dheera_ai sinks list --config /etc/dheera/dheera.toml"])
@_configuration
@_json
@click.pass_context
def list_sinks(context: click.Context, /, config: Path | None, *, as_json: bool) -> None:
    """
    Say which sinks are configured, and which kinds there are.
    """
    from dheera.commands.sink_trials import configured_sinks, lines, row  # noqa: PLC0415 - --help does without networks

    configured = configured_sinks(_path(context, config))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([row(each) for each in configured]), indent=2))
        return
    for line in lines(configured, terminal_width()):
        click.echo(line)


@sinks.command("test", examples=["dheera_ai sinks test files", "dheera_ai sinks test --all"])
@click.argument("name", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that are configured.")
@_configuration
@_json
@click.pass_context
def test_sinks(
    context: click.Context, /, name: Sequence[str], config: Path | None, *, everything: bool, as_json: bool
) -> None:
    """
    Send a record to sinks, now, and say what came of it.

    The record is that of a call that never was. It has the tag "test: true", and costs nothing.
    """
    from dheera.commands.sink_trials import told, tried_sinks  # noqa: PLC0415 - the same

    if bool(name) == everything:
        raise click.UsageError("Say which sinks to test: their names, or --all.")
    found = tried_sinks(_path(context, config), name)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        for each in found:
            click.echo(told(each))
    context.exit(0 if all(each.arrived for each in found) else 1)


def _path(context: click.Context, config: Path | None) -> Path | None:
    """
    The file that is meant: the option may stand before the words of the command too.
    """
    return config or (context.obj or {}).get("config")
