"""
Sums and calls as people want to see them, and as spreadsheets do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from attrs import frozen

from dheera.commands.tables import NOTHING, Column, count, table

Row: TypeAlias = Mapping[str, Any]

NO_PRICE = "no price"
TOTAL = "TOTAL"
CENTS = 2


@frozen(kw_only=True)
class _Quantity:
    """
    A number that sums have.

    :param always: it is shown even where all are 0.
    :param spare: it may be left out on a narrow terminal.
    """

    name: str
    title: str
    always: bool = False
    spare: bool = False


QUANTITIES = (
    _Quantity(name="requests", title="CALLS", always=True),
    _Quantity(name="failed_requests", title="FAILED", spare=True),
    _Quantity(name="unpriced_requests", title="UNPRICED"),
    _Quantity(name="estimated_requests", title="ESTIMATED"),
    _Quantity(name="prompt_tokens", title="TOKENS IN", always=True),
    _Quantity(name="cached_tokens", title="CACHED", spare=True),
    _Quantity(name="completion_tokens", title="TOKENS OUT", always=True),
    _Quantity(name="pages", title="PAGES", spare=True),
    _Quantity(name="audio_ms", title="AUDIO MS", spare=True),
    _Quantity(name="characters", title="CHARACTERS", spare=True),
)
NUMBERS = [each.name for each in QUANTITIES]
_ALIASES = {"key": "key_alias", "team": "team_alias"}


def sums_table(by: Sequence[str], rows: Sequence[Row], totals: Row, width: int | None) -> Iterator[str]:
    """
    The lines of a table of sums, with all of them in the last line.

    :param by: what tells them apart.
    :param width: of the terminal, if it is one.
    """
    shown = [each for each in QUANTITIES if each.always or totals[each.name]]
    columns = [
        *(Column(title=_title(name), least=8) for name in by),
        *(Column(title=each.title, right=True, spare=each.spare) for each in shown),
        Column(title="SPEND USD", right=True),
    ]
    spends = money([row["spend"] for row in [*rows, totals]])
    names = [*([_name(name, row) for name in by] for row in rows), [TOTAL, *[""] * (len(by) - 1)]]
    cells = [
        [*of, *(count(row[each.name]) for each in shown), spend]
        for of, row, spend in zip(names, [*rows, totals], spends, strict=True)
    ]
    return table(columns, cells, width)


def sums_head(by: Sequence[str]) -> list[str]:
    """
    The names of the columns of a sheet of sums.
    """
    dimensions = [column for name in by for column in ([name, _ALIASES[name]] if name in _ALIASES else [name])]
    return [*dimensions, *NUMBERS, "spend"]


def money(values: Sequence[object]) -> list[str]:
    """
    Amounts of dollars below each other: each with all of its digits, and all with as many.
    """
    exact = [Decimal(each) if isinstance(each, int | Decimal) else None for each in values]
    places = max([CENTS, *(-int(each.normalize().as_tuple().exponent) for each in exact if each is not None)])
    return [NO_PRICE if each is None else f"{each:,.{places}f}" for each in exact]


def _title(name: str) -> str:
    return "DAY (UTC)" if name == "day" else name.replace("_", " ").upper()


def _name(name: str, row: Row) -> str:
    return str(row.get(_ALIASES.get(name, "")) or row[name] or NOTHING)
