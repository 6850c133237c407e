"""
The room of the allowances, with a store that counts.
"""

from __future__ import annotations

from datetime import UTC, datetime

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.allowances.clock import microseconds
from dheera.allowances.hold import Hold
from dheera.allowances.room import EXTENSIONS, Allowances
from dheera.allowances.taking import MOST_TRIES
from dheera.allowances.turns import CLOSE_SECONDS, LONGEST_PAUSE_SECONDS, RELEASE_SECONDS
from dheera.allowances.waiting import MOST_CLAIMS
from dheera.errors import BudgetExceeded, RateLimited, StoreAway
from dheera.holding import RATE_US, Allowance, AllowanceStore, Paid
from dheera.limits import Limit
from dheera.records import Alert
from dheera.settings import AllowanceSettings
from dheera.spool.memory import OneLife
from dheera.stores.memory_allowances import MemoryAllowances
from tests.allowances.counter import START_US, Counter
from tests.allowances.house import take
from tests.allowances.limits import limit
from tests.stores.logs import Logged

BUDGET = limit("usd", 1000)
TOKENS = limit("tokens", 500)
PARALLEL = limit("parallel", 40)
USD = Allowance(subject="key/1", kind="usd")
DEADLINE_SECONDS = 60.0


class RoomCase(SynchronousTestCase):
    """
    An open room.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = Counter(self.clock)
        self.lives = OneLife("w1")
        self.alerts: list[Alert] = []
        self.logged = Logged.during(self)  # type: ignore[arg-type]  # it can clean up, which is all that is needed
        self.room = self.new_room()

    def new_room(self, store: AllowanceStore | None = None, **said: object) -> Allowances:
        """
        One that is open, with those settings.
        """
        room = Allowances(
            self.clock,
            store or self.store,
            AllowanceSettings(deadline_seconds=DEADLINE_SECONDS, **said),  # type: ignore[arg-type]  # as the test says
            lives=self.lives,
            node="n1",
            alert=self.alerts.append,
            now=lambda: datetime(2026, 1, 31, 12, tzinfo=UTC),
        )
        self.successResultOf(Deferred.fromCoroutine(room.open()))
        return room

    def take(self, call_id: str, *limits: Limit, nano: int = 100, tokens: int = 50) -> Deferred[Hold]:
        return take(self.room, call_id, limits or (BUDGET, TOKENS, PARALLEL), nano=nano, tokens=tokens)

    def taken(self, call_id: str, *limits: Limit, nano: int = 100, tokens: int = 50) -> Hold:
        return self.successResultOf(self.take(call_id, *limits, nano=nano, tokens=tokens))

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.room.close())


class HoldTests(RoomCase):
    """
    What a call gets, and gives back.
    """

    def test_all_kinds(self) -> None:
        """
        A call takes what it may need, and what it did not need returns.
        """
        hold = self.taken("c")
        self.assertEqual(100, hold.nano)
        self.assertEqual(
            {"usd": 100, "tokens": 50, "parallel": 1}, {each.kind: n for each, n in self.store.taken.items()}
        )
        hold.settle(usd=30, tokens=20, reached=True)
        self.clock.advance(RELEASE_SECONDS)
        self.assertEqual(
            {"usd": 30, "tokens": 20, "parallel": 0}, {each.kind: n for each, n in self.store.taken.items()}
        )

    def test_not_reached(self) -> None:
        """
        What never went upstream has taken nothing.
        """
        self.taken("c", BUDGET, limit("requests", 5), TOKENS, PARALLEL).settle(usd=30, tokens=20, reached=False)
        self.clock.advance(RELEASE_SECONDS)
        self.assertEqual({0}, set(self.store.taken.values()))

    def test_once(self) -> None:
        """
        To settle again changes nothing.
        """
        hold = self.taken("c")
        hold.settle(usd=30, tokens=20, reached=True)
        hold.settle(usd=99, tokens=99, reached=True)
        self.clock.advance(1)
        self.assertEqual([[], [30]], [[release.usd for release in turn.releases] for turn in self.store.turns])

    def test_no_budget(self) -> None:
        """
        Where no budget is concerned there is no amount; a call that takes nothing does not ask the store.
        """
        self.assertIsNone(self.taken("c", TOKENS).nano)
        asked = len(self.store.turns)
        hold = self.taken("d", BUDGET, TOKENS, nano=0, tokens=0)
        self.assertEqual((None, []), (hold.nano, hold.fields()))
        hold.settle(usd=0, tokens=0, reached=True)
        self.clock.advance(1)
        self.assertEqual(asked, len(self.store.turns))

    def test_fields(self) -> None:
        """
        What is left is told, as it was when the call was let through; what is to be waited, as it is now.
        """
        hold = self.taken("c", limit("usd", 10**9, span="1d"), TOKENS, nano=10**8)
        self.clock.advance(2)
        fields = dict(hold.fields())
        self.assertEqual(b"0.9", fields[b"x-dheera-remaining-budget"])
        self.assertEqual(b"43198", fields[b"x-dheera-reset-budget"])
        self.assertEqual(b"450", fields[b"x-ratelimit-remaining-tokens"])
        self.assertEqual(b"58s", fields[b"x-ratelimit-reset-tokens"])


class RefusalTests(RoomCase):
    """
    When there is no room.
    """

    def test_budget(self) -> None:
        """
        The caller is told; whoever runs dheera is told the first time.
        """
        self.taken("c", nano=950)
        for call_id in "de":
            refusal = self.failureResultOf(self.take(call_id), BudgetExceeded).value
            self.assertIn((b"x-dheera-remaining-budget", b"0.00000005"), refusal.fields)
        self.assertEqual(["key ada"], [alert.subject for alert in self.alerts])

    def test_right_limit(self) -> None:
        """
        It is the limit that refused which is named, though others are not asked for this time.
        """
        limits = BUDGET, TOKENS, limit("requests", 1, subject="team/9", whose="team", name="search")
        self.taken("c", *limits, nano=0)
        refusal = self.failureResultOf(self.take("d", *limits, nano=0), RateLimited).value
        self.assertIn("for team: search. Limit type: requests", refusal.message)
        self.assertEqual([], self.alerts)

    def test_takes_nothing(self) -> None:
        """
        A refused call has nothing to give back.
        """
        self.failureResultOf(self.take("c", limit("requests", 0), BUDGET), RateLimited)
        self.clock.advance(1)
        self.assertEqual(1, len(self.store.turns))


class BatchTests(RoomCase):
    """
    Few turns for many calls.
    """

    def test_natural(self) -> None:
        """
        A claim goes at once; those that come while it is under way go together in the next turn, in their order.
        """
        self.store.is_slow = True
        waiting = [self.take(f"c{n}", nano=1, tokens=1) for n in range(32)]
        self.assertEqual([["c0"]], [[claim.call_id for claim in turn.claims] for turn in self.store.turns])
        self.store.answer()
        self.successResultOf(waiting[0])
        self.store.answer()
        for each in waiting[1:]:
            self.successResultOf(each)
        self.assertEqual([f"c{n}" for n in range(1, 32)], [claim.call_id for claim in self.store.turns[1].claims])
        self.assertEqual(2, len(self.store.turns))

    def test_most(self) -> None:
        """
        A turn has an end: others want to have theirs.
        """
        self.store.is_slow = True
        waiting = [self.take(f"c{n}", limit("requests", 9999)) for n in range(MOST_CLAIMS + 3)]
        for _ in range(3):
            self.store.answer()
        self.assertEqual([1, MOST_CLAIMS, 2], [len(turn.claims) for turn in self.store.turns])
        for each in waiting:
            self.successResultOf(each)

    def test_release_waits(self) -> None:
        """
        A release goes with the claim that follows at once: one turn for both, the release first.
        """
        self.taken("c", nano=1000).settle(usd=0, tokens=0, reached=True)
        self.taken("d", nano=1000)
        self.clock.advance(RELEASE_SECONDS)
        self.assertEqual([0, 1], [len(turn.releases) for turn in self.store.turns])

    def test_release_alone(self) -> None:
        """
        One that has no company goes soon, and those of the same moment together.
        """
        holds = [self.taken(f"c{n}") for n in range(3)]
        for hold in holds:
            hold.settle(usd=0, tokens=0, reached=True)
        self.assertEqual(3, len(self.store.turns))
        self.clock.advance(RELEASE_SECONDS)
        self.assertEqual([0, 0, 0, 3], [len(turn.releases) for turn in self.store.turns])
        self.clock.advance(1)
        self.assertEqual(4, len(self.store.turns))

    def test_release_meanwhile(self) -> None:
        """
        One that comes while a turn is under way is not forgotten after it.
        """
        hold = self.taken("c")
        self.store.is_slow = True
        self.take("d")
        hold.settle(usd=0, tokens=0, reached=True)
        self.store.answer()
        self.clock.advance(RELEASE_SECONDS)
        self.assertEqual(["c"], [release.call_id for release in self.store.turns[-1].releases])

    def test_owner(self) -> None:
        """
        The store is told who holds, and how long.
        """
        self.taken("c")
        [turn] = self.store.turns
        self.assertEqual(("w1", 60_000_000, False), (turn.owner, turn.lasts_us, turn.extends))


class LeaveTests(RoomCase):
    """
    The client goes while its call waits.
    """

    def test_not_asked_yet(self) -> None:
        """
        Then it is not asked at all.
        """
        self.store.is_slow = True
        self.take("c")
        waiting = self.take("d")
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.store.answer()
        self.assertEqual(1, len(self.store.turns))

    def test_under_way(self) -> None:
        """
        What it has got by then goes back, all of it.
        """
        self.store.is_slow = True
        waiting = self.take("c", BUDGET, TOKENS, PARALLEL, limit("requests", 5))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.store.answer()
        self.store.is_slow = False
        self.assertEqual(100, self.store.taken[USD])
        self.clock.advance(RELEASE_SECONDS)
        self.assertEqual({0}, set(self.store.taken.values()))

    def test_refused(self) -> None:
        """
        If it would have been refused, nobody hears of it, and nothing is given back.
        """
        self.store.is_slow = True
        waiting = self.take("c", nano=9999)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.store.answer()
        self.clock.advance(RELEASE_SECONDS)
        self.assertEqual(1, len(self.store.turns))


class WindowTests(RoomCase):
    """
    The store's clock is what counts.
    """

    MINUTELY = limit("usd", 1000, span="1m")

    def test_store_is_ahead(self) -> None:
        """
        A claim for a window that is over by the store's clock is made again for the right one, before those that came
        later; from then on the time is known.
        """
        self.store.ahead_us = 3_600_000_000
        self.store.is_slow = True
        waiting = self.take("c", self.MINUTELY)
        self.take("d", self.MINUTELY)
        self.store.answer()
        self.assertNoResult(waiting)
        self.store.answer()
        self.successResultOf(waiting)
        first, second, third = self.store.turns
        self.assertEqual(["c", "d"], [claim.call_id for claim in second.claims])
        self.assertEqual(START_US, first.claims[0].shares[0].starts_us)
        self.assertEqual(START_US + 3_600_000_000, second.claims[0].shares[0].starts_us)
        self.assertEqual(["d"], [claim.call_id for claim in third.claims])
        self.store.is_slow = False
        self.store.answer()
        self.taken("e", self.MINUTELY)
        self.assertEqual(START_US + 3_600_000_000, self.store.turns[-1].claims[0].shares[0].starts_us)

    def test_bounded(self) -> None:
        """
        A store whose clock is never where it says does not keep a call for ever.
        """
        self.store.is_slow = True
        waiting = self.take("c", self.MINUTELY)
        for _ in range(MOST_TRIES):
            self.store.ahead_us += RATE_US
            self.assertNoResult(waiting)
            self.store.answer()
        self.failureResultOf(waiting, StoreAway)
        self.assertEqual(MOST_TRIES, len(self.store.turns))

    def test_left(self) -> None:
        """
        Who has gone does not claim again.
        """
        self.store.ahead_us = RATE_US
        self.store.is_slow = True
        waiting = self.take("c", self.MINUTELY)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.store.answer()
        self.assertEqual(1, len(self.store.turns))

    def test_raised(self) -> None:
        """
        Whether a budget is still raised is told by the store's clock, too.
        """
        raised = limit("usd", 10, raised_by=1000, raised_until=datetime(2026, 1, 31, 12, 30, tzinfo=UTC))
        self.assertLess(START_US, microseconds(raised.raised_until or datetime.now(UTC)))
        self.taken("c", raised)
        self.store.ahead_us = 3_600_000_000
        self.taken("d", TOKENS)
        self.failureResultOf(self.take("e", raised), BudgetExceeded)


class AwayTests(RoomCase):
    """
    The database does not answer.
    """

    def test_refuse(self) -> None:
        """
        Calls are refused: those under way, those that wait, and from then on each at once, without asking.
        """
        self.store.is_slow = True
        waiting = [self.take("c"), self.take("d")]
        self.store.fault = StoreAway()
        self.store.answer()
        for each in [*waiting, self.take("e")]:
            self.failureResultOf(each, StoreAway)
        self.assertEqual(1, len(self.store.turns))
        self.assertEqual(["Allowances cannot be counted: the database does not answer."], self.logged.lines)

    def test_allow(self) -> None:
        """
        Or they go on, with a hold of nothing.
        """
        self.room = self.new_room(when_store_down="allow")
        self.store.fault = StoreAway()
        for call_id in "cd":
            hold = self.taken(call_id)
            self.assertEqual((None, []), (hold.nano, hold.fields()))
            hold.settle(usd=1, tokens=1, reached=True)
        self.assertEqual(1, len(self.store.turns))

    def test_changed(self) -> None:
        """
        Which of both it is may change at any time, also for calls that wait; how long holds last does not.
        """
        self.store.is_slow = True
        waiting = self.take("c")
        self.room.change(AllowanceSettings(when_store_down="allow", deadline_seconds=1))
        self.store.fault = StoreAway()
        self.store.answer()
        self.assertIsNone(self.successResultOf(waiting).nano)
        self.assertIsNone(self.taken("d").nano)
        self.room.change(AllowanceSettings(when_store_down="refuse"))
        self.failureResultOf(self.take("e"), StoreAway)
        self.assertEqual(DEADLINE_SECONDS / EXTENSIONS, self.room._extending.interval)

    def test_allow_refused(self) -> None:
        """
        That is for a store that is away, and for no other reason.
        """
        self.room = self.new_room(when_store_down="allow")
        self.failureResultOf(self.take("c", nano=9999), BudgetExceeded)

    def test_back(self) -> None:
        """
        Now and then it is asked whether it is back. Then what was to be given back is, and what nobody knows whether it
        was taken; a claim that was never sent is not. All is as before.
        """
        hold = self.taken("a")
        self.store.fault = StoreAway()
        self.failureResultOf(self.take("c"), StoreAway)
        hold.settle(usd=5, tokens=50, reached=True)
        self.failureResultOf(self.take("d"), StoreAway)
        self.clock.advance(LONGEST_PAUSE_SECONDS)
        asked = len(self.store.turns)
        self.store.fault = None
        self.clock.pump([LONGEST_PAUSE_SECONDS] * 2)
        self.assertEqual(["c", "a"], [release.call_id for release in self.store.turns[asked].releases])
        self.assertEqual(5, self.store.taken[USD])
        self.taken("e")
        self.assertEqual("Allowances are counted again.", self.logged.lines[-1])
        self.assertEqual(2, len(self.logged.lines))

    def test_idle(self) -> None:
        """
        It is asked though there is nothing else to say: the next call need not be the one that finds out. The pauses
        grow, to a bound.
        """
        self.room = self.new_room()
        self.store.fault = StoreAway()
        self.failureResultOf(self.take("c"), StoreAway)
        self.clock.pump([0.2] * 5)
        self.assertGreaterEqual(len(self.store.turns), 3)
        self.clock.pump([1.0] * 100)
        asked = len(self.store.turns)
        self.clock.pump([1.0] * 100)
        self.assertTrue(
            100 / (LONGEST_PAUSE_SECONDS + 1) <= len(self.store.turns) - asked <= 100 / (LONGEST_PAUSE_SECONDS / 2)
        )

    def test_first_when_back(self) -> None:
        """
        Whatever is said first when it is back, the holds of this process last on with it.
        """
        self.taken("c")
        self.store.fault = StoreAway()
        self.failureResultOf(self.take("d"), StoreAway)
        self.store.fault = None
        self.clock.advance(LONGEST_PAUSE_SECONDS)
        self.assertEqual([False, False, True], [turn.extends for turn in self.store.turns])

    def test_longer_than_the_deadline(self) -> None:
        """
        Calls that run on while the store is away keep their places, however long it is.
        """
        memory = MemoryAllowances(clock=lambda: self.store.at_us)
        self.room = self.new_room(memory)
        alone = limit("parallel", 1)
        self.taken("a", alone)
        memory.fail()
        self.clock.pump([1.0] * int(DEADLINE_SECONDS * 2))
        memory.recover()
        self.clock.pump([1.0] * int(LONGEST_PAUSE_SECONDS + 1))
        self.failureResultOf(self.take("b", alone), RateLimited)

    def test_no_sweep_while_away(self) -> None:
        """
        Nothing of others, nor of its own, is ended before it is known that the store is back.
        """
        self.taken("c")
        self.store.fault = StoreAway()
        self.failureResultOf(self.take("d"), StoreAway)
        self.clock.pump([1.0] * int(DEADLINE_SECONDS * 2))
        self.assertEqual(0, self.store.sweeps)
        self.store.fault = None
        self.clock.pump([1.0] * int(DEADLINE_SECONDS * 2))
        self.assertLess(0, self.store.sweeps)

    def test_in_doubt(self) -> None:
        """
        What nobody knows of is given back once more also if this process holds nothing else.
        """
        self.store.fault = StoreAway()
        self.failureResultOf(self.take("c"), StoreAway)
        self.store.fault = None
        self.clock.advance(LONGEST_PAUSE_SECONDS)
        self.clock.pump([DEADLINE_SECONDS / EXTENSIONS] * 3)
        said = [[release.call_id for release in turn.releases] for turn in self.store.turns]
        self.assertEqual([[], ["c"], ["c"]], said)

    def test_rates_not_twice(self) -> None:
        """
        What a call gives back of its tokens is not given back again where the answer has been waited for in vain.
        """
        hold = self.taken("a")
        hold.settle(usd=5, tokens=20, reached=True)
        self.store.fault = StoreAway()
        self.clock.advance(RELEASE_SECONDS)
        self.store.fault = None
        self.clock.advance(LONGEST_PAUSE_SECONDS)
        rates = [[rated.change for release in turn.releases for rated in release.rates] for turn in self.store.turns]
        self.assertEqual([[], [-30], []], rates)

    def test_doubtful(self) -> None:
        """
        A turn may be done after its answer was waited for in vain, so what it may have taken is given back once more,
        later, and holds that nobody knows of do not live as long as this process.
        """
        self.taken("a")
        self.store.fault = StoreAway()
        self.failureResultOf(self.take("c"), StoreAway)
        self.store.fault = None
        self.clock.advance(LONGEST_PAUSE_SECONDS)
        self.clock.advance(DEADLINE_SECONDS / EXTENSIONS)
        said = [release.call_id for turn in self.store.turns for release in turn.releases]
        self.assertEqual(["c", "c"], said[-2:])
        self.assertTrue(self.store.turns[-1].extends)


class StrangeTests(RoomCase):
    """
    The database will not take something.
    """

    def test_one_of_many(self) -> None:
        """
        Only that call fails; those that were in the same turn do not, nor do releases.
        """
        hold = self.taken("a")
        self.store.strange.add("d")
        self.store.is_slow = True
        waiting = {call_id: self.take(call_id) for call_id in "bcdef"}
        hold.settle(usd=5, tokens=50, reached=True)
        self.store.is_slow = False
        self.store.answer()
        self.failureResultOf(waiting.pop("d"), ValueError)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        for each in waiting.values():
            self.successResultOf(each)
        self.clock.advance(RELEASE_SECONDS)
        self.assertEqual(5 + 4 * 100, self.store.taken[USD])
        self.store.is_slow = True
        waiting = {call_id: self.take(call_id) for call_id in "ghi"}
        self.store.answer()
        self.assertEqual(["h", "i"], [claim.call_id for claim in self.store.turns[-1].claims])

    def test_everything(self) -> None:
        """
        If it takes nothing at all, it is as if it were away, and releases are kept.
        """
        hold = self.taken("a")
        self.store.fault = ValueError("no such table")
        hold.settle(usd=5, tokens=50, reached=True)
        self.clock.advance(RELEASE_SECONDS)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.failureResultOf(self.take("b"), StoreAway)
        self.store.fault = None
        self.clock.advance(LONGEST_PAUSE_SECONDS)
        self.assertEqual(5, self.store.taken[USD])
        self.taken("c")

    def test_one_release(self) -> None:
        """
        What a call gives back, and the database will never take, is left to time, and stands in nobody's way: neither
        in that of other releases, nor of claims.
        """
        holds = [self.taken(f"{n}") for n in range(4)]
        self.store.stuck.add("2")
        for hold in holds:
            hold.settle(usd=5, tokens=50, reached=True)
        self.clock.advance(RELEASE_SECONDS)
        self.clock.pump([0.2] * 3)
        self.assertEqual(2, len(self.flushLoggedErrors(ValueError)))
        self.assertEqual(3 * 5 + 100, self.store.taken[USD])
        self.taken("a").settle(usd=5, tokens=50, reached=True)
        asked = len(self.store.turns)
        self.clock.pump([LONGEST_PAUSE_SECONDS] * 3)
        self.assertEqual(4 * 5 + 100, self.store.taken[USD])
        releases = [[release.call_id for release in turn.releases] for turn in self.store.turns[asked:]]
        self.assertEqual(["a"], releases[0])
        self.assertNotIn(["2"], releases)

    def test_too_few_answers(self) -> None:
        """
        A call is not left waiting because of a bug: neither in the store, nor in whoever is told.
        """
        self.room = Allowances(
            self.clock,
            self.store,
            AllowanceSettings(),
            lives=self.lives,
            node="n1",
            alert=lambda alert: self.fail(alert.text),
        )
        self.failureResultOf(self.take("c", nano=9999), self.failureException)
        self.assertEqual(1, len(self.flushLoggedErrors(self.failureException)))


class LifeTests(RoomCase):
    """
    From open to close.
    """

    def test_extends(self) -> None:
        """
        While there is a hold its deadline is moved, in time; and when there is none, nobody is asked.
        """
        self.clock.advance(DEADLINE_SECONDS / EXTENSIONS)
        self.assertEqual([], self.store.turns)
        hold = self.taken("c")
        self.clock.pump([DEADLINE_SECONDS / EXTENSIONS] * 3)
        self.assertEqual([False, True, True, True], [turn.extends for turn in self.store.turns])
        hold.settle(usd=0, tokens=0, reached=True)
        self.clock.advance(RELEASE_SECONDS)
        asked = len(self.store.turns)
        self.clock.pump([DEADLINE_SECONDS / EXTENSIONS] * 3)
        self.assertEqual(asked, len(self.store.turns))

    def test_extends_while_away(self) -> None:
        """
        A store that is away is not asked more often for it.
        """
        self.taken("c")
        self.store.fault = StoreAway()
        self.failureResultOf(self.take("d"), StoreAway)
        self.clock.pump([1.0] * 300)
        self.assertLessEqual(len(self.store.turns), 2 + 5 + 300 / (LONGEST_PAUSE_SECONDS / 2))

    def test_extends_after_a_failure(self) -> None:
        """
        An extension that failed is made up for as soon as the store is back.
        """
        self.taken("c")
        self.store.fault = StoreAway()
        self.clock.advance(DEADLINE_SECONDS / EXTENSIONS)
        self.store.fault = None
        self.clock.advance(LONGEST_PAUSE_SECONDS)
        self.assertEqual([False, True, True], [turn.extends for turn in self.store.turns])

    def test_sweeps(self) -> None:
        """
        Each deadline or so, whatever becomes of it, until it is closed.
        """
        for fault in None, StoreAway(), ValueError("bug"):
            self.store.fault = fault
            before = self.store.sweeps
            self.clock.pump([1.0] * int(DEADLINE_SECONDS * 1.25))
            self.assertIn(self.store.sweeps - before, (1, 2))
        self.flushLoggedErrors(ValueError)
        self.store.fault = None
        self.successResultOf(self.close())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_close_while_sweeping(self) -> None:
        """
        Nobody waits for what the next process will do as well.
        """
        self.store.sweeping = Deferred()
        self.clock.advance(DEADLINE_SECONDS * 1.25)
        self.successResultOf(self.close())
        self.assertTrue(self.store.sweeping.called)

    def test_close(self) -> None:
        """
        What is to be given back is given back before it is closed; who asks then is refused, and no timer is left.
        """
        holds = [self.taken(f"c{n}") for n in range(2)]
        holds[0].settle(usd=7, tokens=50, reached=True)
        self.successResultOf(self.close())
        self.assertEqual(107, self.store.taken[USD])
        self.failureResultOf(self.take("d"), StoreAway)
        holds[1].settle(usd=7, tokens=50, reached=True)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_close_waits(self) -> None:
        """
        For the turn that is under way as well, and what comes in it.
        """
        hold = self.taken("a")
        self.store.is_slow = True
        waiting = self.take("c")
        closing = self.close()
        hold.settle(usd=7, tokens=50, reached=True)
        self.store.answer()
        self.successResultOf(waiting)
        self.assertNoResult(closing)
        self.store.answer()
        self.successResultOf(closing)
        self.assertEqual(107, self.store.taken[USD])

    def test_close_in_vain(self) -> None:
        """
        Not for long; nobody is left without an answer.
        """
        self.store.is_slow = True
        waiting = [self.take("c"), self.take("d")]
        closing = self.close()
        self.clock.advance(CLOSE_SECONDS)
        self.successResultOf(closing)
        for each in waiting:
            self.failureResultOf(each, StoreAway)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_close_away(self) -> None:
        """
        A store that is away is asked once more.
        """
        hold = self.taken("a")
        self.store.fault = StoreAway()
        hold.settle(usd=7, tokens=50, reached=True)
        self.clock.advance(RELEASE_SECONDS)
        self.store.fault = None
        self.successResultOf(self.close())
        self.assertEqual(7, self.store.taken[USD])
        self.assertEqual([], self.clock.getDelayedCalls())


class StoreTests(RoomCase):
    """
    With a store as it is used.
    """

    def setUp(self) -> None:
        super().setUp()
        self.memory = MemoryAllowances(clock=lambda: self.store.at_us)
        self.room = self.new_room(self.memory)

    def look(self) -> dict[str, tuple[int, int]]:
        """
        What is used and held of each kind.
        """
        found = self.successResultOf(self.memory.look(["key/1"]))
        return {used.allowance.kind: (used.used, used.held) for used in found}

    def test_budget(self) -> None:
        """
        What is held returns to what it cost; while it is held there is no room for another.
        """
        hold = self.taken("a", nano=600)
        refusal = self.failureResultOf(self.take("b", nano=600), BudgetExceeded).value
        self.assertIn("held by calls that are under way or not yet in the ledger", refusal.message)
        self.assertEqual((b"Retry-After", b"1"), refusal.fields[0])
        self.assertEqual({"usd": (0, 600), "tokens": (50, 0), "parallel": (0, 1)}, self.look())
        hold.settle(usd=200, tokens=20, reached=True)
        self.taken("b", nano=600)
        self.assertEqual({"usd": (0, 800), "tokens": (70, 0), "parallel": (0, 1)}, self.look())
        self.assertEqual([], self.alerts)

    def test_spent(self) -> None:
        """
        That a budget is spent is told once, when the first call is refused for it.
        """
        hold = self.taken("a", nano=600)
        hold.settle(usd=600, tokens=20, reached=True)
        paid = Paid(call_id="a", usd=600, subjects=["key/1"], models=[], started_us=self.store.at_us)
        self.memory.settle([paid])
        for _ in range(2):
            self.failureResultOf(self.take("b", nano=600), BudgetExceeded)
        self.assertEqual(["critical"], [alert.level for alert in self.alerts])

    def test_rate(self) -> None:
        """
        A caller that waits as long as it was told to is let through, and not before; who was told a minute, and is too
        early, is told the rest.
        """
        once = limit("requests", 1)
        self.taken("a", once)
        waits = []
        for place in (3, 30, None):
            seconds = int(dict(self.failureResultOf(self.take("b", once), RateLimited).value.fields)[b"Retry-After"])
            waits.append(seconds)
            self.clock.advance(place or seconds - 1)
        self.failureResultOf(self.take("c", once), RateLimited)
        self.clock.advance(1)
        self.taken("d", once)
        self.assertEqual([60, 60, 32], waits)

    def test_long_call(self) -> None:
        """
        A call that lasts longer than the deadline keeps what it holds, for as long as its process lives, and no longer.
        """
        alone = limit("parallel", 1)
        self.taken("a", alone)
        self.clock.pump([5.0] * int(DEADLINE_SECONDS))
        self.failureResultOf(self.take("b", alone), RateLimited)
        self.successResultOf(self.close())
        self.clock.advance(DEADLINE_SECONDS + 1)
        self.room = self.new_room(self.memory)
        self.taken("c", alone)
