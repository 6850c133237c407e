"""
How teams are shown.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from msgspec import UNSET, structs

from dheera.entities import Team
from dheera.holding import member_subject
from dheera.management.counting import Spend, Spender, counted, spender
from dheera.management.patches import Names
from dheera.management.periods import ending, window_of
from dheera.management.routes import Office
from dheera.management.teams.shapes import MemberBudget, MemberRow, Membership, TeamFields, TeamRow
from dheera.money import Usd

NAMES = Names(Team, TeamFields, renamed={"team_alias": "alias"}, unset={"model_aliases": {}})
MEMBER_LIMITS = ("max_budget_in_team", "budget_duration", "tpm_limit", "rpm_limit", "allowed_models")


async def team_row(office: Office, team: Team, *, only: str | None = None) -> TeamRow:
    """
    *team* as it is shown.

    :param only: the id of the one member who is shown, if there is one; ``None`` for all.
    """
    [row] = await team_rows(office, [team], only=only)
    return row


async def team_rows(office: Office, teams: Sequence[Team], *, only: str | None = None) -> list[TeamRow]:
    """
    *teams* as they are shown.

    :param only: as for `team_row`.
    """
    now = office.now()
    spends = await counted(office, [spender(team, now) for team in teams])
    return [
        TeamRow(
            team_id=team.id,
            members_with_roles=[
                MemberRow(user_id=each["user_id"], user_email=each.get("user_email"), role=each["role"])
                for each in team.members
                if only in (None, each["user_id"])
            ],
            created_at=team.created_at,
            updated_at=team.updated_at,
            created_by=team.created_by,
            updated_by=team.updated_by,
            **NAMES.shown(team) | {"spend": spend.amount, "budget_reset_at": spend.resets_at},
        )
        for team, spend in zip(teams, spends, strict=True)
    ]


def discreet(row: TeamRow) -> TeamRow:
    """
    *row* as it is shown to those who may not manage: free fields may hold the credentials of callbacks.
    """
    return structs.replace(row, metadata=UNSET, router_settings=UNSET)


async def memberships(office: Office, team: Team, *, only: str | Collection[str] | None = None) -> list[Membership]:
    """
    The members of *team*, with the limits that they have there, and what counts against them.

    :param only: as for `team_row`; or some of them.
    """
    wanted = {only} if isinstance(only, str) else only
    members = [each for each in team.members if wanted is None or each["user_id"] in wanted]
    now = office.now()
    spends = await counted(office, [_spender(team, each, now) for each in members])
    return [
        Membership(
            user_id=each["user_id"],
            team_id=team.id,
            spend=spend.amount,
            litellm_budget_table=_budget(each, spend),
        )
        for each, spend in zip(members, spends, strict=True)
    ]


def _spender(team: Team, member: dict[str, Any], now: datetime) -> Spender:
    cap, span = member.get("max_budget_in_team"), member.get("budget_duration")
    if cap is None:
        cap, span = team.rest.get("team_member_budget"), team.rest.get("team_member_budget_duration")
    window = window_of(span, team.created_at, now)
    return Spender(
        subject=member_subject(team.id, member["user_id"]),
        by="user",
        id=member["user_id"],
        equal={"team": team.id},
        total=None,
        span=None if cap is None else span or "",
        window=window,
        resets_at=ending(window),
    )


def limits_of(member: dict[str, Any]) -> dict[str, Any]:
    """
    The limits of a member, all of them, under the names that bodies have for them.
    """
    amount = member.get("max_budget_in_team")
    return {name: member.get(name) for name in MEMBER_LIMITS} | {
        "max_budget_in_team": None if amount is None else Usd.of(amount),
        "allowed_models": member.get("allowed_models", []),
    }


def _budget(member: dict[str, Any], spend: Spend) -> MemberBudget | None:
    if not any(name in member for name in MEMBER_LIMITS):
        return None
    limits = limits_of(member)
    return MemberBudget(max_budget=limits.pop("max_budget_in_team"), budget_reset_at=spend.resets_at, **limits)
