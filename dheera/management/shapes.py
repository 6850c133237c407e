"""
What bodies and answers are made of: scalars with their bounds, and the fields that several nouns share.

In a body a field that is absent is ``UNSET``: it keeps what there is, while ``null`` goes back to the default.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.durations import PATTERN
from dheera.entities import Budget
from dheera.management.periods import resetting
from dheera.money import LARGEST, Usd

LARGEST_COUNT = 2**53 - 1
"""
Beyond it JavaScript no longer tells whole numbers apart.
"""
WANTED = "wanted"
"""
Under this name a type's ``Meta.extra`` says what a text must look like that has a pattern.
"""
ITEMS = 1000
DEEPEST = 32

_END = r"(?![\s\S])"  # "$" would let a line feed follow
_VISIBLE = r"^[^\x00-\x1f\x7f-\x9f]*" + _END
_SPAN = PATTERN.removeprefix("^").removesuffix("$")
_PLAIN = {WANTED: "text without control characters"}
_LIKE_A_SPAN = "a whole number and one of s, m, h, d, w, mo: `30s`, `15m`, `12h`, `30d`, `2w`, `1mo`"

_PERIOD = (
    "After which time the budget begins anew: `24h` each midnight, `7d` each Sunday, `30d` and `1mo` each first of a "
    "month, in UTC; others from when they were set. Not set: never."
)

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256, pattern=_VISIBLE, extra=_PLAIN)]
"""
An id, an alias, a model, a route: no control characters.
"""
Text: TypeAlias = Annotated[str, Meta(max_length=4096)]
Reference: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=512,
        pattern=_VISIBLE,
        extra=_PLAIN,
        description="A key by itself, by its SHA-256 in lower-case hexadecimal, or by its `key_id`.",
    ),
]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=LARGEST_COUNT)]
Limit: TypeAlias = Annotated[int, Meta(ge=0, le=LARGEST_COUNT, description="How many, at most; 0: none.")]
Amount: TypeAlias = Annotated[Usd, Meta(description="US dollars, to the nearest billionth.")]
Ceiling: TypeAlias = Annotated[Usd, Meta(description="US dollars, to the nearest billionth; 0: nothing may be spent.")]
Span: TypeAlias = Annotated[
    str,
    Meta(
        pattern=f"^{_SPAN}{_END}",
        description="A whole number and one of s, m, h, d, w, mo: `30d`.",
        extra={WANTED: _LIKE_A_SPAN},
    ),
]
SpanOrNever: TypeAlias = Annotated[
    str,
    Meta(
        pattern=f"^(-1|{_SPAN}){_END}",
        description="A whole number and one of s, m, h, d, w, mo: `30d`. `-1`: never.",
        extra={WANTED: f"{_LIKE_A_SPAN}, or `-1` for ever"},
    ),
]
Instant: TypeAlias = Annotated[datetime, Meta(description="RFC 3339; without an offset it is UTC.")]
Names: TypeAlias = Annotated[list[Name], Meta(max_length=ITEMS)]
Document: TypeAlias = Annotated[dict[str, Any], Meta(max_length=ITEMS)]
Documents: TypeAlias = Annotated[list[Document], Meta(max_length=ITEMS)]
Limits: TypeAlias = Annotated[
    dict[Name, Count],
    Meta(max_length=ITEMS, description="How many in any minute, at most, by model, or pattern with `*`."),
]
ModelBudgets: TypeAlias = Annotated[
    Document,
    Meta(
        description="Budgets of single models, or patterns with `*`, each an amount or an amount and after which time "
        'it begins anew: `{"mistral-large-*": {"budget_limit": 0.5, "time_period": "1d"}, "codestral-latest": 2}`.'
    ),
]
Kept: TypeAlias = Annotated[Any, Meta(description="Kept and echoed as it is; not acted on.")]
"""
Any JSON for a field of which dheera makes no use.
"""
Page: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class LimitFields(Struct, kw_only=True, frozen=True):
    """
    Limits as keys, users, teams, customers and budgets can have them: the fields of `entities.Limited` that are set
    from outside.
    """

    max_budget: (
        Annotated[
            Ceiling,
            Meta(description="US dollars that may be spent. A call that may cost more than is left is refused."),
        ]
        | UnsetType
        | None
    ) = UNSET
    soft_budget: (
        Annotated[Ceiling, Meta(description="US dollars; an alert is sent when so many are spent.")] | UnsetType | None
    ) = UNSET
    budget_duration: Annotated[Span, Meta(description=_PERIOD)] | UnsetType | None = UNSET
    budget_reset_at: (
        Annotated[Instant, Meta(description="When `spend` begins anew next. Of use where no calendar says it.")]
        | UnsetType
        | None
    ) = UNSET
    tpm_limit: Annotated[Limit, Meta(description="Tokens in any minute.")] | UnsetType | None = UNSET
    rpm_limit: Annotated[Limit, Meta(description="Requests in any minute.")] | UnsetType | None = UNSET
    max_parallel_requests: Annotated[Limit, Meta(description="Requests at the same time.")] | UnsetType | None = UNSET
    model_max_budget: ModelBudgets | UnsetType | None = UNSET


class BudgetTable(Struct, kw_only=True, frozen=True):
    """
    The shared budget that something names.
    """

    budget_id: str
    max_budget: Usd | None
    soft_budget: Usd | None
    budget_duration: str | None
    budget_reset_at: datetime | None
    tpm_limit: int | None
    rpm_limit: int | None
    max_parallel_requests: int | None
    model_max_budget: dict[str, Any]


def budget_table(budget: Budget, now: datetime) -> BudgetTable:
    """
    *budget* as others show it.
    """
    return BudgetTable(
        budget_id=budget.id,
        max_budget=budget.max_budget,
        soft_budget=budget.soft_budget,
        budget_duration=budget.budget_duration,
        budget_reset_at=resetting(budget, now),
        tpm_limit=budget.tpm_limit,
        rpm_limit=budget.rpm_limit,
        max_parallel_requests=budget.max_parallel_requests,
        model_max_budget=budget.model_max_budget,
    )


def utc(instant: datetime) -> datetime:
    """
    *instant* in UTC, which is what it is said in when it does not say.

    :raises OverflowError: that is before the year 1, or after 9999.
    """
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def pages(total: int, size: int) -> int:
    """
    How many pages of *size* entries there are.
    """
    return -(-total // size)


def schema_of(sort: type) -> dict[str, Any]:
    """
    The JSON schema of our own scalars, which msgspec asks for.
    """
    if sort is Usd:
        return {"type": "number", "minimum": 0, "maximum": LARGEST}
    raise NotImplementedError
