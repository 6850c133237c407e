"""
``/audit``: who did what, when, and from where.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct, structs

from dheera.boundaries import Query
from dheera.management.routes import AnyRoute, Asked, Nothing, Office, Route
from dheera.management.shapes import Name, Page, pages


class AuditQuery(Struct, kw_only=True, frozen=True):
    """
    Which lines of the audit; without filters, all.
    """

    page: Page = 1
    size: Annotated[int, Meta(ge=1, le=100)] = 50
    actor: (
        Annotated[Name, Meta(description="Who did it: the alias of a key, or what the master key is called.")] | None
    ) = None
    action: Annotated[Name, Meta(description="What was done: `key.generate`, `team.block`.")] | None = None
    kind: Annotated[Name, Meta(description="To what: `key`, `user`, `team`, `customer`, `budget`.")] | None = None
    subject: Annotated[Name, Meta(description="The id of what it was done to; of a key, its `key_id`.")] | None = None


class AuditRow(Struct, kw_only=True, frozen=True):
    """
    That somebody did something.
    """

    id: str
    at: datetime
    actor: str
    actor_key: (
        Annotated[str, Meta(description="The `key_id` of the key that was used; null for the master key.")] | None
    )
    claimed: str | None
    address: str
    action: str
    kind: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditPage(Struct, kw_only=True, frozen=True):
    """
    One page of the audit, newest first.
    """

    audit_logs: list[AuditRow]
    total_count: int
    current_page: int
    total_pages: int


_FILTERS = ("actor", "action", "kind", "subject")


async def read(office: Office, asked: Asked[Nothing, AuditQuery]) -> AuditPage:
    """
    One page of the audit.
    """
    query = asked.query
    wanted = {name: getattr(query, name) for name in _FILTERS if getattr(query, name) is not None}
    lines, total = await office.store.audit(
        Query(equal=wanted, sort="at", offset=(query.page - 1) * query.size, limit=query.size)
    )
    return AuditPage(
        audit_logs=[AuditRow(**structs.asdict(each)) for each in lines],
        total_count=total,
        current_page=query.page,
        total_pages=pages(total, query.size),
    )


ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/audit",
        methods=("GET",),
        summary="Read the audit",
        description="Every act that changed something has left a line, written together with the change. `before` and "
        "`after` hold the fields that changed, with secrets masked: `before` is null for what is new, `after` for what "
        "is gone. `claimed` is whom the caller said it acts for (`x-dheera-changed-by`); nothing proves it.",
        body=Nothing,
        query=AuditQuery,
        answer=AuditPage,
        verb=read,
    ),
)
