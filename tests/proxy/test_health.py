"""
How a key fares: rests that grow, trials, and what ends them.
"""

from __future__ import annotations

from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from dheera.proxy.health import GOOD_SECONDS, LONGEST_SECONDS, MOST_TIMES, TOLD_SECONDS, Health
from dheera.settings import BalanceSettings

RULES = BalanceSettings(benched_seconds=60.0, failures=3, ejected_seconds=30.0)


class HealthTests(TestCase):
    """
    A key, and a time of day that the test turns.
    """

    def setUp(self) -> None:
        self.health = Health()
        self.now = 1000.0

    def rested(self) -> float:
        """
        Let it rest to the end.

        :return: for how long that was.
        """
        seconds = self.health.until - self.now
        self.assertFalse(self.health.is_free(self.now))
        self.now = self.health.until
        return seconds

    def fail_times(self, times: int) -> list[bool]:
        return [self.health.failed(self.now, RULES) for _ in range(times)]


class RefusedTests(HealthTests):
    """
    Upstream does not know it.
    """

    def test_doubling(self) -> None:
        """
        It rests for twice as long each time, up to an hour; that it is so is told the first time only.
        """
        told, rests = [], []
        for _ in range(8):
            told.append(self.health.refused(self.now, RULES))
            rests.append(self.rested())
        self.assertEqual([60, 120, 240, 480, 960, 1920, 3600, 3600], rests)
        self.assertEqual([True] + [False] * 7, told)  # while it is so, more often would be too often

    def test_at_once(self) -> None:
        """
        Calls that were sent together and are refused together count once.
        """
        for _ in range(5):
            self.health.refused(self.now, RULES)
        self.assertEqual(60, self.rested())

    def test_tried(self) -> None:
        """
        When it has rested it is not free yet: one call tries it, and no second one meanwhile.
        """
        self.health.refused(self.now, RULES)
        self.assertFalse(self.health.wants_probe(self.now))
        self.rested()
        self.assertEqual((False, True), (self.health.is_free(self.now), self.health.wants_probe(self.now)))
        self.health.probed = True
        self.assertFalse(self.health.wants_probe(self.now))

    def test_known_again(self) -> None:
        """
        A call that is taken ends it. When none was refused for a minute it shall be told. The next time begins from the
        start.
        """
        for _ in range(3):
            self.health.refused(self.now, RULES)
            self.rested()
        self.assertFalse(self.health.accepted(self.now))
        self.assertTrue(self.health.is_free(self.now))
        self.now += GOOD_SECONDS - 1
        self.assertFalse(self.health.accepted(self.now))
        self.now += 1
        self.assertEqual([True, False], [self.health.accepted(self.now) for _ in range(2)])
        self.now += TOLD_SECONDS
        self.assertTrue(self.health.refused(self.now, RULES))
        self.assertEqual(60, self.rested())

    def test_told_seldom(self) -> None:
        """
        Whatever comes between, it shall be told that it is refused once in ten minutes at most; and a refusal begins
        the minute anew that it must be good for.
        """
        began, told = self.now, []
        while self.now < began + 3 * TOLD_SECONDS:
            if self.health.refused(self.now, RULES):
                told.append(self.now - began)
            self.rested()
            for _ in range(2):
                self.health.accepted(self.now)
                self.now += GOOD_SECONDS
        self.assertEqual([0, 720, 1440], told)
        self.health.accepted(self.now)
        self.now += TOLD_SECONDS
        self.health.refused(self.now, RULES)
        self.rested()
        self.assertFalse(self.health.accepted(self.now))
        self.now += GOOD_SECONDS - 1
        self.health.refused(self.now, RULES)
        self.rested()
        self.assertFalse(self.health.accepted(self.now))

    def test_known_but_full(self) -> None:
        """
        Who is told to slow down is known. So is one that failed meanwhile, as soon as it answers.
        """
        self.health.refused(self.now, RULES)
        self.rested()
        self.assertFalse(self.health.limited(self.now, GOOD_SECONDS))
        self.rested()
        self.assertTrue(self.health.limited(self.now, 1.0))
        self.now += TOLD_SECONDS
        self.health.refused(self.now, RULES)
        self.rested()
        self.assertEqual([True], self.fail_times(1))
        self.assertEqual(("failing", 30.0), (self.health.cause, self.rested()))
        self.assertFalse(self.health.accepted(self.now))
        self.now += GOOD_SECONDS
        self.assertTrue(self.health.accepted(self.now))


class LimitedTests(HealthTests):
    """
    Upstream takes no more for now.
    """

    def test_asked(self) -> None:
        """
        It rests for as long as upstream has asked, up to an hour, and is free then without a trial.
        """
        for asked, seconds in ((0.5, 0.5), (7.0, 7.0), (1e9, LONGEST_SECONDS)):
            self.assertFalse(self.health.limited(self.now, asked))
            self.assertEqual(seconds, self.rested())
            self.assertEqual((True, False), (self.health.is_free(self.now), self.health.wants_probe(self.now)))
        self.health.limited(self.now, 0.0)
        self.assertTrue(self.health.is_free(self.now))

    def test_not_asked(self) -> None:
        """
        Where upstream does not say how long, each rest is twice as long as the last, up to half a minute.
        """
        rests = []
        for _ in range(7):
            for _ in range(3):
                self.health.limited(self.now, None)
            rests.append(self.rested())
        self.assertEqual([1, 2, 4, 8, 16, 30, 30], rests)
        self.health.accepted(self.now)
        self.health.limited(self.now, None)
        self.assertEqual(1, self.rested())

    def test_longest_counts(self) -> None:
        """
        Of calls that are told different times, the latest counts.
        """
        for asked in (5.0, 9.0, 2.0):
            self.health.limited(self.now, asked)
        self.assertEqual(9, self.rested())

    def test_success_meanwhile(self) -> None:
        """
        That a call is taken does not end what upstream has asked for.
        """
        self.health.limited(self.now, 5.0)
        self.health.accepted(self.now)
        self.assertEqual(5, self.rested())


class FailingTests(HealthTests):
    """
    Upstream fails with it.
    """

    def test_in_a_row(self) -> None:
        """
        Only failures in a row take it out: a success begins the count anew.
        """
        self.assertEqual([False, False], self.fail_times(2))
        self.health.accepted(self.now)
        self.assertEqual([False, False, True], self.fail_times(3))
        self.assertEqual(30, self.rested())

    def test_longer(self) -> None:
        """
        One that fails its trial rests longer by as much as the first time, up to ten times; a trial that goes well
        brings it back.
        """
        self.fail_times(3)
        rests = [self.rested()]
        for _ in range(MOST_TIMES + 1):
            self.assertTrue(self.health.wants_probe(self.now))
            self.assertEqual([True], self.fail_times(1))
            rests.append(self.rested())
        self.assertEqual([30.0 * min(times, 10) for times in range(1, 13)], rests)
        self.assertFalse(self.health.accepted(self.now))
        self.assertTrue(self.health.is_free(self.now))
        self.assertEqual([False, False, True], self.fail_times(3))
        self.assertEqual(30, self.rested())

    def test_meanwhile(self) -> None:
        """
        Failures while it rests change nothing: it is used all the same where all rest.
        """
        self.fail_times(3)
        self.assertEqual([False] * 20, self.fail_times(20))
        self.assertEqual(30, self.rested())


class AnyTests(TestCase):
    """
    Whatever happens to a key.
    """

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["accepted", "refused", "limited", "failed"]),
                st.one_of(st.none(), st.floats(0, 1e12)),
                st.integers(0, 5000),
            ),
            max_size=40,
        )
    )
    def test_bounded(self, events: list[tuple[str, float | None, int]]) -> None:
        """
        It never rests for more than an hour from now, and one call that is taken then brings it back.
        """
        health, now = Health(), 0
        for what, asked, passed in events:
            match what:
                case "accepted":
                    health.accepted(now)
                case "refused":
                    health.refused(now, RULES)
                case "limited":
                    health.limited(now, asked)
                case _:
                    health.failed(now, RULES)
            self.assertLessEqual(health.until, now + LONGEST_SECONDS)
            now += passed
        now += int(LONGEST_SECONDS)
        self.assertTrue(health.is_free(now) or health.wants_probe(now))
        health.accepted(now)
        self.assertTrue(health.is_free(now))
