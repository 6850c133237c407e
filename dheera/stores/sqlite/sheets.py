"""
The rows of allowances and holds in an SQLite file, on the way to a `Sheet` and back.

However many they are, they come out as one text, and go in as the values of few statements: with a step of SQLite's for
each row this thread would ask for Python's lock between any two, and wait each time for the reactor, or keep that from
its work.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from dheera.holding import Allowance, Paid, Share
from dheera.stores.sheet import Count, Hold, Sheet

Range: TypeAlias = tuple[Allowance, int, int]
"""
Counts of an allowance whose windows begin from then on, up to then.
"""
Seed: TypeAlias = Callable[[sqlite3.Connection, Share], int]

AT_ONCE = 16
"""
Rows in one statement, at most: each number is a statement of its own, and a connection knows but 128 of them by heart.
"""


def read_sheet(
    connection: sqlite3.Connection, calls: Sequence[str], ranges: Iterable[Range], now: int, seed: Seed
) -> Sheet:
    """
    Holds of *calls*, and those that are due, with their counts; and the counts of *ranges*.
    """
    found = connection.execute(_FINDING, (_text(calls), now, _text(list(ranges)))).fetchone()
    return _sheet(found, lambda share: seed(connection, share))


def read_budgets(connection: sqlite3.Connection, paid: Sequence[Paid]) -> Sheet:
    """
    Holds of calls that were paid for, with their counts; and all budgets that may have to be charged.
    """
    costly = [each for each in paid if each.usd]
    subjects = {subject for each in costly for subject in each.subjects}
    started = [each.started_us for each in costly] or [0]
    calls = _text(list({each.held_as for each in paid}))
    found = connection.execute(_FINDING_BUDGETS, (calls, _text(list(subjects)), max(started), min(started)))
    return _sheet(found.fetchone(), lambda _: 0)


def read_owned(connection: sqlite3.Connection, owners: str) -> Sheet:
    """
    Holds of *owners*, a JSON text, with their counts.
    """
    return _sheet(connection.execute(_FINDING_OWNED, (owners,)).fetchone(), lambda _: 0)


def read_counts(connection: sqlite3.Connection, subjects: str) -> list[Count]:
    """
    All counts of *subjects*, a JSON text.
    """
    [(found,)] = connection.execute(_FINDING_COUNTS, (subjects,))
    return _counts.decode(found)


def write_sheet(connection: sqlite3.Connection, sheet: Sheet) -> None:
    """
    Write what has changed.
    """
    _put(connection, _PUTTING_COUNTS, [_row_of_count(count) for count, _ in sheet.changed.values()])
    _put(connection, _ENDING_HOLDS, [(hold.call_id, *_name(hold.allowance)) for hold in sheet.ended.values()])
    _put(connection, _PUTTING_HOLDS, [_row_of_hold(hold) for hold in sheet.held.values()])


def _sheet(found: tuple[str, str], seed: Callable[[Share], int]) -> Sheet:
    holds: dict[str, dict[Allowance, Hold]] = {}
    for hold in _holds.decode(found[0]):
        holds.setdefault(hold.call_id, {})[hold.allowance] = hold
    counts: dict[Allowance, dict[int, Count]] = {}
    for count in _counts.decode(found[1]):
        counts.setdefault(count.allowance, {})[count.starts_us] = count
    return Sheet(counts, holds, seed)


def _put(connection: sqlite3.Connection, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        connection.execute(_with_values(sql, len(some), len(some[0])), [value for row in some for value in row])


@lru_cache(maxsize=128)
def _with_values(sql: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return sql.replace(":rows", ", ".join([row] * rows))


def _name(allowance: Allowance) -> tuple[str, str, str, str]:
    return allowance.subject, allowance.kind, allowance.span, allowance.model


def _row_of_count(count: Count) -> tuple[object, ...]:
    return (
        *_name(count.allowance),
        count.starts_us,
        count.ends_us,
        count.used,
        count.held,
        count.cap,
        count.soft,
        count.told,
    )


def _row_of_hold(hold: Hold) -> tuple[object, ...]:
    return (
        hold.call_id,
        *_name(hold.allowance),
        hold.starts_us,
        hold.amount,
        hold.owner,
        hold.deadline_us,
        hold.released,
        hold.expired,
        hold.paid,
    )


def _text(values: Any) -> str:
    return _encoder.encode(values).decode()


# Rows as the structs are read: arrays, in which the allowance is an array.
_COUNT = """json_array(
    json_array(a.subject, a.kind, a.span, a.model), a.starts_us, a.ends_us, a.used, a.held, a.cap, a.soft, a.told
)"""
_HOLD = """json_array(
    call_id, json_array(subject, kind, span, model), starts_us, amount, owner, deadline_us, released, expired,
    paid
)"""

_FOUND = f"""
    select
        (select '[' || coalesce(group_concat({_HOLD}), '') || ']' from found),
        (select '[' || coalesce(group_concat(row), '') || ']' from (
            select {_COUNT} as row from found as f cross join allowances as a
                on a.subject = f.subject and a.kind = f.kind and a.span = f.span and a.model = f.model
                    and a.starts_us = f.starts_us
            union all
            select {_COUNT} from json_each(:given) as j cross join allowances as a
"""  # noqa: S608 - our own texts
_FINDING = f"""
    with found as materialized (
        select * from holds where call_id in (select value from json_each(?1))
        union all
        select * from holds where expired = 0 and deadline_us <= ?2
    )
    {_FOUND.replace(":given", "?3")}
                on a.subject = json_extract(j.value, '$[0][0]') and a.kind = json_extract(j.value, '$[0][1]')
                    and a.span = json_extract(j.value, '$[0][2]') and a.model = json_extract(j.value, '$[0][3]')
                    and a.starts_us between json_extract(j.value, '$[1]') and json_extract(j.value, '$[2]')
        ))
"""  # noqa: S608 - our own texts
_FINDING_BUDGETS = f"""
    with found as materialized (select * from holds where call_id in (select value from json_each(?1)))
    {_FOUND.replace(":given", "?2")}
                on a.subject = j.value and a.kind = 'usd'
                    and a.starts_us <= ?3 and (a.ends_us = 0 or a.ends_us > ?4)
        ))
"""  # noqa: S608 - our own texts
_FINDING_OWNED = f"""
    with found as materialized (select * from holds where owner in (select value from json_each(?1)))
    {_FOUND.replace(":given", "'[]'")} on false))
"""  # noqa: S608 - our own texts
_FINDING_COUNTS = f"""
    select '[' || coalesce(group_concat({_COUNT}), '') || ']'
    from json_each(?) as j cross join allowances as a on a.subject = j.value
"""  # noqa: S608 - our own texts
_PUTTING_COUNTS = """
    insert into allowances (subject, kind, span, model, starts_us, ends_us, used, held, cap, soft, told) values :rows
    on conflict do update set ends_us = excluded.ends_us, used = excluded.used, held = excluded.held,
        cap = excluded.cap, soft = excluded.soft, told = excluded.told
"""
_PUTTING_HOLDS = """
    insert into holds (
        call_id, subject, kind, span, model, starts_us, amount, owner, deadline_us, released, expired, paid
    ) values :rows
    on conflict do update set amount = excluded.amount, deadline_us = excluded.deadline_us,
        released = excluded.released, expired = excluded.expired, paid = excluded.paid
"""
# Without the first condition SQLite would go through the whole table.
_ENDING_HOLDS = """
    with ended (call_id, subject, kind, span, model) as (values :rows)
    delete from holds where call_id in (select call_id from ended)
        and (call_id, subject, kind, span, model) in (select * from ended)
"""

_encoder = msgspec.json.Encoder()
# Booleans are 0 and 1 there.
_counts = msgspec.json.Decoder(list[Count], strict=False)
_holds = msgspec.json.Decoder(list[Hold], strict=False)
