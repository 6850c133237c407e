"""
The ledger in dictionaries: for the demo and for tests. It is gone when the process ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, TypeVar

from attrs import Factory, define, field
from msgspec import structs
from twisted.internet.defer import Deferred, fail, succeed

from dheera.bookkeeping import Books, Kept, LedgerLine, LinesQuery, Moved, Question, Sums
from dheera.entities import KINDS
from dheera.errors import StoreAway
from dheera.holding import Grown, Paid
from dheera.money import Usd
from dheera.records import Record
from dheera.stores.ledger_questions import require_filters, summed
from dheera.stores.ledger_rows import billed_once, distinct, line_of, once_of, row_of
from dheera.stores.ledger_sums import COUNTERS, DAILY, Totals, add, added_by, columns_for, wanted
from dheera.stores.ledger_texts import bounded_tag
from dheera.stores.ledger_writing import payments
from dheera.stores.shelves import Shelves
from dheera.texts import bounded

MOST = 10_000
"""
Lines, and rows of sums, that are kept; the oldest go.
"""

Result = TypeVar("Result")


def unheld(_paid: Sequence[Paid]) -> Sequence[Grown]:
    """
    Nobody holds anything.
    """
    return ()


@define(eq=False)
class MemoryBooks:
    """
    Keeps the latest calls as long as the process lives.

    :param shelves: of the directory whose spends are counted.
    :param settle: told what was paid for calls, by which their holds end.
    """

    _shelves: Shelves = Factory(Shelves)
    _settle: Callable[[Sequence[Paid]], Sequence[Grown]] = field(default=unheld, kw_only=True)
    _most: int = field(default=MOST, kw_only=True)
    _lines: dict[str, LedgerLine] = field(init=False, factory=dict)
    _billed: dict[str, None] = field(init=False, factory=dict)
    _daily: Totals = field(init=False, default=Factory(lambda self: self._shelves.daily, takes_self=True))
    _daily_tags: Totals = field(init=False, factory=dict)
    _away: bool = field(init=False, default=False)

    def fail(self) -> None:
        """
        Act as if there were a database and it were away. For tests and demonstrations.
        """
        self._away = True

    def recover(self) -> None:
        """
        Be back after `fail`.
        """
        self._away = False

    def keep(self, records: Sequence[Record]) -> Deferred[Kept]:
        """
        Keep what is not yet there.
        """
        return self._answer(lambda: self._keep(records))

    def lines(self, query: LinesQuery) -> Deferred[Sequence[LedgerLine]]:
        """
        The lines of one page, newest first.
        """
        return self._answer(lambda: self._page(query))

    def count(self, query: LinesQuery) -> Deferred[int]:
        """
        How many lines there are on all pages.
        """
        return self._answer(lambda: len(self._found(query)))

    def sums(self, question: Question) -> Deferred[Sequence[Sums]]:
        """
        The sums of one page.
        """
        return self._answer(lambda: self._sums(question))

    def prune(self, before: datetime, most: int) -> Deferred[int]:
        """
        Forget up to *most* of the lines that started before that, the oldest first.
        """
        return self._answer(lambda: self._prune(before, most))

    def _answer(self, make: Callable[[], Result]) -> Deferred[Result]:
        if self._away:
            return fail(StoreAway())
        try:
            return succeed(make())
        except Exception:  # noqa: BLE001 - it is told, whatever it is
            return fail()

    def _keep(self, records: Sequence[Record]) -> Kept:
        given = [each for each in distinct(records) if bounded(each.call_id) not in self._lines]
        new = billed_once(given, self._billed)
        if not new:
            return Kept()
        lines = [line_of(row_of(each)) for each in new]
        added = added_by(new)
        self._lines |= {line.call_id: line for line in lines}
        self._billed |= dict.fromkeys(once for each in new if (once := once_of(each)) is not None)
        for kept, more in (self._daily, added.daily), (self._daily_tags, added.tags):
            for name, counts in more.items():
                add(kept, name, counts)
        for bounded_ in self._lines, self._billed, self._daily, self._daily_tags:
            self._shorten(bounded_)
        moved = [each for (kind, id_), amount in added.spends.items() for each in self._spend(kind, id_, amount)]
        return Kept(moved=moved, grown=self._settle(paid) if (paid := payments(new)) else ())

    def _spend(self, kind: str, id_: str, amount: int) -> list[Moved]:
        shelf = self._shelves.entities[KINDS[kind]]
        entity = shelf.get(id_)
        if entity is None:
            return []
        after = Usd(entity.spend.nano + amount)
        shelf[id_] = structs.replace(entity, spend=after)
        return [Moved(kind, id_, entity.alias or id_, entity.spend, after)]

    def _shorten(self, kept: dict[Any, Any]) -> None:
        while len(kept) > self._most:
            del kept[next(iter(kept))]

    def _found(self, query: LinesQuery) -> list[LedgerLine]:
        require_filters(query)
        equal = {name: bounded(value) if isinstance(value, str) else value for name, value in query.equal.items()}
        tag = None if query.tag is None else bounded_tag(query.tag)
        return [
            line
            for line in self._lines.values()
            if all(getattr(line, name) == value for name, value in equal.items())
            and (tag is None or tag in line.tags)
            and query.failed in {None, line.failed}
            and (query.since is None or query.since <= line.started_at)
            and (query.until is None or line.started_at < query.until)
        ]

    def _page(self, query: LinesQuery) -> list[LedgerLine]:
        found = sorted(self._found(query), key=_place, reverse=True)
        if query.after is not None:
            found = [line for line in found if _place(line) < query.after]
        return found[query.offset : query.offset + query.limit]

    def _sums(self, question: Question) -> list[Sums]:
        columns = columns_for(question)
        names = list(columns)
        equal = {names.index(name): wanted(name, value) for name, value in question.equal.items()}
        by = [names.index(name) for name in question.by]
        first = "" if question.since is None else question.since.isoformat()
        last = (question.until or date.max).isoformat()
        groups: Totals = {} if by else {(): (0,) * len(COUNTERS)}
        for name, counts in (self._daily if columns is DAILY else self._daily_tags).items():
            if first <= name[0] <= last and all(name[place] == value for place, value in equal.items()):
                add(groups, tuple(name[place] for place in by), counts)
        rows = sorted(groups.items(), key=lambda row: (-row[1][-1], row[0]))
        if "day" in question.by:
            rows.sort(key=lambda row: row[0][question.by.index("day")], reverse=True)
        page = rows[question.offset : question.offset + question.limit]
        return [summed(question, (*name, *counts)) for name, counts in page]

    def _prune(self, before: datetime, most: int) -> int:
        old = sorted((line for line in self._lines.values() if line.started_at < before), key=_place)[:most]
        for line in old:
            del self._lines[line.call_id]
        return len(old)


def _place(line: LedgerLine) -> tuple[datetime, str]:
    return line.started_at, line.call_id


_: type[Books] = MemoryBooks
