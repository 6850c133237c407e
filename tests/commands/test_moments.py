"""
Times in the past, as people say them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from unittest import TestCase

import click

from dheera.commands.moments import as_day, as_moment, before

AT = datetime(2026, 3, 31, 12, 30, tzinfo=UTC)


class MomentTests(TestCase):
    def test_days(self) -> None:
        """
        A day is itself, or so long ago; a month ago is the same day, or the last of that month.
        """
        for text, told in {
            "2026-03-01": "2026-03-01",
            "7d": "2026-03-24",
            "2w": "2026-03-17",
            "13h": "2026-03-30",
            "1mo": "2026-02-28",
            "3mo": "2025-12-31",
            "12mo": "2025-03-31",
        }.items():
            self.assertEqual(told, as_day(text, AT), text)

    def test_times(self) -> None:
        """
        A time is said in UTC; a day stays one, for what ends with it includes it.
        """
        for text, told in {
            "2026-03-01": "2026-03-01",
            "2026-03-01T12:00:00Z": "2026-03-01T12:00:00Z",
            "2026-03-01T12:00:00+02:00": "2026-03-01T10:00:00Z",
            "2026-03-01 12:00": "2026-03-01T12:00:00Z",
            "30m": "2026-03-31T12:00:00Z",
            "1mo": "2026-02-28T12:30:00Z",
        }.items():
            self.assertEqual(told, as_moment(text, AT), text)

    def test_nonsense(self) -> None:
        """
        What is no time is told, with what would be one.
        """
        for text in "", "yesterday", "2026-02-30", "7", "-7d", "999999999mo", "999999999w", "2026-03-01T25:00":
            self.assertRaisesRegex(click.BadParameter, "7d", as_day, text, AT)
            self.assertRaisesRegex(click.BadParameter, "7d", as_moment, text, AT)

    def test_beyond_the_calendar(self) -> None:
        """
        Nothing is before the year 1.
        """
        self.assertRaises(ValueError, before, AT, "30000mo")
        self.assertRaises(ValueError, before, AT, "1000000d")
