"""
When budgets begin anew.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from unittest import TestCase

from hypothesis import assume, given
from hypothesis import strategies as st

from dheera.durations import after
from dheera.windows import ALL_TIME, EPOCH, LATEST_US, Window, window_at

TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - it asks so
SPANS = st.one_of(
    st.sampled_from(["24h", "1d", "7d", "1w", "30d", "1mo"]),
    st.builds("{}{}".format, st.integers(1, 1000), st.sampled_from(["s", "m", "h", "d", "w", "mo"])),
    st.builds("{}{}".format, st.integers(1, 999_999_999), st.sampled_from(["s", "m", "h", "d", "w", "mo"])),
)
ANCHORS = st.none() | TIMES


def us(instant: datetime) -> int:
    return (instant - EPOCH) // timedelta(microseconds=1)


def at(*when: int) -> int:
    return us(datetime(*when, tzinfo=UTC))  # type: ignore[arg-type,misc]  # mypy cannot tell how many there are


class CalendarTests(TestCase):
    """
    Spans that the calendar tells.
    """

    def check(self, span: str, starts: tuple[int, ...], ends: tuple[int, ...], *instants: int) -> None:
        for instant in (at(*starts), *instants, at(*ends) - 1):
            for anchor in (None, datetime(2025, 5, 17, 13, 21, tzinfo=UTC)):
                self.assertEqual(Window(at(*starts), at(*ends)), window_at(span, anchor, instant), span)

    def test_days(self) -> None:
        """
        A day begins at midnight UTC, whatever the anchor is.
        """
        for span in ("24h", "1d"):
            self.check(span, (2026, 2, 28), (2026, 3, 1), at(2026, 2, 28, 23, 59))

    def test_weeks(self) -> None:
        """
        A week begins on Sunday at midnight UTC.
        """
        self.assertEqual("Sunday", datetime(2026, 11, 22, tzinfo=UTC).strftime("%A"))
        for span in ("7d", "1w"):
            self.check(span, (2026, 11, 22), (2026, 11, 29), at(2026, 11, 25, 12))

    def test_months(self) -> None:
        """
        A month begins with its first at midnight UTC, and so do thirty days; leap years are known.
        """
        for span in ("30d", "1mo"):
            self.check(span, (2026, 12, 1), (2027, 1, 1), at(2026, 12, 31, 5))
            self.check(span, (2028, 2, 1), (2028, 3, 1), at(2028, 2, 29))


class AnchorTests(TestCase):
    """
    Spans that are counted from an anchor.
    """

    @given(TIMES, st.integers(1, 1000), st.sampled_from(["s", "m", "h", "d", "w"]), st.integers(0, 10))
    def test_fixed_units(self, anchor: datetime, count: int, unit: str, number: int) -> None:
        """
        They begin at the anchor, and then one after the other as `after` tells.
        """
        span = f"{count}{unit}"
        assume(span not in ("24h", "1d", "7d", "1w", "30d"))
        starts = anchor
        for _ in range(number):
            starts = after(starts, span)
        self.assertEqual(Window(us(starts), us(after(starts, span))), window_at(span, anchor, us(starts)))

    @given(TIMES, st.integers(2, 60), st.integers(1, 20))
    def test_months(self, anchor: datetime, count: int, number: int) -> None:
        """
        Windows of months begin as many months after the anchor as `after` tells, so that none drifts from its day.
        """
        starts, ends = after(anchor, f"{number * count}mo"), after(anchor, f"{(number + 1) * count}mo")
        for instant in (us(starts), us(ends) - 1):
            self.assertEqual(Window(us(starts), us(ends)), window_at(f"{count}mo", anchor, instant))

    def test_day_is_kept(self) -> None:
        """
        A month that is too short for the anchor's day ends a window with its last, and the next long one has it again.
        """
        anchor = datetime(2026, 8, 31, 10, tzinfo=UTC)
        edges = [at(2026, 4, 30, 10), at(2026, 6, 30, 10), at(2026, 8, 31, 10), at(2026, 10, 31, 10)]
        edges += [at(2026, 12, 31, 10), at(2027, 2, 28, 10), at(2027, 4, 30, 10)]
        for starts, ends in pairwise(edges):
            self.assertEqual(Window(starts, ends), window_at("2mo", anchor, starts))

    def test_before_anchor(self) -> None:
        """
        An anchor may lie ahead, as the next reset does: windows are counted back from it.
        """
        anchor = datetime(2026, 3, 10, 6, tzinfo=UTC)
        self.assertEqual(
            Window(at(2026, 3, 8, 6), at(2026, 3, 10, 6)), window_at("48h", anchor, at(2026, 3, 10, 5, 59))
        )

    def test_no_anchor(self) -> None:
        """
        Without an anchor they are counted from the epoch: three months are a quarter.
        """
        self.assertEqual(Window(at(2026, 4, 1), at(2026, 7, 1)), window_at("3mo", None, at(2026, 5, 5)))
        self.assertEqual(Window(at(2026, 5, 5, 12), at(2026, 5, 6)), window_at("12h", None, at(2026, 5, 5, 13)))

    def test_other_offset(self) -> None:
        """
        An anchor may be written with any offset.
        """
        anchor = datetime.fromisoformat("2026-01-31T23:30:00-05:00")
        self.assertEqual(Window(at(2026, 2, 1, 4, 30), at(2026, 4, 1, 4, 30)), window_at("2mo", anchor, at(2026, 3, 1)))


class WindowTests(TestCase):
    """
    Windows of any span.
    """

    @given(SPANS, ANCHORS, TIMES)
    def test_tile(self, span: str, anchor: datetime | None, instant: datetime) -> None:
        """
        Each instant is in its window, of which all instants say the same, and the next one begins where it ends.
        """
        window = window_at(span, anchor, us(instant))
        self.assertLessEqual(window.starts_us, us(instant))
        self.assertLess(us(instant), window.ends_us)
        for inside in (window.starts_us, (window.starts_us + window.ends_us) // 2, window.ends_us - 1):
            self.assertEqual(window, window_at(span, anchor, inside))
        if window.ends_us < LATEST_US:
            self.assertEqual(window.ends_us, window_at(span, anchor, window.ends_us).starts_us)
        if window.starts_us > 0:
            self.assertEqual(window.starts_us, window_at(span, anchor, window.starts_us - 1).ends_us)

    def test_endless(self) -> None:
        """
        A budget that never begins anew has one window, which is all time.
        """
        self.assertEqual((0, 0), (ALL_TIME.starts_us, ALL_TIME.ends_us))
        self.assertEqual(ALL_TIME, window_at("", datetime(2026, 1, 1, tzinfo=UTC), at(2026, 5, 5)))

    def test_longest(self) -> None:
        """
        The longest spans that can be written stay within what databases count.
        """
        anchor = datetime(2026, 1, 1, tzinfo=UTC)
        for unit in ("s", "m", "h", "d", "w", "mo"):
            window = window_at(f"999999999{unit}", anchor, at(2026, 5, 5))
            self.assertEqual(us(anchor), window.starts_us)
            self.assertLessEqual(window.ends_us, LATEST_US)
            before = window_at(f"999999999{unit}", anchor, us(anchor) - 1)
            self.assertEqual((True, us(anchor)), (before.starts_us >= 0, before.ends_us))

    @given(st.text(min_size=1, max_size=8) | st.sampled_from(["0d", "1y", "-1", "1d\n", "1D", "daily", "1234567890s"]))
    def test_anything_else(self, span: str) -> None:
        """
        What is not written like a span is a `ValueError`.
        """
        assume(not re.fullmatch(r"[1-9][0-9]{0,8}(s|m|h|d|w|mo)", span))
        with self.assertRaisesRegex(ValueError, "30d"):
            window_at(span, None, 0)
