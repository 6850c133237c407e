"""
What a batch adds to the measures.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from twisted.trial.unittest import SynchronousTestCase

from dheera.records import Record
from dheera.sinks.otlp.measures import COST, DURATION, TOKENS, Measure, Point, measured
from dheera.usage import Usage
from tests.sinks.records import bare, fine, full


def points(measure: Measure, *records: Record) -> list[Point]:
    """
    What is measured of *records*.
    """
    return measured(records, "api.mistral.ai").get(measure, [])


class MeasureTests(SynchronousTestCase):
    def test_names(self) -> None:
        """
        They have the names, units and buckets that the conventions advise.
        """
        self.assertEqual(gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE, TOKENS.name)
        self.assertEqual(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION, DURATION.name)
        self.assertEqual(("{token}", "s"), (TOKENS.unit, DURATION.unit))
        self.assertEqual((1, 4, 16, 67108864), (*TOKENS.bounds[:3], TOKENS.bounds[-1]))
        self.assertEqual((0.01, 0.02, 0.04, 81.92), (*DURATION.bounds[:3], DURATION.bounds[-1]))

    def test_tokens(self) -> None:
        """
        Tokens are told apart by their sort, and fall into their bucket.
        """
        found = {point.attributes["gen_ai.token.type"]: point for point in points(TOKENS, fine(), fine())}
        self.assertEqual((2, 240.0, 120, 120), _figures(found["input"]))
        self.assertEqual((2, 90.0, 45, 45), _figures(found["output"]))
        self.assertEqual([0, 0, 0, 0, 2], found["input"].counts[:5])  # up to 256
        self.assertEqual([0, 0, 0, 2, 0], found["output"].counts[:5])  # up to 64

    def test_bounds_belong(self) -> None:
        """
        The upper end of a bucket belongs to it.
        """
        (point,) = points(DURATION, fine(duration_us=20_000))
        self.assertEqual([0, 1, 0], point.counts[:3])

    def test_cost(self) -> None:
        """
        Costs add up; what has no price adds nothing, and what is free adds zero.
        """
        (point,) = points(COST, fine(), fine(), fine(cost_nano_usd=None))
        self.assertAlmostEqual(0.000083, point.total)
        self.assertEqual([], points(COST, fine(cost_nano_usd=None)))
        self.assertEqual([0.0], [each.total for each in points(COST, fine(cost_nano_usd=0))])

    def test_apart(self) -> None:
        """
        Keys, teams, models and errors are told apart.
        """
        records = [fine(), fine(key_alias="bo"), fine(team_id="t"), fine(model="m"), fine(status=500), fine()]
        self.assertEqual([2, 1, 1, 1, 1], [each.count for each in points(DURATION, *records)])

    def test_strange_models(self) -> None:
        """
        What a caller asked for in vain makes no series of its own.
        """
        records = [fine(model=f"m{number}", status=404, answered_model=None) for number in range(5)]
        (point,) = points(DURATION, *records)
        self.assertNotIn("gen_ai.request.model", point.attributes)

    def test_not_measured(self) -> None:
        """
        What never reached upstream, or concerns no model, adds nothing.
        """
        self.assertEqual({}, measured([full(attempts=0), bare()], "api.mistral.ai"))

    def test_no_tokens(self) -> None:
        """
        What uses no tokens adds none.
        """
        self.assertEqual([], points(TOKENS, fine(usage=Usage(pages=3)), fine(usage=None)))

    @given(st.lists(st.integers(0, 10**9), min_size=1, max_size=30))
    def test_all_count(self, durations: list[int]) -> None:
        """
        Each call is in one bucket, and the sums are those of all.
        """
        (point,) = points(DURATION, *(fine("x", duration_us=each) for each in durations))
        self.assertEqual((len(durations), len(durations)), (point.count, sum(point.counts)))
        self.assertAlmostEqual(sum(durations) / 1e6, point.total, places=4)
        self.assertEqual((min(durations) / 1e6, max(durations) / 1e6), (point.smallest, point.largest))


def _figures(point: Point) -> tuple[int, float, float, float]:
    return point.count, point.total, point.smallest, point.largest
