"""
``/usage``: what a key has spent, and what it may.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.bookkeeping import Dimension, Question
from dheera.entities import Budget, Key, Limited, Team, User
from dheera.errors import NotAllowed, NotFound
from dheera.management.counting import Spend
from dheera.management.keys.rows import found, sought
from dheera.management.routes import Access, AnyRoute, Asked, Nothing, Office, Route
from dheera.management.shapes import Amount, BudgetTable, Reference, budget_table
from dheera.management.spending.own_limits import OwnLimit, stand, stand_together
from dheera.management.spending.parties import NOBODY
from dheera.management.spending.sums import Figures, added, figures, ordered, summed, total
from dheera.settings import LimitSettings


class OwnQuery(Struct, kw_only=True, frozen=True):
    """
    Which key is asked about; without it, the one that asks, or all calls together if that is the master key.
    """

    key: Reference | UnsetType = UNSET


class Allowance(Struct, kw_only=True, frozen=True):
    """
    What was spent since it began to count, and what may be.
    """

    spend: Amount
    max_budget: Amount | None
    soft_budget: Amount | None
    budget_duration: str | None
    budget_reset_at: datetime | None
    rpm_limit: int | None
    tpm_limit: int | None
    max_parallel_requests: int | None


class TeamAllowance(Allowance, kw_only=True, frozen=True):
    """
    The same of the key's team, all of its keys together.
    """

    team_id: str
    team_alias: str | None


class UserAllowance(Allowance, kw_only=True, frozen=True):
    """
    The same of the key's user, all of their keys together.
    """

    user_id: str
    user_alias: str | None


class ModelFigures(Figures, kw_only=True, frozen=True):
    """
    Calls of a model, added up.
    """

    model: Annotated[str, Meta(description="Empty for calls that named none.")]


class OwnUsage(Allowance, kw_only=True, frozen=True):
    """
    A key, or for the master key all calls together: what it has spent, and what it may.
    """

    key_id: Annotated[str | None, Meta(description="null: it is about all calls together.")]
    key_name: str | None
    key_alias: str | None
    models: Annotated[list[str], Meta(description="Empty: all.")]
    expires: datetime | None
    blocked: bool
    litellm_budget_table: Annotated[BudgetTable | None, Meta(description="The shared budget that the key names.")]
    today: Annotated[Figures, Meta(description="Since midnight in UTC.")]
    month: Annotated[Figures, Meta(description="Since the first of the month in UTC.")]
    month_by_model: Annotated[list[ModelFigures], Meta(description="The largest spend first.")]
    team: TeamAllowance | None
    user: UserAllowance | None
    limits: Annotated[
        list[OwnLimit],
        Meta(description="All that bind the key, those of all calls together too; docs/allowances.md tells the rules."),
    ]


async def usage(office: Office, asked: Asked[Nothing, OwnQuery]) -> OwnUsage:
    """
    What a key has spent. Who may not manage learns of their own key alone.
    """
    key = await _meant(office, asked)
    return await _of_all(office) if key is None else await _of_key(office, key)


async def _of_key(office: Office, key: Key) -> OwnUsage:
    budget = None if key.budget_id is None else await office.store.get(Budget, key.budget_id)
    team = None if key.team_id is None else await office.store.get(Team, key.team_id)
    user = None if key.user_id is None else await office.store.get(User, key.user_id)
    standing = await stand(office, key, team=team, user=user, budget=budget)
    return OwnUsage(
        key_id=key.id,
        key_name=key.name,
        key_alias=key.alias,
        models=key.models,
        expires=key.expires_at,
        blocked=key.blocked,
        litellm_budget_table=None if budget is None else budget_table(budget, office.now()),
        team=None
        if team is None
        else TeamAllowance(**_allowance(team, standing.team), team_id=team.id, team_alias=team.alias),
        user=None
        if user is None
        else UserAllowance(**_allowance(user, standing.user), user_id=user.id, user_alias=user.alias),
        limits=standing.limits,
        **await _sums(office, {"key": key.id}),
        **_allowance(key, standing.key),
    )


async def _of_all(office: Office) -> OwnUsage:
    """
    Of all calls together.
    """
    spend, limits = await stand_together(office)
    return OwnUsage(
        key_id=None,
        key_name=None,
        key_alias=None,
        models=[],
        expires=None,
        blocked=False,
        litellm_budget_table=None,
        team=None,
        user=None,
        limits=limits,
        **await _sums(office, {}),
        **_allowance(office.proxy_limits, spend),
    )


async def _sums(office: Office, equal: Mapping[Dimension, str | None]) -> dict[str, Any]:
    """
    Calls of today, and of this month.
    """
    today = office.now().date()
    models = await summed(office, Question(by=("model",), equal=equal, since=today.replace(day=1), until=today))
    return {
        "today": Figures(**figures(await total(office, equal, {"since": today, "until": today}))),
        "month": Figures(**figures(added(models))),
        "month_by_model": [ModelFigures(**figures(each), model=str(each.of[0] or NOBODY)) for each in ordered(models)],
    }


async def _meant(office: Office, asked: Asked[Nothing, OwnQuery]) -> Key | None:
    """
    The key that is asked about; ``None`` for all calls together.
    """
    reference, own = asked.query.key, asked.actor.key
    if reference is UNSET:
        return own
    if asked.actor.is_admin:
        return await found(office, reference)
    key = await sought(office, reference)
    if own is None or key is None or key.id != own.id:
        raise NotAllowed("This key may only ask about itself.", param="key")
    return key


def _allowance(limited: Limited | LimitSettings, spend: Spend | None) -> dict[str, Any]:
    told = {name: getattr(limited, name, None) for name in Allowance.__struct_fields__}
    return told if spend is None else told | {"spend": spend.amount, "budget_reset_at": spend.resets_at}


ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/usage",
        methods=("GET",),
        summary="What the key that asks has spent, and what it may",
        description="With the spend and the limits of its team and its user, and nothing of other keys. A key that "
        "may not manage learns of itself alone; the master key, of all calls together. `spend` is what counts against "
        "the budget, and begins anew with it; `today` and `month` do not.",
        access=Access.SELF,
        body=Nothing,
        query=OwnQuery,
        answer=OwnUsage,
        refusals=(NotFound,),
        verb=usage,
    ),
)
