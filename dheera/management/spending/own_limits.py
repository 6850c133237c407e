"""
The limits that bind a key, or all calls together, and how they stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, cast

from attrs import evolve, frozen
from msgspec import Meta, Struct

from dheera.entities import Budget, Key, Team, User
from dheera.holding import Allowance, Kind, Used, member_subject
from dheera.limits import UNCAPPED, Limit, Limits
from dheera.management.counting import Spend, Spender, compared, latest, spender
from dheera.management.periods import ending, window_of
from dheera.management.routes import Office
from dheera.money import Usd
from dheera.windows import ALL_TIME

if TYPE_CHECKING:
    Number: TypeAlias = Decimal
else:
    Number = float  # for the description, in which a Decimal would be a text
Quantity: TypeAlias = Annotated[Number, Meta(description="US dollars, or how many.")]
Whose: TypeAlias = Literal["key", "user", "team", "team_member", "proxy"]

_PROXY = "proxy"


class OwnLimit(Struct, kw_only=True, frozen=True):
    """
    One limit that binds the key, and how it stands.
    """

    whose: Annotated[
        Whose,
        Meta(
            description="It is for all calls of theirs together; of a member, those in the team; `proxy`: all calls "
            "that there are."
        ),
    ]
    kind: Annotated[
        Kind, Meta(description="`usd`: a budget; `requests` and `tokens`: in any minute; `parallel`: requests at once.")
    ]
    model: Annotated[str | None, Meta(description="For this model alone, or pattern of models; null: for all.")]
    window: Annotated[str | None, Meta(description="Of a budget: after which time it begins anew.")]
    cap: Annotated[
        Quantity | None, Meta(description="null: an alert is sent at `soft_budget`, and nothing is refused.")
    ]
    used: Quantity
    held: Annotated[
        Quantity,
        Meta(description="What calls that are under way may take, at most, and those not yet in the ledger have."),
    ]
    remaining: Quantity | None
    resets_at: Annotated[datetime | None, Meta(description="Of a budget: when it begins anew.")]


@frozen(kw_only=True)
class Standing:
    """
    How a key stands, and who is behind it.
    """

    key: Spend
    team: Spend | None
    user: Spend | None
    limits: list[OwnLimit]


async def stand(office: Office, key: Key, *, team: Team | None, user: User | None, budget: Budget | None) -> Standing:
    """
    How *key* stands.

    :param budget: the shared one that it names.
    """
    now = office.now()
    whom = {"key": spender(key, now, budget)}
    whom |= {} if team is None else {"team": spender(team, now)}
    whom |= {} if user is None else {"user": spender(user, now)}
    member = next((each for each in team.members if each["user_id"] == key.user_id), None) if team else None
    own = Limits.of(key, team=team, user=user, member=member, budget=budget).all
    limits = [*own, *Limits.of_settings(office.proxy_limits).all]
    spends, told = await _told(office, [*whom.values()], limits, _members(team, key))
    of_whom = dict(zip(whom, spends, strict=True))
    return Standing(key=of_whom["key"], team=of_whom.get("team"), user=of_whom.get("user"), limits=told)


async def stand_together(office: Office) -> tuple[Spend, list[OwnLimit]]:
    """
    What was spent in all, of the budget of all calls together if there is one, and how the limits of these stand.
    """
    [spend], told = await _told(office, [_proxy(office)], Limits.of_settings(office.proxy_limits).all)
    return spend, told


async def _told(
    office: Office,
    whom: Sequence[Spender],
    limits: Sequence[Limit],
    others: Mapping[str, Spender] = MappingProxyType({}),
) -> tuple[list[Spend], list[OwnLimit]]:
    """
    How *whom* and *limits* stand, with one look for all.

    :param others: by subject, those of whom are limits too.
    """
    now = office.now()
    known = {**{each.subject: each for each in (*whom, _proxy(office))}, **others}
    rows = await latest(office, [*(each.subject for each in whom), *(each.subject for each in limits)])
    budgets = [_counting(limit, known[limit.subject], now) for limit in limits if limit.kind == "usd"]
    spends = await compared(office, [*whom, *budgets], rows)
    of_budgets = iter(spends[len(whom) :])
    counts = {row.allowance: row for row in rows}
    told = [_budget(limit, next(of_budgets), now) if limit.kind == "usd" else _count(limit, counts) for limit in limits]
    return spends[: len(whom)], told


def _proxy(office: Office) -> Spender:
    """
    All calls together.
    """
    span, has_budget = office.proxy_limits.budget_duration or "", office.proxy_limits.max_budget is not None
    window = window_of(span, None, office.now()) if has_budget else ALL_TIME
    return Spender(
        subject=_PROXY,
        by=None,
        id="",
        total=None,
        span=span if has_budget else None,
        window=window,
        resets_at=ending(window),
    )


def _members(team: Team | None, key: Key) -> dict[str, Spender]:
    """
    The user of *key* as a member of its team.
    """
    if team is None or key.user_id is None:
        return {}
    subject = member_subject(team.id, key.user_id)
    one = Spender(
        subject=subject,
        by="user",
        id=key.user_id,
        equal={"team": team.id},
        total=None,
        span=None,
        window=ALL_TIME,
        resets_at=None,
    )
    return {subject: one}


def _counting(limit: Limit, whose: Spender, now: datetime) -> Spender:
    window = window_of(limit.span, limit.anchor, now)
    return evolve(whose, span=limit.span, model=limit.model, window=window, resets_at=ending(window))


def _budget(limit: Limit, spend: Spend, now: datetime) -> OwnLimit:
    raised = limit.raised_until is not None and now < limit.raised_until
    cap = limit.cap + limit.raised_by if raised else limit.cap
    is_capped = limit.cap < UNCAPPED
    return OwnLimit(
        **_named(limit),
        window=limit.span or None,
        cap=Usd(cap).dollars() if is_capped else None,
        used=spend.amount.dollars(),
        held=spend.held.dollars(),
        remaining=Usd(max(0, cap - spend.amount.nano - spend.held.nano)).dollars() if is_capped else None,
        resets_at=spend.resets_at,
    )


def _count(limit: Limit, rows: dict[Allowance, Used]) -> OwnLimit:
    row = rows.get(Allowance(subject=limit.subject, kind=limit.kind, model=limit.model))
    used, held = (0, 0) if row is None else (row.used, row.held)
    return OwnLimit(
        **_named(limit),
        window=None,
        cap=Decimal(limit.cap),
        used=Decimal(used),
        held=Decimal(held),
        remaining=Decimal(max(0, limit.cap - used - held)),
        resets_at=None,
    )


def _named(limit: Limit) -> dict[str, Any]:
    return {"whose": cast("Whose", limit.whose), "kind": limit.kind, "model": limit.model or None}
