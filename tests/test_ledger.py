from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from unittest import TestCase

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.bookkeeping import Books, Entry, Kept, Lag, LedgerLine, LinesQuery, Question, Reader, Sums
from dheera.boundaries import Add
from dheera.holding import Allowance, Grown, Paid
from dheera.ledger import CLOSE_SECONDS, LONGEST_PAUSE_SECONDS, Ledger, passed, whose_budget
from dheera.limits import UNCAPPED
from dheera.money import Usd
from dheera.records import Alert, Record, to_line
from dheera.settings import LedgerSettings
from dheera.stores import memory_stores
from dheera.stores.memory import MemoryStore
from dheera.stores.memory_ledger import MemoryBooks
from dheera.stores.shelves import Shelves
from tests.stores.books import a_record
from tests.stores.contract import a_key, hour
from tests.stores.logs import Logged

DELAY = 0.2
MEBIBYTE = 2**20
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@define(eq=False)
class Tape:
    """
    A spool in memory, and one reader of it.

    :ivar done: the position up to which all is done with.
    """

    name: str = "ledger"
    done: int = 0
    _values: list[Record | Alert] = field(factory=list)
    _waiting: Deferred[None] | None = None

    def add(self, *values: Record | Alert) -> None:
        """
        Something happened.
        """
        self._values += values
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def wait(self) -> Deferred[None]:
        if self.done < len(self._values):
            return succeed(None)
        self._waiting = Deferred(lambda _: setattr(self, "_waiting", None))
        return self._waiting

    def read(self, most: int) -> Sequence[Entry]:
        some = self._values[self.done : self.done + most]
        entries: list[Entry] = []
        for position, value in enumerate(some, start=self.done + 1):
            entries.append(Entry(position=position, line=to_line(value), value=value))
            if sum(len(each.line) for each in entries) >= MEBIBYTE:
                break
        return entries

    def advance(self, position: int) -> None:
        self.done = position

    def lag(self) -> Lag:
        return Lag(waiting_bytes=len(self._values) - self.done)


@define(eq=False)
class Trouble:
    """
    Books with which something can be wrong.

    :ivar strange: call ids of records that cannot be kept.
    :ivar broken: nothing at all can be kept, as if the tables were gone.
    :ivar stuck: nothing is answered.
    :ivar batches: how many records were asked to be kept together.
    """

    books: Books
    strange: set[str] = field(factory=set)
    broken: bool = False
    stuck: bool = False
    batches: list[int] = field(factory=list)

    def keep(self, records: Sequence[Record]) -> Deferred[Kept]:
        self.batches.append(len(records))
        if self.stuck:
            return Deferred()
        if self.broken or any(each.call_id in self.strange for each in records):
            return fail(OverflowError("of a value that must not be told"))
        return self.books.keep(records)

    def lines(self, query: LinesQuery) -> Deferred[Sequence[LedgerLine]]:
        return self.books.lines(query)

    def count(self, query: LinesQuery) -> Deferred[int]:
        return self.books.count(query)

    def sums(self, question: Question) -> Deferred[Sequence[Sums]]:
        return self.books.sums(question)

    def prune(self, before: datetime, most: int) -> Deferred[int]:
        return self.books.prune(before, most)


_reader: type[Reader] = Tape
_books: type[Books] = Trouble


class Bench(SynchronousTestCase):
    """
    A ledger between a spool and books.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.tape = Tape()
        self.stores = memory_stores()
        self.books = Trouble(self.stores.books)
        self.alerts: list[Alert] = []
        self.logged = Logged.during(self)  # type: ignore[arg-type]  # it can clean up, which is all that is needed
        self.ledger = Ledger(
            self.clock,
            self.tape,
            self.books,
            LedgerSettings(delay_seconds=DELAY),
            self.alerts.append,
            node="node",
            now=lambda: NOW,
        )

    def open(self) -> None:
        """
        Open the ledger.
        """
        self.successResultOf(Deferred.fromCoroutine(self.ledger.open()))

    def close(self) -> Deferred[None]:
        """
        Begin to close the ledger.
        """
        return Deferred.fromCoroutine(self.ledger.close())

    def kept(self) -> list[str]:
        """
        The call ids that are in the books.
        """
        lines = self.successResultOf(self.books.lines(LinesQuery(limit=10_000)))
        return sorted(line.call_id for line in lines)

    def until(self, is_so: Callable[[], bool]) -> None:
        """
        Let time pass until something is so.
        """
        for _ in range(1000):
            if is_so():
                return
            self.clock.advance(0.1)
        self.fail("it did not happen")

    def spent(self, cost: int) -> None:
        """
        A call of the key costs so much.
        """
        self.tape.add(a_record(key_id="k", cost_nano_usd=cost))
        self.clock.advance(DELAY)


class WritingTests(Bench):
    def test_together(self) -> None:
        """
        What comes within the delay is written together, and then the reader goes on.
        """
        self.open()
        self.tape.add(a_record("a"))
        self.clock.advance(DELAY / 2)
        self.tape.add(a_record("b"))
        self.assertEqual([], self.kept())
        self.clock.advance(DELAY / 2)
        self.assertEqual(["a", "b"], self.kept())
        self.assertEqual(2, self.tape.done)
        self.tape.add(a_record("c"))
        self.clock.advance(DELAY)
        self.assertEqual(["a", "b", "c"], self.kept())

    def test_much(self) -> None:
        """
        Where much is waiting no time is lost between two batches; large records count as much, too.
        """
        self.tape.add(*[a_record(f"{number:04}") for number in range(1200)])
        self.open()
        self.clock.advance(DELAY)
        self.assertEqual([500, 500, 200], self.books.batches)
        self.tape.add(a_record("long", message="x" * MEBIBYTE))
        self.tape.add(*[a_record(f"{number:04}") for number in range(1200, 1300)])
        self.clock.advance(DELAY)
        self.assertEqual([1, 100], self.books.batches[3:])
        self.assertEqual(1301, self.tape.done)

    def test_alerts_are_passed_over(self) -> None:
        """
        What is no call is not for the ledger.
        """
        self.open()
        self.tape.add(Alert(id="a", at=hour(1), node="n", about="sink", subject="s", text="t"))
        self.clock.advance(DELAY)
        self.assertEqual(([], 1), (self.books.batches, self.tape.done))

    def test_lag(self) -> None:
        """
        How far it is behind is what its reader says.
        """
        self.tape.add(a_record())
        self.assertEqual(Lag(waiting_bytes=1), self.ledger.lag)

    def test_spend(self) -> None:
        """
        The spend of a key is known once a call of it was written, and is that of all its calls.
        """
        self.successResultOf(self.stores.directory.apply([Add(a_key(spend=Usd(100)))], []))
        self.open()
        self.assertIsNone(self.ledger.spend_of("k"))
        self.spent(5)
        self.spent(6)
        self.assertEqual(Usd(111), self.ledger.spend_of("k"))


class AbsenceTests(Bench):
    def test_away(self) -> None:
        """
        While the database is away it is asked again, ever more seldom; nothing is lost, and an operator is told once
        when it begins and once when it ends.
        """
        self.stores.books.fail()  # type: ignore[attr-defined]  # they are in memory
        self.open()
        self.tape.add(a_record("a"))
        self.clock.pump([0.1] * 3000)
        self.assertLess(len(self.books.batches), 75)
        self.assertGreater(len(self.books.batches), 300 / (LONGEST_PAUSE_SECONDS + 2 * DELAY) - 5)
        self.assertEqual(0, self.tape.done)
        self.stores.books.recover()  # type: ignore[attr-defined]  # likewise
        self.tape.add(a_record("b"))
        self.until(lambda: self.tape.done == 2)
        self.assertEqual(["a", "b"], self.kept())
        begin, end = self.logged.lines
        self.assertIn("cannot be written into the ledger", begin)
        self.assertEqual("Calls are written into the ledger again.", end)

    def test_strange_record(self) -> None:
        """
        A record that can never be kept holds up no other one; it is told and counted, without what is in it.
        """
        self.books.strange = {"0007", "0123"}
        self.tape.add(*[a_record(f"{number:04}", end_user="secret-user") for number in range(200)])
        self.open()
        self.clock.advance(DELAY)
        self.assertEqual(200, self.tape.done)
        self.assertEqual([f"{n:04}" for n in range(200) if n not in (7, 123)], self.kept())
        self.assertEqual(2, self.ledger.refused)
        self.assertEqual(2, len(self.logged.lines))
        self.assertEqual([True, True], [any(each in line for line in self.logged.lines) for each in ("0007", "0123")])
        self.assertNotIn("secret-user", self.logged.text)
        self.assertNotIn("must not be told", self.logged.text)

    def test_broken_database(self) -> None:
        """
        A database that takes nothing at all is no reason to give up records.
        """
        self.books.broken = True
        self.tape.add(a_record("a"), a_record("b"))
        self.open()
        self.clock.pump([0.1] * 200)
        self.assertEqual((0, 0), (self.tape.done, self.ledger.refused))
        self.assertEqual(1, len(self.flushLoggedErrors()))
        self.books.broken = False
        self.until(lambda: self.tape.done == 2)
        self.assertEqual(["a", "b"], self.kept())

    def test_many_strange_records(self) -> None:
        """
        Neither do many that come together, and all before those that are not strange; and no attempt takes long.
        """
        self.books.strange = {f"{number:04}" for number in range(100)}
        self.tape.add(*[a_record(f"{number:04}") for number in range(110)])
        self.open()
        self.until(lambda: self.tape.done == 110)
        self.assertEqual((10, 100), (len(self.kept()), self.ledger.refused))
        self.flushLoggedErrors()
        self.books.batches.clear()
        self.books.broken = True
        self.tape.add(*[a_record() for _ in range(500)])
        self.clock.advance(DELAY)
        self.assertLess(len(self.books.batches), 500)
        self.flushLoggedErrors()

    def test_strange_record_alone(self) -> None:
        """
        A strange record that is alone waits until another one shows that it is not the database.
        """
        self.books.strange = {"a"}
        self.tape.add(a_record("a"))
        self.open()
        self.clock.pump([0.1] * 50)
        self.assertEqual((0, 0), (self.tape.done, self.ledger.refused))
        self.flushLoggedErrors()
        self.tape.add(a_record("b"))
        self.until(lambda: self.tape.done == 2)
        self.assertEqual((["b"], 1), (self.kept(), self.ledger.refused))


@define(eq=False)
class Budget:
    """
    A budget of 100 nano-dollars, of which all that is paid is used.
    """

    allowance: Allowance
    soft: int | None = None
    used: int = 0
    cap: int = 100

    def settle(self, paid: Sequence[Paid]) -> Sequence[Grown]:
        """
        As `MemoryBooks` asks it.
        """
        before = self.used
        self.used += sum(each.usd for each in paid)
        return [Grown(allowance=self.allowance, before=before, after=self.used, cap=self.cap, soft=self.soft)]


class AlertTests(Bench):
    def setUp(self) -> None:
        super().setUp()
        shelves = Shelves()
        self.successResultOf(MemoryStore(shelves).apply([Add(a_key(alias="ada"))], []))
        self.budget = Budget(Allowance(subject="key/k", kind="usd"))
        self.books.books = MemoryBooks(shelves, settle=self.budget.settle)
        self.open()

    def levels(self) -> list[str]:
        """
        The alerts so far.
        """
        return [alert.level for alert in self.alerts]

    def test_budget(self) -> None:
        """
        Whoever passes 80 and 100 per cent of a budget is told of once each, at that very amount.
        """
        self.spent(79)
        self.assertEqual([], self.levels())
        self.spent(1)
        self.assertEqual(["warning"], self.levels())
        self.spent(19)
        self.assertEqual(["warning"], self.levels())
        self.spent(1)
        self.spent(1)
        self.assertEqual(["warning", "critical"], self.levels())
        text = "The key ada has spent 80 % of its budget: 0.00000008 of 0.0000001 US dollars."
        self.assertEqual(
            ("budget", "key ada", text, NOW, "node"),
            (*[getattr(self.alerts[0], name) for name in ("about", "subject", "text", "at", "node")],),
        )
        self.assertNotEqual(self.alerts[0].id, self.alerts[1].id)

    def test_at_once(self) -> None:
        """
        Who passes all at once is told of once.
        """
        self.budget.soft = 50
        self.spent(500)
        self.assertEqual(["critical"], self.levels())

    def test_soft_budget(self) -> None:
        """
        Whoever passes the soft budget is told of once, and again at 80 and 100 per cent.
        """
        self.budget.soft = 50
        self.budget.allowance = Allowance(subject="key/k", kind="usd", span="30d", model="m*")
        for _ in range(6):
            self.spent(10)
        [alert] = self.alerts
        self.assertEqual("warning", alert.level)
        self.assertEqual(
            "The key ada has passed the soft mark of 0.00000005 US dollars in its 30d budget for m*: "
            "0.00000005 of 0.0000001 US dollars.",
            alert.text,
        )
        self.spent(20)
        self.spent(20)
        self.assertEqual(["warning", "warning", "critical"], self.levels())

    def test_soft_budget_alone(self) -> None:
        """
        A soft budget that stops nothing is not said to be part of anything.
        """
        self.budget.soft, self.budget.cap = 50, UNCAPPED
        self.spent(60)
        [alert] = self.alerts
        self.assertEqual(
            "The key ada has passed the soft mark of 0.00000005 US dollars in its budget: 0.00000006 US dollars.",
            alert.text,
        )

    def test_proxy(self) -> None:
        """
        A budget that is nobody's is told of, too.
        """
        self.budget.allowance = Allowance(subject="proxy", kind="usd", span="1d")
        self.spent(100)
        [alert] = self.alerts
        self.assertEqual("whole proxy", alert.subject)
        text = "The whole proxy has spent 100 % of its 1d budget: 0.0000001 of 0.0000001 US dollars."
        self.assertEqual(text, alert.text)


class MarkTests(TestCase):
    def test_each_once(self) -> None:
        """
        However spending is cut into pieces, each mark is passed in one of them, and nothing is passed that was not
        reached; where several are, the whole of the budget goes before all.
        """
        amounts = st.integers(0, 60)

        @given(st.lists(amounts, max_size=8), st.integers(0, 100), st.none() | st.integers(0, 150))
        @settings(max_examples=200)
        def check(costs: list[int], cap: int, soft: int | None) -> None:
            said: list[str] = []
            used = 0
            for cost in costs:
                word = passed(grown(used, used + cost, cap, soft))
                used += cost
                said += [] if word is None else [word]
            self.assertEqual(len(set(said)), len(said))
            self.assertEqual(0 < cap <= used, any("100 %" in each for each in said))
            jumped = passed(grown(0, used, cap, soft))
            reached = [mark for mark in (cap, cap * 0.8, soft or 0) if 0 < mark <= used]
            self.assertEqual(bool(reached), jumped is not None)
            if jumped is not None and "100 %" not in jumped:
                self.assertEqual("soft" in jumped, max(reached) == soft and soft != cap * 0.8)

        check()

    def test_back(self) -> None:
        """
        Where less is used than before, nothing is passed.
        """
        self.assertIsNone(passed(grown(150, 90, 100, 95)))

    def test_whose(self) -> None:
        """
        Whoever has a name is called by it, others by their ids, whatever these look like.
        """
        names = {("key", "k"): "ada", ("user", "u"): "Ada", ("team", "t"): "search"}
        for subject, expected in (
            ("key/k", "key ada"),
            ("key/x/y", "key x/y"),
            ("user/u", "user Ada"),
            ("team/t", "team search"),
            ("member/t/u", "member Ada of team search"),
            ("member/t/x", "member x of team search"),
            ("member/a%2Ft/u", "member Ada of team a/t"),
            ("customer/zoe@example.org", "end user zoe@example.org"),
            ("proxy", "whole proxy"),
        ):
            self.assertEqual(expected, whose_budget(Allowance(subject=subject, kind="usd"), names))


def grown(before: int, after: int, cap: int, soft: int | None) -> Grown:
    """
    A budget that has grown.
    """
    return Grown(allowance=Allowance(subject="key/k", kind="usd"), before=before, after=after, cap=cap, soft=soft)


class ClosingTests(Bench):
    def test_writes_the_rest(self) -> None:
        """
        What is there is written before it is closed, without waiting for more.
        """
        self.open()
        self.tape.add(a_record("a"))
        self.successResultOf(self.close())
        self.assertEqual(["a"], self.kept())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_idle(self) -> None:
        """
        Nothing is left behind, wherever it was waiting.
        """
        self.open()
        self.successResultOf(self.close())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_away(self) -> None:
        """
        A database that is away does not keep it; what was not written is there for the next start.
        """
        self.stores.books.fail()  # type: ignore[attr-defined]  # they are in memory
        self.open()
        self.tape.add(a_record("a"))
        self.clock.advance(DELAY)
        self.successResultOf(self.close())
        self.assertEqual(0, self.tape.done)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stuck(self) -> None:
        """
        Neither does one that never answers, for longer than is said.
        """
        self.books.stuck = True
        self.open()
        self.tape.add(a_record("a"))
        self.clock.advance(DELAY)
        closing = self.close()
        self.clock.advance(CLOSE_SECONDS - 0.1)
        self.assertNoResult(closing)
        self.clock.advance(0.2)
        self.successResultOf(closing)
        self.assertEqual([1], self.books.batches)
        self.assertEqual(0, self.tape.done)
        self.assertEqual([], self.clock.getDelayedCalls())
