"""
Tables for people: aligned columns of text that fit the terminal, and short words for values.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from attrs import frozen

NOTHING = "-"
_GAP = "  "
_CUT = "…"


@frozen(kw_only=True)
class Column:
    """
    One column.

    :param right: numbers stand at the right.
    :param least: how narrow it may get when the terminal is; ``None`` keeps it whole.
    :param spare: it may be left out when that is not enough.
    """

    title: str
    right: bool = False
    least: int | None = None
    spare: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None) -> Iterator[str]:
    """
    The lines of a table with a head.

    :param width: of the terminal: what may be left out is, if it must, and the widest columns that may are cut until
        all fits. ``None`` cuts nothing.
    """
    lines = [[each.title for each in columns], *([clean(cell) for cell in row] for row in rows)]
    sizes = [max(cells(line[nth]) for line in lines) for nth in range(len(columns))]
    shown = [(column, size, nth) for nth, (column, size) in enumerate(zip(columns, sizes, strict=True))]
    if width is not None and _total([_narrowest(column, size) for column, size, _ in shown]) > width:
        shown = [each for each in shown if not each[0].spare]
    widths = [size for _, size, _ in shown]
    if width is not None:
        _narrow([column for column, _, _ in shown], widths, width)
    for line in lines:
        yield _GAP.join(
            _aligned(line[nth], size, right=column.right) for size, (column, _, nth) in zip(widths, shown, strict=True)
        ).rstrip()


def listing(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """
    The lines of a list of names and values.
    """
    size = max(cells(name) for name, _ in pairs)
    for name, value in pairs:
        yield f"{_aligned(name, size)}{_GAP}{clean(value)}"


def clean(text: str) -> str:
    """
    *text* without signs that a terminal would obey.
    """
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def cells(text: str) -> int:
    """
    How many cells of a terminal *text* takes.
    """
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "FW" else 1 for sign in text
    )


def when(text: object) -> str:
    """
    An RFC 3339 time, to the minute, in UTC.
    """
    if not text:
        return NOTHING
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError):
        return str(text)


def amount(value: object) -> str:
    """
    An amount of dollars: all of its digits, and cents at least.
    """
    if not isinstance(value, int | Decimal) or isinstance(value, bool):
        return NOTHING
    exact = Decimal(value)
    places = max(2, -int(exact.normalize().as_tuple().exponent))
    return f"{exact:,.{places}f}"


def count(value: object) -> str:
    """
    A whole number.
    """
    return f"{value:,}" if isinstance(value, int) else NOTHING


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _narrowest(column: Column, size: int) -> int:
    """
    How narrow a column may get that is *size* wide.
    """
    return size if column.least is None else min(size, max(column.least, cells(column.title)))


def _narrow(columns: Sequence[Column], widths: list[int], width: int) -> None:
    excess = _total(widths) - width
    while excess > 0:
        able = [(size, nth) for nth, size in enumerate(widths) if size > _narrowest(columns[nth], size)]
        if not able:
            return
        widths[max(able)[1]] -= 1
        excess -= 1


def _aligned(text: str, size: int, *, right: bool = False) -> str:
    if cells(text) > size:
        while cells(text) > size - 1:
            text = text[:-1]
        text += _CUT
    padding = " " * (size - cells(text))
    return padding + text if right else text + padding
