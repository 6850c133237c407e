"""
Leases: calls that draw from one hold, by the room of the allowances, with a real store.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dheera.allowances.desk import LEASE_US, LEAST_CALLS, PART
from dheera.allowances.lease import TELL_SECONDS, Lease
from dheera.errors import BudgetExceeded, RateLimited, Refusal, StoreAway
from dheera.holding import Allowance
from dheera.limits import Limit
from tests.allowances.house import KEY, NOON, House, take
from tests.allowances.limits import limit

TEAM = Allowance(subject="team/t", kind="usd")
BUDGET = limit("usd", 100_000)
OF_TEAM = limit("usd", 100_000, subject="team/t", whose="team", name="search")


class HouseCase(SynchronousTestCase):
    """
    One process, whose key ``1`` calls often.
    """

    def setUp(self) -> None:
        self.house = House()
        self.line = self.house.start("w1")
        self.clock = self.house.clock

    def heat(self, *limits: Limit, **said: int) -> None:
        """
        So many calls come that the next one is part of a lease.
        """
        for _ in range(LEAST_CALLS):
            self.house.end(self.house.take("w1", *limits, **said), 0, reached=False)

    def until_refused(self, *limits: Limit, nano: int) -> int:
        """
        How many calls are let through that cost as much as they may.
        """
        for number in range(10_000):
            try:
                call = self.house.take("w1", *limits, nano=nano)
            except Refusal:
                return number
            self.house.end(call, nano)
            self.house.keep(call)
        return 10_000


class DrawTests(HouseCase):
    """
    What a call has that is part of a lease.
    """

    def test_few_turns(self) -> None:
        """
        Many calls in a second ask the store now and then; what they cost is exact in the end.
        """
        for _ in range(1000):
            self.house.end(self.house.take("w1", BUDGET), 3)
            self.clock.advance(0.001)
        self.assertLess(len(self.line.turns), 40)
        self.house.wait(2)
        self.assertEqual((0, 3000), self.house.stand())
        self.house.keep(*self.house.calls)
        self.assertEqual((3000, 0), self.house.stand())

    def test_told(self) -> None:
        """
        Each call is told what is left for it, as if all had claimed one by one; the record names the lease.
        """
        self.heat(BUDGET)
        calls = [self.house.take("w1", BUDGET) for _ in range(3)]
        self.assertEqual(1, len({call.hold.lease for call in calls} - {None}))
        self.assertEqual([10] * 3, [call.hold.nano for call in calls])
        left = [dict(call.hold.fields())[b"x-dheera-remaining-budget"] for call in calls]
        self.assertEqual([b"0.00009999", b"0.00009998", b"0.00009997"], left)
        self.assertEqual(b"0.000099978", dict(calls[-1].hold.fields(usd=2))[b"x-dheera-remaining-budget"])

    def test_no_budget(self) -> None:
        """
        A call that costs nothing takes nothing of the lease's budget, and its record does not name it.
        """
        requests = limit("requests", 1000)
        self.heat(BUDGET, requests)
        hold = self.house.take("w1", BUDGET, requests, nano=0).hold
        self.assertEqual((None, None), (hold.nano, hold.lease))
        self.assertNotIn(b"x-dheera-remaining-budget", dict(hold.fields()))
        self.assertIn(b"x-dheera-remaining-requests", dict(hold.fields()))

    def test_settled_twice(self) -> None:
        """
        Nothing returns twice.
        """
        self.heat(BUDGET)
        call = self.house.take("w1", BUDGET)
        for _ in range(3):
            self.house.end(call, 4)
        self.house.wait(2)
        self.assertEqual((0, 4), self.house.stand())

    def test_above_its_bound(self) -> None:
        """
        A call that cost more than it was expected to is counted in full.
        """
        self.heat(BUDGET)
        call = self.house.take("w1", BUDGET)
        self.house.end(call, 5000)
        self.house.wait(2)
        self.assertEqual((0, 5000), self.house.stand())
        self.house.keep(call)
        self.assertEqual((5000, 0), self.house.stand())

    def test_larger_calls(self) -> None:
        """
        A call for which the lease is too small gets another one, and what the first had left returns.
        """
        self.heat(BUDGET)
        self.house.take("w1", BUDGET)
        self.house.take("w1", BUDGET, nano=200)
        self.house.wait(0)
        self.assertLessEqual(self.house.stand()[1], 10 + 200 * (LEAST_CALLS + 3))

    def test_all_or_nothing(self) -> None:
        """
        A call for which a lease has too little of one allowance takes nothing of the others either.
        """
        bounds = BUDGET, limit("tokens", 100_000)
        self.heat(*bounds, nano=10, tokens=10)
        hold: Any = self.house.take("w1", *bounds, nano=10, tokens=10).hold
        lease: Lease = hold._source
        left = lease.spare(KEY)
        self.assertIsNone(lease.draw([("usd", 10), ("tokens", 100_000)]))
        self.assertEqual(left, lease.spare(KEY))
        self.assertGreater(left, 0)

    def test_other_limits(self) -> None:
        """
        A limit that was changed has leases of its own: calls with the new one do not draw from the old one.
        """
        self.heat(BUDGET)
        old = self.house.take("w1", BUDGET).hold.lease
        new = self.house.take("w1", limit("usd", 99_000)).hold.lease
        self.assertNotIn(new, {old})


class SizeTests(HouseCase):
    """
    Who gets a lease, and how large it is.
    """

    def largest(self, allowance: Allowance = KEY) -> int:
        """
        The most that was claimed at once.
        """
        claims = [claim for turn in self.line.turns for claim in turn.claims]
        return max(share.amount for claim in claims for share in claim.shares if share.allowance == allowance)

    def test_part(self) -> None:
        """
        It is no more than a sixteenth of what is free, however many calls come.
        """
        for _ in range(300):
            self.house.take("w1", BUDGET, nano=100)
        self.assertGreater(self.largest(), BUDGET.cap // PART // 2)
        self.assertLessEqual(self.largest(), BUDGET.cap // PART)

    def test_to_the_last_call(self) -> None:
        """
        Of a budget that is small, or nearly spent, each call gets its part: as many are let through as without leases.
        """
        self.assertEqual(7, self.until_refused(limit("usd", 70, subject="key/2"), nano=10))
        self.assertEqual(1000, self.until_refused(limit("usd", 10_009, subject="key/3"), nano=10))
        self.assertEqual(["key ada"] * 2, [alert.subject for alert in self.house.alerts])

    def test_seldom(self) -> None:
        """
        Who calls now and then claims call by call.
        """
        for _ in range(20):
            self.assertIsNone(self.house.take("w1", BUDGET).hold.lease)
            self.clock.advance(0.5)

    def test_parallel(self) -> None:
        """
        So does who may have so many calls at the same time.
        """
        for _ in range(20):
            self.assertIsNone(self.house.take("w1", BUDGET, limit("parallel", 1000)).hold.lease)

    def test_refused(self) -> None:
        """
        A lease that the store refuses, since others have taken it meanwhile, refuses no call, and tells nobody that
        the budget is spent.
        """
        self.heat(BUDGET)
        self.house.wait(1)
        other = self.house.start("w2")
        self.house.end(self.house.take("w2", BUDGET, nano=99_900), 99_900)
        self.house.keep(self.house.calls[-1])
        self.assertEqual(1, len(other.turns))
        self.assertEqual(10, self.until_refused(BUDGET, nano=10))
        self.assertEqual(1, len(self.house.alerts))


class EndTests(HouseCase):
    """
    How long a lease lasts.
    """

    def test_idle(self) -> None:
        """
        When nobody calls any more, nothing is held a second later.
        """
        self.heat(BUDGET)
        self.house.end(self.house.take("w1", BUDGET), 1)
        self.assertGreater(self.house.stand()[1], 10)
        self.house.wait(LEASE_US / 1_000_000)
        self.assertEqual((0, 1), self.house.stand())

    def test_long_call(self) -> None:
        """
        A call that outlasts its lease keeps what it may cost, and no more; others that end return theirs soon.
        """
        self.heat(BUDGET)
        long, short = self.house.take("w1", BUDGET), self.house.take("w1", BUDGET)
        self.house.wait(2)
        self.assertEqual((0, 20), self.house.stand())
        self.house.end(short, 1)
        self.house.wait(TELL_SECONDS)
        self.assertEqual((0, 11), self.house.stand())
        self.house.keep(short)
        for _ in range(100):
            self.clock.advance(30)
            self.store_sweeps()
        self.assertEqual((1, 10), self.house.stand())
        self.house.end(long, 3)
        self.house.wait(1)
        self.assertEqual((1, 3), self.house.stand())

    def store_sweeps(self) -> None:
        self.successResultOf(self.house.store.sweep())

    def test_any_minute(self) -> None:
        """
        A call is never counted in a slice that ended before it began: so any 60 seconds hold no more than the limit.
        """
        requests = limit("requests", 3000)
        began: list[float] = []
        for _ in range(4000):
            try:
                self.house.end(self.house.take("w1", requests, nano=0), 0)
            except RateLimited:
                self.clock.advance(0.5)
            else:
                began.append(self.clock.seconds())
            self.clock.advance(0.019)
        self.assertGreater(len(began), 3000)
        for first, last in zip(began, began[3000:], strict=False):
            self.assertGreater(last - first, 60)
        self.assertLess(len(self.line.turns), 1500)

    def test_slice(self) -> None:
        """
        When the slice ends in which a lease was counted, nobody draws from it any more.
        """
        requests = limit("requests", 3000)
        self.clock.advance(4.9)
        self.heat(requests, nano=0)
        self.house.end(self.house.take("w1", requests, nano=0), 0)
        self.clock.advance(0.2)
        asked = len(self.line.turns)
        self.house.take("w1", requests, nano=0)
        self.assertGreater(len(self.line.turns), asked)
        self.house.wait(60.1)
        self.assertEqual((1, 0), self.house.stand(Allowance(subject="key/1", kind="requests")))

    def test_set_back(self) -> None:
        """
        When the clock is set back, nobody draws for an hour from what was for a second; and who calls now and then is
        not taken for busy.
        """
        requests = limit("requests", 3000)
        self.heat(requests, nano=0)
        self.house.take("w1", requests, nano=0)
        self.clock.rightNow -= 3600
        for _ in range(2 * LEAST_CALLS):
            asked = len(self.line.turns)
            self.house.take("w1", requests, nano=0)
            self.assertEqual([False], [each.ahead for turn in self.line.turns[asked:] for each in turn.claims])
            self.clock.rightNow += 10

    def test_window(self) -> None:
        """
        A call that begins in a new window counts there.
        """
        minutely = limit("usd", 100_000, span="1m")
        self.clock.advance(59.5)
        self.heat(minutely)
        self.house.end(self.house.take("w1", minutely), 5)
        self.clock.advance(0.6)
        call = self.house.take("w1", minutely)
        self.house.end(call, 7)
        self.house.wait(2)
        self.assertEqual((0, 7), self.house.stand(Allowance(subject="key/1", kind="usd", span="1m")))

    def test_raised(self) -> None:
        """
        What a budget was raised by is not there for calls after that time.
        """
        raised = limit("usd", 10, raised_by=100_000, raised_until=NOON + timedelta(seconds=1))
        self.clock.advance(0.9)
        self.heat(raised)
        self.house.take("w1", raised)
        self.clock.advance(0.2)
        with self.assertRaises(BudgetExceeded):
            self.house.take("w1", raised)

    def test_ahead(self) -> None:
        """
        Before it ends the next one is there, so that no call waits.
        """
        self.heat(BUDGET)
        for _ in range(100):
            self.house.end(self.house.take("w1", BUDGET), 1)
            self.clock.advance(0.05)
        taken = sum(len(turn.claims) for turn in self.line.turns)
        alone = sum(not claim.ahead for turn in self.line.turns for claim in turn.claims)
        self.assertLessEqual(alone, LEAST_CALLS)
        self.assertLess(taken, 20)

    def test_store_away(self) -> None:
        """
        What is held can be drawn though nobody counts, until its time is over. What was left is told later.
        """
        self.heat(BUDGET)
        self.house.take("w1", BUDGET)
        self.house.store.fail()
        call = self.house.take("w1", BUDGET)
        self.clock.advance(LEASE_US / 1_000_000)
        with self.assertRaises(StoreAway):
            self.house.take("w1", BUDGET)
        self.house.end(call, 2)
        self.house.store.recover()
        self.house.wait(10)
        self.assertEqual((0, 12), self.house.stand())

    def test_stop(self) -> None:
        """
        A stop gives back what no call has.
        """
        self.heat(BUDGET)
        self.house.end(self.house.take("w1", BUDGET), 2)
        self.successResultOf(Deferred.fromCoroutine(self.house.rooms["w1"][0].close()))
        self.assertEqual((0, 2), self.house.stand())
        self.assertEqual([], [call for call in self.clock.getDelayedCalls() if call.active()])


class WaitTests(HouseCase):
    """
    Calls that come while a lease is asked for.
    """

    def setUp(self) -> None:
        super().setUp()
        self.heat(BUDGET)
        self.clock.advance(1.5)
        self.line.is_slow = True
        self.room = self.house.rooms["w1"][0]
        self.waiting = [take(self.room, f"w{number}", [BUDGET], nano=10, tokens=0) for number in range(3)]

    def test_together(self) -> None:
        """
        They have it as soon as the store has answered, all of the same.
        """
        self.line.answer()
        holds = [self.successResultOf(each) for each in self.waiting]
        self.assertEqual(1, len({hold.lease for hold in holds} - {None}))
        self.assertTrue(all(claim.ahead for claim in self.line.turns[-1].claims))

    def test_late(self) -> None:
        """
        Also if that was so slow that nobody else may draw from it any more.
        """
        self.house.wait(3)
        self.line.answer()
        holds = [self.successResultOf(each) for each in self.waiting]
        self.assertNotIn(None, {hold.lease for hold in holds})
        take(self.room, "late", [BUDGET], nano=10, tokens=0)
        self.house.wait(1)
        self.assertEqual(["late"], [claim.call_id for claim in self.line.turns[-1].claims])

    def test_left(self) -> None:
        """
        Who has gone takes nothing of it.
        """
        self.waiting[1].cancel()
        self.failureResultOf(self.waiting[1])
        self.line.answer()
        self.house.wait(2)
        self.line.answer()
        self.assertEqual((0, 20), self.house.stand())

    def test_away(self) -> None:
        """
        If the store is away they hear of it.
        """
        self.line.lose(StoreAway())
        for each in self.waiting:
            self.failureResultOf(each, StoreAway)

    def test_strange(self) -> None:
        """
        If it will not take the lease, each claims for itself.
        """
        for _ in range(2):  # it is tried once more, alone
            self.line.lose(ValueError("strange"))
        self.line.is_slow = False
        self.line.answer()
        self.assertEqual({None}, {self.successResultOf(each).lease for each in self.waiting})
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))


class RecallTests(HouseCase):
    """
    What leases have left is given back before a call is refused.
    """

    def test_other_key(self) -> None:
        """
        To calls of others that are bound by the same limit.
        """
        self.heat(BUDGET, OF_TEAM)
        self.house.end(self.house.take("w1", BUDGET, OF_TEAM), 0, reached=False)
        held = self.house.stand(TEAM)[1]
        self.assertGreater(held, 0)
        call = self.house.take("w1", OF_TEAM, nano=OF_TEAM.cap)
        self.assertEqual((0, OF_TEAM.cap), self.house.stand(TEAM))
        self.house.end(call, 0)

    def test_many_at_once(self) -> None:
        """
        To all that were refused in the same turn.
        """
        self.heat(BUDGET, OF_TEAM, nano=100)
        self.house.end(self.house.take("w1", BUDGET, OF_TEAM, nano=100), 0, reached=False)
        self.line.is_slow = True
        room = self.house.rooms["w1"][0]
        got = [take(room, f"o{number}", [OF_TEAM], nano=OF_TEAM.cap // 3, tokens=0) for number in range(4)]
        self.line.is_slow = False
        self.line.answer()
        refused = [each for each in got if isinstance(each.result, Failure)]
        self.assertEqual(1, len(refused))
        self.failureResultOf(refused[0], BudgetExceeded)

    def test_not_enough(self) -> None:
        """
        Not to a call that does not fit all the same.
        """
        self.heat(BUDGET, OF_TEAM)
        lease = self.house.take("w1", BUDGET, OF_TEAM).hold.lease
        with self.assertRaises(BudgetExceeded):
            self.house.take("w1", OF_TEAM, nano=OF_TEAM.cap)
        self.assertEqual(lease, self.house.take("w1", BUDGET, OF_TEAM).hold.lease)
