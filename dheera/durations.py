"""
Spans of time as people write them: ``30s``, ``15m``, ``12h``, ``30d``, ``2w``, ``1mo``.

Imports no Twisted and does no I/O.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import datetime, timedelta

PATTERN = r"^[1-9][0-9]{0,8}(s|m|h|d|w|mo)$"

_SPAN = re.compile(r"([1-9][0-9]{0,8})(s|m|h|d|w|mo)")
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_LAST_YEAR = 9999


def after(start: datetime, span: str) -> datetime:
    """
    The instant *span* after *start*. A month ends on the same day of the later month, or on its last.

    :raises ValueError: *span* is not written like this, or leads beyond the year 9999.
    """
    match = _SPAN.fullmatch(span)
    if match is None:
        msg = "a duration is a whole number and one of s, m, h, d, w, mo: 30s, 15m, 12h, 30d, 2w, 1mo"
        raise ValueError(msg)
    count, unit = int(match[1]), match[2]
    try:
        return _months_after(start, count) if unit == "mo" else start + _UNITS[unit] * count
    except OverflowError:
        msg = "this duration leads beyond the year 9999"
        raise ValueError(msg) from None


def _months_after(start: datetime, count: int) -> datetime:
    years, month = divmod(start.month - 1 + count, 12)
    year = start.year + years
    if year > _LAST_YEAR:
        raise OverflowError
    return start.replace(year=year, month=month + 1, day=min(start.day, monthrange(year, month + 1)[1]))
