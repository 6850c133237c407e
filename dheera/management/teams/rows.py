"""
How teams are shown.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, structs

from dheera.entities import Team
from dheera.management.patches import Names
from dheera.management.teams.shapes import MemberBudget, MemberRow, Membership, TeamFields, TeamRow
from dheera.money import Usd

NAMES = Names(Team, TeamFields, renamed={"team_alias": "alias"}, unset={"model_aliases": {}})
MEMBER_LIMITS = ("max_budget_in_team", "budget_duration", "tpm_limit", "rpm_limit", "allowed_models")


def team_row(team: Team, *, only: str | None = None) -> TeamRow:
    """
    *team* as it is shown.

    :param only: the id of the one member who is shown, if there is one; ``None`` for all.
    """
    return TeamRow(
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
        **NAMES.shown(team),
    )


def discreet(row: TeamRow) -> TeamRow:
    """
    *row* as it is shown to those who may not manage: free fields may hold the credentials of callbacks.
    """
    return structs.replace(row, metadata=UNSET, router_settings=UNSET)


def memberships(team: Team, *, only: str | None = None) -> list[Membership]:
    """
    The members of *team*, with the limits that they have there.

    :param only: as for `team_row`.
    """
    return [
        Membership(user_id=each["user_id"], team_id=team.id, litellm_budget_table=_budget(each))
        for each in team.members
        if only in (None, each["user_id"])
    ]


def limits_of(member: dict[str, Any]) -> dict[str, Any]:
    """
    The limits of a member, all of them, under the names that bodies have for them.
    """
    amount = member.get("max_budget_in_team")
    return {name: member.get(name) for name in MEMBER_LIMITS} | {
        "max_budget_in_team": None if amount is None else Usd.of(amount),
        "allowed_models": member.get("allowed_models", []),
    }


def _budget(member: dict[str, Any]) -> MemberBudget | None:
    if not any(name in member for name in MEMBER_LIMITS):
        return None
    limits = limits_of(member)
    return MemberBudget(max_budget=limits.pop("max_budget_in_team"), **limits)
