"""
Spans and measures as OTLP writes them: what all ways of writing have in common, and JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import msgspec
from attrs import frozen

from dheera import __version__
from dheera.sinks.otlp.measures import Measure, Point
from dheera.sinks.otlp.spans import Span, Value

SCOPE = "dheera"
STATUS_ERROR = 2
DELTA = 1
SAMPLED = 1
"""
Numbers that OTLP gives to a status, to a temporality and to a flag of W3C Trace Context.
"""


@frozen(kw_only=True)
class Period:
    """
    The time in which something was measured, in nanoseconds since 1970.
    """

    since: int
    until: int


class Encoding(Protocol):
    """
    One way of writing OTLP.

    :cvar content_type: of requests and answers.
    """

    content_type: ClassVar[str]

    def spans(self, resource: Mapping[str, Value], spans: Sequence[Span]) -> bytes:
        """
        A request that tells of *spans*.
        """
        ...

    def measures(
        self, resource: Mapping[str, Value], found: Mapping[Measure, Sequence[Point]], period: Period
    ) -> bytes:
        """
        A request that tells what was measured in *period*.
        """
        ...

    def rejected_spans(self, answer: bytes) -> tuple[int, str]:
        """
        How many spans the other side has thrown away, by its answer, and why.
        """
        ...

    def rejected_points(self, answer: bytes) -> tuple[int, str]:
        """
        How many points the other side has thrown away, by its answer, and why.
        """
        ...


class JsonEncoding:
    """
    OTLP in JSON: names in camel case, ids in hexadecimal, 64-bit numbers as texts.
    """

    content_type: ClassVar[str] = "application/json"

    def spans(self, resource: Mapping[str, Value], spans: Sequence[Span]) -> bytes:
        """
        See `Encoding`.
        """
        written = {"scope": _scope(), "spans": [_span(each) for each in spans]}
        return _request("resourceSpans", resource, {"scopeSpans": [written]})

    def measures(
        self, resource: Mapping[str, Value], found: Mapping[Measure, Sequence[Point]], period: Period
    ) -> bytes:
        """
        See `Encoding`.
        """
        written = {"scope": _scope(), "metrics": [_metric(*each, period) for each in found.items()]}
        return _request("resourceMetrics", resource, {"scopeMetrics": [written]})

    def rejected_spans(self, answer: bytes) -> tuple[int, str]:
        """
        See `Encoding`.
        """
        return _rejected(answer, "rejectedSpans")

    def rejected_points(self, answer: bytes) -> tuple[int, str]:
        """
        See `Encoding`.
        """
        return _rejected(answer, "rejectedDataPoints")


def _scope() -> dict[str, str]:
    return {"name": SCOPE, "version": __version__}


def _request(kind: str, resource: Mapping[str, Value], rest: dict[str, Any]) -> bytes:
    return msgspec.json.encode({kind: [{"resource": {"attributes": _attributes(resource)}, **rest}]})


def _span(span: Span) -> dict[str, Any]:
    return {
        "traceId": span.trace_id.hex(),
        "spanId": span.span_id.hex(),
        "flags": SAMPLED,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.started),
        "endTimeUnixNano": str(span.ended),
        "attributes": _attributes(span.attributes),
        **({} if span.error is None else {"status": {"code": STATUS_ERROR, "message": span.error}}),
    }


def _metric(measure: Measure, points: Sequence[Point], period: Period) -> dict[str, Any]:
    written = {"aggregationTemporality": DELTA, "dataPoints": [_point(measure, each, period) for each in points]}
    kind = {"histogram": written} if measure.bounds else {"sum": {**written, "isMonotonic": True}}
    return {"name": measure.name, "unit": measure.unit, "description": measure.description, **kind}


def _point(measure: Measure, point: Point, period: Period) -> dict[str, Any]:
    common = {
        "attributes": _attributes(point.attributes),
        "startTimeUnixNano": str(period.since),
        "timeUnixNano": str(period.until),
    }
    if not measure.bounds:
        return {**common, "asDouble": point.total}
    return {
        **common,
        "count": str(point.count),
        "sum": point.total,
        "min": point.smallest,
        "max": point.largest,
        "bucketCounts": [str(each) for each in point.counts],
        "explicitBounds": measure.bounds,
    }


def _attributes(found: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in found.items()]


def _value(value: Value) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case _:
            return {"arrayValue": {"values": [_value(each) for each in value]}}


def _rejected(answer: bytes, name: str) -> tuple[int, str]:
    try:
        told = msgspec.json.decode(answer).get("partialSuccess") or {}
        return int(told.get(name) or 0), str(told.get("errorMessage") or "")
    except (msgspec.MsgspecError, AttributeError, TypeError, ValueError):
        return 0, ""  # it was taken: some answer with an empty body, or with words


_: type[Encoding] = JsonEncoding
