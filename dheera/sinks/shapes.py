"""
A record in the shape that LiteLLM's loggers are given, its ``StandardLoggingPayload``: so that what was written for
those can read ours.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from dheera.records import Content, Record
from dheera.usage import Usage

NANO = 1_000_000_000
PROVIDER = "mistral"
CALL_TYPE = "pass_through_endpoint"


def litellm_payload(record: Record) -> dict[str, Any]:
    """
    *record* as that payload. What it has and we do not is ``None``, or left out where the payload allows it.
    """
    usage = record.usage or Usage()
    cost = None if record.cost_nano_usd is None else record.cost_nano_usd / NANO
    model = record.answered_model or record.model or "unknown"
    return {
        "id": record.call_id,
        "trace_id": record.call_id,
        "call_type": CALL_TYPE,
        "stream": record.is_stream,
        "response_cost": cost,
        "cost_breakdown": {"total_cost": cost},
        "response_cost_failure_debug_info": None,
        "status": "failure" if record.failed else "success",
        "status_fields": {
            "llm_api_status": "failure" if record.failed else "success",
            "guardrail_status": "not_run",
        },
        "custom_llm_provider": PROVIDER,
        "total_tokens": usage.total_tokens,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "startTime": record.started_at.timestamp(),
        "endTime": _after(record.started_at, record.duration_us),
        "completionStartTime": _after(record.started_at, record.first_byte_us or record.duration_us),
        "response_time": record.duration_us / 1e6,
        "model_map_information": {"model_map_key": model, "model_map_value": None},
        "model": model,
        "model_id": None,
        "model_group": record.model,
        "api_base": record.path,
        "metadata": _metadata(record),
        "cache_hit": None,
        "cache_key": None,
        "saved_cache_cost": 0.0,
        "request_tags": record.tags,
        "end_user": record.end_user,
        "requester_ip_address": record.client or None,
        "user_agent": record.user_agent or None,
        "messages": _messages(record.request),
        "response": None if record.response is None else record.response.body,
        "error_str": record.message if record.failed else None,
        "error_information": _error(record),
        "model_parameters": dict(record.parameters),
        "hidden_params": {
            "response_cost": cost,
            "api_base": record.path,
            "litellm_overhead_time_ms": None if record.overhead_us is None else record.overhead_us / 1000,
        },
        "guardrail_information": None,
        "standard_built_in_tools_params": None,
    }


def _metadata(record: Record) -> dict[str, Any]:
    return {
        # The id of the key stands where LiteLLM has its digest, which is in no record of ours.
        "user_api_key_hash": record.key_id,
        "user_api_key_alias": record.key_alias,
        "user_api_key_spend": None,
        "user_api_key_max_budget": None,
        "user_api_key_budget_reset_at": None,
        "user_api_key_org_id": None,
        "user_api_key_team_id": record.team_id,
        "user_api_key_team_alias": record.team_alias,
        "user_api_key_project_id": None,
        "user_api_key_user_id": record.user_id,
        "user_api_key_user_email": None,
        "user_api_key_end_user_id": record.end_user,
        "user_api_key_request_route": record.path,
        "user_api_key_auth_metadata": None,
        "spend_logs_metadata": None,
        "requester_ip_address": record.client or None,
        "user_agent": record.user_agent or None,
        "requester_metadata": None,
        "requester_custom_headers": None,
        "applied_guardrails": [],
        "usage_object": None if record.usage is None else msgspec.to_builtins(record.usage),
        "cold_storage_object_key": None,
        "dheera": {
            "node": record.node,
            "endpoint": record.endpoint,
            "outcome": record.outcome,
            "attempts": record.attempts,
            "tries": msgspec.to_builtins(record.tries),
            "upstream": record.upstream,
            "upstream_key": record.upstream_key,
            "estimated": record.estimated,
            "price_list": record.price_list,
            "upstream_id": record.upstream_id,
        },
    }


def _messages(request: Content | None) -> Any:
    """
    As those of a pass-through: what the caller sent as messages, or else all of it in one.
    """
    if request is None or request.body is None:
        return None
    body = request.body
    if isinstance(body, dict) and isinstance(body.get("messages"), list):
        return body["messages"]
    return [{"role": "user", "content": body if isinstance(body, str) else msgspec.json.encode(body).decode()}]


def _error(record: Record) -> dict[str, Any] | None:
    if not record.failed:
        return None
    return {
        "error_code": "" if record.status is None else str(record.status),
        "error_class": record.error or record.outcome,
        "llm_provider": PROVIDER,
        "traceback": "",
        "error_message": record.message or "",
    }


def _after(moment: datetime, microseconds: int) -> float:
    return (moment + timedelta(microseconds=microseconds)).timestamp()
