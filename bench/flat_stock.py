"""
A store that has seen much: keys, and a year of calls, written as dheera writes them.

Nothing here knows a table: keys go in by `Store.apply` and calls by `Books.keep`, so what is filled is what a daemon
would have filled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from attrs import frozen

from dheera.boundaries import Add
from dheera.entities import Key, Team, User, now
from dheera.keys import digest
from dheera.money import Usd
from dheera.records import Record
from dheera.stores import Stores
from dheera.usage import Usage

CALLS_A_DAY = 10
"""
That a key makes on a day on which it makes any.
"""
USERS = 1000
TEAMS = 50
END_USERS = 20_000
MODELS = ("mistral-small-latest", "mistral-large-latest", "ministral-8b-latest")
AT_ONCE = 5000
_BUDGET = Usd.of(10**8)
_FAILED, _FOR_END_USER, _IN_TEAM = 100, 3, 4
"""
Each call, or key, of so many.
"""

Tell = Callable[[str, int], None]
"""
Told of what there is how much.
"""


@frozen
class Stock:
    """
    How much a store has seen.

    :param rows: of the ledger.
    :param days: over which they are spread, the last of them now.
    """

    keys: int
    rows: int
    days: int = 365

    async def fill(self, stores: Stores, tell: Tell) -> None:
        """
        Fill *stores*, which are open and empty.
        """
        at = now()
        await stores.directory.apply([Add(User(id=_user(n), created_at=at, updated_at=at)) for n in range(USERS)], [])
        await stores.directory.apply([Add(Team(id=_team(n), created_at=at, updated_at=at)) for n in range(TEAMS)], [])
        keys = (_key(number, at) for number in range(self.keys))
        made = 0
        while some := list(islice(keys, AT_ONCE)):
            await stores.directory.apply([Add(each) for each in some], [])
            made += len(some)
            tell("keys", made)
        records = self.records(at)
        written = 0
        while batch := list(islice(records, AT_ONCE)):
            await stores.books.keep(batch)
            written += len(batch)
            tell("calls", written)

    def records(self, until: datetime) -> Iterator[Record]:
        """
        The calls before *until*, the oldest first. Each day another part of the keys is at work.
        """
        span = timedelta(days=self.days)
        a_day = -(-self.rows // self.days)
        at_work = max(1, a_day // CALLS_A_DAY)
        begin, step = until - span, span / max(1, self.rows)
        for number in range(self.rows):
            day, of_day = divmod(number, a_day)
            yield _record(number, (day * at_work + of_day % at_work) % self.keys, begin + step * number)


def key_text(number: int) -> str:
    """
    What a client offers for the key of this number.
    """
    return f"sk-one-of-many-{number:06}"


def _key(number: int, at: datetime) -> Key:
    text = key_text(number)
    return Key(
        id=_key_id(number),
        created_at=at,
        updated_at=at,
        digest=digest(text.encode()),
        name=f"sk-...{text[-4:]}",
        alias=f"key-{number}",
        user_id=_user(number),
        team_id=_team(number) if number % _IN_TEAM == 0 else None,
        max_budget=_BUDGET,
    )


def _record(number: int, key: int, at: datetime) -> Record:
    failed = number % _FAILED == 0
    said: dict[str, Any] = (
        {"status": 422, "error": "BadRequest"}
        if failed
        else {
            "status": 200,
            "usage": Usage(prompt_tokens=16 + number % 50, completion_tokens=34, total_tokens=50 + number % 50),
            "cost_nano_usd": 1000 * (number % 50 + 1),
            "price_list": "2026-11-01",
        }
    )
    return Record(
        call_id=_call_id(number, at),
        started_at=at,
        node="bench",
        method="POST",
        path="/v1/chat/completions",
        endpoint="chat/completions",
        model=MODELS[key % len(MODELS)],
        key_id=_key_id(key),
        key_alias=f"key-{key}",
        user_id=_user(key),
        team_id=_team(key) if key % _IN_TEAM == 0 else None,
        end_user=f"end-user-{key % END_USERS}" if key % _FOR_END_USER == 0 else None,
        client="127.0.0.1",
        outcome="complete",
        duration_us=400_000 + number % 1000,
        first_byte_us=100_000 + number % 1000,
        upstream_id=f"0190-{number}",
        **said,
    )


def _call_id(number: int, at: datetime) -> str:
    stamp = f"{int(at.timestamp() * 1000):012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7000-8000-{number:012x}"


def _key_id(number: int) -> str:
    # As long as one that dheera makes.
    return f"00000000-0000-7000-8000-{number:012x}"


def _user(number: int) -> str:
    return f"user-{number % USERS}"


def _team(number: int) -> str:
    return f"team-{number % TEAMS}"
