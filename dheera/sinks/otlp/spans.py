"""
A record as a span of OpenTelemetry, with the attributes of the GenAI and HTTP semantic conventions, and those of ours.

The conventions for GenAI are still in development: these are the names of version 1.41.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from attrs import frozen

from dheera.records import MISTRAL, Record, Try
from dheera.sinks.figures import cost_of, error_type, uuid_of
from dheera.sinks.otlp.messages import content_attributes
from dheera.usage import Usage

Value: TypeAlias = str | bool | int | float | list[str]
Attributes: TypeAlias = dict[str, Value]

PROVIDER = "mistral_ai"
INTERNAL = 1
CLIENT = 3
"""
Kinds of span, as OTLP counts them.
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPERATIONS = {
    "chat/completions": "chat",
    "conversations": "chat",
    "responses": "chat",
    "fim/completions": "text_completion",
    "agents/completions": "invoke_agent",
    "embeddings": "embeddings",
}
_PARAMETERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "random_seed": "gen_ai.request.seed",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "n": "gen_ai.request.choice.count",
}
_USAGE = {
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "total_tokens": "dheera.usage.total_tokens",
    "connector_tokens": "dheera.usage.connector_tokens",
    "audio_ms": "dheera.usage.audio_ms",
    "pages": "dheera.usage.pages",
    "annotated_pages": "dheera.usage.annotated_pages",
    "characters": "dheera.usage.characters",
}
_ALWAYS_TOLD = ("prompt_tokens", "completion_tokens")


@frozen(kw_only=True)
class Span:
    """
    One call.

    :param started: nanoseconds since 1970, as *ended*.
    :param error: our words about what went wrong; ``None`` if nothing did.
    """

    trace_id: bytes
    span_id: bytes
    name: str
    kind: int
    started: int
    ended: int
    attributes: Mapping[str, Value]
    error: str | None


def span_of(record: Record, server: str) -> Span:
    """
    The span of *record*. Its ids come from the call's, so that what is sent twice can be told.

    :param server: the host of Mistral's API.
    """
    started = nanoseconds(record.started_at)
    number = uuid_of(record.call_id).bytes
    operation = operation_of(record)
    subject = f"{operation} {record.model or ''}".rstrip() if operation else f"{record.method} {record.endpoint}"
    return Span(
        trace_id=number,
        span_id=number[8:],  # 62 random bits of a UUIDv7, and never all zero
        name=subject,
        kind=CLIENT if record.attempts else INTERNAL,  # what was refused has called nobody
        started=started,
        ended=started + record.duration_us * 1000,
        attributes=_attributes(record, operation, server),
        error=(record.message or error_type(record)) if record.failed else None,
    )


def operation_of(record: Record) -> str | None:
    """
    What the conventions call such a call, or our own word for it; ``None`` where no model is concerned.
    """
    word = _OPERATIONS.get(record.endpoint) if record.method == "POST" else None  # others only look
    return word or (record.endpoint.replace("/", "_") if record.model else None)


def nanoseconds(moment: datetime) -> int:
    """
    Since 1970, exactly.
    """
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _attributes(record: Record, operation: str | None, server: str) -> Attributes:
    found: dict[str, Value | None] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER if operation else None,
        "gen_ai.request.model": record.model,
        "gen_ai.response.model": (record.answered_model or record.model) if record.usage else record.answered_model,
        "gen_ai.request.stream": True if record.is_stream else None,
        "server.address": server if record.attempts and record.upstream == MISTRAL else None,
        "http.request.method": record.method,
        "http.response.status_code": record.status,
        "http.request.body.size": record.request_bytes,
        "http.response.body.size": record.response_bytes,
        "url.path": record.path,
        "client.address": record.client or None,
        "user_agent.original": record.user_agent or None,
        "user.id": record.end_user,
        "error.type": error_type(record),
        **_own(record),
    }
    for name, value in record.parameters.items():
        found[_PARAMETERS.get(name, f"dheera.request.{name}")] = value
    if record.usage:
        found.update(_used(record.usage))
    found.update(content_attributes(record))
    return {name: value for name, value in found.items() if value is not None}


def _own(record: Record) -> dict[str, Value | None]:
    return {
        "dheera.call_id": record.call_id,
        "dheera.node": record.node,
        "dheera.endpoint": record.endpoint,
        "dheera.outcome": record.outcome,
        "dheera.attempts": record.attempts,
        "dheera.tries": [_tried(each) for each in record.tries] or None,
        "dheera.upstream": record.upstream,
        "dheera.upstream_key": record.upstream_key,
        "dheera.key.id": record.key_id,
        "dheera.key.alias": record.key_alias,
        "dheera.user.id": record.user_id,
        "dheera.team.id": record.team_id,
        "dheera.team.alias": record.team_alias,
        "dheera.tags": list(record.tags) or None,
        "dheera.cost.usd": cost_of(record),
        "dheera.estimated": True if record.estimated else None,
        "dheera.price_list": record.price_list,
        "dheera.unpriced": list(record.unpriced) or None,
        "dheera.upstream_id": record.upstream_id,
        "dheera.events": record.events or None,
        "dheera.first_byte_us": record.first_byte_us,
        "dheera.overhead_us": record.overhead_us,
        "dheera.longest_gap_us": record.longest_gap_us,
    }


def _tried(attempt: Try) -> str:
    """
    ``key 2: 429``, ``ConnectFailed``.
    """
    what = attempt.error or str(attempt.status)
    return what if attempt.key is None else f"{attempt.key}: {what}"


def _used(usage: Usage) -> dict[str, Value | None]:
    found: dict[str, Value | None] = {
        attribute: (count if count or name in _ALWAYS_TOLD else None)
        for name, attribute in _USAGE.items()
        for count in [getattr(usage, name)]
    }
    found.update({f"dheera.usage.connectors.{name}": count for name, count in usage.connectors.items()})
    return found
