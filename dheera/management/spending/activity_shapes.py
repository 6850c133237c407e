"""
What ``/user/daily/activity`` and its kin are asked, and answer.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.management.shapes import Name, Page, Reference
from dheera.management.spending.moments import FirstDay, LastDay
from dheera.management.spending.sums import Spend

MOST_NAMES = 50

Listed: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=4096, description=f"Up to {MOST_NAMES}, with commas between them.")
]


class Metrics(Struct, kw_only=True, frozen=True):
    """
    Calls added up, under LiteLLM's names.
    """

    spend: Spend
    prompt_tokens: int
    completion_tokens: int
    cache_read_input_tokens: int
    total_tokens: int
    api_requests: int
    successful_requests: int
    failed_requests: int
    unpriced_requests: int


class Measured(Struct, kw_only=True, frozen=True):
    """
    One of those that a day is broken down by.
    """

    metrics: Metrics
    metadata: dict[str, str | None] = {}


class Breakdown(Struct, kw_only=True, frozen=True):
    """
    A day, told apart; under the empty name stands what has none.
    """

    models: dict[str, Measured]
    api_keys: Annotated[dict[str, Measured], Meta(description="By the SHA-256 of the key.")]
    providers: dict[str, Measured]
    endpoints: Annotated[dict[str, Measured], Meta(description="Absent by tag.")] | UnsetType = UNSET
    entities: Annotated[
        dict[str, Measured], Meta(description="By whom it was asked: users, teams, customers, keys, tags.")
    ]


class Day(Struct, kw_only=True, frozen=True):
    """
    What happened on a day.
    """

    day: date = msgspec.field(name="date")
    metrics: Metrics
    breakdown: Breakdown


class ActivityTotals(Struct, kw_only=True, frozen=True):
    """
    All days of the answer's range, and which page this is.
    """

    total_spend: Spend
    total_prompt_tokens: int
    total_completion_tokens: int
    total_cache_read_input_tokens: int
    total_tokens: int
    total_api_requests: int
    total_successful_requests: int
    total_failed_requests: int
    total_unpriced_requests: int
    page: int
    total_pages: int
    has_more: bool


class Activity(Struct, kw_only=True, frozen=True):
    """
    One page of days, the latest first. Days without calls are not in it.
    """

    results: list[Day]
    metadata: ActivityTotals


class ActivityQuery(Struct, kw_only=True, frozen=True):
    """
    When, and of what.
    """

    start_date: FirstDay
    end_date: LastDay
    model: Name | UnsetType = UNSET
    api_key: Reference | UnsetType = UNSET
    page: Page = 1
    page_size: Annotated[int, Meta(ge=1, le=100, description="Days on a page.")] = 50


class KeyActivityQuery(ActivityQuery, kw_only=True, frozen=True):
    """
    When, and of which key.
    """


class UserActivityQuery(ActivityQuery, kw_only=True, frozen=True):
    """
    When, and of whom.
    """

    user_id: Name | UnsetType = UNSET


class TeamActivityQuery(ActivityQuery, kw_only=True, frozen=True):
    """
    When, and of which teams.
    """

    team_ids: Listed | UnsetType = UNSET


class TagActivityQuery(ActivityQuery, kw_only=True, frozen=True):
    """
    When, and under which tags.
    """

    tags: Listed | UnsetType = UNSET


class CustomerActivityQuery(ActivityQuery, kw_only=True, frozen=True):
    """
    When, and for which end users.
    """

    end_user_ids: Listed | UnsetType = UNSET
