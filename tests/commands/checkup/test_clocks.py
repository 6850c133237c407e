"""
Clocks are compared, and nobody is blamed for the time that an answer takes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from dheera.commands.checkup.clocks import compared

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def state(off: float, seconds: float = 0.0) -> str:
    """
    What is said of a clock that differs so much, and answers after so long.
    """
    return compared("it", NOON + timedelta(seconds=off), NOON, seconds).state


class Compared(TestCase):
    """
    Two clocks.
    """

    def test_bounds(self) -> None:
        """
        Up to five seconds are fine, more are a warning, more than a minute is a failure; either way.
        """
        for off, expected in ((0, "ok"), (5, "ok"), (6, "warn"), (60, "warn"), (61, "fail"), (86400, "fail")):
            self.assertEqual((expected, expected), (state(off), state(-off)))

    def test_words(self) -> None:
        """
        It is said who is ahead.
        """
        self.assertIn("this machine is 90 s behind it", compared("it", NOON + timedelta(seconds=90), NOON, 0).found)
        self.assertIn("this machine is 90 s ahead of it", compared("it", NOON - timedelta(seconds=90), NOON, 0).found)

    @given(st.floats(0, 100), st.floats(0, 1), st.floats(0, 0.999))
    def test_slow_answer(self, seconds: float, when: float, cut: float) -> None:
        """
        Clocks that agree are fine, however long the answer took, whenever within that time the other looked at its
        clock, and if it tells whole seconds alone.
        """
        there = NOON + timedelta(seconds=seconds * when - cut)
        self.assertEqual("ok", compared("it", there, NOON, seconds, resolution=1.0).state)
