"""
``/user/daily/activity`` and its kin: what happened each day, as LiteLLM's dashboards read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import partial
from typing import Any, TypeAlias

from attrs import define, field, frozen
from msgspec import UNSET

from dheera.bookkeeping import Dimension, Question, Sums
from dheera.errors import BadRequest, Invalid, NotFound
from dheera.management.routes import AnyRoute, Asked, Nothing, Office, Route
from dheera.management.shapes import pages
from dheera.management.spending.activity_shapes import (
    MOST_NAMES,
    Activity,
    ActivityQuery,
    ActivityTotals,
    Breakdown,
    CustomerActivityQuery,
    Day,
    KeyActivityQuery,
    Measured,
    Metrics,
    TagActivityQuery,
    TeamActivityQuery,
    UserActivityQuery,
)
from dheera.management.spending.moments import in_order
from dheera.management.spending.parties import NOBODY, Parties, key_id_of
from dheera.management.spending.sums import added, gathered, spend, summed

PROVIDER = "mistral"

_Groups: TypeAlias = Mapping[tuple[str | date | None, ...], Sums]


@frozen(kw_only=True)
class _Kind:
    """
    Of whom the days tell.

    :param parameter: of the query, that names some of them; ``None`` if it is ``api_key``.
    :param everybody: calls that have none of them count too.
    """

    dimension: Dimension
    parameter: str | None
    everybody: bool


@define(eq=False)
class _Almanac:
    """
    What the ledger says of days.

    :param wanted: what the calls must have: all of one of these.
    """

    _office: Office
    _kind: _Kind
    _wanted: Sequence[Mapping[Dimension, str | None]]
    _parties: Parties = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._parties = Parties(self._office)

    async def sums(self, since: date, until: date, *by: Dimension) -> list[Sums]:
        """
        The sums by day, by whom, and by what else.
        """
        found: list[Sums] = []
        dimension = self._kind.dimension
        for equal in self._wanted:
            question = Question(by=("day", dimension, *by), equal=equal, since=since, until=until)
            found += await summed(self._office, question)
        return found if self._kind.everybody else [each for each in found if each.of[1] is not None]

    async def days(self, since: date, until: date) -> list[Day]:
        """
        All days from one to another, the latest first.
        """
        dimension = self._kind.dimension
        models = _by_day(await self.sums(since, until, "model"))
        keys = models if dimension == "key" else _by_day(await self.sums(since, until, "key"))
        endpoints = None if dimension == "tag" else _by_day(await self.sums(since, until, "endpoint"))
        made = []
        for day in sorted(models, reverse=True):
            whole = metrics(added(models[day]))
            breakdown = Breakdown(
                models=_measured(gathered(models[day], 2)),
                api_keys=await self._keys(gathered(keys.get(day, []), 1 if dimension == "key" else 2)),
                providers={PROVIDER: Measured(metrics=whole)},
                endpoints=UNSET if endpoints is None else _measured(gathered(endpoints.get(day, []), 2)),
                entities=await self._entities(gathered(models[day], 1)),
            )
            made.append(Day(day=day, metrics=whole, breakdown=breakdown))
        return made

    async def _keys(self, sums: _Groups) -> dict[str, Measured]:
        parted: dict[str, list[Sums]] = {}
        told: dict[str, dict[str, str | None]] = {}
        for (key_id,), each in sums.items():
            key = await self._parties.key(_name(key_id) or None)
            token = NOBODY if key is None else key.digest
            parted.setdefault(token, []).append(each)
            told[token] = {} if key is None else {"key_id": key.id, "key_alias": key.alias, "team_id": key.team_id}
        return {token: Measured(metrics=metrics(added(each)), metadata=told[token]) for token, each in parted.items()}

    async def _entities(self, sums: _Groups) -> dict[str, Measured]:
        if self._kind.dimension == "key":
            return await self._keys(sums)
        made = _measured(sums)
        if self._kind.dimension != "team":
            return made
        return {
            name: Measured(metrics=each.metrics, metadata={"team_alias": await self._parties.team_alias(name or None)})
            for name, each in made.items()
        }


async def activity(kind: _Kind, office: Office, asked: Asked[Nothing, Any]) -> Activity:
    """
    One page of days.
    """
    wanted = asked.query
    in_order(wanted.start_date, wanted.end_date)
    equal: dict[Dimension, str | None] = {}
    if wanted.model is not UNSET:
        equal["model"] = wanted.model
    if wanted.api_key is not UNSET:
        equal["key"] = await key_id_of(office, wanted.api_key, param="api_key")
    names = _named(wanted, kind)
    almanac = _Almanac(office, kind, [{**equal, kind.dimension: name} for name in names] or [equal])
    whole = await almanac.sums(wanted.start_date, wanted.end_date)
    all_days = sorted(_by_day(whole), reverse=True)
    shown = all_days[(wanted.page - 1) * wanted.page_size :][: wanted.page_size]
    totals = metrics(added(whole))
    return Activity(
        results=await almanac.days(shown[-1], shown[0]) if shown else [],
        metadata=ActivityTotals(
            total_spend=totals.spend,
            total_prompt_tokens=totals.prompt_tokens,
            total_completion_tokens=totals.completion_tokens,
            total_cache_read_input_tokens=totals.cache_read_input_tokens,
            total_tokens=totals.total_tokens,
            total_api_requests=totals.api_requests,
            total_successful_requests=totals.successful_requests,
            total_failed_requests=totals.failed_requests,
            total_unpriced_requests=totals.unpriced_requests,
            page=wanted.page,
            total_pages=pages(len(all_days), wanted.page_size),
            has_more=wanted.page * wanted.page_size < len(all_days),
        ),
    )


def metrics(sums: Sums) -> Metrics:
    """
    *sums* under LiteLLM's names.
    """
    return Metrics(
        spend=spend(sums),
        prompt_tokens=sums.prompt_tokens,
        completion_tokens=sums.completion_tokens,
        cache_read_input_tokens=sums.cached_tokens,
        total_tokens=sums.total_tokens,
        api_requests=sums.requests,
        successful_requests=sums.requests - sums.failed,
        failed_requests=sums.failed,
        unpriced_requests=sums.unpriced,
    )


def _named(wanted: Any, kind: _Kind) -> list[str]:
    """
    Of whom the query wants to know; nobody if of all.
    """
    said = UNSET if kind.parameter is None else getattr(wanted, kind.parameter)
    if said is UNSET:
        return []
    if kind.parameter == "user_id":
        return [said]
    names = list(dict.fromkeys(name for each in said.split(",") if (name := each.strip())))
    if not 0 < len(names) <= MOST_NAMES:
        raise Invalid([(("query", kind.parameter or ""), f"Expected 1 to {MOST_NAMES} names", "value_error")])
    return names


def _by_day(sums: Iterable[Sums]) -> dict[date, list[Sums]]:
    parted: dict[date, list[Sums]] = {}
    for each in sums:
        if isinstance(each.of[0], date):
            parted.setdefault(each.of[0], []).append(each)
    return parted


def _measured(sums: _Groups) -> dict[str, Measured]:
    return {_name(of): Measured(metrics=metrics(each)) for (of,), each in sums.items()}


def _name(of: str | date | None) -> str:
    return NOBODY if of is None else str(of)


def _route(kind: _Kind, path: str, query: type[ActivityQuery], whom: str, note: str) -> AnyRoute:
    return Route(
        path=path,
        methods=("GET",),
        summary=f"Spend day by day, by {whom}",
        description=f"Days are those of UTC. {note}",
        body=Nothing,
        query=query,
        answer=Activity,
        refusals=(BadRequest, NotFound),
        verb=partial(activity, kind),
    )


_ALL = "Without a filter, all calls count."
_NAMED = "Only calls that have one count."

ROUTES: tuple[AnyRoute, ...] = (
    _route(
        _Kind(dimension="user", parameter="user_id", everybody=True),
        "/user/daily/activity",
        UserActivityQuery,
        "user",
        _ALL,
    ),
    _route(
        _Kind(dimension="key", parameter=None, everybody=True), "/key/daily/activity", KeyActivityQuery, "key", _ALL
    ),
    _route(
        _Kind(dimension="team", parameter="team_ids", everybody=False),
        "/team/daily/activity",
        TeamActivityQuery,
        "team",
        _NAMED,
    ),
    _route(
        _Kind(dimension="end_user", parameter="end_user_ids", everybody=False),
        "/customer/daily/activity",
        CustomerActivityQuery,
        "end user",
        _NAMED,
    ),
    _route(
        _Kind(dimension="tag", parameter="tags", everybody=False),
        "/tag/daily/activity",
        TagActivityQuery,
        "tag",
        f"{_NAMED} One with two tags counts under each, and twice in sums over both.",
    ),
)
