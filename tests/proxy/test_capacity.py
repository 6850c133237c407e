"""
Who is passed on, who waits, and who is told to come again.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.errors import Unavailable
from dheera.proxy.capacity import Capacity
from dheera.wire.limits import ServerLimits


def small(requests: int = 2, queue: int = 4, queue_seconds: float = 8.0) -> ServerLimits:
    """
    Limits that are soon reached.
    """
    return ServerLimits(requests=requests, queue=queue, queue_seconds=queue_seconds)


class CapacityCase(SynchronousTestCase):
    """
    Two places, and four who may wait.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.capacity = Capacity(self.clock, small())
        self.served: list[str] = []

    def fill(self) -> None:
        """
        Take all places.
        """
        for _ in range(2):
            self.assertIsNone(self.capacity.enter("first"))

    def wait(self, name: str, whose: str = "somebody") -> Deferred[None]:
        """
        Wait for a place, and note it when it is given.
        """
        turn = self.capacity.enter(whose)
        assert turn is not None
        self.addCleanup(turn.addErrback, lambda _: None)  # what a test does not look at is no error
        return turn.addCallback(lambda _: self.served.append(name))

    def refused(self, whose: str = "somebody") -> Unavailable:
        """
        How somebody is told that there is no room.
        """
        with self.assertRaises(Unavailable) as caught:
            self.capacity.enter(whose)
        refusal: Unavailable = caught.exception
        return refusal

    def retry_after(self, refusal: Unavailable) -> int:
        """
        When whoever is refused may come again.
        """
        [(name, seconds)] = refusal.fields
        self.assertEqual(b"Retry-After", name)
        return int(seconds)


class PlaceTests(CapacityCase):
    """
    Places, and who gets one.
    """

    def test_room(self) -> None:
        """
        While there is room, a place is there at once, and no timer is set.
        """
        for _ in range(5):
            self.fill()
            self.assertEqual((2, 0), (self.capacity.under_way, self.capacity.waiting))
            self.capacity.leave()
            self.capacity.leave()
        self.assertEqual((0, 0), (self.capacity.under_way, self.capacity.waiting))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_one_more_waits(self) -> None:
        """
        One more waits until somebody leaves; the place goes from hand to hand.
        """
        self.fill()
        turn = self.wait("a")
        self.assertNoResult(turn)
        self.assertEqual((2, 1), (self.capacity.under_way, self.capacity.waiting))
        self.capacity.leave()
        self.successResultOf(turn)
        self.assertEqual((2, 0), (self.capacity.under_way, self.capacity.waiting))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_nobody_passes_those_who_wait(self) -> None:
        """
        Whoever comes in the moment in which a place is given away does not get it before those who wait.
        """
        self.fill()
        late: list[Deferred[None] | None] = []
        self.wait("a").addCallback(lambda _: late.append(self.capacity.enter("late")))
        self.wait("b")
        self.capacity.leave()
        self.capacity.leave()
        self.assertEqual(["a", "b"], self.served)
        self.assertIsNotNone(late[0])

    def test_over_at_once(self) -> None:
        """
        Exchanges that are over as soon as they begin give their place to the next, however many wait.
        """
        self.capacity = Capacity(self.clock, small(queue=5000))
        self.fill()
        for _ in range(5000):
            self.wait("a").addCallback(lambda _: self.capacity.leave())
        self.capacity.leave()
        self.assertEqual((5000, 1, 0), (len(self.served), self.capacity.under_way, self.capacity.waiting))

    def test_leaves_the_queue(self) -> None:
        """
        A client that leaves while it waits is forgotten, and the place is the next one's.
        """
        self.fill()
        gone = self.wait("a")
        self.wait("b")
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.assertEqual(1, self.capacity.waiting)
        self.capacity.leave()
        self.assertEqual(["b"], self.served)
        self.assertEqual([], self.clock.getDelayedCalls())


class TurnTests(CapacityCase):
    """
    Whose turn it is.
    """

    def test_in_turns(self) -> None:
        """
        Those who wait are served in turns by whose they are, and first come first served among those of one.
        """
        self.capacity = Capacity(self.clock, small(queue=9))
        self.fill()
        for name, whose in ("a1", "a"), ("a2", "a"), ("a3", "a"), ("a4", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c"):
            self.wait(name, whose)
        for _ in range(7):
            self.capacity.leave()
        self.assertEqual(["a1", "b1", "c1", "a2", "b2", "a3", "a4"], self.served)

    def test_comes_again(self) -> None:
        """
        Who had a turn and waits again stands behind the others.
        """
        self.fill()
        self.wait("a1", "a")
        self.wait("b1", "b")
        self.capacity.leave()
        self.wait("a2", "a")
        self.capacity.leave()
        self.capacity.leave()
        self.assertEqual(["a1", "b1", "a2"], self.served)

    def test_one_does_not_fill_the_queue(self) -> None:
        """
        Where one has filled the queue, another still gets into it: the last of the one with the most is told to come
        again. Who has as many as anybody is not let in at the cost of others.
        """
        self.fill()
        crowd = [self.wait(f"a{number}", "a") for number in range(4)]
        self.wait("b0", "b")
        told = self.failureResultOf(crowd[3], Unavailable).value
        self.assertIn("most that wait are yours", told.message)
        last = self.wait("b1", "b")
        self.failureResultOf(crowd[2], Unavailable)
        self.assertIn("too many wait", self.refused("b").message)
        self.assertIn("too many wait", self.refused("a").message)
        self.wait("c0", "c")
        self.failureResultOf(last, Unavailable)
        self.assertEqual(4, self.capacity.waiting)
        for _ in range(4):
            self.capacity.leave()
        self.assertEqual(["a0", "b0", "c0", "a1"], self.served)

    def test_refused_and_there_again(self) -> None:
        """
        A call that follows at once on the connection of one that had to go does not make the queue longer.
        """
        self.fill()
        again: list[Unavailable] = []
        for number in range(4):
            self.wait(f"a{number}", "a").addErrback(lambda _: again.append(self.refused("a")))
        self.wait("b", "b")
        self.assertEqual((1, 4), (len(again), self.capacity.waiting))


class RefusalTests(CapacityCase):
    """
    Who is told to come again.
    """

    def test_full(self) -> None:
        """
        Where the queue is full, one more hears at once what is full, and when to come again.
        """
        self.fill()
        for number in range(4):
            self.wait(str(number))
        refusal = self.refused()
        self.assertEqual((503, 1), (refusal.status, self.retry_after(refusal)))
        self.assertIn("too many wait for their turn", refusal.message)
        self.assertEqual((2, 4), (self.capacity.under_way, self.capacity.waiting))

    def test_too_long(self) -> None:
        """
        Nobody waits longer than is set; who did hears how long it was.
        """
        self.fill()
        turn = self.wait("a")
        self.clock.advance(7.9)
        self.assertNoResult(turn)
        self.clock.advance(0.1)
        refusal = self.failureResultOf(turn, Unavailable).value
        self.assertIn("8.0 s", refusal.message)
        self.assertEqual((503, 8), (refusal.status, self.retry_after(refusal)))
        self.assertEqual((2, 0), (self.capacity.under_way, self.capacity.waiting))

    def test_when_to_come_again(self) -> None:
        """
        When to come again depends on how long the queue took lately, within what is set. When it has been empty, that
        is no matter any more.
        """
        self.fill()
        for number in range(4):
            self.wait(str(number))
        self.clock.advance(3.5)
        self.capacity.leave()
        self.wait("one more")
        self.assertEqual(4, self.retry_after(self.refused()))
        self.clock.advance(100)
        for number in range(4):
            self.wait(str(number))
        self.assertTrue(4 <= self.retry_after(self.refused()) <= 8)
        for _ in range(4):
            self.capacity.leave()
        for number in range(4):
            self.wait(str(number))
        self.assertEqual(1, self.retry_after(self.refused()))

    def test_stopping(self) -> None:
        """
        When this dheera will not wait for anybody any more, all who wait hear so, and all who come; nobody begins, not
        in the places that are given back, and not after a reload.
        """
        self.fill()
        turns = [self.wait(str(number), str(number)) for number in range(3)]
        self.capacity.close()
        for turn in turns:
            self.assertIn("stopping", self.failureResultOf(turn, Unavailable).value.message)
        self.capacity.leave()
        self.capacity.resize(small())
        self.assertIn("stopping", self.refused().message)
        self.assertEqual((1, 0, []), (self.capacity.under_way, self.capacity.waiting, self.served))


class ReloadTests(CapacityCase):
    """
    Limits that change.
    """

    def test_more(self) -> None:
        """
        Where there are more places, those who wait get them.
        """
        self.fill()
        for name in "abc":
            self.wait(name)
        self.capacity.resize(small(requests=4))
        self.assertEqual((["a", "b"], 4, 1), (self.served, self.capacity.under_way, self.capacity.waiting))

    def test_fewer(self) -> None:
        """
        Where there are fewer, nobody loses a place, and nobody gets one before there is one.
        """
        self.fill()
        self.wait("a")
        self.capacity.resize(small(requests=1))
        self.capacity.leave()
        self.assertEqual([], self.served)
        self.capacity.leave()
        self.assertEqual((["a"], 1), (self.served, self.capacity.under_way))


class Crowd(RuleBasedStateMachine):
    """
    All that can happen, in any order: a model that counts, and lists in place of trees.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.limits = small()
        self.capacity = Capacity(self.clock, self.limits)
        self.inside = 0
        self.waiting: list[tuple[str, Deferred[None]]] = []

    @rule(whose=st.sampled_from("abc"))
    def enter(self, whose: str) -> None:
        """
        Somebody comes.
        """
        of = Counter(name for name, _ in self.waiting)
        try:
            turn = self.capacity.enter(whose)
        except Unavailable:
            assert self.inside >= self.limits.requests
            assert len(self.waiting) >= self.limits.queue
            assert max(of.values()) <= of[whose] + 1
            return
        if turn is None:
            assert not self.waiting
            self.inside += 1
        else:
            turn.addCallbacks(lambda _: self._goes_in(turn), lambda _: self._goes(turn))
            self.waiting.append((whose, turn))

    def _goes_in(self, turn: Deferred[None]) -> None:
        self._goes(turn)
        self.inside += 1

    def _goes(self, turn: Deferred[None]) -> None:
        self.waiting = [each for each in self.waiting if each[1] is not turn]

    @precondition(lambda self: self.inside)
    @rule()
    def leave(self) -> None:
        """
        An exchange is over: if anybody waited and there is room, one of those who came first goes in.
        """
        first = dict(reversed(self.waiting))
        before = len(self.waiting)
        self.inside -= 1
        has_room = self.inside < self.limits.requests
        self.capacity.leave()
        went = [turn for turn in first.values() if turn.called]
        assert len(went) == before - len(self.waiting) == (1 if before and has_room else 0)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """
        A client leaves that waits.
        """
        _, turn = data.draw(st.sampled_from(self.waiting))
        turn.cancel()

    @rule(seconds=st.sampled_from([0.5, 3.0, 9.0]))
    def pass_time(self, seconds: float) -> None:
        """
        Time passes.
        """
        self.clock.advance(seconds)

    @rule(requests=st.integers(1, 4), queue=st.integers(1, 5))
    def reload(self, requests: int, queue: int) -> None:
        """
        The limits change.
        """
        self.limits = small(requests, queue)
        self.capacity.resize(self.limits)

    @invariant()
    def agrees(self) -> None:
        """
        It counts as we do, nobody waits while there is room, and each who waits has one timer.
        """
        assert (self.inside, len(self.waiting)) == (self.capacity.under_way, self.capacity.waiting)
        assert not self.waiting or self.inside >= self.limits.requests
        assert len(self.clock.getDelayedCalls()) == len(self.waiting)


class CrowdTests(SynchronousTestCase):
    """
    Whatever happens.
    """

    def test_crowd(self) -> None:
        """
        No place and nobody who waits is ever lost, and none is given twice.
        """
        run_state_machine_as_test(Crowd)
