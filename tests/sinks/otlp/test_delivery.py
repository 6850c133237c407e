"""
What somebody who receives OTLP is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from twisted.logger import LogLevel, capturedLogs, formatEvent

from dheera import __version__
from dheera.sinks.contract import SinkAway, SinkFactory
from dheera.sinks.otlp import FACTORY
from dheera.sinks.otlp.delivery import OtlpSink
from tests.sinks import suite
from tests.sinks.otlp import reading
from tests.sinks.records import bare, entries, fine, full
from tests.sinks.server import Answer, Received

JSON = {"protocol": "http/json"}


class ProtobufTests(suite.SinkContract):
    """
    OTLP in protocol buffers, which it is if nobody says anything else.
    """

    factory: ClassVar[SinkFactory] = FACTORY

    def table(self, url: str) -> Mapping[str, Any]:
        return {"endpoint": url, "headers": {"api-key": suite.CANARY}}

    def call_ids(self, request: Received) -> Sequence[str]:
        return reading.call_ids(request)

    async def test_requests(self) -> None:
        """
        Spans go first, then what they add to the measures; both with the headers of the table.
        """
        await self.make().send(self.batch())
        self.assertEqual(["/v1/traces", "/v1/metrics"], [request.path for request in self.server.requests])
        for request in self.server.requests:
            self.assertEqual("POST", request.method)
            self.assertEqual("application/x-protobuf", request.headers["content-type"])
            self.assertEqual(suite.CANARY, request.headers["api-key"])

    async def test_resource(self) -> None:
        """
        Who tells is the service, its version, and the node.
        """
        await self.make(resource={"team": "ops"}).send(self.batch(1))
        self.assertEqual(
            {
                "service.name": "dheera",
                "service.version": __version__,
                "service.instance.id": "north-1",
                "team": "ops",
            },
            reading.resource(self.server.requests[0]),
        )

    async def test_same_ids(self) -> None:
        """
        What is sent again has the same ids of trace and span.
        """
        batch = self.batch()
        for sink in self.make(), self.make():
            await sink.send(batch)
        first, _, second, _ = self.server.requests
        self.assertEqual(reading.spans(first), reading.spans(second))

    async def test_measures_fail(self) -> None:
        """
        Measures that did not arrive fail the batch, and are told once it is sent again.
        """
        self.server.next.extend([Answer(), Answer(status=503)])
        sink, batch = self.make(), self.batch(1)
        await self.assertFailure(sink.send(batch), SinkAway)
        await sink.send(batch)
        failed, told = (reading.measures(self.server.requests[each]) for each in (1, 3))
        self.assertEqual(failed, told)

    async def test_no_gap_between_measures(self) -> None:
        """
        The time of a batch begins where that of the batch before has ended.
        """
        sink = self.make()
        for _ in range(2):
            await sink.send(entries(full()))
        first, second = (
            reading.measures(self.server.requests[each])["dheera.cost"].sum.data_points[0] for each in (1, 3)
        )
        self.assertEqual(first.time_unix_nano, second.start_time_unix_nano)
        self.assertLess(second.start_time_unix_nano, second.time_unix_nano)

    async def test_nothing_to_measure(self) -> None:
        """
        Calls that concern no model add nothing to the measures.
        """
        await self.make().send(entries(bare(), bare()))
        self.assertEqual(["/v1/traces"], [request.path for request in self.server.requests])

    async def test_no_measures(self) -> None:
        """
        Who takes spans only is sent no measures.
        """
        await self.make(metrics=False).send(self.batch())
        self.assertEqual(["/v1/traces"], [request.path for request in self.server.requests])

    async def test_not_compressed(self) -> None:
        """
        Compression can be switched off.
        """
        await self.make(compression="none").send(self.batch(60))
        self.assertNotIn("content-encoding", self.server.requests[0].headers)

    async def test_many(self) -> None:
        """
        What is more than one request should hold goes in several, and its measures in one.
        """
        batch = self.batch(201)
        await self.make().send(batch)
        self.assertEqual([100, 100, 1, 0], [len(self.call_ids(request)) for request in self.server.requests])
        self.assertEqual(suite.ids(batch), self.arrived())

    async def test_large(self) -> None:
        """
        Records of some mebibytes are not put into one request.
        """
        batch = entries(*(full(message="x" * 3 * 1024 * 1024) for _ in range(3)))
        await self.make(metrics=False).send(batch)
        self.assertEqual([1, 1, 1], [len(self.call_ids(request)) for request in self.server.requests])

    async def test_partial_success(self) -> None:
        """
        What the receiver has thrown away is counted and logged, and not sent again.
        """
        told = ExportTraceServiceResponse(
            partial_success=ExportTracePartialSuccess(rejected_spans=2, error_message="too old")
        )
        points = ExportMetricsServiceResponse()
        points.partial_success.rejected_data_points = 1
        self.server.next.extend(Answer(body=each.SerializeToString()) for each in (told, points))
        sink = self.make()
        with capturedLogs() as logs:
            await sink.send(self.batch())
        assert isinstance(sink, OtlpSink)
        self.assertEqual(3, sink.rejected)
        self.assertEqual(
            [
                "Sink tried: the receiver has rejected 2 spans: too old",
                "Sink tried: the receiver has rejected 1 points: ",
            ],
            [formatEvent(event) for event in logs if event["log_level"] is LogLevel.warn],
        )

    async def test_strange_answer(self) -> None:
        """
        A receiver that takes all and answers in its own words is believed.
        """
        for body in b"\xff\xff<html>", b"OK", b"":
            self.server.usual = Answer(body=body)
            sink = self.make()
            await sink.send(self.batch())
            assert isinstance(sink, OtlpSink)
            self.assertEqual(0, sink.rejected)


class JsonTests(suite.SinkContract):
    """
    OTLP in JSON.
    """

    factory: ClassVar[SinkFactory] = FACTORY

    def table(self, url: str) -> Mapping[str, Any]:
        return {"endpoint": url, "headers": {"Authorization": f"Bearer {suite.CANARY}"}, **JSON}

    def call_ids(self, request: Received) -> Sequence[str]:
        return reading.call_ids(request)

    async def test_says_the_same(self) -> None:
        """
        Both encodings say the same of the same records.
        """
        batch = entries(full(), fine(), bare(attempts=0))
        await self.make().send(batch)
        await self.make(protocol="http/protobuf").send(batch)
        json_spans, json_measures, spans, measures = self.server.requests
        self.assertEqual("application/json", json_spans.headers["content-type"])
        self.assertEqual(reading.read_spans(spans), reading.read_spans(json_spans))
        self.assertEqual(reading.read_measures(measures), reading.read_measures(json_measures))

    async def test_partial_success(self) -> None:
        """
        What the receiver has thrown away is counted, be its number a text or a number.
        """
        for body, expected in (
            (b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}', 2),
            (b'{"partialSuccess":{"rejectedSpans":1}}', 1),
            (b'{"partialSuccess":null}', 0),
            (b'{"partialSuccess":{"rejectedSpans":{}}}', 0),
            (b"[]", 0),
            (b"OK", 0),
        ):
            self.server.usual = Answer(body=body)
            sink = self.make(metrics=False)
            await sink.send(self.batch())
            assert isinstance(sink, OtlpSink)
            self.assertEqual(expected, sink.rejected, body)

    async def test_rejected_points(self) -> None:
        """
        Points that were thrown away are counted too.
        """
        self.server.usual = Answer(body=b'{"partialSuccess":{"rejectedDataPoints":"4"}}')
        sink = self.make()
        await sink.send(self.batch())
        assert isinstance(sink, OtlpSink)
        self.assertEqual(4, sink.rejected)
