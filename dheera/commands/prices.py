"""
``dheera_ai prices``: what models cost, and who says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from dheera.commands.connection import Exemplified, Failed, note, terminal_width
from dheera.commands.tables import NOTHING, Column, amount, count, table
from dheera.config import ConfigurationError, load
from dheera.price_rows import Price
from dheera.prices import PriceList
from dheera.remote import to_json

_COLUMNS = (
    Column(title="MODEL", least=16),
    Column(title="PRICED AS", least=8, spare=True),
    Column(title="INPUT", right=True),
    Column(title="CACHED", right=True),
    Column(title="OUTPUT", right=True),
    Column(title="OTHER"),
    Column(title="BATCH", right=True),
    Column(title="CONTEXT", right=True, spare=True),
    Column(title="SINCE"),
    Column(title="SOURCE", least=12),
)
_OTHERS = {
    "audio_per_minute": "a minute",
    "pages_per_thousand": "/1000 pages",
    "annotated_pages_per_thousand": "/1000 annotated",
    "characters_per_million": "/1M characters",
}
_OURS = "dheera"
_TENTH = Decimal("0.1")


class _Unusable(click.ClickException):
    """
    The configuration cannot be used: exit 2.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n  ".join(["the configuration cannot be used", *problems]))


def _day(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime:  # noqa: ARG001 - as click calls
    """
    The end of that day, so that what begins on it counts; now, if none is named.
    """
    if value is None:
        return datetime.now(UTC)
    try:
        return datetime.combine(date.fromisoformat(value), time.max, UTC)
    except ValueError:
        raise click.BadParameter("wanted a day such as 2026-10-29.") from None


@click.command(
    "prices",
    cls=Exemplified,
    examples=[
        "dheera_ai prices mistral-small-latest mistral-ocr-latest",
        "dheera_ai prices --at 2026-10-20 mistral-large-4",
        "dheera_ai prices --config /etc/dheera/dheera.toml --json",
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("model", nargs=-1)
@click.option("--at", metavar="DAY", callback=_day, help="On that day, in UTC.  [default: now]")
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Look at the [prices] of this file too.  [default: DHEERA_AI_CONFIG]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.pass_context
def prices(
    context: click.Context, /, *, model: Sequence[str], at: datetime, config: Path | None, as_json: bool
) -> None:
    """
    Say what models cost, and where the figure comes from; without MODEL, all that there is a price for.

    In US dollars: input, cached input and output for a million tokens. Nobody is asked over the network. Exits 1 when
    there is no price for a model.
    """
    listed = _load(config or _config_before(context))
    sought = model or listed.names
    found = [(name, price) for name in sought if (price := listed.find(name, at)) is not None]
    missing = [name for name in model if listed.find(name, at) is None]
    if as_json:
        shown = [_described(listed, name, price) for name, price in found]
        click.echo(msgspec.json.format(to_json(shown), indent=2))
    elif found:
        for line in table(_COLUMNS, [_cells(listed, name, price) for name, price in found], terminal_width()):
            click.echo(line)
        note(f"US dollars; tokens by the million. Price list {listed.name}, on {at:%Y-%m-%d}.")
    if missing:
        raise Failed("\n".join(_unknown(name, listed.names) for name in missing))


def _load(config: Path | None) -> PriceList:
    try:
        return PriceList.load(load(config, os.environ, {}).prices)
    except ConfigurationError as error:
        raise _Unusable(error.problems) from None


def _config_before(context: click.Context) -> Path | None:
    """
    What ``--config`` named before the word of the command; other options there would be passed over in silence.
    """
    daemon = context.parent
    if daemon is None:
        return None
    for parameter in daemon.command.params:
        name = parameter.name or ""
        if name != "config" and daemon.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} is an option of the daemon, and changes no price.")
    config: Path | None = daemon.params.get("config")
    return config


def _cells(listed: PriceList, name: str, price: Price) -> Sequence[str]:
    usd = price.usd
    return [
        name,
        NOTHING if price.row == name else price.row,
        amount(usd.get("input_per_million")),
        amount(_cached(price)),
        amount(usd.get("output_per_million")),
        ", ".join(f"{amount(usd[key])} {unit}" for key, unit in _OTHERS.items() if key in usd) or NOTHING,
        f"{price.batch_factor.normalize():f}x",
        NOTHING if price.context_tokens is None else count(price.context_tokens),
        NOTHING if price.since is None else f"{price.since.astimezone(UTC):%Y-%m-%d}",
        f"{_whose(listed, price)}: {price.source}",
    ]


def _described(listed: PriceList, name: str, price: Price) -> dict[str, Any]:
    return {
        "model": name,
        "priced_as": price.row,
        "since": None if price.since is None else price.since.isoformat(),
        **price.usd,
        **({} if (cached := _cached(price)) is None else {"cached_per_million": cached}),
        "batch_factor": price.batch_factor,
        "context_tokens": price.context_tokens,
        "list": _whose(listed, price),
        "source": price.source,
    }


def _cached(price: Price) -> Decimal | None:
    """
    As written, or the tenth that it then is.
    """
    if "cached_per_million" in price.usd or "input_per_million" not in price.usd:
        return price.usd.get("cached_per_million")
    return price.usd["input_per_million"] * _TENTH


def _whose(listed: PriceList, price: Price) -> str:
    return f"{_OURS} {listed.name.partition('+')[0]}" if price.is_ours else "configuration"


def _unknown(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, names, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "See dheera_ai prices for all that there are."
    return (
        f"There is no price for {name}, so that its calls are shown without a cost. {hint} A price can be set in "
        f'[prices] of the configuration: "{name}" = {{ input_per_million = 0.5, output_per_million = 1.5 }}'
    )
