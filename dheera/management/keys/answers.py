"""
What ``/key/...`` answers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.management.keys.shapes import KeyFields
from dheera.management.shapes import Amount, BudgetTable


class KeyOwner(Struct, kw_only=True, frozen=True):
    """
    The user whose key it is.
    """

    user_id: str
    user_email: str | None
    user_alias: str | None


class KeyRow(KeyFields, kw_only=True, frozen=True):
    """
    A key as it is kept, without the key itself.
    """

    key_id: Annotated[str, Meta(description="Stays the same for as long as there is this key.")]
    key_name: Annotated[str, Meta(description="What may be shown of the key: `sk-...` and its last four characters.")]
    token: Annotated[str, Meta(description="SHA-256 of the key; for those who may manage.")] | UnsetType = UNSET
    token_id: Annotated[str, Meta(description="The same as `token`.")] | UnsetType = UNSET
    expires: datetime | None
    held: Annotated[
        Amount,
        Meta(description="US dollars of its `max_budget` that are held, beside `spend`, by calls that are under way."),
    ]
    litellm_budget_table: BudgetTable | None
    created_at: datetime
    updated_at: datetime
    created_by: str | None
    updated_by: str | None
    deleted_at: datetime | UnsetType = UNSET
    deleted_by: str | UnsetType | None = UNSET
    user: KeyOwner | UnsetType | None = UNSET


class GeneratedKey(KeyRow, kw_only=True, frozen=True):
    """
    The new key, which is shown only here and now.
    """

    key: Annotated[str, Meta(description="The key itself. It is not kept, and cannot be shown again.")]


class UpdatedKey(KeyRow, kw_only=True, frozen=True):
    """
    The changed key.
    """

    key: Annotated[str, Meta(description="What named the key in the request.")]


class SuccessfulUpdate(Struct, kw_only=True, frozen=True):
    """
    A key that was changed.
    """

    key: str
    key_info: KeyRow


class FailedUpdate(Struct, kw_only=True, frozen=True):
    """
    A key that was not changed, and why.
    """

    key: str
    failed_reason: str


class UpdatedKeys(Struct, kw_only=True, frozen=True):
    """
    What became of each change.
    """

    total_requested: int
    successful_updates: list[SuccessfulUpdate]
    failed_updates: list[FailedUpdate]


class DeletedKeys(Struct, kw_only=True, frozen=True):
    """
    What named the keys that are deleted now.
    """

    deleted_keys: list[str]


class SpendReset(Struct, kw_only=True, frozen=True):
    """
    The spend as it is now, and as it was.
    """

    key_id: str
    key_hash: str
    spend: Amount
    previous_spend: Amount
    max_budget: Amount | None
    budget_reset_at: datetime | None


class KeyInfo(Struct, kw_only=True, frozen=True):
    """
    What is known of a key.
    """

    key: Annotated[str, Meta(description="What named the key in the request.")]
    info: KeyRow


class KeyInfos(Struct, kw_only=True, frozen=True):
    """
    What is known of those keys that there are.
    """

    key: list[str]
    info: list[KeyRow]


class KeyPage(Struct, kw_only=True, frozen=True):
    """
    One page of keys: their SHA-256, or with `return_full_object` all that is known of them.
    """

    keys: list[str | KeyRow]
    total_count: int
    current_page: int
    total_pages: int


class AliasPage(Struct, kw_only=True, frozen=True):
    """
    One page of the aliases that are in use.
    """

    aliases: list[str]
    total_count: int
    current_page: int
    total_pages: int
    size: int


class KeyHealth(Struct, kw_only=True, frozen=True):
    """
    That the key which asks is accepted.
    """

    key: Literal["healthy", "unhealthy"]
    logging_callbacks: dict[str, Any] | None
