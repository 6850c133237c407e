"""
What ``/team/...`` takes and answers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.management.keys.answers import KeyRow
from dheera.management.keys.shapes import KeptDocument, KeptNames, Window
from dheera.management.shapes import (
    ITEMS,
    Amount,
    Ceiling,
    Document,
    Kept,
    Limit,
    LimitFields,
    Limits,
    Name,
    Names,
    Page,
    Span,
)

MEMBERS = ITEMS
"""
In one team.
"""
TEAMS_OF_ONE = 250
"""
Of which one user may be a member.
"""
TEAMS_AT_ONCE = 100
TEAMS_LISTED = 500

Role: TypeAlias = Annotated[Literal["admin", "user"], Meta(description="Kept and echoed; it permits nothing here.")]


class TeamFields(LimitFields, kw_only=True, frozen=True):
    """
    What a team can be given.
    """

    team_alias: Name | UnsetType | None = UNSET
    organization_id: Name | UnsetType | None = UNSET
    models: (
        Annotated[Names, Meta(description="Names, and `*` wildcards, of what the team's keys may use; empty: all.")]
        | UnsetType
        | None
    ) = UNSET
    blocked: Annotated[bool, Meta(description="The keys of a blocked team open nothing.")] | UnsetType | None = UNSET
    spend: Annotated[Amount, Meta(description="US dollars: what has been spent already.")] | UnsetType | None = UNSET
    metadata: Document | UnsetType | None = UNSET
    tags: Names | UnsetType | None = UNSET
    budget_limits: Annotated[list[Window], Meta(max_length=ITEMS)] | UnsetType | None = UNSET
    model_rpm_limit: Limits | UnsetType | None = UNSET
    model_tpm_limit: Limits | UnsetType | None = UNSET
    team_member_budget: Ceiling | UnsetType | None = UNSET
    team_member_budget_duration: Span | UnsetType | None = UNSET
    team_member_rpm_limit: Limit | UnsetType | None = UNSET
    team_member_tpm_limit: Limit | UnsetType | None = UNSET
    team_member_key_duration: (
        Annotated[Span, Meta(description="Kept and echoed as it is; not acted on.")] | UnsetType | None
    ) = UNSET
    team_member_permissions: KeptNames | UnsetType | None = UNSET
    model_aliases: KeptDocument | UnsetType | None = UNSET
    allowed_passthrough_routes: KeptNames | UnsetType | None = UNSET
    guardrails: Kept = UNSET
    policies: Kept = UNSET
    prompts: Kept = UNSET
    object_permission: Kept = UNSET
    allowed_vector_store_indexes: Kept = UNSET
    router_settings: Kept = UNSET
    access_group_ids: Kept = UNSET


class Member(Struct, kw_only=True, frozen=True):
    """
    A user, named by id or by e-mail address. Who does not exist is made.
    """

    role: Role = "user"
    user_id: Name | UnsetType | None = UNSET
    user_email: (
        Annotated[Name, Meta(description="Finds the one user with exactly this address, or is given to a new one.")]
        | UnsetType
        | None
    ) = UNSET


class NewTeam(TeamFields, kw_only=True, frozen=True):
    """
    A team that is to be made; every field may be absent.
    """

    team_id: Name | UnsetType | None = UNSET
    members_with_roles: Annotated[list[Member], Meta(max_length=MEMBERS)] | UnsetType | None = UNSET


class UpdateTeam(TeamFields, kw_only=True, frozen=True):
    """
    What is to change in a team: absent fields keep, `null` goes back to the default.
    """

    team_id: Name


class NamedTeam(Struct, kw_only=True, frozen=True):
    """
    One team.
    """

    team_id: Name


class NamedTeams(Struct, kw_only=True, frozen=True):
    """
    Several teams.
    """

    team_ids: Annotated[list[Name], Meta(min_length=1, max_length=TEAMS_AT_ONCE)]


class TeamQuery(Struct, kw_only=True, frozen=True):
    """
    Which team; without it, that of the key which asks.
    """

    team_id: Name | UnsetType = UNSET


class TeamListQuery(Struct, kw_only=True, frozen=True):
    """
    Which teams are wanted.
    """

    page: Page = 1
    page_size: Annotated[int, Meta(ge=1, le=TEAMS_LISTED)] = TEAMS_LISTED
    user_id: Annotated[Name, Meta(description="The teams of this user.")] | UnsetType = UNSET
    organization_id: Name | UnsetType = UNSET


class TeamPageQuery(Struct, kw_only=True, frozen=True):
    """
    Which teams are wanted, and how.
    """

    page: Page = 1
    page_size: Annotated[int, Meta(ge=1, le=100)] = 10
    user_id: Annotated[Name, Meta(description="The teams of this user.")] | UnsetType = UNSET
    organization_id: Name | UnsetType = UNSET
    team_id: Name | UnsetType = UNSET
    team_alias: Annotated[Name, Meta(description="Must occur in the alias, in any case.")] | UnsetType = UNSET
    sort_by: (
        Annotated[
            Literal["team_id", "team_alias", "spend", "created_at"],
            Meta(description="Without it, the newest come first."),
        ]
        | UnsetType
    ) = UNSET
    sort_order: Literal["asc", "desc"] = "asc"


class MemberRow(Struct, kw_only=True, frozen=True):
    """
    A member of a team.
    """

    user_id: str
    user_email: str | None
    role: Role


class MemberBudget(Struct, kw_only=True, frozen=True):
    """
    Limits of one member within one team.
    """

    max_budget: Amount | None
    budget_duration: str | None
    budget_reset_at: Annotated[datetime | None, Meta(description="When their spend begins anew next.")]
    tpm_limit: int | None
    rpm_limit: int | None
    allowed_models: list[str]


class Membership(Struct, kw_only=True, frozen=True):
    """
    That a user is a member of a team, and the limits that they have there.
    """

    user_id: str
    team_id: str
    spend: Annotated[
        Amount, Meta(description="With the keys that they have in this team: what counts against their budget there.")
    ]
    litellm_budget_table: MemberBudget | None


class TeamRow(TeamFields, kw_only=True, frozen=True):
    """
    A team as it is kept.
    """

    team_id: str
    members_with_roles: list[MemberRow]
    created_at: datetime
    updated_at: datetime
    created_by: str | None
    updated_by: str | None


class TeamInfo(Struct, kw_only=True, frozen=True):
    """
    What is known of a team, and its newest keys.
    """

    team_id: str
    team_info: TeamRow
    keys: list[KeyRow]
    team_memberships: list[Membership]


class UpdatedTeam(Struct, kw_only=True, frozen=True):
    """
    The changed team.
    """

    team_id: str
    data: TeamRow


class DeletedTeams(Struct, kw_only=True, frozen=True):
    """
    The teams that are gone.
    """

    deleted_teams: list[str]


class TeamPage(Struct, kw_only=True, frozen=True):
    """
    One page of teams.
    """

    teams: list[TeamRow]
    total: int
    page: int
    page_size: int
    total_pages: int
