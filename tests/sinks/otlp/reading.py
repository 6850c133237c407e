"""
Requests of OTLP, read by rules of OpenTelemetry's own, so that they do not depend on what they prove.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from tests.sinks.server import Received


def read_spans(request: Received) -> ExportTraceServiceRequest:
    """
    A request with spans, in the encoding that it says it has.
    """
    message = ExportTraceServiceRequest()
    if request.headers["content-type"] == "application/x-protobuf":
        message.ParseFromString(request.body)
        return message
    assert request.headers["content-type"] == "application/json", request.headers
    whole = json.loads(request.body)
    for span in _dicts(whole, "spans"):
        # The one place where OTLP's JSON is not that of protocol buffers.
        for name in "traceId", "spanId":
            span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return json_format.ParseDict(whole, message)


def read_measures(request: Received) -> ExportMetricsServiceRequest:
    """
    A request with measures.
    """
    message = ExportMetricsServiceRequest()
    if request.headers["content-type"] == "application/x-protobuf":
        message.ParseFromString(request.body)
        return message
    return json_format.Parse(request.body, message)


def spans(request: Received) -> list[Span]:
    """
    The spans of a request, all of one resource and one scope.
    """
    (of_resource,) = read_spans(request).resource_spans
    (of_scope,) = of_resource.scope_spans
    return list(of_scope.spans)


def resource(request: Received) -> dict[str, Any]:
    """
    Who tells.
    """
    (found,) = read_spans(request).resource_spans
    assert isinstance(found, ResourceSpans)
    return attributes(found.resource.attributes)


def measures(request: Received) -> dict[str, Metric]:
    """
    The measures of a request by their names.
    """
    (of_resource,) = read_measures(request).resource_metrics
    (of_scope,) = of_resource.scope_metrics
    return {each.name: each for each in of_scope.metrics}


def attributes(found: Iterable[KeyValue]) -> dict[str, Any]:
    """
    Attributes as a dictionary; none is there twice.
    """
    pairs = [(each.key, _value(each.value)) for each in found]
    assert len(pairs) == len(dict(pairs)), pairs
    return dict(pairs)


def call_ids(request: Received) -> list[str]:
    """
    Of which calls spans tell; nothing of measures.
    """
    if request.path.endswith("/metrics"):
        return []
    return [attributes(span.attributes)["dheera.call_id"] for span in spans(request)]


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    assert kind is not None
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)


def _dicts(value: Any, name: str) -> Iterable[dict[str, Any]]:
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _dicts(each, name)
    if isinstance(value, dict):
        yield from value.get(name, ())
