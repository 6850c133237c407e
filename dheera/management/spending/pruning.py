"""
``/spend/prune``: old lines leave the ledger.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta, Struct, structs

from dheera.errors import BadRequest
from dheera.management.acts import line, plain
from dheera.management.routes import AnyRoute, Asked, Nothing, Office, Route
from dheera.management.shapes import Instant, utc

SLICE = 200
"""
Lines that go in one transaction: few enough that the ledger does not wait for them.
"""
LONGEST = timedelta(seconds=5)
"""
How long one call goes on, so that its client hears something before it gives up.
"""


class Prune(Struct, kw_only=True, frozen=True):
    """
    Which lines are to go.
    """

    before: Annotated[Instant, Meta(description="Those of calls that began before.")]


class Pruned(Struct, kw_only=True, frozen=True):
    """
    What is gone.
    """

    deleted: int
    before: datetime
    more: Annotated[bool, Meta(description="There may be others: call again.")]


async def prune(office: Office, asked: Asked[Prune, Nothing]) -> Pruned:
    """
    Delete the oldest lines, slice by slice.
    """
    before = utc(asked.body.before)
    start = office.now()
    if before > start:
        raise BadRequest("before is in the future: calls that are yet to come cannot be deleted.", param="before")
    deleted, more = 0, True
    try:
        while more and office.now() - start < LONGEST:
            gone = await office.books.prune(before, SLICE)
            deleted += gone
            more = gone == SLICE
    finally:
        if deleted:
            told = line(office, asked, "ledger.prune", None, None)
            told = structs.replace(told, subject="calls", after=plain({"before": before, "deleted": deleted}))
            await office.store.apply([], [told])
    return Pruned(deleted=deleted, before=before, more=more)


ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/spend/prune",
        summary="Delete the calls before a time from the ledger",
        description="The oldest first, for some seconds: `more` tells to call again. Sums by day stay, and so does "
        "what keys, users, teams and customers have spent.",
        body=Prune,
        query=Nothing,
        answer=Pruned,
        refusals=(BadRequest,),
        verb=prune,
    ),
)
