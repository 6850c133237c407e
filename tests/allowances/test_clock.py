"""
The store's time, guessed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.allowances.clock import StoreClock, microseconds, time_of, whole_seconds

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class StoreClockTests(SynchronousTestCase):
    def test_goes_on(self) -> None:
        """
        It is the machine's clock until the store has said something, and goes on from that: the machine's no longer
        counts.
        """
        reactor, machine = Clock(), [NOON]
        clock = StoreClock(reactor, lambda: machine[0])
        self.assertEqual(microseconds(NOON), clock.at_us())
        machine[0] += timedelta(hours=1)
        self.assertEqual(microseconds(NOON) + 3_600_000_000, clock.at_us())
        clock.hear(5)
        reactor.advance(1.5)
        self.assertEqual(1_500_005, clock.at_us())
        clock.hear(3)
        self.assertEqual(3, clock.at_us())


class TimeTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        """
        Exact, whatever the time zone.
        """
        time = datetime(2026, 1, 31, 13, 0, 0, 123457, tzinfo=timezone(timedelta(hours=1)))
        self.assertEqual(1_769_860_800_123_457, microseconds(time))
        self.assertEqual(time, time_of(microseconds(time)))

    def test_end_of_the_calendar(self) -> None:
        """
        What lies beyond it is its end.
        """
        self.assertEqual(9999, time_of(2**62).year)

    def test_whole_seconds(self) -> None:
        """
        Rounded up, never below 0.
        """
        self.assertEqual([0, 0, 0, 1, 1, 2], [whole_seconds(us) for us in (-5, -2_000_000, 0, 1, 1_000_000, 1_000_001)])
