"""
The ledger as whoever may read the database sees it, past the daemon.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from attrs import frozen

from tests.postgres import server


@frozen(kw_only=True)
class Line:
    """
    One line.
    """

    call_id: str
    tags: frozenset[str]
    outcome: str
    estimated: bool
    cost: int | None
    error: str | None
    end_user: str | None


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    """
    The rows of *statement* in the database at *url*.
    """
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return connection.execute(statement).fetchall()
    return server().execute(statement, name=url.rpartition("/")[2])


def total(url: str, statement: str) -> int:
    """
    The one number that *statement* gives.
    """
    [(number,)] = query(url, statement)
    return int(number or 0)


def lines(url: str) -> list[Line]:
    """
    All of the ledger.
    """
    rows = query(url, "select call_id, tags, outcome, estimated, cost, error, end_user from ledger")
    return [
        Line(
            call_id=call_id,
            tags=frozenset((tags or "").split("\n")) - {""},
            outcome=outcome,
            estimated=bool(estimated),
            cost=cost,
            error=error,
            end_user=end_user,
        )
        for call_id, tags, outcome, estimated, cost, error, end_user in rows
    ]
