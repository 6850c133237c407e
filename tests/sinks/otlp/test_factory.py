"""
The table and the variables of OpenTelemetry, read together.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.config import ConfigurationError
from dheera.sinks.catalogue import parsed_settings
from dheera.sinks.contract import Reply, Sink, SinkFactory, Tools
from dheera.sinks.otlp import FACTORY
from tests.sinks.otlp import reading
from tests.sinks.records import NOON, entries, full
from tests.sinks.server import Received


@frozen
class Noted:
    """
    A courier that only notes what it is given.
    """

    sent: list[tuple[str, bytes, Mapping[str, str], Mapping[str, Any]]] = field(factory=list)

    def send(
        self,
        url: str,
        content: bytes,
        headers: Mapping[str, str],
        *,
        method: str = "POST",
        compress: bool = True,
        timeout_seconds: float = 30.0,
    ) -> Deferred[Reply]:
        wishes = {"method": method, "compress": compress, "timeout_seconds": timeout_seconds}
        self.sent.append((url, content, headers, wishes))
        return succeed(Reply(status=200, fields=[], content=b""))

    def urls(self) -> list[str]:
        """
        Where it was sent.
        """
        return [url for url, *_ in self.sent]


class TableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.courier = Noted()

    def make(self, environment: Mapping[str, str], **table: Any) -> Sink:
        """
        A sink.
        """
        tools = Tools(
            reactor=Clock(),
            name="traces",
            courier=self.courier,
            environment=environment,
            node="north-1",
            now=lambda: NOON,
        )
        factory: SinkFactory = FACTORY
        return factory.make(parsed_settings(FACTORY, "traces", table), tools)

    def sent(self, environment: Mapping[str, str], **table: Any) -> Noted:
        """
        What a batch sends.
        """
        self.courier.sent.clear()
        self.successResultOf(self.make(environment, **table).send(entries(full())))
        return self.courier

    def problem(self, environment: Mapping[str, str], **table: Any) -> str:
        """
        What is wrong.
        """
        return str(self.assertRaises(ConfigurationError, self.make, environment, **table))

    def test_default(self) -> None:
        """
        If nobody says anything, it is the receiver of this machine, at the standard's port.
        """
        self.assertEqual(["http://localhost:4318/v1/traces", "http://localhost:4318/v1/metrics"], self.sent({}).urls())

    def test_endpoints(self) -> None:
        """
        The table has the last word; then what is said of one signal; what is whole is not added to.
        """
        common = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1/base/"}
        own = {**common, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b:2/traces"}
        for environment, table, expected in (
            (common, {}, ["http://a:1/base/v1/traces", "http://a:1/base/v1/metrics"]),
            (own, {}, ["http://b:2/traces", "http://a:1/base/v1/metrics"]),
            (own, {"endpoint": "http://c:3"}, ["http://c:3/v1/traces", "http://c:3/v1/metrics"]),
            (own, {"metrics_endpoint": "http://d:4/m"}, ["http://b:2/traces", "http://d:4/m"]),
        ):
            self.assertEqual(expected, self.sent(environment, **table).urls())

    def test_headers(self) -> None:
        """
        Headers are decoded; those of one signal, and those of the table, take the place of others.
        """
        environment = {
            "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic%20YTpi, x-team=a,broken,=b",
            "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "x-team=m",
        }
        (_, _, spans, _), (_, _, measures, _) = self.sent(environment, headers={"x-key": "k"}).sent
        self.assertEqual(("Basic YTpi", "a", "k"), (spans["Authorization"], spans["x-team"], spans["x-key"]))
        self.assertEqual("m", measures["x-team"])

    def test_protocol(self) -> None:
        """
        Protocol buffers are the default; JSON can be asked for; gRPC is refused.
        """
        for environment, table, expected in (
            ({}, {}, "application/x-protobuf"),
            ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, {}, "application/json"),
            ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, {"protocol": "http/json"}, "application/json"),
        ):
            self.assertEqual(expected, self.sent(environment, **table).sent[0][2]["Content-Type"])
        self.assertEqual(
            'protocol: is to be "http/protobuf" or "http/json"; gRPC is not spoken here',
            self.problem({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}),
        )

    def test_without_protobuf(self) -> None:
        """
        Where ``opentelemetry-proto`` is not installed, JSON is spoken; who insists is told what to install.
        """
        there = {name: each for name, each in sys.modules.items() if name.startswith("opentelemetry.proto")}
        self.addCleanup(sys.modules.update, there)
        modules: dict[str, Any] = sys.modules
        for missing in "opentelemetry.proto", "opentelemetry.proto.collector":
            for name in there:
                modules.pop(name, None)
            modules[missing] = None  # so that importing it fails
            self.addCleanup(modules.pop, missing, None)
            self.assertEqual("application/json", self.sent({}).sent[0][2]["Content-Type"])
            self.assertIn("pip install dheera[otel]", self.problem({}, protocol="http/protobuf"))

    def test_compression_and_time(self) -> None:
        """
        The variables say whether to compress and how long to wait, in milliseconds; unless the table does.
        """
        environment = {"OTEL_EXPORTER_OTLP_COMPRESSION": "none", "OTEL_EXPORTER_OTLP_TIMEOUT": "2500"}
        for given, table, expected in (
            ({}, {}, (True, 30.0)),
            (environment, {}, (False, 2.5)),
            (environment, {"compression": "gzip", "timeout_seconds": 7}, (True, 7.0)),
        ):
            wishes = self.sent(given, **table).sent[0][3]
            self.assertEqual(expected, (wishes["compress"], wishes["timeout_seconds"]))
        self.assertIn("milliseconds", self.problem({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}))

    def test_service(self) -> None:
        """
        Who tells is named by the table, the variable of the name, and that of all attributes, in this order.
        """
        every = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,deployment.environment.name=up%20north"}
        named = {**every, "OTEL_SERVICE_NAME": "b"}
        for environment, table, expected in (
            (every, {}, "a"),
            (named, {}, "b"),
            (named, {"service_name": "c"}, "c"),
        ):
            _, content, headers, _ = self.sent(environment, **table).sent[0]
            lower = {name.lower(): value for name, value in headers.items()}
            found = reading.resource(Received(method="POST", path="/v1/traces", headers=lower, raw=content))
            self.assertEqual((expected, "up north"), (found["service.name"], found["deployment.environment.name"]))

    def test_no_measures(self) -> None:
        """
        The variable that stands for no metrics is obeyed.
        """
        self.assertEqual(1, len(self.sent({"OTEL_METRICS_EXPORTER": "none"}).sent))

    def test_problems(self) -> None:
        """
        What cannot be used is told with its place, and without a secret.
        """
        for field_, table in (
            ("endpoint", {"endpoint": "localhost:4318"}),
            ("traces_endpoint", {"traces_endpoint": "ftp://a"}),
            ("headers", {"headers": {"x-key": "canäry"}}),
            ("headers", {"headers": {"x key": "canary"}}),
        ):
            told = self.problem({}, **table)
            self.assertTrue(told.startswith(f"{field_}: "), told)
            self.assertNotIn("can", told.replace("cannot", ""))
