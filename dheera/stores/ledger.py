"""
The ledger in any database that speaks SQL, beside the directory. The statements are in `ledger_writing` and
`ledger_questions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attrs import define
from twisted.internet.defer import Deferred

from dheera.bookkeeping import Books, Kept, LedgerLine, LinesQuery, Question, Sums
from dheera.errors import StoreAway, Taken
from dheera.records import Record
from dheera.stores.database import Database
from dheera.stores.ledger_questions import counting_lines, finding_lines, pruning, summed, summing
from dheera.stores.ledger_rows import billed_once, distinct, line_of
from dheera.stores.ledger_sums import added_by
from dheera.stores.ledger_writing import finding_kept, grown, keeping, moved, payments, settling, spending
from dheera.texts import bounded

TRIES = 5
"""
How often one looks again for what is there already. Once is enough, unless others write the same at the same time.
"""


@define(eq=False)
class SqlBooks:
    """
    Keeps the ledger in a database that somebody else opens and closes.
    """

    _database: Database

    def keep(self, records: Sequence[Record]) -> Deferred[Kept]:
        """
        Write what is not yet there: all, or nothing.

        :return: fails as `Books.keep`; with something else if a record is one that cannot be kept.
        """
        return Deferred.fromCoroutine(self._keep(records))

    async def _keep(self, records: Sequence[Record]) -> Kept:
        given = distinct(records)
        new = billed_once(given, ())
        for _ in range(TRIES):
            if not new:
                return Kept()
            try:
                return await self._write(new)
            except Taken:
                new = await self._without_kept(given)
        raise StoreAway

    async def _write(self, new: Sequence[Record]) -> Kept:
        added = added_by(new)
        steps = keeping(new, added)
        spenders = spending(added.spends)
        paid = payments(new)
        last = [settling(paid)] if paid else []
        # Not told to the other processes: they would look up anew every key that is used.
        rows = await self._database.run([*steps, *(step for _, step in spenders), *last], changes=())
        told = zip(spenders, rows[len(steps) :], strict=False)
        return Kept(
            moved=[each for (kind, _), some in told for each in moved(kind, some, added.spends)],
            grown=grown(rows[-1]) if paid else (),
        )

    async def _without_kept(self, given: Sequence[Record]) -> list[Record]:
        calls, once = finding_kept(given)
        rows = await self._database.run([*calls, *once])
        kept = {name for some in rows[: len(calls)] for (name,) in some}
        billed = {name for some in rows[len(calls) :] for (name,) in some}
        return billed_once([each for each in given if bounded(each.call_id) not in kept], billed)

    def lines(self, query: LinesQuery) -> Deferred[Sequence[LedgerLine]]:
        """
        The lines of one page, newest first.
        """
        return Deferred.fromCoroutine(self._lines(query))

    async def _lines(self, query: LinesQuery) -> Sequence[LedgerLine]:
        [rows] = await self._database.run([finding_lines(query)], slow=True)
        return [line_of(row) for row in rows]

    def count(self, query: LinesQuery) -> Deferred[int]:
        """
        How many lines there are on all pages.
        """
        return Deferred.fromCoroutine(self._count(query))

    async def _count(self, query: LinesQuery) -> int:
        [[[number]]] = await self._database.run([counting_lines(query)], slow=True)
        return int(number)

    def sums(self, question: Question) -> Deferred[Sequence[Sums]]:
        """
        The sums of one page.
        """
        return Deferred.fromCoroutine(self._sums(question))

    async def _sums(self, question: Question) -> Sequence[Sums]:
        [rows] = await self._database.run([summing(question)], slow=True)
        return [summed(question, row) for row in rows]

    def prune(self, before: datetime, most: int) -> Deferred[int]:
        """
        Delete up to *most* of the lines that started before that, the oldest first.
        """
        return Deferred.fromCoroutine(self._prune(before, most))

    async def _prune(self, before: datetime, most: int) -> int:
        # What a loss of power brings back is deleted once more.
        [rows] = await self._database.run([pruning(before, most)], changes=(), lasting=False)
        return len(rows)


_: type[Books] = SqlBooks
