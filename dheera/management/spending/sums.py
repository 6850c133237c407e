"""
Sums as questions to the ledger, and as they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Annotated, Any, TypeAlias

from attrs import evolve, fields_dict
from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.bookkeeping import Dimension, Question, Sums
from dheera.errors import BadRequest
from dheera.management.routes import Office
from dheera.management.shapes import Amount, Name, Reference
from dheera.management.spending.moments import Days
from dheera.management.spending.parties import key_id_of
from dheera.money import Usd

MOST = 20_000
"""
Sums that are read for one answer.
"""

Spend: TypeAlias = Annotated[
    Amount | None,
    Meta(description="US dollars. Calls without a price are in no sum; null where there is none but theirs."),
]

_APART_FROM_TAGS = frozenset({"user", "team", "end_user", "endpoint"})
_COUNTED = tuple(name for name in fields_dict(Sums) if name not in ("of", "cost"))


class Figures(Struct, kw_only=True, frozen=True):
    """
    Calls added up.
    """

    spend: Spend
    requests: int
    failed_requests: int
    unpriced_requests: Annotated[int, Meta(description="Calls that have no price.")]
    estimated_requests: Annotated[int, Meta(description="Calls of which upstream did not say what they used.")]
    prompt_tokens: int
    cached_tokens: Annotated[int, Meta(description="Of `prompt_tokens`, those from the cache.")]
    completion_tokens: int
    total_tokens: int
    pages: int
    audio_ms: int
    characters: int


class SumFilters(Days, kw_only=True, frozen=True):
    """
    Which calls are added up, and when they were.
    """

    api_key: Reference | UnsetType = UNSET
    user_id: Name | UnsetType = UNSET
    team_id: Name | UnsetType = UNSET
    end_user: Name | UnsetType = UNSET
    model: Name | UnsetType = UNSET
    tag: Name | UnsetType = UNSET
    endpoint: Name | UnsetType = UNSET


_FILTERS: Mapping[str, Dimension] = {
    "user_id": "user",
    "team_id": "team",
    "end_user": "end_user",
    "model": "model",
    "tag": "tag",
    "endpoint": "endpoint",
}


async def equal_to(office: Office, filters: Struct) -> dict[Dimension, str | None]:
    """
    What *filters*, a struct with some fields of `SumFilters`, asks for.

    :raises NotFound: there is no such key.
    """
    wanted: dict[Dimension, str | None] = {}
    for name, dimension in _FILTERS.items():
        value = getattr(filters, name, UNSET)
        if value is not UNSET:
            wanted[dimension] = value
    reference = getattr(filters, "api_key", UNSET)
    if reference is not UNSET:
        wanted["key"] = await key_id_of(office, reference, param="api_key")
    return wanted


def check(by: Iterable[Dimension], equal: Mapping[Dimension, str | None]) -> None:
    """
    Let pass what the sums of the ledger can answer.

    :raises BadRequest: they cannot.
    """
    asked = {*by, *equal}
    if "tag" in asked and (others := asked & _APART_FROM_TAGS):
        raise BadRequest(
            f"Sums by tag are kept by key, model and day, and not by {', '.join(sorted(others))}. "
            "/spend/logs takes both.",
            param="tag",
        )


async def summed(office: Office, question: Question) -> list[Sums]:
    """
    All sums, not only those of one page.

    :raises BadRequest: they are too many.
    """
    found = await office.books.sums(evolve(question, offset=0, limit=MOST + 1))
    if len(found) > MOST:
        raise BadRequest(
            f"The answer would hold more than {MOST} sums: ask for fewer days at once, or filter.", param="start_date"
        )
    return list(found)


async def total(office: Office, equal: Mapping[Dimension, str | None], days: Mapping[str, date | None]) -> Sums:
    """
    All calls in one sum.
    """
    return added(await office.books.sums(Question(equal=equal, since=days["since"], until=days["until"])))


def added(sums: Iterable[Sums]) -> Sums:
    """
    One sum of many.
    """
    many = list(sums)
    counts: dict[str, Any] = {name: sum(getattr(each, name) for each in many) for name in _COUNTED}
    return Sums(**counts, cost=Usd(sum(each.cost.nano for each in many)))


def gathered(sums: Iterable[Sums], *places: int) -> dict[tuple[str | date | None, ...], Sums]:
    """
    *sums* added up by the dimensions that stand at *places*.
    """
    groups: dict[tuple[str | date | None, ...], list[Sums]] = {}
    for each in sums:
        groups.setdefault(tuple(each.of[place] for place in places), []).append(each)
    return {of: added(group) for of, group in groups.items()}


def spend(sums: Sums) -> Usd | None:
    """
    What they cost; ``None`` if nothing is known to have cost anything, and there are calls without a price.
    """
    return None if sums.unpriced and sums.cost == Usd() else sums.cost


def figures(sums: Sums) -> dict[str, Any]:
    """
    The fields of a `Figures`.
    """
    return {
        "spend": spend(sums),
        "requests": sums.requests,
        "failed_requests": sums.failed,
        "unpriced_requests": sums.unpriced,
        "estimated_requests": sums.estimated,
        "prompt_tokens": sums.prompt_tokens,
        "cached_tokens": sums.cached_tokens,
        "completion_tokens": sums.completion_tokens,
        "total_tokens": sums.total_tokens,
        "pages": sums.pages,
        "audio_ms": sums.audio_ms,
        "characters": sums.characters,
    }


def ordered(sums: Sequence[Sums]) -> list[Sums]:
    """
    The most costly first.
    """
    return sorted(sums, key=lambda each: (-each.cost.nano, -each.requests, str(each.of)))
