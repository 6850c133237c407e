"""
What a batch of records adds to the measures that the GenAI semantic conventions name, and to the cost.

Each batch is told as what it adds ("delta"), since nothing is kept between batches.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field, frozen

from dheera.records import Record
from dheera.sinks.figures import cost_of, error_type
from dheera.sinks.otlp.spans import PROVIDER, Attributes, Value, operation_of

TOKEN_BOUNDS = tuple(4.0**power for power in range(14))
SECOND_BOUNDS = tuple(round(0.01 * 2**power, 2) for power in range(14))
"""
As the conventions advise.
"""
_CLIENT_ERRORS = range(400, 500)


@frozen
class Measure:
    """
    What is measured.

    :param bounds: upper ends of the buckets of a histogram; empty for a sum.
    """

    name: str
    unit: str
    description: str
    bounds: Sequence[float] = ()


@define(kw_only=True, eq=False)
class Point:
    """
    What was measured of calls that have *attributes* in common.

    :ivar counts: of each bucket, and of what is beyond the last.
    """

    attributes: Mapping[str, Value]
    counts: list[int]
    count: int = 0
    total: float = 0.0
    smallest: float = field(default=float("inf"))
    largest: float = field(default=float("-inf"))


TOKENS = Measure("gen_ai.client.token.usage", "{token}", "Tokens that a call used.", TOKEN_BOUNDS)
DURATION = Measure("gen_ai.client.operation.duration", "s", "How long a call took.", SECOND_BOUNDS)
COST = Measure("dheera.cost", "{USD}", "What calls cost.")


def measured(records: Iterable[Record], server: str) -> dict[Measure, list[Point]]:
    """
    What *records* add, by measure. What never reached upstream adds nothing.
    """
    points: dict[Measure, dict[tuple[object, ...], Point]] = {}
    for record in records:
        if record.attempts and operation_of(record):
            for measure, value, attributes in _values(record, server):
                key = tuple(attributes.items())
                empty = [0] * (len(measure.bounds) + 1)
                point = points.setdefault(measure, {}).setdefault(key, Point(attributes=attributes, counts=empty))
                _add(point, measure, value)
    return {measure: list(found.values()) for measure, found in points.items()}


def _values(record: Record, server: str) -> Iterable[tuple[Measure, float, Attributes]]:
    common = _common(record, server)
    if record.usage and (record.usage.prompt_tokens or record.usage.completion_tokens):
        for sort, count in (("input", record.usage.prompt_tokens), ("output", record.usage.completion_tokens)):
            yield TOKENS, count, {**common, "gen_ai.token.type": sort}
    error = error_type(record)
    yield DURATION, record.duration_us / 1e6, {**common, **({"error.type": error} if error else {})}
    cost = cost_of(record)
    if cost is not None:
        yield COST, cost, common


def _common(record: Record, server: str) -> Attributes:
    # What a caller only asked for, and upstream refused, may be any text: it would make series without end.
    is_refused = record.status in _CLIENT_ERRORS
    found = {
        "gen_ai.operation.name": operation_of(record),
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": None if is_refused else record.model,
        "gen_ai.response.model": record.answered_model,
        "server.address": server,
        "dheera.key.alias": record.key_alias,
        "dheera.team.id": record.team_id,
        "dheera.estimated": True if record.estimated else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _add(point: Point, measure: Measure, value: float) -> None:
    point.counts[bisect_left(measure.bounds, value)] += 1
    point.count += 1
    point.total += value
    point.smallest = min(point.smallest, value)
    point.largest = max(point.largest, value)
