from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from unittest import TestCase

from hypothesis import assume, given
from hypothesis import strategies as st

from dheera.durations import PATTERN, after

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - it asks so
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


class SpanTests(TestCase):
    @given(TIMES, st.integers(1, 10_000), st.sampled_from(list(SECONDS)))
    def test_fixed_units(self, start: datetime, count: int, unit: str) -> None:
        """
        Seconds, minutes, hours, days and weeks are always as long.
        """
        self.assertEqual(start + timedelta(seconds=count * SECONDS[unit]), after(start, f"{count}{unit}"))

    @given(TIMES, st.integers(1, 1000))
    def test_months(self, start: datetime, count: int) -> None:
        """
        Months lead to the same day and time of a later month, or to its last day if it is shorter.
        """
        end = after(start, f"{count}mo")
        self.assertEqual(count, (end.year - start.year) * 12 + end.month - start.month)
        self.assertEqual(min(start.day, monthrange(end.year, end.month)[1]), end.day)
        self.assertEqual(start.timetz(), end.timetz())

    def test_ends_of_months(self) -> None:
        """
        A month after the last of January is the last of February, in leap years too, and the last of December leads
        into the next year.
        """
        for start, span, end in (
            ((2026, 1, 31), "1mo", (2026, 2, 28)),
            ((2028, 1, 31), "1mo", (2028, 2, 29)),
            ((2026, 12, 31), "2mo", (2027, 2, 28)),
            ((2026, 12, 15), "1mo", (2027, 1, 15)),
            ((2024, 2, 29), "12mo", (2025, 2, 28)),
        ):
            self.assertEqual(datetime(*end, tzinfo=UTC), after(datetime(*start, tzinfo=UTC), span))

    @given(st.text(max_size=8) | st.from_regex(r"[0-9]{1,12} ?[a-zA-Z]{0,3}"))
    def test_anything_else(self, text: str) -> None:
        """
        What is not written like a span is a `ValueError` that shows how it is.
        """
        assume(not re.fullmatch(r"[1-9][0-9]{0,8}(s|m|h|d|w|mo)", text))
        with self.assertRaisesRegex(ValueError, "30d"):
            after(NEW_YEAR, text)

    def test_known_mistakes(self) -> None:
        """
        No zero, no sign, no fraction, no capital, no space, no other script's digits, nothing after it.
        """
        for text in "", "0s", "-1d", "+1d", "1.5h", "1D", "1 d", "٣d", "30", "d", "1y", "1mon", "30d\n", "30d ", "01d":
            with self.assertRaises(ValueError, msg=repr(text)):
                after(NEW_YEAR, text)

    def test_beyond_the_calendar(self) -> None:
        """
        What leads beyond the year 9999 is a `ValueError`, not an error of the calendar.
        """
        for text in "999999999d", "999999999w", "999999999mo", "95690mo":
            with self.assertRaisesRegex(ValueError, "9999", msg=text):
                after(NEW_YEAR, text)
        self.assertEqual(9999, after(NEW_YEAR, f"{12 * (9999 - 2026) + 11}mo").year)

    @given(st.from_regex(r"[0-9]{0,11}[a-z]{0,3}", fullmatch=True))
    def test_pattern(self, text: str) -> None:
        """
        The pattern that the API describes takes what `after` takes, and nothing else.
        """
        try:
            after(NEW_YEAR, text)
        except ValueError as error:
            taken = "9999" in str(error)
        else:
            taken = True
        self.assertEqual(taken, re.search(PATTERN, text) is not None)
