"""
What the directory says of limits, where it keeps documents as clients wrote them: LiteLLM's names and shapes.

Reads strictly: what is not clearly a limit is a `ValueError` to whoever asks, or `UNREADABLE`, and never left out.
Imports no Twisted and does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from dheera.entities import Limited, decoded
from dheera.money import Usd
from dheera.windows import window_at

MOST_COUNTED = 2**53 - 1
"""
Where counts end, as JavaScript knows them; a limit beyond it is as good as this one.
"""
UNREADABLE = object()
"""
In place of a value that is missing or contradicts itself: no reader takes it.
"""

_EMPTY: tuple[object, ...] = ({}, [])
_IN_METADATA = frozenset({"model_rpm_limit", "model_tpm_limit", "temp_budget_increase", "temp_budget_expiry"})
"""
What LiteLLM keeps in ``metadata``, so that its users write it there as well.
"""


def nano(value: object) -> int:
    """
    An amount of US dollars, in nano-dollars.
    """
    amount: Usd = decoded(Usd, value)
    if amount < Usd():
        msg = "less than nothing"
        raise ValueError(msg)
    return amount.nano


def count(value: object) -> int:
    """
    A whole number.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        msg = "not a whole number"
        raise ValueError(msg)
    return min(value, MOST_COUNTED)


def span(value: object) -> str:
    """
    A span as `windows` has it; ``None`` is no end.
    """
    if value is None:
        return ""
    if not isinstance(value, str) or not value:
        msg = "not a span"
        raise ValueError(msg)
    window_at(value, None, 0)
    return value


def instant(value: object) -> datetime | None:
    """
    A time, without an offset in UTC; ``None`` if it is not clearly one.
    """
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def said(own: Limited, name: str) -> list[Any]:
    """
    What is set under *name*, wherever that may be: in a field, in ``rest``, in ``metadata``.
    """
    places = [getattr(own, name, None), getattr(own, "rest", {}).get(name)]
    if name in _IN_METADATA:
        places.append(getattr(own, "metadata", {}).get(name))
    return [each for each in places if each is not None and each not in _EMPTY]


def by_model(own: Limited, name: str) -> Iterator[tuple[str, Any]]:
    """
    The models, and what is said of each, in the documents under *name*.
    """
    for document in said(own, name):
        if isinstance(document, Mapping):
            yield from ((model, UNREADABLE if value is None else value) for model, value in document.items())
        else:
            yield "", UNREADABLE


def model_budget(value: object) -> tuple[object, object, Mapping[str, Any]]:
    """
    The amount, the span and the rates in a member of ``model_max_budget``: ``0.5``, or
    ``{"budget_limit": 0.5, "time_period": "1d"}``, where LiteLLM also says ``max_budget`` and ``budget_duration``.
    ``None`` where there is none.
    """
    if not isinstance(value, Mapping):
        return value, None, {}
    rates = {name: value[name] for name in ("rpm_limit", "tpm_limit") if value.get(name) is not None}
    amount = _either(value, "budget_limit", "max_budget")
    if amount is None and not rates:
        amount = UNREADABLE
    return amount, _either(value, "time_period", "budget_duration"), rates


def budget_limits(own: Limited) -> Iterator[tuple[object, object, datetime]]:
    """
    The amounts and the spans in ``budget_limits``, and one of the times at which each begins anew.
    """
    for listed in said(own, "budget_limits"):
        for each in listed if isinstance(listed, list) else [None]:
            told = each if isinstance(each, Mapping) else {}
            amount = told.get("max_budget")
            anchor = instant(told.get("reset_at")) or own.created_at
            yield UNREADABLE if amount is None else amount, told.get("budget_duration"), anchor


def increase(own: Limited) -> tuple[int, datetime | None]:
    """
    Nano-dollars that are added to the budget, and until when; 0 if that is not clear.
    """
    until = instant(first(said(own, "temp_budget_expiry")))
    try:
        added = nano(first(said(own, "temp_budget_increase")))
    except ValueError:
        return 0, None
    return (added, until) if until is not None else (0, None)


def first(values: Iterable[Any]) -> Any:
    """
    The first of *values* that is set.
    """
    return next((each for each in values if each is not None), None)


def _either(document: Mapping[str, Any], *names: str) -> object:
    values = [document[name] for name in names if document.get(name) is not None]
    if any(each != values[0] for each in values):
        return UNREADABLE
    return first(values)
