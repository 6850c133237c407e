"""
What ``/user/...`` takes and answers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

from dheera.management.keys.answers import KeyRow
from dheera.management.keys.shapes import GenerateKey, KeptDocument, KeptName, KeptNames, KeyFields
from dheera.management.shapes import Amount, BudgetTable, Document, Kept, LimitFields, Limits, Name, Names, Page
from dheera.management.teams.shapes import TEAMS_OF_ONE, TeamRow

USERS_AT_ONCE = 100
KEYS_SHOWN = 100

Role: TypeAlias = Annotated[
    Literal["proxy_admin", "proxy_admin_viewer", "internal_user", "internal_user_viewer"],
    Meta(description="Kept and echoed. What a key may do is said by its `key_type` and `allowed_routes` alone."),
]
Ids: TypeAlias = Annotated[list[Name], Meta(max_length=USERS_AT_ONCE)]
Teams: TypeAlias = Annotated[
    list[Name], Meta(max_length=TEAMS_OF_ONE, description="The ids of teams that exist; the user becomes a member.")
]


class UserFields(LimitFields, kw_only=True, frozen=True):
    """
    What a user can be given.
    """

    user_alias: Name | UnsetType | None = UNSET
    user_email: Name | UnsetType | None = UNSET
    user_role: Role | UnsetType | None = UNSET
    models: (
        Annotated[Names, Meta(description="Names, and `*` wildcards, of what the user's keys may use; empty: all.")]
        | UnsetType
        | None
    ) = UNSET
    spend: Annotated[Amount, Meta(description="US dollars: what has been spent already.")] | UnsetType | None = UNSET
    metadata: Document | UnsetType | None = UNSET
    model_rpm_limit: Limits | UnsetType | None = UNSET
    model_tpm_limit: Limits | UnsetType | None = UNSET
    organizations: KeptNames | UnsetType | None = UNSET
    sso_user_id: KeptName | UnsetType | None = UNSET
    aliases: KeptDocument | UnsetType | None = UNSET
    config: KeptDocument | UnsetType | None = UNSET
    permissions: KeptDocument | UnsetType | None = UNSET
    allowed_cache_controls: KeptNames | UnsetType | None = UNSET
    guardrails: Kept = UNSET
    policies: Kept = UNSET
    prompts: Kept = UNSET
    object_permission: Kept = UNSET
    send_invite_email: Kept = UNSET


class NewUser(GenerateKey, kw_only=True, frozen=True):
    """
    A user who is to be made, with a key; every field may be absent.
    """

    user_alias: Name | UnsetType | None = UNSET
    user_email: Name | UnsetType | None = UNSET
    user_role: Role | UnsetType | None = UNSET
    teams: Teams | UnsetType | None = UNSET
    organizations: KeptNames | UnsetType | None = UNSET
    sso_user_id: KeptName | UnsetType | None = UNSET
    auto_create_key: Annotated[bool, Meta(description="Whether a key is made, too.")] | UnsetType | None = UNSET


class UpdateUser(UserFields, kw_only=True, frozen=True):
    """
    What is to change in a user: absent fields keep, `null` goes back to the default.
    """

    user_id: Name
    teams: Teams | UnsetType | None = UNSET


class NamedUsers(Struct, kw_only=True, frozen=True):
    """
    Several users.
    """

    user_ids: Annotated[list[Name], Meta(min_length=1, max_length=USERS_AT_ONCE)]


class UserQuery(Struct, kw_only=True, frozen=True):
    """
    Which user; without it, the one whose key asks.
    """

    user_id: Name | UnsetType = UNSET


class UserListQuery(Struct, kw_only=True, frozen=True):
    """
    Which users are wanted, and how.
    """

    page: Page = 1
    page_size: Annotated[int, Meta(ge=1, le=100)] = 25
    role: Name | UnsetType = UNSET
    user_ids: Annotated[
        list[Annotated[str, Meta(max_length=8192)]],
        Meta(max_length=USERS_AT_ONCE, description=f"At most {USERS_AT_ONCE}; also as one text, with commas between."),
    ] = field(default_factory=list)
    user_email: Annotated[Name, Meta(description="Must occur in the address, in any case.")] | UnsetType = UNSET
    team: Annotated[Name, Meta(description="The id of a team: its members.")] | UnsetType = UNSET
    sort_by: (
        Annotated[
            Literal["user_id", "user_email", "user_alias", "user_role", "spend", "created_at"],
            Meta(description="Without it, the newest come first."),
        ]
        | UnsetType
    ) = UNSET
    sort_order: Literal["asc", "desc"] = "asc"


class UserRow(UserFields, kw_only=True, frozen=True):
    """
    A user as they are kept.
    """

    user_id: str
    teams: list[str]
    created_at: datetime
    updated_at: datetime
    created_by: str | None
    updated_by: str | None


class MadeUser(KeyFields, kw_only=True, frozen=True):
    """
    The new user, and their key, which is shown only here and now: limits, `models` and `metadata` are the user's, and
    so are `created_at` and what comes after it.
    """

    user_alias: str | None
    user_email: str | None
    user_role: str | None
    teams: list[str]
    organizations: KeptNames | UnsetType | None = UNSET
    sso_user_id: KeptName | UnsetType | None = UNSET
    key: Annotated[str, Meta(description="The key itself; `null` if none was to be made.")] | None
    key_id: str | None
    key_name: str | None
    token: str | None
    token_id: str | None
    expires: datetime | None
    litellm_budget_table: BudgetTable | None
    created_at: datetime
    updated_at: datetime
    created_by: str | None
    updated_by: str | None


class UserInfo(Struct, kw_only=True, frozen=True):
    """
    What is known of a user: with their newest keys, and their teams without the other members.
    """

    user_id: str
    user_info: UserRow
    keys: list[KeyRow]
    teams: list[TeamRow]


class UpdatedUser(Struct, kw_only=True, frozen=True):
    """
    The changed user.
    """

    user_id: str
    data: UserRow


class DeletedUsers(Struct, kw_only=True, frozen=True):
    """
    The users who are gone.
    """

    deleted_users: list[str]


class UserPage(Struct, kw_only=True, frozen=True):
    """
    One page of users.
    """

    users: list[UserRow]
    total: int
    page: int
    page_size: int
    total_pages: int
