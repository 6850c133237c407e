from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.bookkeeping import Books, Kept, LedgerLine, LinesQuery, Question, Sums
from dheera.errors import StoreAway
from dheera.pruning import CLOSE_SECONDS, EVERY_SECONDS, PAUSE_SECONDS, SLICE, Pruning
from dheera.records import Record
from dheera.stores import memory_stores
from tests.stores.logs import Logged

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ASKED = (NOW - timedelta(days=30), SLICE)


@define(eq=False)
class Shelf:
    """
    Books with so many old lines.

    :ivar answer: what is said instead of how many were deleted.
    :ivar pruned: what was asked.
    """

    old: int = 0
    answer: Callable[[], Deferred[int]] | None = None
    pruned: list[tuple[datetime, int]] = field(factory=list)
    _books: Books = field(factory=lambda: memory_stores().books)

    def keep(self, records: Sequence[Record]) -> Deferred[Kept]:
        return self._books.keep(records)

    def lines(self, query: LinesQuery) -> Deferred[Sequence[LedgerLine]]:
        return self._books.lines(query)

    def count(self, query: LinesQuery) -> Deferred[int]:
        return self._books.count(query)

    def sums(self, question: Question) -> Deferred[Sequence[Sums]]:
        return self._books.sums(question)

    def prune(self, before: datetime, most: int) -> Deferred[int]:
        self.pruned.append((before, most))
        if self.answer is not None:
            return self.answer()
        deleted = min(most, self.old)
        self.old -= deleted
        return succeed(deleted)


_: type[Books] = Shelf


class PruningTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.books = Shelf()
        self.pruning = self.new_pruning(30)
        self.logged = Logged.during(self)  # type: ignore[arg-type]  # it can clean up, which is all that is needed

    def new_pruning(self, keep_days: int) -> Pruning:
        """
        One that is not open.
        """
        return Pruning(self.clock, self.books, keep_days, now=lambda: NOW)

    def open(self) -> None:
        """
        Begin.
        """
        self.successResultOf(Deferred.fromCoroutine(self.pruning.open()))

    def close(self) -> Deferred[None]:
        """
        Begin to end.
        """
        return Deferred.fromCoroutine(self.pruning.close())

    def test_slices(self) -> None:
        """
        Old lines go in slices, with pauses between them, at the start and each hour.
        """
        self.books.old = 2 * SLICE + 1
        self.open()
        for slices in 1, 2, 3, 3:
            self.assertEqual([ASKED] * slices, self.books.pruned)
            self.clock.advance(PAUSE_SECONDS)
        self.clock.advance(EVERY_SECONDS)
        self.assertEqual([ASKED] * 4, self.books.pruned)

    def test_all_are_kept(self) -> None:
        """
        With 0 days nothing is ever deleted.
        """
        self.pruning = self.new_pruning(0)
        self.open()
        self.clock.advance(EVERY_SECONDS)
        self.assertEqual([], self.books.pruned)
        self.successResultOf(self.close())

    def test_away(self) -> None:
        """
        When the database is away it is tried again an hour later.
        """
        self.books.answer = lambda: fail(StoreAway())
        self.open()
        self.clock.advance(EVERY_SECONDS)
        self.assertEqual([ASKED] * 2, self.books.pruned)

    def test_bug(self) -> None:
        """
        Whatever goes wrong is told, and it goes on an hour later.
        """
        self.books.answer = lambda: fail(ArithmeticError())
        self.open()
        self.assertEqual(1, len(self.flushLoggedErrors(ArithmeticError)))
        self.books.answer = None
        self.clock.advance(EVERY_SECONDS)
        self.assertEqual([ASKED] * 2, self.books.pruned)

    def test_closed_while_it_waits(self) -> None:
        """
        Nothing is left behind when it is closed between two slices, or between two hours; nor is more deleted.
        """
        for old in SLICE, 1:
            self.pruning = self.new_pruning(30)
            self.books.old = old
            self.books.pruned.clear()
            self.open()
            self.successResultOf(self.close())
            self.assertEqual([ASKED], self.books.pruned)
            self.assertEqual([], self.clock.getDelayedCalls())

    def test_closed_while_it_deletes(self) -> None:
        """
        The slice that is under way is finished, and is the last.
        """
        slice_: Deferred[int] = Deferred()
        self.books.answer = lambda: slice_
        self.open()
        closing = self.close()
        self.assertNoResult(closing)
        slice_.callback(SLICE)
        self.successResultOf(closing)
        self.assertEqual([ASKED], self.books.pruned)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stuck(self) -> None:
        """
        A database that never answers does not keep it for longer than is said; an operator is told.
        """
        self.books.answer = Deferred
        self.open()
        closing = self.close()
        self.clock.advance(CLOSE_SECONDS - 0.1)
        self.assertNoResult(closing)
        self.clock.advance(0.2)
        self.successResultOf(closing)
        self.assertEqual(1, len(self.logged.lines))
        self.assertEqual([], self.clock.getDelayedCalls())
