"""
From when to when: how clients write it, and what it means in UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.errors import BadRequest, Invalid
from dheera.management.shapes import utc

Moment: TypeAlias = Annotated[
    str, Meta(max_length=40, description="A day in UTC (`2026-03-01`), or a time in RFC 3339.")
]
FirstDay: TypeAlias = Annotated[date, Meta(description="The first day, in UTC: `2026-03-01`.")]
LastDay: TypeAlias = Annotated[date, Meta(description="The last day, in UTC, included.")]

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_WHOLE_DAY = timedelta(days=1)


class Days(Struct, kw_only=True, frozen=True):
    """
    From which day to which; without one there is no such bound.
    """

    start_date: FirstDay | UnsetType = UNSET
    end_date: LastDay | UnsetType = UNSET


def span(days: Days) -> dict[str, date | None]:
    """
    The ``since`` and ``until`` of a `Question` about *days*.

    :raises BadRequest: they end before they begin.
    """
    return in_order(days.start_date or None, days.end_date or None)


def in_order(since: date | None, until: date | None) -> dict[str, date | None]:
    """
    Two days, of which the first must not come after the last.

    :raises BadRequest: it does.
    """
    if since is not None and until is not None and since > until:
        raise BadRequest("end_date is before start_date: both are days, and both are included.", param="end_date")
    return {"since": since, "until": until}


def as_day(text: str | UnsetType) -> date | None:
    """
    The day that *text* is; ``None`` if it is something else.
    """
    try:
        return date.fromisoformat(text) if text is not UNSET and _DAY.fullmatch(text) else None
    except ValueError:
        return None


def beginning(text: str | UnsetType, param: str) -> datetime | None:
    """
    The first instant of what a client writes as a `Moment`.

    :raises Invalid: it is none.
    """
    if text is UNSET:
        return None
    day = as_day(text)
    try:
        return _midnight(day) if day is not None else utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise Invalid(
            [(("query", param), "Expected a day (`2026-03-01`) or a time in RFC 3339, + written as %2B", "value_error")]
        ) from None


def ending(text: str | UnsetType, param: str) -> datetime | None:
    """
    The first instant that no longer belongs to what ends with a `Moment`: a day belongs to it as a whole.

    :raises Invalid: it is none.
    """
    day = as_day(text)
    if day is not None and day < date.max:
        return _midnight(day) + _WHOLE_DAY
    return beginning(text, param)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
