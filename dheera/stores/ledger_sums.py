"""
The sums that the ledger keeps: for each day, and of what somebody has spent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TypeAlias

from attrs import frozen

from dheera.bookkeeping import Dimension, Question
from dheera.records import Record
from dheera.stores.ledger_texts import bounded_tag, bounded_tags
from dheera.texts import bounded, can_be_kept
from dheera.usage import Usage

MOST_DIMENSIONS = 3
LARGEST_QUANTITY = 10**12
"""
What one call can have used of anything. Upstream says how much; a number that is absurd must not spoil the sums.
"""

DAILY: Mapping[Dimension, str] = MappingProxyType(
    {
        "day": "day",
        "key": "key_id",
        "user": "user_id",
        "team": "team_id",
        "end_user": "end_user",
        "model": "model",
        "endpoint": "endpoint",
    }
)
"""
The columns that tell the rows of the table ``daily`` apart, in the order of its primary key, by the dimensions.
"""
DAILY_TAGS: Mapping[Dimension, str] = MappingProxyType({"day": "day", "tag": "tag", "key": "key_id", "model": "model"})
"""
The same of ``daily_tags``.
"""
COUNTERS = (
    "requests",
    "failed",
    "unpriced",
    "estimated",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "total_tokens",
    "pages",
    "audio_ms",
    "characters",
    "cost",
)

Counts: TypeAlias = tuple[int, ...]
"""
One number for each of `COUNTERS`.
"""
Totals: TypeAlias = dict[tuple[str, ...], Counts]
"""
By the values of the columns that tell rows apart.
"""
Spends: TypeAlias = dict[tuple[str, str], int]
"""
Nano-dollars, by kind and id.
"""

_Name: TypeAlias = tuple[str, str | None, str | None, str | None, str | None, str | None, str]
"""
As those of `DAILY`, and not yet bounded: there are few in a batch, and many records.
"""
SPENDERS = {"key": "key_id", "user": "user_id", "team": "team_id", "customer": "end_user"}
"""
Whose spend a call adds to, and where they are named.
"""
_SPENDERS = {kind: list(DAILY.values()).index(name) for kind, name in SPENDERS.items()}
_NOTHING = Usage()


@frozen
class Added:
    """
    What records add to the books, beside their lines.

    :param daily: to the rows of ``daily``.
    :param tags: to those of ``daily_tags``.
    :param spends: to what has been spent.
    """

    daily: Totals
    tags: Totals
    spends: Spends


def added_by(records: Iterable[Record]) -> Added:
    """
    What *records* add.
    """
    groups: dict[_Name, list[Counts]] = {}
    tagged: dict[tuple[str, str, str | None, str | None], list[Counts]] = {}
    for record in records:
        day, model, counts = _day(record.started_at), record.answered_model or record.model, _counts(record)
        name = (day, record.key_id, record.user_id, record.team_id, record.end_user, model, record.endpoint)
        groups.setdefault(name, []).append(counts)
        for tag in bounded_tags(record.tags) if record.tags else ():
            tagged.setdefault((day, tag, record.key_id, model), []).append(counts)
    added = {name: _added(many) for name, many in groups.items()}
    added_tags = {name: _added(many) for name, many in tagged.items()}
    return Added(_bounded(added.items()), _bounded(added_tags.items()), _spends(added))


def add(totals: Totals, name: tuple[str, ...], counts: Counts) -> None:
    """
    Count *counts* under *name*.
    """
    before = totals.get(name)
    totals[name] = counts if before is None else tuple([a + b for a, b in zip(before, counts, strict=True)])


def _day(time: datetime) -> str:
    return _iso((time if time.tzinfo is UTC else time.astimezone(UTC)).date())


@lru_cache(maxsize=64)
def _iso(day: date) -> str:
    return day.isoformat()


def _counts(record: Record) -> Counts:
    usage, cost = record.usage or _NOTHING, record.cost_nano_usd
    used: Counts
    used = prompt, cached, completion, total, pages, audio_ms, characters = (
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.completion_tokens,
        usage.total_tokens,
        usage.pages + usage.annotated_pages,
        usage.audio_ms,
        usage.characters,
    )
    # No bit that is not in some of them: so none is less than 0, or more. With min and max it takes five times as long.
    if not 0 <= prompt | cached | completion | total | pages | audio_ms | characters <= LARGEST_QUANTITY:
        used = tuple([min(max(each, 0), LARGEST_QUANTITY) for each in used])
    unpriced = cost is None and record.outcome != "refused"
    return (1, 1 if record.failed else 0, 1 if unpriced else 0, 1 if record.estimated else 0, *used, cost or 0)


def _added(many: Sequence[Counts]) -> Counts:
    return many[0] if len(many) == 1 else tuple(map(sum, zip(*many, strict=True)))


def _bounded(added: Iterable[tuple[tuple[str | None, ...], Counts]]) -> Totals:
    result: Totals = {}
    for name, counts in added:
        add(result, tuple([bounded(each) if each else "" for each in name]), counts)
    return result


def _spends(added: Mapping[_Name, Counts]) -> Spends:
    result: Spends = {}
    for name, counts in added.items():
        for kind, place in _SPENDERS.items():
            id_, cost = name[place], counts[-1]
            if id_ and cost and can_be_kept(id_):  # or else it can be nobody's in the directory
                result[kind, id_] = result.get((kind, id_), 0) + cost
    return result


def columns_for(question: Question) -> Mapping[Dimension, str]:
    """
    The columns of the table that can answer *question*: `DAILY` or `DAILY_TAGS`.

    :raises ValueError: none can: a program that passes on what its clients ask must look first.
    """
    columns = DAILY_TAGS if "tag" in question.by or "tag" in question.equal else DAILY
    strange = [name for name in (*question.by, *question.equal) if name not in columns]
    if strange or "day" in question.equal or not len(set(question.by)) == len(question.by) <= MOST_DIMENSIONS:
        msg = "there are no sums of this kind"
        raise ValueError(msg)
    return columns


def wanted(dimension: Dimension, value: str | None) -> str:
    """
    *value* as it is in the column.
    """
    clean: Callable[[str], str] = bounded_tag if dimension == "tag" else bounded
    return clean(value) if value else ""


def shown(dimension: Dimension, value: str | date) -> str | date | None:
    """
    What `Sums` says for what is in the column.
    """
    if dimension != "day":
        return value or None
    return date.fromisoformat(value) if isinstance(value, str) else value
