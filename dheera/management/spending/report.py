"""
``/spend/report`` and ``/global/spend``: sums by whom and what one likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, TypeAlias, cast, get_args

from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.bookkeeping import Dimension, Question, Sums
from dheera.errors import BadRequest, NotFound
from dheera.management.routes import AnyRoute, Asked, Nothing, Office, Route
from dheera.management.shapes import WANTED, Amount, Page
from dheera.management.spending.moments import span
from dheera.management.spending.parties import Parties
from dheera.management.spending.sums import Figures, Spend, SumFilters, check, equal_to, figures, spend, total

MOST_DIMENSIONS = 3
LARGEST_PAGE = 1000
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

_ONE = f"({'|'.join(DIMENSIONS)})"
_LIKE = f"one to {MOST_DIMENSIONS} of {', '.join(DIMENSIONS)}, with commas between them"

GroupBy: TypeAlias = Annotated[
    str,
    Meta(
        max_length=64,
        pattern=rf"^{_ONE}(,{_ONE}){{0,{MOST_DIMENSIONS - 1}}}(?![\s\S])",
        description=f"{_LIKE[0].upper()}{_LIKE[1:]}.",
        extra={WANTED: _LIKE},
    ),
]


class ReportQuery(SumFilters, kw_only=True, frozen=True):
    """
    Which calls are added up, and how.
    """

    group_by: GroupBy
    page: Page = 1
    size: Annotated[int, Meta(ge=1, le=LARGEST_PAGE)] = 100


class ReportRow(Figures, kw_only=True, frozen=True):
    """
    Calls added up that have the same values; null where they have none.
    """

    key: Annotated[str, Meta(description="`key_id`; null for the master key, and without keys.")] | UnsetType | None = (
        UNSET
    )
    key_alias: str | UnsetType | None = UNSET
    user: str | UnsetType | None = UNSET
    team: str | UnsetType | None = UNSET
    team_alias: str | UnsetType | None = UNSET
    end_user: str | UnsetType | None = UNSET
    model: str | UnsetType | None = UNSET
    tag: str | UnsetType | None = UNSET
    day: date | UnsetType = UNSET
    endpoint: str | UnsetType | None = UNSET


class Report(Struct, kw_only=True, frozen=True):
    """
    Sums: the largest spend first, or, by day, the latest day.
    """

    group_by: list[str]
    results: list[ReportRow]
    totals: Annotated[Figures, Meta(description="Of all pages. A call with two tags counts once here.")]
    page: int
    page_size: int
    has_more: bool


class GlobalSpend(Struct, kw_only=True, frozen=True):
    """
    All that was spent, as far back as there are sums.
    """

    spend: Spend
    max_budget: Annotated[Amount | None, Meta(description="There is none for the whole.")] = None
    requests: int
    unpriced_requests: int


async def report(office: Office, asked: Asked[Nothing, ReportQuery]) -> Report:
    """
    Sums, told apart by up to three dimensions.
    """
    wanted = asked.query
    by = cast("list[Dimension]", wanted.group_by.split(","))
    if len(set(by)) < len(by):
        raise BadRequest("group_by names something twice.", param="group_by")
    equal, days = await equal_to(office, wanted), span(wanted)
    check(by, equal)
    found = await office.books.sums(
        Question(
            by=by,
            equal=equal,
            since=days["since"],
            until=days["until"],
            offset=(wanted.page - 1) * wanted.size,
            limit=wanted.size + 1,
        )
    )
    parties = Parties(office)
    return Report(
        group_by=list(by),
        results=[await _row(parties, by, sums) for sums in found[: wanted.size]],
        totals=Figures(**figures(await total(office, equal, days))),
        page=wanted.page,
        page_size=wanted.size,
        has_more=len(found) > wanted.size,
    )


async def global_spend(office: Office, _asked: Asked[Nothing, Nothing]) -> GlobalSpend:
    """
    One sum of all.
    """
    sums = await total(office, {}, {"since": None, "until": None})
    return GlobalSpend(spend=spend(sums), requests=sums.requests, unpriced_requests=sums.unpriced)


async def _row(parties: Parties, by: Sequence[Dimension], sums: Sums) -> ReportRow:
    of: dict[str, Any] = dict(zip(by, sums.of, strict=True))
    if "key" in of:
        of["key_alias"] = await parties.key_alias(of["key"])
    if "team" in of:
        of["team_alias"] = await parties.team_alias(of["team"])
    return ReportRow(**figures(sums), **of)


ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/spend/report",
        methods=("GET",),
        summary="Spend by key, user, team, end user, model, tag, day or endpoint",
        description="From sums by day, in UTC, which outlive the calls themselves. With `tag` there can be `key`, "
        "`model` and `day`; a call with two tags counts under each.",
        body=Nothing,
        query=ReportQuery,
        answer=Report,
        refusals=(BadRequest, NotFound),
        verb=report,
    ),
    Route(
        path="/global/spend",
        methods=("GET",),
        summary="All that was spent",
        body=Nothing,
        query=Nothing,
        answer=GlobalSpend,
        verb=global_spend,
    ),
)
