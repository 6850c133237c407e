"""
Wrong keys, and who has to wait for them.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.attempts import ADDRESSES, LONGEST_WAIT_SECONDS, Attempts, Lane, place_of
from dheera.errors import TooManyRequests
from tests.house import Overheard

SOMEBODY = IPv4Address("TCP", "203.0.113.7", 50000)
SOMEBODY_ELSE = IPv4Address("TCP", "203.0.113.8", 50000)
FREE = 3


class Waiting(SynchronousTestCase):
    """
    Before a key is looked at.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.attempts = Attempts(self.clock, FREE)

    def offer_wrong_keys(self, count: int, peer: IAddress = SOMEBODY) -> None:
        for _ in range(count):
            self.attempts.enter(peer).addCallbacks(lambda lane: lane.leave(wrong=True), lambda _: None)

    def test_some_are_free(self) -> None:
        """
        Who mistypes a key a few times does not wait.
        """
        self.offer_wrong_keys(FREE - 1)
        self.successResultOf(self.attempts.enter(SOMEBODY))

    def test_right_ones_are_free(self) -> None:
        """
        Right keys cost nothing, be they ever so many: they wait for each other's look, and no longer.
        """
        for _ in range(1000):
            self.successResultOf(self.attempts.enter(SOMEBODY)).leave(wrong=False)
        turns = [self.attempts.enter(SOMEBODY) for _ in range(1000)]
        for turn in turns:
            self.successResultOf(turn).leave(wrong=False)

    def test_few_at_once(self) -> None:
        """
        No more are looked at at once than may be wrong: whoever comes with many cannot try more than that.
        """
        turns = [self.attempts.enter(SOMEBODY) for _ in range(1000)]
        looking = [turn for turn in turns if turn.called]
        self.assertEqual(FREE, len(looking))
        for turn in looking:
            self.successResultOf(turn).leave(wrong=True)
        refused = [turn for turn in turns[FREE:] if turn.called]
        self.assertEqual(len(turns) - FREE - LONGEST_WAIT_SECONDS, len(refused))
        for turn in refused:
            self.failureResultOf(turn, TooManyRequests)
        for turn in turns[FREE:]:
            turn.addErrback(lambda _: None).cancel()

    def test_many_are_slow(self) -> None:
        """
        After that, one a second is looked at, in the order in which they came.
        """
        self.offer_wrong_keys(FREE)
        seen: list[int] = []

        def look(lane: Lane, number: int) -> None:
            seen.append(number)
            lane.leave(wrong=True)

        for number in range(5):
            self.attempts.enter(SOMEBODY).addCallback(look, number)
        self.assertEqual([], seen)
        for seconds in range(1, 4):
            self.clock.advance(1)
            self.assertEqual(list(range(seconds)), seen)

    def test_far_too_many(self) -> None:
        """
        Nobody waits longer than bearable: beyond it the answer is 429, and says when to come again.
        """
        self.offer_wrong_keys(FREE + 1000)
        refused = self.failureResultOf(self.attempts.enter(SOMEBODY), TooManyRequests).value
        self.assertEqual(((b"Retry-After", b"10"),), refused.fields)

    def test_time_heals(self) -> None:
        """
        However many it were, who stops is free again soon.
        """
        self.offer_wrong_keys(FREE + 1000)
        self.clock.pump([1.0] * (LONGEST_WAIT_SECONDS + FREE + 1))
        self.successResultOf(self.attempts.enter(SOMEBODY))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_others_are_not_concerned(self) -> None:
        """
        Another address does not wait.
        """
        self.offer_wrong_keys(FREE + 1000)
        self.successResultOf(self.attempts.enter(SOMEBODY_ELSE))

    def test_left(self) -> None:
        """
        Who leaves while waiting leaves nothing behind.
        """
        self.offer_wrong_keys(FREE)
        turn = self.attempts.enter(SOMEBODY)
        turn.cancel()
        self.failureResultOf(turn)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_bounded(self) -> None:
        """
        However many addresses offer wrong keys, only so many are remembered.
        """
        for number in range(ADDRESSES + 10):
            address = IPv4Address("TCP", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1)
            self.offer_wrong_keys(1, address)
        self.assertEqual(ADDRESSES, len(self.attempts._lanes))

    def test_told_once(self) -> None:
        """
        The operator is told when an address is slowed down, once until it has stopped.
        """
        overheard = Overheard.by(self)
        for _ in range(2):
            self.offer_wrong_keys(FREE + 5)
            self.clock.pump([1.0] * 5)
            self.offer_wrong_keys(FREE + 5)
            self.clock.pump([1.0] * 60)
        first, second = overheard.lines()
        self.assertIn("203.0.113.7", first)
        self.assertEqual(first, second)


class Places(SynchronousTestCase):
    """
    Which addresses are one.
    """

    def test_ipv6(self) -> None:
        """
        All of a /64 is one, whatever the zone; a mapped IPv4 address is itself.
        """
        one, same, other = (
            place_of(IPv6Address("TCP", host, 1))
            for host in ("2001:db8::1", "2001:db8::ffff:1%eth0", "2001:db8:0:1::1")
        )
        self.assertEqual(one, same)
        self.assertNotEqual(one, other)
        self.assertEqual("203.0.113.7", place_of(IPv6Address("TCP", "::ffff:203.0.113.7", 1)))

    def test_no_address(self) -> None:
        """
        Whoever comes through a Unix socket is on this machine.
        """
        self.assertEqual("this machine", place_of(UNIXAddress(None)))
