"""
What ``/customer/...`` takes and answers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.management.shapes import Amount, BudgetTable, Document, Kept, LimitFields, Name, Page

CUSTOMERS_AT_ONCE = 500

_UNUSED = Meta(description="Kept and echoed as it is; not acted on.")
Ids: TypeAlias = Annotated[list[Name], Meta(min_length=1, max_length=CUSTOMERS_AT_ONCE)]


class CustomerFields(LimitFields, kw_only=True, frozen=True):
    """
    What a customer can be given.
    """

    alias: Name | UnsetType | None = UNSET
    blocked: bool | UnsetType | None = UNSET
    budget_id: Annotated[Name, Meta(description="Of a budget that exists.")] | UnsetType | None = UNSET
    spend: Annotated[Amount, Meta(description="US dollars: what has been spent already.")] | UnsetType | None = UNSET
    allowed_model_region: Annotated[Literal["eu", "us"], _UNUSED] | UnsetType | None = UNSET
    default_model: Annotated[Name, _UNUSED] | UnsetType | None = UNSET
    metadata: Annotated[Document, _UNUSED] | UnsetType | None = UNSET
    object_permission: Kept = UNSET


class NamedCustomer(CustomerFields, kw_only=True, frozen=True):
    """
    A customer, and what it is given: absent fields keep, `null` goes back to the default.
    """

    user_id: Name


class NamedCustomers(Struct, kw_only=True, frozen=True):
    """
    Several customers.
    """

    user_ids: Ids


class CustomerQuery(Struct, kw_only=True, frozen=True):
    """
    Which customer.
    """

    end_user_id: Name


class CustomerListQuery(Struct, kw_only=True, frozen=True):
    """
    Which page of the list.
    """

    page: Page = 1
    page_size: Annotated[int, Meta(ge=1, le=CUSTOMERS_AT_ONCE)] = CUSTOMERS_AT_ONCE


class CustomerRow(CustomerFields, kw_only=True, frozen=True):
    """
    A customer as it is kept.
    """

    user_id: str
    litellm_budget_table: BudgetTable | None
    created_at: datetime
    updated_at: datetime
    created_by: str | None
    updated_by: str | None


class BlockedCustomers(Struct, kw_only=True, frozen=True):
    """
    The customers that are blocked now.
    """

    blocked_users: list[CustomerRow]


class UnblockedCustomers(Struct, kw_only=True, frozen=True):
    """
    The customers that are no longer blocked.
    """

    unblocked_users: list[CustomerRow]


class DeletedCustomers(Struct, kw_only=True, frozen=True):
    """
    The customers that are gone.
    """

    deleted_customers: list[str]
