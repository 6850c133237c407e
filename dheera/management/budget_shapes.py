"""
Budgets that are written as documents, and spans: what must be in them, beyond what their types say. What is let in here
`limits` can read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from dheera.durations import after
from dheera.money import Usd

Misfit = tuple[tuple[str | int, ...], str]
"""
Where in a body, and what is wrong there.
"""

_AMOUNTS = ("budget_limit", "max_budget")
_SPANS = ("time_period", "budget_duration")
_COUNTS = ("rpm_limit", "tpm_limit")
_IN_METADATA = ("model_rpm_limit", "model_tpm_limit")
_WANTED = 'an amount of US dollars, such as 0.5, or {"budget_limit": 0.5, "time_period": "1d"}'
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_MOST_COUNTED = 2**53 - 1


def misfits(body: Struct) -> Iterator[Misfit]:
    """
    What is wrong with the limits in *body*, which has the right types.
    """
    for name in ("budget_duration", "team_member_budget_duration"):
        span = getattr(body, name, None)
        if isinstance(span, str) and not _is_span(span):
            yield (name,), "Leads beyond the year 9999"
    yield from _of_models(getattr(body, "model_max_budget", None))
    windows = getattr(body, "budget_limits", None)
    if isinstance(windows, list):
        yield from _of_windows(windows)
    metadata = getattr(body, "metadata", None)
    if isinstance(metadata, dict):
        for name in _IN_METADATA:
            yield from _of_counts(metadata.get(name), ("metadata", name))


def _of_models(given: object) -> Iterator[Misfit]:
    if not isinstance(given, dict):
        return
    for model, budget in given.items():
        place = ("model_max_budget", model)
        if not model.strip():
            yield place, "Expected the name of a model, or a pattern with `*`"
        elif isinstance(budget, dict):
            yield from ((place, text) for text in _of_model(budget))
        elif not _is_amount(budget):
            yield place, f"Expected {_WANTED}"


def _of_model(budget: Mapping[str, Any]) -> Iterator[str]:
    said = {name: value for name, value in budget.items() if value is not None}
    amounts = [said[name] for name in _AMOUNTS if name in said]
    spans = [said[name] for name in _SPANS if name in said]
    counts = [said[name] for name in _COUNTS if name in said]
    if not (amounts or counts) or not all(map(_is_amount, amounts)) or _differ(amounts):
        yield f"Expected {_WANTED}"
    if not all(map(_is_span, spans)) or _differ(spans):
        yield 'Expected as `time_period` a whole number and one of s, m, h, d, w, mo: "1d"'
    if not all(map(_is_count, counts)):
        yield "Expected as `rpm_limit` or `tpm_limit` a whole number, 0 or more"


def _of_windows(windows: Sequence[Any]) -> Iterator[Misfit]:
    seen = set()
    for at, each in enumerate(windows):
        place = ("budget_limits", at, "budget_duration")
        if each.budget_duration in seen:
            yield place, "Expected another duration than those before it"
        elif not _is_span(each.budget_duration):
            yield place, "Leads beyond the year 9999"
        seen.add(each.budget_duration)


def _of_counts(given: object, place: tuple[str, ...]) -> Iterator[Misfit]:
    if given is None:
        return
    if not isinstance(given, dict):
        yield place, 'Expected an object such as {"mistral-small-latest": 60}'
        return
    for model, count in given.items():
        if not _is_count(count):
            yield (*place, model), "Expected a whole number, 0 or more"


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    try:
        return Usd.of(value) >= Usd()
    except ValueError:
        return False


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_COUNTED


def _is_span(value: object) -> bool:
    try:
        return isinstance(value, str) and after(_LATEST, value) is not None
    except ValueError:
        return False


def _differ(values: Sequence[Any]) -> bool:
    return any(value != values[0] for value in values)
