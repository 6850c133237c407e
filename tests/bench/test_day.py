"""
What is left of a day: memory must not grow with what a daemon has seen.
"""

from __future__ import annotations

from collections import Counter
from functools import reduce
from operator import and_
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import TestCase

from bench.day import HOURS, Day, beginning, living, log_nothing

CALLS = 80
"""
In an hour.
"""
LOOKS = 4
"""
Hours of which the least that lives is taken: what is under way differs.
"""
FEW = CALLS * (HOURS - 3 * LOOKS) * 7 // 8
"""
Fewer than there are calls between two looks. What comes and goes takes some: the driver of SQLite forgets cursors in
hundreds, and each new sort of call has its counters.
"""


class DayTests(TestCase):
    def test_memory_is_flat(self) -> None:
        """
        In 24 hours with calls of all sorts, with keys that come and go and lines of the ledger that are forgotten, no
        sort of object becomes more by as much as there were calls, and nothing holds more.
        """
        log_nothing()
        with (
            TemporaryDirectory() as folder,
            beginning(Path(folder), keys=5, names=4, yesterday=1000) as day,
        ):
            early = least_of(day, LOOKS, after=LOOKS)
            late = least_of(day, LOOKS, after=HOURS - 3 * LOOKS)
        more = late - early
        self.assertEqual({}, {kind: many for kind, many in more.items() if many > FEW})


def least_of(day: Day, hours: int, *, after: int) -> Counter[str]:
    """
    What lives at the end of each of so many *hours*, of each sort the least.

    :param after: hours that pass before them.
    """
    looks = []
    for hour in range(after + hours):
        for _ in day.hour(CALLS):
            pass
        if hour >= after:
            looks.append(living())
    return reduce(and_, looks)
