"""
Langfuse: each call as an observation in a trace of its own.

By Langfuse's endpoint for OpenTelemetry, in JSON: its older ingestion API is called legacy by its makers, and shows
what it is given with a delay. It wants Langfuse 3.22 or newer where somebody runs it himself.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec
from attrs import evolve

from dheera import __version__
from dheera.keys import Secret
from dheera.records import Record
from dheera.sinks.contract import Sink, SinkFactory, SinkSettings, Tools
from dheera.sinks.figures import cost_of, first_byte_at
from dheera.sinks.otlp.delivery import OtlpSink, Receiver
from dheera.sinks.otlp.encoding import JsonEncoding
from dheera.sinks.otlp.messages import as_text, body_of
from dheera.sinks.otlp.spans import Span, Value, span_of
from dheera.sinks.vendor import Table, basic
from dheera.usage import Usage

DEFAULT_URL = "https://cloud.langfuse.com"
PATH = "/api/public/otel/v1/traces"
INGESTION_VERSION = "4"
"""
Asks Langfuse to show what comes at once; senders that are not its own libraries have to say so.
"""
_OBSERVATION = "langfuse.observation"


class LangfuseSettings(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What ``[sinks.NAME]`` may say with ``kind = "langfuse"``.

    :param url: of Langfuse; other regions of its cloud have others.
    :param environment: of Langfuse, such as ``production``.
    :param release: of Langfuse.
    """

    url: str = ""
    public_key: str = ""
    secret_key: Secret | None = None
    environment: str = ""
    release: str = ""
    server_address: str = "api.mistral.ai"


class LangfuseFactory:
    """
    Makes sinks that send to Langfuse.
    """

    kind: ClassVar[str] = "langfuse"
    settings: ClassVar[type[SinkSettings]] = LangfuseSettings
    takes: ClassVar[Literal["records", "alerts", "all"]] = "records"

    def make(self, settings: LangfuseSettings, tools: Tools) -> Sink:
        """
        See `dheera.sinks.contract.SinkFactory`.
        """
        with Table.of(tools) as table:
            base = table.text(settings.url, "LANGFUSE_BASE_URL", "LANGFUSE_HOST") or DEFAULT_URL
            public = table.text(settings.public_key, "LANGFUSE_PUBLIC_KEY")
            if not public or ":" in public:
                table.refuse("public_key", "is to be the project's public key, here or in LANGFUSE_PUBLIC_KEY")
            secret = table.token("secret_key", settings.secret_key, "LANGFUSE_SECRET_KEY")
            resource: dict[str, Value] = {
                "service.name": "dheera",
                "service.version": __version__,
                "service.instance.id": tools.node,
            }
            environment = table.text(settings.environment, "LANGFUSE_TRACING_ENVIRONMENT")
            release = table.text(settings.release, "LANGFUSE_RELEASE")
            resource |= {"langfuse.environment": environment} if environment else {}
            resource |= {"langfuse.release": release} if release else {}
            headers = {
                "Authorization": Secret(basic(public, secret)),
                "x-langfuse-ingestion-version": Secret(INGESTION_VERSION),
            }
            receiver = Receiver(
                url=table.url("url", base) + PATH,
                headers=headers,
                timeout_seconds=settings.timeout_seconds,
                compresses=True,
            )
            return OtlpSink(
                tools=tools,
                encoding=JsonEncoding(),
                spans=receiver,
                measures=None,
                resource=resource,
                span_of=observation_of,
                server=settings.server_address,
            )


def observation_of(record: Record, server: str) -> Span:
    """
    The span of *record* with the attributes by which Langfuse fills its own fields.
    """
    span = span_of(record, server)
    began, cost = first_byte_at(record), cost_of(record)
    asked, answered = body_of(record.request), body_of(record.response)
    found: dict[str, Value | None] = {
        "langfuse.trace.name": span.name,
        "langfuse.trace.tags": list(record.tags) or None,
        "langfuse.user.id": record.end_user,
        f"{_OBSERVATION}.type": _sort(record),
        f"{_OBSERVATION}.model.name": record.answered_model or record.model,
        f"{_OBSERVATION}.model.parameters": _json(record.parameters) if record.parameters else None,
        f"{_OBSERVATION}.usage_details": _json(usage_details(record.usage)) if record.usage else None,
        f"{_OBSERVATION}.cost_details": None if cost is None else _json({"total": cost}),
        "gen_ai.usage.cost": cost,  # where older ones look for it
        f"{_OBSERVATION}.completion_start_time": _json(began) if began and record.is_stream else None,
        f"{_OBSERVATION}.level": "ERROR" if record.failed else "DEFAULT",
        f"{_OBSERVATION}.status_message": span.error,
        f"{_OBSERVATION}.input": None if asked is None else as_text(_question(asked)),
        f"{_OBSERVATION}.output": None if answered is None else as_text(_answer(answered)),
    }
    shown_once = {
        name: value
        for name, value in span.attributes.items()
        if name
        not in ("gen_ai.input.messages", "gen_ai.output.messages", "dheera.request.body", "dheera.response.body")
    }
    return evolve(
        span, attributes={**shown_once, **{name: value for name, value in found.items() if value is not None}}
    )


def usage_details(usage: Usage) -> dict[str, int]:
    """
    Quantities that do not overlap, as Langfuse adds them up; the total is upstream's.
    """
    found = {
        "input": max(0, usage.prompt_tokens - usage.cached_tokens),
        "input_cached_tokens": usage.cached_tokens,
        "input_connector_tokens": usage.connector_tokens,
        "output": max(0, usage.completion_tokens - usage.reasoning_tokens),
        "output_reasoning_tokens": usage.reasoning_tokens,
        "total": usage.total_tokens,
        "audio_ms": usage.audio_ms,
        "pages": usage.pages,
        "annotated_pages": usage.annotated_pages,
        "characters": usage.characters,
    }
    return {name: count for name, count in found.items() if count or name in ("input", "output")}


def _sort(record: Record) -> str:
    if record.endpoint == "embeddings":
        return "embedding"
    return "generation" if record.model or record.usage else "span"


def _question(body: object) -> object:
    return body["messages"] if isinstance(body, dict) and "messages" in body else body


def _answer(body: object) -> object:
    match body:
        case {"choices": [{"message": message}]}:
            return message
        case _:
            return body


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


FACTORY = LangfuseFactory()
_: SinkFactory = FACTORY
