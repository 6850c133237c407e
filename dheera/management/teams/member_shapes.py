"""
What ``/team/member_...`` takes and answers.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.management.shapes import Amount, Ceiling, Limit, Name, Names, Span
from dheera.management.teams.shapes import MEMBERS, Member, Membership, Role, TeamRow
from dheera.management.users.shapes import UserRow


class MemberLimits(Struct, kw_only=True, frozen=True):
    """
    Limits of one member within one team.
    """

    max_budget_in_team: Ceiling | UnsetType | None = UNSET
    budget_duration: Span | UnsetType | None = UNSET
    tpm_limit: Limit | UnsetType | None = UNSET
    rpm_limit: Limit | UnsetType | None = UNSET
    allowed_models: Annotated[Names, Meta(description="Kept and echoed as it is; not acted on.")] | UnsetType | None = (
        UNSET
    )


class AddMembers(MemberLimits, kw_only=True, frozen=True):
    """
    Who is to become a member, and with which limits.
    """

    team_id: Name
    member: Member | Annotated[list[Member], Meta(min_length=1, max_length=MEMBERS)]


class UpdateMember(MemberLimits, kw_only=True, frozen=True):
    """
    What is to change in a member: absent fields keep, `null` goes back to the default.
    """

    team_id: Name
    user_id: Name | UnsetType | None = UNSET
    user_email: Name | UnsetType | None = UNSET
    role: Role | UnsetType | None = UNSET


class DeleteMember(Struct, kw_only=True, frozen=True):
    """
    Who is to be a member no longer.
    """

    team_id: Name
    user_id: Name | UnsetType | None = UNSET
    user_email: Name | UnsetType | None = UNSET


class MembersAdded(TeamRow, kw_only=True, frozen=True):
    """
    The team with its new members.
    """

    updated_users: list[UserRow]
    updated_team_memberships: list[Membership]


class MemberUpdated(Struct, kw_only=True, frozen=True):
    """
    The changed member.
    """

    team_id: str
    user_id: str
    user_email: str | None
    role: Role
    max_budget_in_team: Amount | None
    budget_duration: str | None
    tpm_limit: int | None
    rpm_limit: int | None
    allowed_models: list[str]
