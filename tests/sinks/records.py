"""
What sinks are given in tests: the fullest record, the emptiest, an alert, and tools.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from dheera.bookkeeping import Entry
from dheera.call_ids import new_call_id
from dheera.records import Alert, Content, Record, Try, to_line
from dheera.usage import Usage

NOON = datetime(2026, 11, 22, 12, 0, 0, 250_000, UTC)


def full(call_id: str = "", **changes: Any) -> Record:
    """
    A record in which every field says something, in letters of many scripts.
    """
    fields: dict[str, Any] = {
        "call_id": call_id or new_call_id(),
        "started_at": NOON,
        "node": "north-1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "endpoint": "chat/completions",
        "model": "mistral-small-latest",
        "key_id": "0b5f0000-0000-7000-8000-000000000001",
        "key_alias": "ada",
        "user_id": "ada@example.com",
        "team_id": "team-1",
        "team_alias": "Suche & Søk",
        "end_user": "kunde 7 \u2603",
        "tags": ["beta", 'a "quoted" tag', "ताज़ा"],
        "client": "192.0.2.7",
        "user_agent": "mistral-client-python/3.7",
        "request_bytes": 512,
        "outcome": "client_left",
        "status": 200,
        "error": "ClientLeft",
        "message": "The client left before the answer was complete.",
        "attempts": 2,
        "tries": [Try(key="key 1", status=429, duration_us=1000, waited_us=20)],
        "upstream": "mistral",
        "upstream_key": "east",
        "duration_us": 1_250_000,
        "first_byte_us": 250_000,
        "overhead_us": 900,
        "longest_gap_us": 40_000,
        "response_bytes": 4096,
        "is_stream": True,
        "events": 17,
        "answered_model": "mistral-small-2603",
        "usage": Usage(
            prompt_tokens=120,
            cached_tokens=20,
            completion_tokens=45,
            reasoning_tokens=5,
            total_tokens=165,
            connector_tokens=10,
            connectors={"web_search": 1},
            audio_ms=1500,
            pages=2,
            annotated_pages=1,
            characters=300,
        ),
        "estimated": True,
        "cost_nano_usd": 41_500,
        "price_list": "2026-11-01",
        "unpriced": ["web_search"],
        "once": "file-7",
        "upstream_id": "01f0-upstream",
        "parameters": {"temperature": 0.7, "max_tokens": 100, "stream": True},
        "request": Content(
            body={"model": "mistral-small-latest", "messages": [{"role": "user", "content": "Grüße \u2603"}]},
            size_bytes=512,
            sha256="0" * 64,
            truncated=True,
        ),
        "response": Content(
            body={"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}}]}, size_bytes=4096
        ),
    }
    return Record(**{**fields, **changes})


def bare(call_id: str = "", **changes: Any) -> Record:
    """
    A record in which as little is said as may be.
    """
    fields: dict[str, Any] = {
        "call_id": call_id or new_call_id(),
        "started_at": NOON + timedelta(seconds=1),
        "node": "north-1",
        "method": "GET",
        "path": "/v1/models",
        "endpoint": "models",
        "key_alias": "master",
        "outcome": "refused",
    }
    return Record(**{**fields, **changes})


def fine(call_id: str = "", **changes: Any) -> Record:
    """
    A record of a call that went well.
    """
    well = {"outcome": "complete", "status": 200, "error": None, "message": None, "estimated": False}
    return full(call_id, **{**well, **changes})


def an_alert(id: str = "", **changes: Any) -> Alert:  # noqa: A002 - it is called so in alerts
    """
    That a budget is nearly spent.
    """
    fields: dict[str, Any] = {
        "id": id or new_call_id(),
        "at": NOON,
        "node": "north-1",
        "about": "budget",
        "subject": "key ada",
        "text": "80 % of the budget of 50 USD are spent.",
    }
    return Alert(**{**fields, **changes})


def entries(*values: Record | Alert, first: int = 0) -> list[Entry]:
    """
    *values* as a reader of the spool gives them.
    """
    found, position = [], first
    for value in values:
        line = to_line(value)
        position += len(line) + 1
        found.append(Entry(position=position, line=line, value=value))
    return found
