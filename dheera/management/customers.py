"""
``/customer/...``: end users, whom the developers' own programs name in their calls.
"""

from __future__ import annotations

from typing import Any

from dheera.boundaries import Add, Put, Query, Remove, Write
from dheera.entities import AuditLine, Budget, Customer
from dheera.errors import BadRequest, NotFound
from dheera.management.acts import Decision, absent, existing, line, revised, settle
from dheera.management.counting import counted, spender
from dheera.management.customer_shapes import (
    CUSTOMERS_AT_ONCE,
    BlockedCustomers,
    CustomerFields,
    CustomerListQuery,
    CustomerQuery,
    CustomerRow,
    DeletedCustomers,
    NamedCustomer,
    NamedCustomers,
    UnblockedCustomers,
)
from dheera.management.patches import Names
from dheera.management.periods import renewed
from dheera.management.routes import AnyRoute, Asked, Nothing, Office, Route
from dheera.management.setting import spending
from dheera.management.shapes import budget_table
from dheera.money import Usd

_NAMES = Names(Customer, CustomerFields)


async def _rows(office: Office, customers: list[Customer]) -> list[CustomerRow]:
    named = dict.fromkeys(each.budget_id for each in customers if each.budget_id is not None)
    budgets = {each: await office.store.get(Budget, each) for each in named}
    now = office.now()
    shared = [budgets.get(each.budget_id or "") for each in customers]
    spends = await counted(office, [spender(each, now, budget) for each, budget in zip(customers, shared, strict=True)])
    return [
        CustomerRow(
            user_id=each.id,
            litellm_budget_table=None if budget is None else budget_table(budget, now),
            created_at=each.created_at,
            updated_at=each.updated_at,
            created_by=each.created_by,
            updated_by=each.updated_by,
            **_NAMES.shown(each) | {"spend": spend.amount, "budget_reset_at": spend.resets_at},
        )
        for each, budget, spend in zip(customers, shared, spends, strict=True)
    ]


async def _changes(office: Office, body: CustomerFields, before: Customer | None) -> dict[str, Any]:
    """
    What *body* changes, once the budget that it names was found.
    """
    if isinstance(body.budget_id, str):
        await existing(office, Budget, body.budget_id, param="budget_id")
    return renewed(_NAMES.changes(body, {} if before is None else before.rest), office.now(), before)


def _made(office: Office, asked: Asked[Any, Any], user_id: str, changes: dict[str, Any]) -> Customer:
    now, by = office.now(), asked.actor.alias
    return Customer(id=user_id, created_at=now, updated_at=now, created_by=by, updated_by=by, **changes)


async def new(office: Office, asked: Asked[NamedCustomer, Nothing]) -> CustomerRow:
    """
    Make a customer.
    """

    async def decide() -> Decision[Customer]:
        made = _made(office, asked, asked.body.user_id, await _changes(office, asked.body, None))
        writes = [Add(made), *(await spending(office, made) if made.spend != Usd() else [])]
        return Decision(outcome=made, writes=writes, lines=[line(office, asked, "customer.new", None, made)])

    [row] = await _rows(office, [await settle(office, decide, called={"id": "user_id"})])
    return row


async def update(office: Office, asked: Asked[NamedCustomer, Nothing]) -> CustomerRow:
    """
    Change a customer.
    """

    async def decide() -> Decision[Customer]:
        before = await existing(office, Customer, asked.body.user_id, param="user_id")
        changes = await _changes(office, asked.body, before)
        after = revised(before, office, asked, **changes)
        writes: list[Write] = [Put(after)]
        if "spend" in changes:
            writes += await spending(office, after)
        return Decision(outcome=after, writes=writes, lines=[line(office, asked, "customer.update", before, after)])

    [row] = await _rows(office, [await settle(office, decide)])
    return row


async def info(office: Office, asked: Asked[Nothing, CustomerQuery]) -> CustomerRow:
    """
    What is known of a customer.
    """
    customer = await existing(office, Customer, asked.query.end_user_id, param="end_user_id")
    [row] = await _rows(office, [customer])
    return row


async def list_customers(office: Office, asked: Asked[Nothing, CustomerListQuery]) -> list[CustomerRow]:
    """
    One page of the customers, the newest first.
    """
    size = asked.query.page_size
    found, _ = await office.store.find(Customer, Query(offset=(asked.query.page - 1) * size, limit=size))
    return await _rows(office, found)


async def delete(office: Office, asked: Asked[NamedCustomers, Nothing]) -> DeletedCustomers:
    """
    Delete customers.
    """

    async def decide() -> Decision[DeletedCustomers]:
        ids = list(dict.fromkeys(asked.body.user_ids))
        gone = [await existing(office, Customer, each, param="user_ids") for each in ids]
        return Decision(
            outcome=DeletedCustomers(deleted_customers=ids),
            # The first writes see to it that nobody has changed them meanwhile.
            writes=[*(Put(each) for each in gone), *(Remove("customer", each.id) for each in gone)],
            lines=[line(office, asked, "customer.delete", each, None) for each in gone],
        )

    return await settle(office, decide)


async def block(office: Office, asked: Asked[NamedCustomers, Nothing]) -> BlockedCustomers:
    """
    Block customers; those that do not exist are made.
    """
    return BlockedCustomers(blocked_users=await _set_blocked(office, asked, blocked=True))


async def unblock(office: Office, asked: Asked[NamedCustomers, Nothing]) -> UnblockedCustomers:
    """
    Unblock customers.
    """
    return UnblockedCustomers(unblocked_users=await _set_blocked(office, asked, blocked=False))


async def _set_blocked(office: Office, asked: Asked[NamedCustomers, Nothing], *, blocked: bool) -> list[CustomerRow]:
    action = "customer.block" if blocked else "customer.unblock"

    async def decide() -> Decision[list[Customer]]:
        customers: list[Customer] = []
        writes: list[Write] = []
        lines: list[AuditLine] = []
        for each in dict.fromkeys(asked.body.user_ids):
            before = await office.store.get(Customer, each)
            if before is not None:
                after = revised(before, office, asked, blocked=blocked)
                writes.append(Put(after))
            elif blocked:
                after = _made(office, asked, each, {"blocked": True})
                writes.append(Add(after))
            else:
                raise absent(Customer, each, param="user_ids")
            customers.append(after)
            lines.append(line(office, asked, action, before, after))
        return Decision(outcome=customers, writes=writes, lines=lines)

    return await _rows(office, await settle(office, decide, called={"id": "user_ids"}))


_CALLS = (
    "A call is for the customer whom it names: in the header `x-dheera-end-user` (`x-litellm-end-user-id`, "
    "`x-litellm-customer-id`), or in its body as `user` or `metadata.user_id`. Limits are those of all such calls "
    "together, with whatever key."
)

ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/customer/new",
        summary="Make a customer",
        description=f"{_CALLS} `litellm_budget_table` shows the shared budget that it names; limits of its own stand "
        "beside it.",
        body=NamedCustomer,
        query=Nothing,
        answer=CustomerRow,
        refusals=(BadRequest, NotFound),
        verb=new,
    ),
    Route(
        path="/customer/update",
        summary="Change a customer",
        description=f"Fields that are absent are kept; `null` goes back to the default. {_CALLS}",
        body=NamedCustomer,
        query=Nothing,
        answer=CustomerRow,
        refusals=(BadRequest, NotFound),
        verb=update,
    ),
    Route(
        path="/customer/info",
        methods=("GET",),
        summary="Show a customer",
        body=Nothing,
        query=CustomerQuery,
        answer=CustomerRow,
        refusals=(NotFound,),
        verb=info,
    ),
    Route(
        path="/customer/list",
        methods=("GET",),
        summary="List customers, newest first",
        description=f"At most {CUSTOMERS_AT_ONCE} at once; `page` leads to more.",
        body=Nothing,
        query=CustomerListQuery,
        answer=list[CustomerRow],
        verb=list_customers,
    ),
    Route(
        path="/customer/delete",
        summary="Delete customers",
        description="All of them, or, if one does not exist, none.",
        body=NamedCustomers,
        query=Nothing,
        answer=DeletedCustomers,
        refusals=(NotFound,),
        verb=delete,
    ),
    Route(
        path="/customer/block",
        summary="Block customers",
        description="Those that do not exist are made, and blocked: from within a second on, calls for them are "
        f"refused. {_CALLS}",
        body=NamedCustomers,
        query=Nothing,
        answer=BlockedCustomers,
        refusals=(BadRequest,),
        verb=block,
    ),
    Route(
        path="/customer/unblock",
        summary="Unblock customers",
        description="All of them, or, if one does not exist, none.",
        body=NamedCustomers,
        query=Nothing,
        answer=UnblockedCustomers,
        refusals=(NotFound,),
        verb=unblock,
    ),
)
