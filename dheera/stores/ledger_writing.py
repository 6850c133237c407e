"""
The statements that keep records: lines, daily sums, and what has been spent.

Statements come in the same order everywhere, and rows within them too, so that two nodes on one PostgreSQL do not wait
for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from dheera.bookkeeping import Moved
from dheera.entities import decoded
from dheera.money import Usd
from dheera.records import Record
from dheera.stores.database import Filling, Rows, Step
from dheera.stores.ledger_rows import COLUMN_OF, once_of, row_of
from dheera.stores.ledger_sums import COUNTERS, DAILY, DAILY_TAGS, SPENDERS, Added, Spends
from dheera.stores.ledger_texts import bounded
from dheera.stores.tables import CUSTOMERS, KEYS, TEAMS, USERS

AT_ONCE = 64
"""
Names in one statement. Where there are more of them, SQLite takes too long to find the places that they stand for.
"""

_TABLE_OF = {"key": KEYS.name, "user": USERS.name, "team": TEAMS.name, "customer": CUSTOMERS.name}
_LEDGER = tuple(COLUMN_OF.values())


class _Budgeted(Struct, frozen=True):
    max_budget: Usd | None = None


def keeping(records: Sequence[Record], added: Added) -> list[Filling]:
    """
    The steps that keep *records*, none of which is there yet.

    :param added: that of *records*.
    """
    once = sorted((name, bounded(each.call_id)) for each in records if (name := once_of(each)) is not None)
    fillings = [
        Filling("billed", ("once", "call_id"), once),
        Filling("ledger", _LEDGER, [row_of(each) for each in records]),
        *(
            Filling(table, (*names, *COUNTERS), [name + counts for name, counts in sorted(totals.items())], COUNTERS)
            for table, names, totals in (
                ("daily", DAILY.values(), added.daily),
                ("daily_tags", DAILY_TAGS.values(), added.tags),
            )
        ),
    ]
    return [each for each in fillings if each.rows]


def spending(amounts: Spends) -> list[tuple[str, Step]]:
    """
    The steps that add *amounts*, each with the kind that it is about. Who is not in the directory is left out.
    """
    result = []
    for kind in SPENDERS:
        of_kind = sorted((id_, amount) for (each, id_), amount in amounts.items() if each == kind)
        for some in _slices(of_kind, AT_ONCE):
            parameters: dict[str, object] = {}
            for number, (id_, amount) in enumerate(some):
                parameters |= {f"id{number}": id_, f"amount{number}": amount}
            result.append((kind, Step(_spending_sql(_TABLE_OF[kind], len(some)), parameters)))
    return result


def moved(kind: str, rows: Rows, amounts: Mapping[tuple[str, str], int]) -> Iterator[Moved]:
    """
    What the rows of a step of `spending` say.
    """
    for id_, spend, alias, document in rows:
        before = Usd(spend - amounts[kind, id_])
        yield Moved(kind, id_, alias or id_, before, Usd(spend), _decoder.decode(document).max_budget)


def finding_kept(records: Sequence[Record]) -> tuple[list[Step], list[Step]]:
    """
    The steps that find which call ids are there, and what was billed.
    """
    call_ids = [bounded(each.call_id) for each in records]
    once = [name for each in records if (name := once_of(each)) is not None]
    return _finding("ledger", "call_id", call_ids), _finding("billed", "once", once)


def _finding(table: str, column: str, names: Sequence[str]) -> list[Step]:
    sql = _finding_sql(table, column)
    batched = [names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE)]
    return [
        Step(sql, {f"name{number}": name for number, name in enumerate(_filled(some, AT_ONCE))}) for some in batched
    ]


def _filled(names: Sequence[str], size: int) -> list[str | None]:
    return [*names, *[None] * (size - len(names))]


def _slices(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    # What is left over goes in halves, so that statements are of a few lengths, and those who prepare them know them.
    start = 0
    while start < len(items):
        while start + size > len(items):
            size //= 2
        yield items[start : start + size]
        start += size


@lru_cache(maxsize=256)
def _spending_sql(table: str, count: int) -> str:
    cases = " ".join(f"when :id{number} then :amount{number}" for number in range(count))
    ids = ", ".join(f":id{number}" for number in range(count))
    return (
        f"update {table} set spend = spend + case id {cases} end where id in ({ids}) "  # noqa: S608 - our own names
        "returning id, spend, alias, cast(document as text)"
    )


@lru_cache
def _finding_sql(table: str, column: str) -> str:
    names = ", ".join(f":name{number}" for number in range(AT_ONCE))
    return f"select {column} from {table} where {column} in ({names})"  # noqa: S608 - our own names


_decoder = msgspec.json.Decoder(_Budgeted, dec_hook=decoded)
