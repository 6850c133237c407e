"""
What an operator may say about OTLP: the table of the configuration, and the variables that OpenTelemetry has made
common.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import ClassVar, Literal
from urllib.parse import unquote

import msgspec
from attrs import frozen

from dheera import __version__
from dheera.keys import Secret
from dheera.sinks.contract import Sink, SinkFactory, SinkSettings, Tools
from dheera.sinks.otlp.delivery import OtlpSink, Receiver
from dheera.sinks.otlp.encoding import Encoding, JsonEncoding
from dheera.sinks.otlp.spans import Value, span_of
from dheera.sinks.vendor import Table

DEFAULT_ENDPOINT = "http://localhost:4318"
_DEFAULT_SECONDS = SinkSettings().timeout_seconds


class OtlpSettings(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What ``[sinks.NAME]`` may say with ``kind = "otlp"``.

    :param endpoint: to which ``/v1/traces`` and ``/v1/metrics`` are added.
    :param traces_endpoint: the whole URL for spans; *metrics_endpoint* likewise.
    :param metrics: ``False`` if the other side takes spans only.
    :param protocol: ``http/protobuf`` wants ``dheera[otel]``; the default is what is there.
    :param headers: their values may be credentials.
    :param service_name: ``dheera`` if it is not said.
    :param resource: further attributes of who tells.
    :param server_address: the host of upstream, as spans name it.
    """

    endpoint: str = ""
    traces_endpoint: str = ""
    metrics_endpoint: str = ""
    metrics: bool = True
    protocol: Literal["", "http/protobuf", "http/json"] = ""
    compression: Literal["", "gzip", "none"] = ""
    headers: dict[str, Secret] = msgspec.field(default_factory=dict)
    service_name: str = ""
    resource: dict[str, str] = msgspec.field(default_factory=dict)
    server_address: str = "api.mistral.ai"


class OtlpFactory:
    """
    Makes sinks that speak OTLP.
    """

    kind: ClassVar[str] = "otlp"
    settings: ClassVar[type[SinkSettings]] = OtlpSettings
    takes: ClassVar[Literal["records", "alerts", "all"]] = "records"

    def make(self, settings: OtlpSettings, tools: Tools) -> Sink:
        """
        See `dheera.sinks.contract.SinkFactory`.
        """
        wants_measures = settings.metrics and tools.environment.get("OTEL_METRICS_EXPORTER", "").strip() != "none"
        with Table.of(tools) as table:
            wishes = _Wishes(table=table, settings=settings, environment=tools.environment)
            return OtlpSink(
                tools=tools,
                encoding=wishes.encoding(),
                spans=wishes.receiver("traces", settings.traces_endpoint),
                measures=wishes.receiver("metrics", settings.metrics_endpoint) if wants_measures else None,
                resource=wishes.resource(tools.node),
                span_of=span_of,
                server=settings.server_address,
            )


@frozen(kw_only=True)
class _Wishes:
    """
    The table and the variables, read together.
    """

    table: Table
    settings: OtlpSettings
    environment: Mapping[str, str]

    def receiver(self, signal: str, said: str) -> Receiver:
        """
        Where a signal goes. The table has the last word, then the signal's own variable.
        """
        base, own = self.settings.endpoint, f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
        if not (said or base):
            said = self.table.text("", own)
            base = self.table.text("", "OTEL_EXPORTER_OTLP_ENDPOINT") or DEFAULT_ENDPOINT
        url = self.table.url(f"{signal}_endpoint", said) if said else f"{self.table.url('endpoint', base)}/v1/{signal}"
        return Receiver(
            url=url, headers=self._headers(signal), timeout_seconds=self._seconds(), compresses=self._compresses()
        )

    def encoding(self) -> Encoding:
        """
        How requests are written.
        """
        wanted = self.table.text(self.settings.protocol, "OTEL_EXPORTER_OTLP_PROTOCOL")
        if wanted not in ("", "http/protobuf", "http/json"):
            self.table.refuse("protocol", 'is to be "http/protobuf" or "http/json"; gRPC is not spoken here')
        there = _has_protobuf()
        if wanted == "http/protobuf" and not there:
            self.table.refuse("protocol", 'http/protobuf wants "pip install dheera[otel]"; "http/json" wants nothing')
        if wanted == "http/json" or not there:
            return JsonEncoding()
        from dheera.sinks.otlp.protobuf import ProtobufEncoding  # noqa: PLC0415 - it may not be installed

        return ProtobufEncoding()

    def resource(self, node: str) -> dict[str, Value]:
        """
        Who tells.
        """
        found: dict[str, Value] = dict(pairs(self.table.text("", "OTEL_RESOURCE_ATTRIBUTES")))
        found.update(self.settings.resource)
        name = self.table.text(self.settings.service_name, "OTEL_SERVICE_NAME")
        if name:
            found["service.name"] = name
        found.setdefault("service.name", "dheera")
        found.setdefault("service.version", __version__)
        found.setdefault("service.instance.id", node)
        return found

    def _headers(self, signal: str) -> Mapping[str, Secret]:
        common = self.table.text("", "OTEL_EXPORTER_OTLP_HEADERS")
        own = self.table.text("", f"OTEL_EXPORTER_OTLP_{signal.upper()}_HEADERS")
        found = {name: Secret(value) for name, value in [*pairs(common), *pairs(own)]}
        found.update(self.settings.headers)
        wrong = [repr(name) for name, value in found.items() if not _is_header(name, value.reveal())]
        if wrong:
            self.table.refuse("headers", f"{' and '.join(wrong)}, or what is said there, cannot stand in a header line")
        return found

    def _compresses(self) -> bool:
        return self.table.text(self.settings.compression, "OTEL_EXPORTER_OTLP_COMPRESSION") != "none"

    def _seconds(self) -> float:
        said = self.table.text("", "OTEL_EXPORTER_OTLP_TIMEOUT")
        if not said or self.settings.timeout_seconds != _DEFAULT_SECONDS:
            return self.settings.timeout_seconds
        if not re.fullmatch(r"[0-9]{1,9}", said) or not int(said):
            self.table.refuse(
                "timeout_seconds", "OTEL_EXPORTER_OTLP_TIMEOUT is no whole number of milliseconds above 0"
            )
            return self.settings.timeout_seconds
        return int(said) / 1000


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """
    What a variable such as ``a=b,c=d%20e`` says (OpenTelemetry took the format from W3C Baggage); what is no pair is
    passed over.
    """
    for member in text.split(","):
        name, equals, value = member.partition("=")
        if equals and name.strip():
            yield unquote(name.strip()), unquote(value.strip())


def _is_header(name: str, text: str) -> bool:
    return bool(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)) and text.isascii() and text.isprintable()


def _has_protobuf() -> bool:
    try:
        return find_spec("opentelemetry.proto.collector") is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False


FACTORY = OtlpFactory()
_: SinkFactory = FACTORY
