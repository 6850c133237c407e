"""
The statements that keep records: lines, daily sums, what has been spent, and what becomes of holds.

Statements come in the same order everywhere, and rows within them too, so that two nodes on one PostgreSQL do not wait
for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from dheera.bookkeeping import Moved
from dheera.holding import Grown, Paid, member_subject, subject_of
from dheera.money import Usd
from dheera.records import Record
from dheera.stores.database import Filling, Procedure, Rows, Step
from dheera.stores.ledger_rows import COLUMN_OF, microseconds, once_of, row_of
from dheera.stores.ledger_sums import COUNTERS, DAILY, DAILY_TAGS, SPENDERS, Added, Spends
from dheera.stores.tables import CUSTOMERS, KEYS, TEAMS, USERS
from dheera.texts import bounded

AT_ONCE = 64
"""
Names in one statement. Where there are more of them, SQLite takes too long to find the places that they stand for.
"""

_TABLE_OF = {"key": KEYS.name, "user": USERS.name, "team": TEAMS.name, "customer": CUSTOMERS.name}
_LEDGER = tuple(COLUMN_OF.values())


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
    for id_, spend, alias in rows:
        yield Moved(kind, id_, alias or id_, Usd(spend - amounts[kind, id_]), Usd(spend))


def payments(records: Iterable[Record]) -> list[Paid]:
    """
    What *records* say to the allowances. Those that held nothing of a budget and cost nothing say nothing.
    """
    return [
        Paid(
            call_id=bounded(each.call_id),
            usd=each.cost_nano_usd or 0,
            subjects=_subjects(each.key_id, each.user_id, each.team_id, each.end_user),
            models=_models(each.model, each.answered_model),
            started_us=microseconds(each.started_at),
            lease=each.lease,
        )
        for each in records
        if each.cost_nano_usd or (each.held_nano_usd is not None and each.lease is None)
    ]


def settling(paid: Sequence[Paid]) -> Procedure:
    """
    The step that turns what was held for calls into what is used. It comes last, since those who claim lock what it
    does, and nothing of what is written before.
    """
    return Procedure("settle", msgspec.json.encode(paid).decode())


def grown(rows: Rows) -> list[Grown]:
    """
    What the row of `settling` says.
    """
    [[text]] = rows
    return _decoder.decode(text)


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
        "returning id, spend, alias"
    )


@lru_cache
def _finding_sql(table: str, column: str) -> str:
    names = ", ".join(f":name{number}" for number in range(AT_ONCE))
    return f"select {column} from {table} where {column} in ({names})"  # noqa: S608 - our own names


@lru_cache(maxsize=1024)
def _subjects(key_id: str | None, user_id: str | None, team_id: str | None, end_user: str | None) -> list[str]:
    subjects = []
    if key_id:
        subjects.append(subject_of("key", key_id))
    if team_id:
        subjects.append(subject_of("team", team_id))
        if user_id:
            subjects.append(member_subject(team_id, user_id))
    elif user_id:
        subjects.append(subject_of("user", user_id))
    if end_user:
        subjects.append(subject_of("customer", end_user))
    return [*subjects, "proxy"]


@lru_cache(maxsize=1024)
def _models(*names: str | None) -> list[str]:
    return list(dict.fromkeys(bounded(name) for name in names if name))


_decoder = msgspec.json.Decoder(list[Grown])
