"""
What ``/key/...`` takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.keys import KEYS_AT_ONCE, LONGEST, SHORTEST
from dheera.management.shapes import (
    ITEMS,
    Amount,
    Ceiling,
    Count,
    Document,
    Instant,
    Kept,
    LimitFields,
    Limits,
    Name,
    Names,
    Reference,
    Span,
    SpanOrNever,
)
from dheera.routes import KEY_TYPES

if TYPE_CHECKING:
    KeyType: TypeAlias = str
else:
    KeyType = Literal[tuple(KEY_TYPES)]
LimitType: TypeAlias = Literal["guaranteed_throughput", "best_effort_throughput", "dynamic"]

_UNUSED = Meta(description="Kept and echoed as it is; not acted on.")
KeptName: TypeAlias = Annotated[Name, _UNUSED]
KeptNames: TypeAlias = Annotated[Names, _UNUSED]
KeptDocument: TypeAlias = Annotated[Document, _UNUSED]
KeptLimits: TypeAlias = Annotated[dict[Name, Count], Meta(max_length=ITEMS), _UNUSED]
OwnKey: TypeAlias = Annotated[
    str,
    Meta(
        max_length=4 * LONGEST,
        description=f"A key of your own: `sk-` and visible ASCII characters, {SHORTEST} to {LONGEST} in all. "
        "Without it one is made that nobody can guess.",
    ),
]
References: TypeAlias = Annotated[list[Reference], Meta(max_length=KEYS_AT_ONCE)]


class Window(Struct, kw_only=True, frozen=True):
    """
    One of several budgets that hold at once.
    """

    budget_duration: Span
    max_budget: Ceiling
    reset_at: Instant | UnsetType | None = UNSET


class KeyFields(LimitFields, kw_only=True, frozen=True):
    """
    What a key can be given.
    """

    key_alias: (
        Annotated[Name, Meta(description="Unique among all keys; does not begin with `sk-`.")] | UnsetType | None
    ) = UNSET
    duration: (
        Annotated[SpanOrNever, Meta(description="How long the key opens, from now on: `30d`. `-1`: for ever.")]
        | UnsetType
        | None
    ) = UNSET
    key_type: (
        Annotated[KeyType, Meta(description="Sets `allowed_routes`, unless they are given, too; then they must agree.")]
        | UnsetType
        | None
    ) = UNSET
    models: (
        Annotated[Names, Meta(description="Names, and `*` wildcards, of what may be used; empty: all.")]
        | UnsetType
        | None
    ) = UNSET
    allowed_routes: (
        Annotated[
            Names,
            Meta(
                description="Paths, in which `*` stands for anything, and names of groups; empty: all but sensitive "
                "ones. Rights over this API are given by the groups `management_routes` and `info_routes` alone."
            ),
        ]
        | UnsetType
        | None
    ) = UNSET
    user_id: Annotated[Name, Meta(description="Whose key it is; the user need not exist.")] | UnsetType | None = UNSET
    team_id: Annotated[Name, Meta(description="Of a team that exists.")] | UnsetType | None = UNSET
    organization_id: Name | UnsetType | None = UNSET
    project_id: KeptName | UnsetType | None = UNSET
    agent_id: KeptName | UnsetType | None = UNSET
    budget_id: Annotated[Name, Meta(description="Of a budget that exists.")] | UnsetType | None = UNSET
    budget_limits: Annotated[list[Window], Meta(max_length=ITEMS)] | UnsetType | None = UNSET
    budget_fallbacks: Kept = UNSET
    throttle_on_budget_exceeded: Annotated[bool, _UNUSED] | UnsetType | None = UNSET
    temp_budget_increase: (
        Annotated[Ceiling, Meta(description="US dollars that are added to `max_budget` until `temp_budget_expiry`.")]
        | UnsetType
        | None
    ) = UNSET
    temp_budget_expiry: Instant | UnsetType | None = UNSET
    spend: Annotated[Amount, Meta(description="US dollars: what has been spent already.")] | UnsetType | None = UNSET
    rpm_limit_type: Annotated[LimitType, _UNUSED] | UnsetType | None = UNSET
    tpm_limit_type: Annotated[LimitType, _UNUSED] | UnsetType | None = UNSET
    model_rpm_limit: Limits | UnsetType | None = UNSET
    model_tpm_limit: Limits | UnsetType | None = UNSET
    tag_rpm_limit: KeptLimits | UnsetType | None = UNSET
    mcp_rpm_limit: KeptLimits | UnsetType | None = UNSET
    blocked: bool | UnsetType | None = UNSET
    metadata: Document | UnsetType | None = UNSET
    tags: Names | UnsetType | None = UNSET
    aliases: KeptDocument | UnsetType | None = UNSET
    config: KeptDocument | UnsetType | None = UNSET
    permissions: KeptDocument | UnsetType | None = UNSET
    allowed_passthrough_routes: KeptNames | UnsetType | None = UNSET
    allowed_cache_controls: KeptNames | UnsetType | None = UNSET
    auto_rotate: Annotated[bool, _UNUSED] | UnsetType | None = UNSET
    rotation_interval: Annotated[Span, _UNUSED] | UnsetType | None = UNSET
    guardrails: Kept = UNSET
    policies: Kept = UNSET
    prompts: Kept = UNSET
    disable_global_guardrails: Kept = UNSET
    enforced_params: Kept = UNSET
    object_permission: Kept = UNSET
    allowed_vector_store_indexes: Kept = UNSET
    router_settings: Kept = UNSET
    access_group_ids: Kept = UNSET
    send_invite_email: Kept = UNSET


class GenerateKey(KeyFields, kw_only=True, frozen=True):
    """
    A key that is to be made; every field may be absent.
    """

    key: OwnKey | UnsetType | None = UNSET


class UpdateKey(KeyFields, kw_only=True, frozen=True):
    """
    What is to change in a key: absent fields keep, `null` goes back to the default.
    """

    key: Reference


class UpdateKeys(Struct, kw_only=True, frozen=True):
    """
    Changes of several keys.
    """

    keys: Annotated[list[UpdateKey], Meta(min_length=1, max_length=KEYS_AT_ONCE)]


class RegenerateKey(KeyFields, kw_only=True, frozen=True):
    """
    A key that is to be replaced by a new one, and what else is to change in it.
    """

    key: Annotated[Reference, Meta(description="Which key; where the path does not say it.")] | UnsetType | None = UNSET
    new_key: OwnKey | UnsetType | None = UNSET
    grace_period: (
        Annotated[Span, Meta(description="How long the old key goes on opening: `24h`. Without it, it ends now.")]
        | UnsetType
        | None
    ) = UNSET
    new_master_key: Annotated[Kept, Meta(description="Refused: the master key is set where dheera is started.")] = UNSET


class NamedKey(Struct, kw_only=True, frozen=True):
    """
    One key.
    """

    key: Reference


class NamedKeys(Struct, kw_only=True, frozen=True):
    """
    Several keys.
    """

    keys: Annotated[References, Meta(min_length=1)]


class DeleteKeys(Struct, kw_only=True, frozen=True):
    """
    Which keys are to be deleted, by themselves or by their aliases.
    """

    keys: References | UnsetType | None = UNSET
    key_aliases: Annotated[list[Name], Meta(max_length=KEYS_AT_ONCE)] | UnsetType | None = UNSET


class ResetSpend(Struct, kw_only=True, frozen=True):
    """
    To what the spend is to be set: no more than it is.
    """

    reset_to: Amount
