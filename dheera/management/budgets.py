"""
``/budget/...``: limits with a name, which keys and customers share.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.boundaries import Add, Put, Query, Remove
from dheera.call_ids import new_call_id
from dheera.entities import Budget, Customer, Entity, Key
from dheera.errors import BadRequest, NotFound
from dheera.management.acts import Decision, existing, line, revised, settle
from dheera.management.patches import Names
from dheera.management.periods import renewed, resetting
from dheera.management.routes import AnyRoute, Asked, Nothing, Office, Route
from dheera.management.shapes import LimitFields, Name, Page

BUDGETS_AT_ONCE = 500


class NewBudget(LimitFields, kw_only=True, frozen=True):
    """
    A budget that is to be made; without an id it is given one.
    """

    budget_id: Name | UnsetType | None = UNSET


class UpdateBudget(LimitFields, kw_only=True, frozen=True):
    """
    What is to change in a budget: absent fields keep, `null` goes back to the default.
    """

    budget_id: Name


class NamedBudgets(Struct, kw_only=True, frozen=True):
    """
    Several budgets.
    """

    budgets: Annotated[list[Name], Meta(max_length=BUDGETS_AT_ONCE)]


class DeleteBudget(Struct, kw_only=True, frozen=True):
    """
    Which budget is to be deleted.
    """

    id: Name


class BudgetQuery(Struct, kw_only=True, frozen=True):
    """
    Which budget.
    """

    budget_id: Name


class BudgetListQuery(Struct, kw_only=True, frozen=True):
    """
    Which page of the list.
    """

    page: Page = 1
    page_size: Annotated[int, Meta(ge=1, le=BUDGETS_AT_ONCE)] = BUDGETS_AT_ONCE


class BudgetRow(LimitFields, kw_only=True, frozen=True):
    """
    A budget as it is kept.
    """

    budget_id: str
    created_at: datetime
    updated_at: datetime
    created_by: str | None
    updated_by: str | None


class BudgetSetting(Struct, kw_only=True, frozen=True):
    """
    One limit of a budget, and what it means.
    """

    field_name: str
    field_type: str
    field_description: str
    field_value: Any
    field_default_value: Any = None


_NAMES = Names(Budget, LimitFields)
_SETTINGS = {
    "max_budget": ("Float", "US dollars that may be spent in one period."),
    "soft_budget": ("Float", "US dollars after which to warn."),
    "budget_duration": ("String", "How long a period lasts: `30d`."),
    "max_parallel_requests": ("Integer", "Requests at the same time."),
    "tpm_limit": ("Integer", "Tokens per minute."),
    "rpm_limit": ("Integer", "Requests per minute."),
    "model_max_budget": ("Object", "Amounts for single models."),
}


def _row(budget: Budget, now: datetime) -> BudgetRow:
    return BudgetRow(
        budget_id=budget.id,
        created_at=budget.created_at,
        updated_at=budget.updated_at,
        created_by=budget.created_by,
        updated_by=budget.updated_by,
        **_NAMES.shown(budget) | {"budget_reset_at": resetting(budget, now)},
    )


async def new(office: Office, asked: Asked[NewBudget, Nothing]) -> BudgetRow:
    """
    Make a budget.
    """
    now, by = office.now(), asked.actor.alias
    made = Budget(
        id=asked.body.budget_id or new_call_id(),
        created_at=now,
        updated_at=now,
        created_by=by,
        updated_by=by,
        **renewed(_NAMES.changes(asked.body, {}), now),
    )

    async def decide() -> Decision[BudgetRow]:
        return Decision(
            outcome=_row(made, now), writes=[Add(made)], lines=[line(office, asked, "budget.new", None, made)]
        )

    return await settle(office, decide, called={"id": "budget_id"})


async def update(office: Office, asked: Asked[UpdateBudget, Nothing]) -> BudgetRow:
    """
    Change a budget.
    """

    async def decide() -> Decision[BudgetRow]:
        before = await existing(office, Budget, asked.body.budget_id, param="budget_id")
        after = revised(before, office, asked, **renewed(_NAMES.changes(asked.body, before.rest), office.now(), before))
        return Decision(
            outcome=_row(after, office.now()),
            writes=[Put(after)],
            lines=[line(office, asked, "budget.update", before, after)],
        )

    return await settle(office, decide)


async def info(office: Office, asked: Asked[NamedBudgets, Nothing]) -> list[BudgetRow]:
    """
    Some budgets: those that there are.
    """
    found = [await office.store.get(Budget, each) for each in dict.fromkeys(asked.body.budgets)]
    return [_row(budget, office.now()) for budget in found if budget is not None]


async def list_budgets(office: Office, asked: Asked[Nothing, BudgetListQuery]) -> list[BudgetRow]:
    """
    One page of the budgets, the newest first.
    """
    size = asked.query.page_size
    found, _ = await office.store.find(Budget, Query(offset=(asked.query.page - 1) * size, limit=size))
    return [_row(budget, office.now()) for budget in found]


async def settings(office: Office, asked: Asked[Nothing, BudgetQuery]) -> list[BudgetSetting]:
    """
    The limits of a budget, and what they mean.
    """
    budget = await existing(office, Budget, asked.query.budget_id, param="budget_id")
    return [
        BudgetSetting(field_name=name, field_type=sort, field_description=text, field_value=getattr(budget, name))
        for name, (sort, text) in _SETTINGS.items()
    ]


async def delete(office: Office, asked: Asked[DeleteBudget, Nothing]) -> BudgetRow:
    """
    Delete a budget that nothing has.
    """

    async def decide() -> Decision[BudgetRow]:
        budget = await existing(office, Budget, asked.body.id, param="id")
        for sort, noun in _SHARERS:
            _, count = await office.store.find(sort, Query(equal={"budget_id": budget.id}, limit=1))
            if count:
                raise BadRequest(f"{count} {noun} still have this budget: give them another one first.", param="id")
        return Decision(
            outcome=_row(budget, office.now()),
            # The first write sees to it that nobody has changed it meanwhile.
            writes=[Put(budget), Remove("budget", budget.id)],
            lines=[line(office, asked, "budget.delete", budget, None)],
        )

    return await settle(office, decide)


_SHARERS: tuple[tuple[type[Entity], str], ...] = ((Key, "keys"), (Customer, "customers"))

ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/budget/new",
        summary="Make a budget",
        description="Each key and each customer that has it may take as much. `budget_reset_at` follows from "
        "`budget_duration` unless it is given.",
        body=NewBudget,
        query=Nothing,
        answer=BudgetRow,
        refusals=(BadRequest,),
        verb=new,
    ),
    Route(
        path="/budget/update",
        summary="Change a budget",
        description="It changes for all that have it.",
        body=UpdateBudget,
        query=Nothing,
        answer=BudgetRow,
        refusals=(BadRequest, NotFound),
        verb=update,
    ),
    Route(
        path="/budget/info",
        summary="Show some budgets",
        description="Those that do not exist are left out.",
        body=NamedBudgets,
        query=Nothing,
        answer=list[BudgetRow],
        verb=info,
    ),
    Route(
        path="/budget/list",
        methods=("GET",),
        summary="List budgets, newest first",
        description=f"At most {BUDGETS_AT_ONCE} at once; `page` leads to more.",
        body=Nothing,
        query=BudgetListQuery,
        answer=list[BudgetRow],
        verb=list_budgets,
    ),
    Route(
        path="/budget/settings",
        methods=("GET",),
        summary="Show the limits of a budget, and what they mean",
        body=Nothing,
        query=BudgetQuery,
        answer=list[BudgetSetting],
        refusals=(NotFound,),
        verb=settings,
    ),
    Route(
        path="/budget/delete",
        summary="Delete a budget that nothing has",
        description="As long as a key or a customer has it, it is refused with 400: their limits would go with it.",
        body=DeleteBudget,
        query=Nothing,
        answer=BudgetRow,
        refusals=(BadRequest, NotFound),
        verb=delete,
    ),
)
