"""
Calls that were made, for those who ask what was spent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from dheera.call_ids import new_call_id
from dheera.records import Record
from dheera.usage import Usage
from tests.management.directory import AtDirectory
from tests.management.office import START, Desk

CENT = 10_000_000
"""
In nano-dollars.
"""
USAGE = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=5, total_tokens=15)


def keep(desk: Desk, **fields: Any) -> Record:
    """
    A call that cost a cent, if nothing else is said, and is in the ledger of *desk*.

    :param fields: those of a `Record`; also ``at``, when it began, and ``cost``.
    """
    at: datetime = fields.pop("at", START)
    usual: dict[str, Any] = {
        "call_id": new_call_id(),
        "started_at": at,
        "node": "one",
        "method": "POST",
        "path": "/v1/chat/completions",
        "endpoint": "chat/completions",
        "model": "mistral-small-latest",
        "key_alias": "master",
        "client": "192.0.2.7",
        "outcome": "complete",
        "status": 200,
        "duration_us": 1_500_000,
        "first_byte_us": 250_000,
        "usage": USAGE,
        "cost_nano_usd": fields.pop("cost", CENT),
        "price_list": "2026-03",
    }
    record = Record(**{**usual, **fields})
    kept: list[Any] = []
    desk.books.keep([record]).addCallback(kept.append)
    assert kept
    return record


class AtLedger(AtDirectory):
    """
    Somebody who manages, and calls that were made.
    """

    def call(self, key: Mapping[str, Any] | None = None, **fields: Any) -> Record:
        """
        A call that is in the ledger.

        :param key: as it was answered when it was made.
        """
        who = {} if key is None else {"key_id": key["key_id"], "key_alias": key["key_alias"] or key["key_name"]}
        return keep(self.desk, **{**who, **fields})

    def look(self, path: str, /, **query: object) -> Any:
        """
        What is answered to a look that succeeds.
        """
        return self.sees(f"{path}?{urlencode(query)}" if query else path)

    def denied(self, path: str, status: int, param: str | None, /, **query: object) -> None:
        """
        That a look is refused, for something in the query.
        """
        reply = self.desk.get(f"{path}?{urlencode(query)}")
        self.assertEqual((status, param), (reply.fault[0], reply.fault[2]), reply.json)


def days(number: float) -> timedelta:
    """
    That many days.
    """
    return timedelta(days=number)
