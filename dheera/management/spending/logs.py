"""
``/spend/logs``: the calls, one by one, or added up by day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from attrs import evolve, frozen
from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.bookkeeping import LedgerLine, LinesQuery
from dheera.errors import BadRequest, NotFound
from dheera.management.routes import AnyRoute, Asked, Nothing, Office, Route
from dheera.management.shapes import Name, Page, Reference, pages
from dheera.management.spending.daily import by_day
from dheera.management.spending.moments import Moment, as_day, beginning, ending
from dheera.management.spending.parties import key_id_of
from dheera.management.spending.rows import SpendRow, Status, rows

LARGEST_PAGE = 1000

_Size: TypeAlias = Annotated[int, Meta(ge=1, le=LARGEST_PAGE)]


class LogFilters(Struct, kw_only=True, frozen=True):
    """
    Which calls are wanted.
    """

    api_key: Reference | UnsetType = UNSET
    key_alias: Annotated[Name, Meta(description="What the caller was called then.")] | UnsetType = UNSET
    user_id: Name | UnsetType = UNSET
    team_id: Name | UnsetType = UNSET
    end_user: Name | UnsetType = UNSET
    model: Name | UnsetType = UNSET
    endpoint: Name | UnsetType = UNSET
    tag: Name | UnsetType = UNSET
    request_id: Annotated[Name, Meta(description="`x-dheera-call-id` of the call.")] | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    start_date: Annotated[Moment, Meta(description="Calls that began then or later.")] | UnsetType = UNSET
    end_date: Annotated[Moment, Meta(description="Until the end of that day, or before that time.")] | UnsetType = UNSET
    page: Page = 1
    after: (
        Annotated[Name, Meta(description="The `request_id` of the last row so far; pages stay right while calls come.")]
        | UnsetType
    ) = UNSET


class LogQuery(LogFilters, kw_only=True, frozen=True):
    """
    Which calls are wanted, in which form.
    """

    size: _Size = LARGEST_PAGE
    summarize: (
        Annotated[
            bool,
            Meta(
                description="Sums by day in place of calls. Without it, they are given as LiteLLM gives them: where "
                "`start_date` and `end_date` are days, and at most `api_key` and `user_id` stand beside them."
            ),
        ]
        | UnsetType
    ) = UNSET


class LogPageQuery(LogFilters, kw_only=True, frozen=True):
    """
    Which calls are wanted, and how many.
    """

    page_size: _Size = 50
    status_filter: Annotated[Status, Meta(description="The same as `status`.")] | UnsetType = UNSET


class LogPage(Struct, kw_only=True, frozen=True):
    """
    One page of the calls, newest first.
    """

    data: list[SpendRow]
    total: int
    page: int
    page_size: int
    total_pages: int
    next: Annotated[str, Meta(description="What to send as `after` for what follows; null where nothing does.")] | None


@frozen(kw_only=True)
class _Found:
    """
    :param last: the line behind which there may be more; ``None`` at the end.
    """

    lines: Sequence[LedgerLine]
    last: LedgerLine | None = None


_COLUMNS: Mapping[str, str] = {
    "key_alias": "key_alias",
    "user_id": "user_id",
    "team_id": "team_id",
    "end_user": "end_user",
    "model": "model",
    "endpoint": "endpoint",
    "request_id": "call_id",
}
_SUMMARIZED = frozenset({"start_date", "end_date", "api_key", "user_id"})


async def logs(office: Office, asked: Asked[Nothing, LogQuery]) -> list[SpendRow] | list[dict[str, Any]]:
    """
    Calls, the newest first; or sums by day, the first day first.
    """
    wanted = asked.query
    if _wants_sums(wanted):
        return await by_day(office, wanted, since=wanted.start_date, until=wanted.end_date)
    found = await _found(office, wanted, await _query(office, wanted, wanted.status), wanted.size)
    return await rows(office, found.lines)


async def page(office: Office, asked: Asked[Nothing, LogPageQuery]) -> LogPage:
    """
    One page of the calls.
    """
    wanted = asked.query
    status = wanted.status or wanted.status_filter
    if wanted.status and wanted.status_filter not in (UNSET, wanted.status):
        raise BadRequest("status and status_filter contradict each other.", param="status_filter")
    query = await _query(office, wanted, status)
    found = await _found(office, wanted, query, wanted.page_size)
    total = await office.books.count(query)
    return LogPage(
        data=await rows(office, found.lines),
        total=total,
        page=wanted.page,
        page_size=wanted.page_size,
        total_pages=pages(total, wanted.page_size),
        next=None if found.last is None else found.last.call_id,
    )


def _wants_sums(wanted: LogQuery) -> bool:
    if wanted.summarize is not UNSET:
        return wanted.summarize
    usual = LogQuery()
    said = {name for name in wanted.__struct_fields__ if getattr(wanted, name) != getattr(usual, name)}
    return said <= _SUMMARIZED and None not in (as_day(wanted.start_date), as_day(wanted.end_date))


async def _query(office: Office, wanted: LogFilters, status: Status | UnsetType) -> LinesQuery:
    equal: dict[str, object] = {}
    for name, column in _COLUMNS.items():
        value = getattr(wanted, name)
        if value is not UNSET:
            equal[column] = value
    if wanted.api_key is not UNSET:
        equal["key_id"] = await key_id_of(office, wanted.api_key, param="api_key")
    since, until = beginning(wanted.start_date, "start_date"), ending(wanted.end_date, "end_date")
    if since is not None and until is not None and since > until:
        raise BadRequest("end_date is before start_date.", param="end_date")
    failed = status == "failure" if status else None
    return LinesQuery(equal=equal, tag=wanted.tag or None, failed=failed, since=since, until=until)


async def _found(office: Office, wanted: LogFilters, query: LinesQuery, size: int) -> _Found:
    """
    The lines of the page that is wanted.
    """
    if wanted.page > 1 and wanted.after:
        raise BadRequest("With after, pages are reached by after and not by page.", param="page")
    if wanted.after:
        query = evolve(query, after=await _position(office, wanted.after))
    lines = await office.books.lines(evolve(query, offset=(wanted.page - 1) * size, limit=size + 1))
    return _Found(lines=lines[:size], last=lines[size - 1] if len(lines) > size else None)


async def _position(office: Office, call_id: str) -> tuple[Any, str]:
    lines = await office.books.lines(LinesQuery(equal={"call_id": call_id}, limit=1))
    if not lines:
        raise NotFound("There is no such call, or no more: begin anew, without after.", param="after")
    return lines[0].started_at, lines[0].call_id


ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/spend/logs",
        methods=("GET",),
        summary="The calls, newest first",
        description=f"At most {LARGEST_PAGE} at once; `page`, or better `after`, leads to more. With `summarize` the "
        "answer holds an object for each day that had calls, the first day first: `startTime` (the day), `spend`, "
        "`unpriced_requests`, `users` and `models` (spend by name), and the spend of each key under its SHA-256.",
        body=Nothing,
        query=LogQuery,
        answer=list[SpendRow],
        refusals=(BadRequest, NotFound),
        verb=logs,
    ),
    Route(
        path="/spend/logs/v2",
        methods=("GET",),
        summary="The calls, newest first, in pages",
        body=Nothing,
        query=LogPageQuery,
        answer=LogPage,
        refusals=(BadRequest, NotFound),
        verb=page,
    ),
)
