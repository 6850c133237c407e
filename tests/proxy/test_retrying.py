"""
How many calls are sent again, and when.
"""

from __future__ import annotations

from datetime import UTC, datetime
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from dheera.proxy.retrying import FIRST_PAUSE_SECONDS, MOST_SAVED, RetryBudget, asked_seconds
from dheera.settings import BalanceSettings

NOW = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


class RetryBudgetTests(TestCase):
    """
    The budget of one upstream.
    """

    @given(st.integers(0, 100), st.lists(st.booleans(), max_size=400))
    def test_part_of_all(self, percent: int, wishes: list[bool]) -> None:
        """
        Whatever is wished, no more are sent again than the part of all that is allowed, and those that were saved up.
        """
        budget = RetryBudget(BalanceSettings(retry_percent=percent))
        again = 0
        for calls, wish in enumerate(wishes, 1):
            budget.count()
            if wish and budget.allows(1):
                budget.take()
                again += 1
            self.assertLessEqual(again * 100, MOST_SAVED * 100 + calls * percent)

    def test_saved(self) -> None:
        """
        Ten are saved up to begin with, and no more than that whatever comes; a fifth of the calls brings one each.
        """
        budget = RetryBudget(BalanceSettings(retry_percent=20))
        for _ in range(1000):
            budget.count()
        taken = 0
        while budget.allows(1):
            budget.take()
            taken += 1
        self.assertEqual(10, taken)
        for _ in range(4):
            budget.count()
        self.assertFalse(budget.allows(1))
        budget.count()
        self.assertTrue(budget.allows(1))

    def test_of_one_call(self) -> None:
        """
        One call is sent again as often as is set, and no more; never at all with a budget of nothing.
        """
        budget = RetryBudget(BalanceSettings(retries=2))
        self.assertEqual([True, True, False], [budget.allows(tries) for tries in (1, 2, 3)])
        self.assertFalse(RetryBudget(BalanceSettings(retries=0)).allows(1))
        self.assertFalse(RetryBudget(BalanceSettings(retry_percent=0)).allows(1))

    @given(st.integers(1, 10))
    def test_pause(self, tries: int) -> None:
        """
        Pauses double, are drawn from half to all of that, and are no longer than is ever waited.
        """
        rules = BalanceSettings(retry_wait_seconds=2.0)
        most = FIRST_PAUSE_SECONDS * 2 ** (tries - 1)
        self.assertEqual(min(most, 2.0), RetryBudget(rules, lambda _, high: high).pause(tries))
        self.assertEqual(min(most / 2, 2.0), RetryBudget(rules, lambda low, _: low).pause(tries))
        self.assertLessEqual(RetryBudget(rules).pause(tries), 2.0)


class RetryAfterTests(TestCase):
    """
    ``Retry-After``, as upstream writes it.
    """

    def test_said(self) -> None:
        """
        Seconds, or a date; one that is over is no time at all.
        """
        for value, seconds in (
            (b"0", 0.0),
            (b"120", 120.0),
            (b"1.5", 1.5),
            (b"Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
            (b"Sunday, 06-Nov-94 08:49:39 GMT", 2.0),
            (b"Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ):
            fields = [(b"Content-Length", b"0"), (b"rEtry-After", value)]
            self.assertEqual(seconds, asked_seconds(fields, NOW), value)

    def test_not_said(self) -> None:
        """
        None, or one that nobody understands, says nothing.
        """
        self.assertIsNone(asked_seconds([(b"Content-Length", b"0")], NOW))
        for value in (b"", b"soon", b"-1", b"nan", b"1e9", b"Sun, 06 Nov 1994 08:49:37 +99999999999999", b"\xff"):
            self.assertIsNone(asked_seconds([(b"Retry-After", value)], NOW), value)

    @given(st.binary(max_size=40))
    def test_anything(self, value: bytes) -> None:
        """
        Whatever it says, the answer goes on.
        """
        seconds = asked_seconds([(b"Retry-After", value)], NOW)
        self.assertTrue(seconds is None or seconds >= 0)
