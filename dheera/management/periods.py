"""
When what has been spent begins to count anew.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from dheera.durations import after
from dheera.errors import Invalid


def renewed(changes: dict[str, Any], now: datetime) -> dict[str, Any]:
    """
    *changes* of something limited; where they set another ``budget_duration``, also the time at which it ends.

    :raises Invalid: that is beyond the year 9999.
    """
    if "budget_duration" not in changes or changes.get("budget_reset_at") is not None:
        return changes
    span = changes["budget_duration"]
    try:
        return {**changes, "budget_reset_at": None if span is None else after(now, span)}
    except ValueError:
        raise Invalid([(("body", "budget_duration"), "Leads beyond the year 9999", "value_error")]) from None
