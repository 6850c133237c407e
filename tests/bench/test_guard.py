"""
The guard over what a call costs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from unittest import TestCase

from attrs import define, evolve

from bench.guard import (
    ATTEMPTS,
    CALLS_MARGIN,
    CPU_MARGIN,
    STRANGE_MARGIN,
    Figures,
    Stored,
    calls,
    dearer,
    dearer_each_time,
    look,
    read,
    written,
)
from bench.guard_works import Calls, works

STORED = Stored(
    made="2026-11-23",
    processor="a",
    build="3.11.7 of today",
    calls={"exchange": 600.0, "one more": 33.0},
    cpu={"exchange": 2.0},
)


@define
class Planted:
    """
    Something beside each of *calls*.
    """

    work: Calls

    @property
    def units(self) -> int:
        return self.work.units

    def __call__(self) -> None:
        self.work()
        for _ in range(self.units * 20):
            json.loads("{}")


class GuardTests(TestCase):
    def times_until_it_ends(self, found: Sequence[float]) -> tuple[int, Figures]:
        """
        How often it measures, and what is dearer then, where it finds these one after the other.
        """
        measured: list[float] = []

        def measure() -> Figures:
            measured.append(found[len(measured)])
            return {"exchange": measured[-1]}

        grown = dearer_each_time(measure, STORED.cpu, CPU_MARGIN)
        return len(measured), grown

    def test_dearer(self) -> None:
        """
        What is more by more than the margin is told with how much; what is less, or was never stored, is not.
        """
        self.assertEqual({}, dearer({"exchange": 615.0, "one more": 1.0, "new": 9.0}, STORED.calls, 0.03))
        self.assertEqual({"exchange": 0.25}, dearer({"exchange": 750.0}, STORED.calls, 0.03))

    def test_noise(self) -> None:
        """
        What is too dear once and not the next time is not; what is so each time is, by the least that was found.
        """
        self.assertEqual((1, {}), self.times_until_it_ends([2.1]))
        self.assertEqual((3, {}), self.times_until_it_ends([3.0, 2.5, 2.1]))
        self.assertEqual((ATTEMPTS, {"exchange": 0.25}), self.times_until_it_ends([2.6, 2.5, 3.0, 2.7, 2.8]))

    def test_file(self) -> None:
        """
        What is written down is read again, for each version of Python.
        """
        everything = {"3.11": STORED, "3.14": STORED}
        self.assertEqual(everything, read(written(everything)))

    def test_elsewhere(self) -> None:
        """
        CPU time is looked at closely by the Python, and on the processor, by which and on which it was stored.
        """
        with works() as measured:
            here = look({"event": measured["event"]})
        self.assertEqual(CPU_MARGIN, here.cpu_margin)
        for elsewhere in (evolve(here, build="another"), evolve(here, processor="another")):
            self.assertEqual(STRANGE_MARGIN, elsewhere.cpu_margin)

    def test_counts(self) -> None:
        """
        Each work is done as it should be; calls of functions are the same each time, and a few more for each call are
        found.
        """
        with works() as measured:
            first, again = calls(measured), calls(measured)
            exchange = measured["exchange"]
            assert isinstance(exchange, Calls)
            more = calls({"exchange": Planted(exchange)})
        self.assertEqual({}, dearer(again, first, CALLS_MARGIN / 10))
        self.assertEqual(["exchange"], [*dearer(more, first, CALLS_MARGIN)])
