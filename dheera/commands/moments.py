"""
Times in the past, as people say them: a day, a time, or how long ago.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, date, datetime

import click

from dheera.durations import after
from dheera.entities import now

_MONTHS = re.compile(r"([1-9][0-9]{0,8})mo")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"\d{4}-")


def day(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """
    A day in UTC.

    :raises click.BadParameter: it is none.
    """
    return None if value is None else as_day(value, now())


def moment(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """
    A day in UTC, or a time in RFC 3339.

    :raises click.BadParameter: it is none.
    """
    return None if value is None else as_moment(value, now())


def as_day(text: str, at: datetime) -> str:
    """
    The day that *text* says at the time *at*.

    :raises click.BadParameter: it says none.
    """
    try:
        return (date.fromisoformat(text) if _DAY.fullmatch(text) else before(at, text).date()).isoformat()
    except ValueError:
        raise click.BadParameter("wanted a day, such as 2026-03-01, or how long ago: 7d, 2w, 1mo.") from None


def as_moment(text: str, at: datetime) -> str:
    """
    The day or the time that *text* says at the time *at*; days as they are, for what ends with one includes it.

    :raises click.BadParameter: it says none.
    """
    try:
        return _instant(text if _TIME.match(text) else before(at, text).isoformat())
    except (ValueError, OverflowError):
        raise click.BadParameter(
            "wanted a day (2026-03-01), a time (2026-03-01T12:00:00Z), or how long ago: 30m, 12h, 7d, 1mo."
        ) from None


def before(at: datetime, span: str) -> datetime:
    """
    The instant *span* before *at*. A month leads to the same day of the earlier month, or to its last.

    :raises ValueError: *span* is none, or leads beyond the calendar.
    """
    match = _MONTHS.fullmatch(span)
    try:
        if match is None:
            return at - (after(at, span) - at)
        year, month = divmod(at.year * 12 + at.month - 1 - int(match[1]), 12)
        return at.replace(year=year, month=month + 1, day=min(at.day, monthrange(year, month + 1)[1]))
    except OverflowError:
        raise ValueError from None


def _instant(text: str) -> str:
    if _DAY.fullmatch(text):
        return date.fromisoformat(text).isoformat()
    instant = datetime.fromisoformat(text)
    instant = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    return instant.isoformat().replace("+00:00", "Z")
