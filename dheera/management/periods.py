"""
When what has been spent begins to count anew.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from dheera.entities import Limited
from dheera.windows import ALL_TIME, EPOCH, LATEST_US, Window, window_at

_US = timedelta(microseconds=1)


def renewed(changes: dict[str, Any], now: datetime, before: Limited | None = None) -> dict[str, Any]:
    """
    *changes* of something limited; where they set another ``budget_duration``, also the time at which it ends.

    :param before: as it is; ``None`` if it is to be made. A span that it has already goes on as it began.
    """
    if "budget_duration" not in changes or changes.get("budget_reset_at") is not None:
        return changes
    span = changes["budget_duration"]
    if before is not None and span == before.budget_duration and "budget_reset_at" not in changes:
        return changes
    return {**changes, "budget_reset_at": None if span is None else ending(window_of(span, now, now))}


def current(limited: Limited, now: datetime) -> Window:
    """
    The window in which *limited* spends now.
    """
    return window_of(limited.budget_duration, limited.budget_reset_at or limited.created_at, now)


def window_of(span: object, anchor: datetime | None, now: datetime) -> Window:
    """
    The window of *span* that *now* is in. A span that cannot be read, as somebody may have written one into the
    database by hand, is none.
    """
    try:
        return window_at(span if isinstance(span, str) else "", anchor, micros(now))
    except ValueError:
        return ALL_TIME


def resetting(limited: Limited, now: datetime) -> datetime | None:
    """
    When the spend of *limited* begins anew next; what was said of that, if it never does.
    """
    return ending(current(limited, now)) if limited.budget_duration else limited.budget_reset_at


def ending(window: Window) -> datetime | None:
    """
    When *window* ends; ``None`` if it does not.
    """
    return EPOCH + window.ends_us * _US if 0 < window.ends_us < LATEST_US else None


def micros(instant: datetime) -> int:
    """
    *instant* in microseconds since the epoch.
    """
    return (instant - EPOCH) // _US
