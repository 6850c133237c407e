"""
Lists of who and what was spent on, in the shapes of LiteLLM: ``/global/spend/report``, ``/spend/keys``,
``/spend/users``, ``/spend/tags``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from dheera.bookkeeping import Dimension, Question, Sums
from dheera.boundaries import Query
from dheera.entities import Key, User
from dheera.errors import BadRequest, NotFound
from dheera.management.acts import existing
from dheera.management.keys.answers import KeyRow
from dheera.management.keys.rows import rows
from dheera.management.routes import AnyRoute, Asked, Nothing, Office, Route
from dheera.management.shapes import Name
from dheera.management.spending.moments import Days, span
from dheera.management.spending.parties import NOBODY, Parties
from dheera.management.spending.sums import Spend, added, gathered, ordered, spend, summed
from dheera.management.users.rows import user_rows
from dheera.management.users.shapes import UserRow

Limit = Annotated[int, Meta(ge=1, le=1000, description="How many at most.")]


class GlobalReportQuery(Days, kw_only=True, frozen=True):
    """
    Of whom, and when.
    """

    group_by: Literal["team", "customer", "api_key"] = "team"


class ModelSpend(Struct, kw_only=True, frozen=True):
    """
    What was spent on a model.
    """

    model: str
    spend: Spend
    total_tokens: int


class TeamSpend(Struct, kw_only=True, frozen=True):
    """
    What a team spent on a day.
    """

    team_id: str | None
    team_name: Annotated[str, Meta(description="Its alias, or else its id; empty for calls without a team.")]
    total_spend: Spend
    metadata: list[ModelSpend]


class CustomerSpend(Struct, kw_only=True, frozen=True):
    """
    What was spent for an end user on a day.
    """

    customer: Annotated[str, Meta(description="Empty for calls that named none.")]
    total_spend: Spend
    metadata: list[ModelSpend]


class ModelCost(Struct, kw_only=True, frozen=True):
    """
    What a key spent on a model.
    """

    model: str
    total_cost: Spend
    total_input_tokens: int
    total_output_tokens: int


class GlobalReportRow(Struct, kw_only=True, frozen=True):
    """
    A day, with its `teams` or its `customers`; or, by `api_key`, a key with its `model_details`.
    """

    group_by_day: date | UnsetType = UNSET
    teams: list[TeamSpend] | UnsetType = UNSET
    customers: list[CustomerSpend] | UnsetType = UNSET
    api_key: (
        Annotated[str, Meta(description="SHA-256 of the key; empty for the master key, and without keys.")] | UnsetType
    ) = UNSET
    key_alias: str | UnsetType | None = UNSET
    total_cost: Spend | UnsetType = UNSET
    total_input_tokens: int | UnsetType = UNSET
    total_output_tokens: int | UnsetType = UNSET
    model_details: list[ModelCost] | UnsetType = UNSET


class SpentKeysQuery(Struct, kw_only=True, frozen=True):
    """
    How many keys.
    """

    limit: Limit = 100


class SpentUsersQuery(Struct, kw_only=True, frozen=True):
    """
    Which user, or how many.
    """

    user_id: Name | UnsetType = UNSET
    limit: Limit = 100


class SpentTagsQuery(Days, kw_only=True, frozen=True):
    """
    When, and how many tags.
    """

    limit: Limit = 100


class TagSpend(Struct, kw_only=True, frozen=True):
    """
    What was spent under a tag.
    """

    individual_request_tag: str
    log_count: int
    unpriced_requests: int
    total_spend: Spend


async def global_report(office: Office, asked: Asked[Nothing, GlobalReportQuery]) -> list[GlobalReportRow]:
    """
    What teams or customers spent day by day, the first day first; or what keys spent, the most costly first.
    """
    days = span(asked.query)
    parties = Parties(office)
    if asked.query.group_by == "api_key":
        return await _by_key(office, parties, days)
    whom: Dimension = "team" if asked.query.group_by == "team" else "end_user"
    sums = await summed(office, Question(by=("day", whom, "model"), since=days["since"], until=days["until"]))
    parted: dict[date, dict[str | None, list[Sums]]] = {}
    for each in sums:
        day, name, _ = each.of
        if isinstance(day, date) and not isinstance(name, date):
            parted.setdefault(day, {}).setdefault(name, []).append(each)
    return [await _day(parties, day, whom, parted[day]) for day in sorted(parted)]


async def spent_keys(office: Office, asked: Asked[Nothing, SpentKeysQuery]) -> list[KeyRow]:
    """
    The keys that have spent the most in all.
    """
    keys, _ = await office.store.find(Key, Query(sort="spend", limit=asked.query.limit))
    shown = await rows(office, keys, with_token=True)
    return [KeyRow(**{**each, "spend": key.spend}) for key, each in zip(keys, shown, strict=True)]


async def spent_users(office: Office, asked: Asked[Nothing, SpentUsersQuery]) -> list[UserRow]:
    """
    The users who have spent the most in all; or one of them.
    """
    if asked.query.user_id is not UNSET:
        users = [await existing(office, User, asked.query.user_id, param="user_id")]
    else:
        users, _ = await office.store.find(User, Query(sort="spend", limit=asked.query.limit))
    shown = await user_rows(office, users)
    return [structs.replace(each, spend=user.spend) for user, each in zip(users, shown, strict=True)]


async def spent_tags(office: Office, asked: Asked[Nothing, SpentTagsQuery]) -> list[TagSpend]:
    """
    The tags under which the most was spent.
    """
    days = span(asked.query)
    sums = await summed(office, Question(by=("tag",), since=days["since"], until=days["until"]))
    tagged = [each for each in ordered(sums) if each.of[0] is not None]
    return [
        TagSpend(
            individual_request_tag=str(each.of[0]),
            log_count=each.requests,
            unpriced_requests=each.unpriced,
            total_spend=spend(each),
        )
        for each in tagged[: asked.query.limit]
    ]


async def _by_key(office: Office, parties: Parties, days: Mapping[str, date | None]) -> list[GlobalReportRow]:
    sums = await summed(office, Question(by=("key", "model"), since=days["since"], until=days["until"]))
    keys = [(of[0], whole) for of, whole in gathered(sums, 0).items()]
    keys.sort(key=lambda each: (-each[1].cost.nano, str(each[0])))
    return [
        GlobalReportRow(
            api_key=await parties.token(key_id),
            key_alias=await parties.key_alias(key_id),
            total_cost=spend(whole),
            total_input_tokens=whole.prompt_tokens,
            total_output_tokens=whole.completion_tokens,
            model_details=[
                ModelCost(
                    model=str(each.of[1] or NOBODY),
                    total_cost=spend(each),
                    total_input_tokens=each.prompt_tokens,
                    total_output_tokens=each.completion_tokens,
                )
                for each in ordered([each for each in sums if each.of[0] == key_id])
            ],
        )
        for key_id, whole in keys
        if not isinstance(key_id, date)
    ]


async def _day(parties: Parties, day: date, whom: Dimension, sums: Mapping[str | None, list[Sums]]) -> GlobalReportRow:
    if whom == "end_user":
        customers = [
            CustomerSpend(customer=name or NOBODY, total_spend=spend(added(each)), metadata=_models(each))
            for name, each in sums.items()
        ]
        return GlobalReportRow(group_by_day=day, customers=customers)
    teams = [
        TeamSpend(
            team_id=name,
            team_name=await parties.team_alias(name) or name or NOBODY,
            total_spend=spend(added(each)),
            metadata=_models(each),
        )
        for name, each in sums.items()
    ]
    return GlobalReportRow(group_by_day=day, teams=teams)


def _models(sums: Iterable[Sums]) -> list[ModelSpend]:
    return [
        ModelSpend(model=str(each.of[2] or NOBODY), spend=spend(each), total_tokens=each.total_tokens)
        for each in ordered(list(sums))
    ]


_AT_KEYS = "What is kept with them: all that was spent, or since it was set. Sums of the ledger: `/spend/report`."

ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/global/spend/report",
        methods=("GET",),
        summary="Spend by team or customer day by day, or by key",
        description="Told apart by model in each; `/spend/report` tells apart by more.",
        body=Nothing,
        query=GlobalReportQuery,
        answer=list[GlobalReportRow],
        refusals=(BadRequest,),
        verb=global_report,
    ),
    Route(
        path="/spend/keys",
        methods=("GET",),
        summary="Keys by their spend, the largest first",
        description=_AT_KEYS,
        body=Nothing,
        query=SpentKeysQuery,
        answer=list[KeyRow],
        verb=spent_keys,
    ),
    Route(
        path="/spend/users",
        methods=("GET",),
        summary="Users by their spend, the largest first",
        description=_AT_KEYS,
        body=Nothing,
        query=SpentUsersQuery,
        answer=list[UserRow],
        refusals=(NotFound,),
        verb=spent_users,
    ),
    Route(
        path="/spend/tags",
        methods=("GET",),
        summary="Tags by what was spent under them",
        description="A call with two tags counts under each.",
        body=Nothing,
        query=SpentTagsQuery,
        answer=list[TagSpend],
        refusals=(BadRequest,),
        verb=spent_tags,
    ),
)
