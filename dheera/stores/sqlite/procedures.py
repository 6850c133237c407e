"""
What `stores.allowances` asks for, on an SQLite file: the rows concerned are read, reckoned with, and written.

All of it is done within a transaction, on the thread that writes; but for ``look``, which only reads.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping

import msgspec

from dheera.holding import RATE_US, SLICE_US, Paid, Share, Turn, member_subject
from dheera.stores import reckoning
from dheera.stores.database import Procedure, Rows
from dheera.stores.reckoning import EXPIRED_US, WINDOWS_US
from dheera.stores.seeds import Days, Spend, source_of
from dheera.stores.sheet import COUNTED_US, Clock
from dheera.stores.sqlite.sheets import Range, read_budgets, read_counts, read_owned, read_sheet, write_sheet

HOUR_US = 3_600_000_000
ONCE_AN_HOUR_US = 120_000_000
"""
What goes through many rows is part of the sweeps in the first two minutes of an hour alone.
"""


def perform(connection: sqlite3.Connection, procedure: Procedure, clock: Clock) -> Rows:
    """
    Do it.

    :param clock: is read when the transaction has begun: who waited for others is not behind them.
    """
    # SQLite would end a text at a NUL. The other databases have none either.
    argument = _NUL.sub(r"\1\\ufffd", procedure.argument) if "\\u0000" in procedure.argument else procedure.argument
    result = _PROCEDURES[procedure.name](connection, argument, clock())
    return [(msgspec.json.encode(result).decode(),)]


def _turn(connection: sqlite3.Connection, argument: str, now: int) -> object:
    turn = _turns.decode(argument)
    if turn.extends:
        connection.execute(_EXTENDING, (now + turn.lasts_us, turn.owner))
    calls = [each.call_id for each in turn.releases] + [each.call_id for each in turn.claims]
    sheet = read_sheet(connection, calls, _ranges(turn, now), now, _seed)
    result = reckoning.take_turn(sheet, turn, now)
    write_sheet(connection, sheet)
    return result


def _settle(connection: sqlite3.Connection, argument: str, now: int) -> object:
    paid = reckoning.begun(_payments.decode(argument), now)
    sheet = read_budgets(connection, paid)
    result = reckoning.settle(sheet, paid)
    write_sheet(connection, sheet)
    return result


def _sweep(connection: sqlite3.Connection, _argument: str, now: int) -> object:
    sheet = read_sheet(connection, (), (), now, _seed)
    result = reckoning.end_due(sheet, now)
    write_sheet(connection, sheet)
    connection.execute(_FORGETTING_HOLDS, (now - EXPIRED_US,))
    for kind, kept in (("usd", WINDOWS_US), ("requests", RATE_US), ("tokens", RATE_US)):
        connection.execute(_FORGETTING_COUNTS, (kind, now - kept))
    connection.execute(_FORGETTING_IDLE)
    if now % HOUR_US < ONCE_AN_HOUR_US:
        connection.execute(_FORGETTING_UNUSED)
    return result


def _forget(connection: sqlite3.Connection, argument: str, _now: int) -> object:
    sheet = read_owned(connection, argument)
    result = reckoning.forget(sheet, _owners.decode(argument))
    write_sheet(connection, sheet)
    return result


def _look(connection: sqlite3.Connection, argument: str, now: int) -> object:
    return reckoning.look(read_counts(connection, argument), now)


def _reset(connection: sqlite3.Connection, argument: str, _now: int) -> None:
    subject, nano = msgspec.json.decode(argument)
    connection.execute(_RESETTING, (subject, nano))
    connection.execute(_FORGETTING_EXPIRED, (subject,))


def _remove(connection: sqlite3.Connection, argument: str, _now: int) -> None:
    gone = msgspec.json.decode(argument)
    kind, _, id_ = gone.partition("/")
    conditions = [("subject = ?", [gone])]
    if kind == "team":
        members = member_subject(id_, "")
        conditions.append(("subject >= ? and subject < ?", [members, f"{members[:-1]}0"]))  # 0 comes after a slash
    elif kind == "user":
        conditions.append((_OF_MEMBER, [id_]))
    for condition, values in conditions:
        for table in ("holds", "allowances"):
            connection.execute(f"delete from {table} where {condition}", values)  # noqa: S608 - our own texts


_PROCEDURES: Mapping[str, Callable[[sqlite3.Connection, str, int], object]] = {
    "turn": _turn,
    "settle": _settle,
    "sweep": _sweep,
    "forget": _forget,
    "look": _look,
    "reset": _reset,
    "remove": _remove,
}


def _ranges(turn: Turn, now: int) -> set[Range]:
    """
    Which counts are concerned, by where their windows begin; those of holds aside.
    """
    ranges = {
        (rated.allowance, starts, starts)
        for release in turn.releases
        for rated in release.rates
        for starts in (rated.at_us - rated.at_us % SLICE_US,)
    }
    for claim in turn.claims:
        for share in claim.shares:
            match share.allowance.kind:
                case "usd":
                    ranges.add((share.allowance, share.starts_us, share.starts_us))
                case "parallel":
                    ranges.add((share.allowance, 0, 0))
                case _:
                    ranges.add((share.allowance, now - COUNTED_US + 1, now))
    return ranges


def _seed(connection: sqlite3.Connection, share: Share) -> int:
    match source_of(share):
        case Spend() as whose:
            return _spend(connection, whose) or 0
        case Days(since, equal, spenders):
            conditions = "".join(f" and {column} = ?" for column in equal)
            sql = f"select coalesce(sum(cost), 0) from daily where day >= ?{conditions}"  # noqa: S608 - our own names
            [(days,)] = connection.execute(sql, [since, *equal.values()])
            spends = (_spend(connection, each) for each in spenders)
            least: int = min([days, *(each for each in spends if each is not None)])
            return least
    return 0


def _spend(connection: sqlite3.Connection, whose: Spend) -> int | None:
    sql = f"select spend from {whose.kind}s where id = ?"  # noqa: S608 - one of four kinds
    row = connection.execute(sql, (whose.id,)).fetchone()
    return None if row is None else row[0]


_EXTENDING = "update holds set deadline_us = ? where expired = 0 and owner = ? and released = 0"
_FORGETTING_HOLDS = "delete from holds where expired = 1 and deadline_us <= ?"
_FORGETTING_IDLE = "delete from allowances where kind = 'parallel' and held = 0"
_FORGETTING_UNUSED = """
    delete from allowances
    where subject >= 'customer/' and subject < 'customer0' and kind = 'usd' and ends_us = 0 and used = 0 and held = 0
"""
_LATEST_BUDGETS = """
    subject = ?1 and kind = 'usd' and model = '' and starts_us = (
        select max(latest.starts_us) from allowances as latest
        where latest.subject = ?1 and latest.kind = 'usd' and latest.span = {table}.span and latest.model = ''
    )
"""
_RESETTING = f"update allowances set used = ?2, told = 0 where {_LATEST_BUDGETS.format(table='allowances')}"  # noqa: S608 - our own text
# What was given up is in what was used until now, and forgotten with it: a record that comes late must not lower that.
_FORGETTING_EXPIRED = f"delete from holds where expired = 1 and {_LATEST_BUDGETS.format(table='holds')}"  # noqa: S608 - our own text
_OF_MEMBER = """
    subject >= 'member/' and subject < 'member0' and substr(subject, 8 + instr(substr(subject, 8), '/')) = ?
"""
_FORGETTING_COUNTS = "delete from allowances where kind = ? and ends_us > 0 and ends_us <= ?"

_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_turns = msgspec.json.Decoder(Turn)
_owners = msgspec.json.Decoder(frozenset[str])
_payments = msgspec.json.Decoder(list[Paid])
