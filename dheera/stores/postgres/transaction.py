"""
One transaction on one connection to PostgreSQL, in as few round trips as it can be; and what its failures mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import psycopg2  # type: ignore[import-untyped]  # it has no types
from attrs import define, field

from dheera.errors import BadRequest, Outdated, StoreAway, Taken
from dheera.stores.database import AnyStep, Filling, Procedure, Step
from dheera.stores.postgres.line import BROKEN, Answer, Line
from dheera.stores.postgres.listening import CHANNEL

_PLACEHOLDER = re.compile(r":([a-z][a-z0-9_]*)")
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_HASTILY = "set local synchronous_commit to off; "
_PUBLICATION = "select pg_notify(%(channel)s, payload) from unnest(%(payloads)s::text[]) as payload; commit"
_TAKEN = {"keys_alias": "alias", "digests_pkey": "digest"}
_UNIQUE = "23505"
# What it says of itself, and not of what we want: a standby; a lock not to be had; too long idle.
_AWAY = {"25006", "25P03", "55P03"}
_AWAY_CLASSES = {"08", "53", "57", "58"}  # the connection, resources, an operator or a deadline, the disk
_TOO_MUCH_CLASSES = {"22", "54"}  # beyond what a column, or an index, can hold
_AGAIN = {"40001", "40P01"}  # serialization failure, deadlock


class StatementFailed(Exception):
    """
    PostgreSQL does not accept a statement of ours. The message has the statement and none of its values.
    """

    def __init__(self, error: psycopg2.Error, sql: str) -> None:
        super().__init__(f"PostgreSQL says {error.pgcode} ({type(error).__name__}) to: {sql}")


@define(eq=False)
class Transaction:
    """
    Steps that are done together, or not at all.

    :param payloads: published with it; ``None`` if it only reads.
    :param lasting: as in `Database.run`.
    :param at_once: there is but one step, and it may be done again if nobody knows whether it was done: so it need not
        be told to commit, and takes one round trip.
    :ivar committing: PostgreSQL was told to commit: if no answer comes nobody knows whether it did.
    """

    _line: Line
    _steps: Sequence[Step]
    _payloads: Sequence[str] | None
    _lasting: bool = True
    _at_once: bool = False
    committing: bool = field(default=False, init=False)
    _statement: str = field(default="", init=False)

    async def run(self) -> list[list[tuple[Any, ...]]]:
        """
        Do it.

        :return: the rows that each step gave.
        :raises BROKEN: something went wrong: see `meaning`.
        :raises Outdated: a step did not change as many rows as it must. The transaction is still open, as it may be
            after any other failure: see `undo`.
        """
        hastily = "" if self._lasting or self._payloads is None else _HASTILY
        if self._at_once or (self._payloads is None and len(self._steps) == 1):
            # Statements that are sent together are one transaction.
            return [(await self._do(self._steps[0], hastily)).rows]
        # One point of time for all that is read: a page, and the number of all.
        begin = "begin; " if self._payloads is not None else "begin isolation level repeatable read read only; "
        begin += hastily
        rows = []
        for step in self._steps:
            answer = await self._do(step, begin)
            begin = ""
            if step.touching is not None and answer.touched != step.touching:
                raise Outdated
            rows.append(answer.rows)
        await self._commit(begin)
        return rows

    async def undo(self) -> None:
        """
        End it without a trace; a connection on which that fails is closed.
        """
        if not self._line.is_open() or self._line.is_idle():
            return
        try:
            await self._line.ask("rollback")
        except BROKEN:
            self._line.hang_up()

    def is_lost(self, error: Exception) -> bool:
        """
        Whether *error* means that the connection is gone.
        """
        unexplained = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) and error.pgcode is None
        return unexplained or not self._line.is_open()

    def is_crossed(self, error: Exception) -> bool:
        """
        Whether *error* means that it was undone for the sake of others, and may go well if done again.
        """
        return getattr(error, "pgcode", None) in _AGAIN

    def meaning(self, error: Exception) -> Exception:
        """
        What is told of *error*. PostgreSQL's own words are not: they quote rows, and so digests.
        """
        code = getattr(error, "pgcode", None) or ""
        if not isinstance(error, psycopg2.Error) or self.is_lost(error):
            return StoreAway()
        if code in _AWAY or code[:2] in _AWAY_CLASSES:
            return StoreAway()
        if code == _UNIQUE:
            return Taken(_TAKEN.get(error.diag.constraint_name, "id"))
        if code in _AGAIN:
            return Outdated()
        if code[:2] in _TOO_MUCH_CLASSES:
            return BadRequest("A value is longer, or larger, than the database can keep.")
        return StatementFailed(error, self._statement)

    async def _do(self, step: Step, begin: str = "") -> Answer:
        self._statement = step.sql
        return await self._line.ask(begin + _for_psycopg(step.sql), step.parameters)

    async def _commit(self, begin: str) -> None:
        self._statement = "commit"
        self.committing = self._payloads is not None
        if self._payloads:
            await self._line.ask(begin + _PUBLICATION, {"channel": CHANNEL, "payloads": list(self._payloads)})
        else:
            await self._line.ask(begin + "commit")


def statement(step: AnyStep) -> Step:
    """
    The one statement that does *step*.
    """
    match step:
        case Filling():
            return _filling(step)
        case Procedure():
            return _procedure(step)
    return step


def _filling(those: Filling) -> Step:
    # As one text, which PostgreSQL takes apart: many values would each have to be quoted here.
    names = ", ".join(those.columns)
    rows = [dict(zip(those.columns, row, strict=True)) for row in those.rows]
    source = f"select {names} from json_populate_recordset(cast(null as {those.table}), :rows)"  # noqa: S608 - our own names
    return Step(those.sql(source), {"rows": msgspec.json.encode(rows).decode()})


def _procedure(those: Procedure) -> Step:
    # PostgreSQL has no NUL: one in the name of one customer must not undo what is done with it for others.
    argument = _NUL.sub(r"\1\\ufffd", those.argument) if "\\u0000" in those.argument else those.argument
    # As a text, which psycopg2 leaves as it is.
    sql = f"select cast(dheera_{those.name}(cast(:argument as jsonb)) as text)"
    return Step(sql, {"argument": argument})


def require_sendable(steps: Iterable[Step]) -> None:
    """
    See to it that PostgreSQL can take what *steps* hold.

    :raises BadRequest: it has no such texts.
    """
    for step in steps:
        for value in step.parameters.values():
            if isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
                raise BadRequest("A text has a character that the database cannot keep: NUL, or half a surrogate pair.")


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@lru_cache(maxsize=1024)
def _for_psycopg(sql: str) -> str:
    return _PLACEHOLDER.sub(r"%(\1)s", sql)
