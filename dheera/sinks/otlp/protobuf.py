"""
OTLP in protocol buffers, by the messages of ``opentelemetry-proto``, which comes with ``dheera[otel]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1 import common_pb2 as common
from opentelemetry.proto.metrics.v1 import metrics_pb2 as metrics
from opentelemetry.proto.trace.v1 import trace_pb2 as trace

from dheera import __version__
from dheera.sinks.otlp.encoding import SAMPLED, SCOPE, Encoding, Period
from dheera.sinks.otlp.measures import Measure, Point
from dheera.sinks.otlp.spans import CLIENT, INTERNAL, Span, Value

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

    Attributes: TypeAlias = RepeatedCompositeFieldContainer[common.KeyValue]

_KINDS = {INTERNAL: trace.Span.SPAN_KIND_INTERNAL, CLIENT: trace.Span.SPAN_KIND_CLIENT}


class ProtobufEncoding:
    """
    What OTLP speaks if nothing else is said.
    """

    content_type: ClassVar[str] = "application/x-protobuf"

    def spans(self, resource: Mapping[str, Value], spans: Sequence[Span]) -> bytes:
        """
        See `dheera.sinks.otlp.encoding.Encoding`.
        """
        request = ExportTraceServiceRequest()
        whole = request.resource_spans.add()
        _fill(whole.resource.attributes, resource)
        scoped = whole.scope_spans.add()
        scoped.scope.name, scoped.scope.version = SCOPE, __version__
        for span in spans:
            _fill_span(scoped.spans.add(), span)
        return request.SerializeToString()

    def measures(
        self, resource: Mapping[str, Value], found: Mapping[Measure, Sequence[Point]], period: Period
    ) -> bytes:
        """
        See `dheera.sinks.otlp.encoding.Encoding`.
        """
        request = ExportMetricsServiceRequest()
        whole = request.resource_metrics.add()
        _fill(whole.resource.attributes, resource)
        scoped = whole.scope_metrics.add()
        scoped.scope.name, scoped.scope.version = SCOPE, __version__
        for measure, points in found.items():
            _fill_metric(scoped.metrics.add(), measure, points, period)
        return request.SerializeToString()

    def rejected_spans(self, answer: bytes) -> tuple[int, str]:
        """
        See `dheera.sinks.otlp.encoding.Encoding`.
        """
        told = ExportTraceServiceResponse()
        try:
            told.ParseFromString(answer)
        except DecodeError:
            return 0, ""  # it was taken, and said so in other words
        return told.partial_success.rejected_spans, told.partial_success.error_message

    def rejected_points(self, answer: bytes) -> tuple[int, str]:
        """
        See `dheera.sinks.otlp.encoding.Encoding`.
        """
        told = ExportMetricsServiceResponse()
        try:
            told.ParseFromString(answer)
        except DecodeError:
            return 0, ""
        return told.partial_success.rejected_data_points, told.partial_success.error_message


# Messages are filled where they are: to make them first and put them in takes four times as long.


def _fill_span(message: trace.Span, span: Span) -> None:
    message.trace_id, message.span_id = span.trace_id, span.span_id
    message.flags = SAMPLED
    message.name, message.kind = span.name, _KINDS[span.kind]
    message.start_time_unix_nano, message.end_time_unix_nano = span.started, span.ended
    _fill(message.attributes, span.attributes)
    if span.error is not None:
        message.status.code, message.status.message = trace.Status.STATUS_CODE_ERROR, span.error


def _fill_metric(message: metrics.Metric, measure: Measure, points: Sequence[Point], period: Period) -> None:
    message.name, message.unit, message.description = measure.name, measure.unit, measure.description
    kind = message.histogram if measure.bounds else message.sum
    kind.aggregation_temporality = metrics.AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    if not measure.bounds:
        message.sum.is_monotonic = True
    for point in points:
        told = kind.data_points.add()
        told.start_time_unix_nano, told.time_unix_nano = period.since, period.until
        _fill(told.attributes, point.attributes)
        if isinstance(told, metrics.NumberDataPoint):
            told.as_double = point.total
        else:
            told.count, told.sum, told.min, told.max = point.count, point.total, point.smallest, point.largest
            told.bucket_counts.extend(point.counts)
            told.explicit_bounds.extend(measure.bounds)


def _fill(messages: Attributes, found: Mapping[str, Value]) -> None:
    for name, value in found.items():
        message = messages.add()
        message.key = name
        _fill_value(message.value, value)


def _fill_value(message: common.AnyValue, value: Value) -> None:
    match value:
        case str():
            message.string_value = value
        case bool():
            message.bool_value = value
        case int():
            message.int_value = value
        case float():
            message.double_value = value
        case _:
            for each in value:
                message.array_value.values.add().string_value = each


_: type[Encoding] = ProtobufEncoding
