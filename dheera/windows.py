"""
When a budget begins anew: each instant belongs to one window of a span, and the windows of a span follow each other
without a gap.

Imports no Twisted and does no I/O.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import MAXYEAR, UTC, datetime, timedelta
from functools import lru_cache

from msgspec import Struct

from dheera.durations import PATTERN

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_US = 253_402_300_800_000_000
"""
The end of the year 9999, in microseconds since the epoch. No window goes beyond it, nor begins before the epoch.
"""

_WRITTEN = re.compile(PATTERN)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_MONTHS_A_YEAR = 12
_SUNDAY = datetime(1970, 1, 4, tzinfo=UTC)
_CALENDAR = {
    "24h": ("24h", EPOCH),
    "1d": ("1d", EPOCH),
    "7d": ("7d", _SUNDAY),
    "1w": ("1w", _SUNDAY),
    "30d": ("1mo", EPOCH),
    "1mo": ("1mo", EPOCH),
}


class Window(Struct, frozen=True, gc=False):
    """
    From when to when something is counted together, in microseconds since the epoch.

    :param starts_us: the first of its instants; 0 if it is all time.
    :param ends_us: where the next window begins; 0 if it is all time.
    """

    starts_us: int
    ends_us: int


ALL_TIME = Window(0, 0)


def window_at(span: str, anchor: datetime | None, at_us: int) -> Window:
    """
    The window that *at_us* is in.

    Those of a day (``1d``, ``24h``) begin at midnight, of a week (``7d``, ``1w``) on Sunday at midnight, of a month
    (``1mo``, and ``30d`` too) with the first at midnight: all in UTC. All other spans are counted from *anchor*, one
    after the other, into the past as well: ``48h``, ``2w``; months (``3mo``) keep its day, or take the last of a month
    that is too short for it.

    :param span: as in `durations`; empty if all time is one window.
    :param anchor: aware; ``None`` is the epoch, so that ``3mo`` are quarters of a year.
    :param at_us: microseconds since the epoch, before `LATEST_US`.
    :raises ValueError: *span* is not written like this.
    """
    if not span:
        return ALL_TIME
    span, fixed = _CALENDAR.get(span, (span, None))
    count, unit = _parsed(span)
    start = fixed or anchor or EPOCH
    if unit == "mo":
        starts_us, ends_us = _months_around(start.astimezone(UTC), count, at_us)
    else:
        length_us = count * _SECONDS[unit] * 1_000_000
        starts_us = at_us - (at_us - _us(start)) % length_us
        ends_us = starts_us + length_us
    return Window(max(starts_us, 0), min(ends_us, LATEST_US))


@lru_cache(maxsize=1000)
def _parsed(span: str) -> tuple[int, str]:
    match = _WRITTEN.fullmatch(span)
    if match is None:
        msg = "a duration is a whole number and one of s, m, h, d, w, mo: 30s, 15m, 12h, 30d, 2w, 1mo"
        raise ValueError(msg)
    unit = match[1]
    return int(span.removesuffix(unit)), unit


def _months_around(anchor: datetime, count: int, at_us: int) -> tuple[int, int]:
    at = EPOCH + timedelta(microseconds=at_us)
    behind = (at.year - anchor.year) * _MONTHS_A_YEAR + at.month - anchor.month
    windows = behind // count
    if _months_on(anchor, windows * count) > at_us:  # later in the month that this window begins in
        windows -= 1
    return _months_on(anchor, windows * count), _months_on(anchor, (windows + 1) * count)


def _months_on(anchor: datetime, months: int) -> int:
    years, month = divmod(anchor.month - 1 + months, _MONTHS_A_YEAR)
    year = anchor.year + years
    if year < EPOCH.year:
        return 0
    if year > MAXYEAR:
        return LATEST_US
    day = min(anchor.day, monthrange(year, month + 1)[1])
    return _us(anchor.replace(year=year, month=month + 1, day=day))


def _us(instant: datetime) -> int:
    return (instant - EPOCH) // timedelta(microseconds=1)
