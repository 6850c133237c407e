"""
LangSmith: each call as a run, which is a trace of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any, ClassVar, Literal

import msgspec
from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from dheera import __version__
from dheera.bookkeeping import Entry
from dheera.keys import Secret
from dheera.records import Content, Record
from dheera.sinks.contract import Sink, SinkFactory, SinkSettings, Tools
from dheera.sinks.figures import cost_of, ended_at, error_type, first_byte_at, uuid_of
from dheera.sinks.vendor import Table, pieces

DEFAULT_URL = "https://api.smith.langchain.com"
MOST_RUNS = 100
MOST_BYTES = 20 * 1024 * 1024 - 64
"""
What LangSmith takes at once, less what encloses the runs.
"""
_TYPES = {"embeddings": "embedding"}
_PARAMETERS = {"temperature": "ls_temperature", "max_tokens": "ls_max_tokens"}


class LangsmithSettings(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What ``[sinks.NAME]`` may say with ``kind = "langsmith"``.

    :param url: of LangSmith's API; other regions of its cloud have others.
    :param project: in which runs are shown; LangSmith makes it if need be.
    :param workspace_id: needed if the key is good for several.
    """

    url: str = ""
    api_key: Secret | None = None
    project: str = ""
    workspace_id: str = ""


class LangsmithFactory:
    """
    Makes sinks that send to LangSmith. Variables may also begin with ``LANGCHAIN_``, as they once did.
    """

    kind: ClassVar[str] = "langsmith"
    settings: ClassVar[type[SinkSettings]] = LangsmithSettings
    takes: ClassVar[Literal["records", "alerts", "all"]] = "records"

    def make(self, settings: LangsmithSettings, tools: Tools) -> Sink:
        """
        See `dheera.sinks.contract.SinkFactory`.
        """
        with Table.of(tools) as table:
            base = table.text(settings.url, "LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT") or DEFAULT_URL
            workspace = table.text(settings.workspace_id, "LANGSMITH_WORKSPACE_ID")
            if workspace:
                table.token("workspace_id", Secret(workspace))
            return LangsmithSink(
                tools=tools,
                url=f"{table.url('url', base)}/runs/batch",
                api_key=table.token("api_key", settings.api_key, "LANGSMITH_API_KEY", "LANGCHAIN_API_KEY"),
                project=table.text(settings.project, "LANGSMITH_PROJECT", "LANGCHAIN_PROJECT") or "default",
                workspace=workspace,
                timeout_seconds=settings.timeout_seconds,
            )


@define(kw_only=True, eq=False)
class LangsmithSink:
    """
    Creates runs. One that comes twice has the same id, and is the same run.
    """

    _tools: Tools = field(repr=False)
    _url: str
    _api_key: Secret
    _project: str
    _workspace: str
    _timeout_seconds: float

    def send(self, entries: Sequence[Entry]) -> Deferred[None]:
        """
        See `dheera.sinks.contract.Sink`.
        """
        return Deferred.fromCoroutine(self._send(entries))

    def close(self) -> Deferred[None]:
        """
        Nothing is open.
        """
        return succeed(None)

    async def _send(self, entries: Sequence[Entry]) -> None:
        headers = {"x-api-key": self._api_key.reveal(), "Content-Type": "application/json"}
        if self._workspace:
            headers["x-tenant-id"] = self._workspace
        records = [entry.value for entry in entries if isinstance(entry.value, Record)]
        runs = [msgspec.json.encode(run_of(record, self._project)) for record in records]
        for together in pieces(((each, len(each) + 1) for each in runs), most=MOST_RUNS, most_bytes=MOST_BYTES):
            content = b'{"post":[' + b",".join(together) + b"]}"
            await self._tools.courier.send(self._url, content, headers, timeout_seconds=self._timeout_seconds)


def run_of(record: Record, project: str) -> dict[str, Any]:
    """
    What LangSmith calls a run: here, one that is over.
    """
    run_id = str(uuid_of(record.call_id))
    began = first_byte_at(record)
    run = {
        "id": run_id,
        "trace_id": run_id,
        "dotted_order": record.started_at.astimezone(UTC).strftime("%Y%m%dT%H%M%S%fZ") + run_id,
        "name": f"{record.endpoint} {record.model or ''}".rstrip(),
        "run_type": _TYPES.get(record.endpoint, "llm" if record.model or record.usage else "tool"),
        "start_time": record.started_at,
        "end_time": ended_at(record),
        "inputs": _body(record.request),
        "outputs": _body(record.response),
        "error": _error(record),
        "tags": record.tags,
        "session_name": project,
        "extra": {"metadata": _metadata(record), "runtime": {"library": "dheera", "library_version": __version__}},
        "events": [{"name": "new_token", "time": began}] if began and record.is_stream else [],
    }
    return {name: value for name, value in run.items() if value is not None}


def _metadata(record: Record) -> dict[str, Any]:
    found = {
        "ls_provider": "mistral",
        "ls_model_name": record.answered_model or record.model,
        "ls_model_type": "chat" if record.endpoint == "chat/completions" else None,
        "ls_invocation_params": record.parameters or None,
        **{_PARAMETERS[name]: value for name, value in record.parameters.items() if name in _PARAMETERS},
        "usage_metadata": usage_of(record),
        "user_id": record.end_user,
        "call_id": record.call_id,
        "key_id": record.key_id,
        "key_alias": record.key_alias,
        "team_id": record.team_id,
        "team_alias": record.team_alias,
        "node": record.node,
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "outcome": record.outcome,
        "estimated": record.estimated or None,
        "price_list": record.price_list,
        "upstream_id": record.upstream_id,
    }
    return {name: value for name, value in found.items() if value is not None}


def usage_of(record: Record) -> dict[str, Any] | None:
    """
    Tokens and cost, by the names that LangSmith knows; no others are allowed among them.
    """
    usage, cost = record.usage, cost_of(record)
    found: dict[str, Any] = {}
    if usage:
        found = {
            "input_tokens": usage.prompt_tokens,
            "output_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens or usage.prompt_tokens + usage.completion_tokens,
        }
        if usage.cached_tokens:
            found["input_token_details"] = {"cache_read": usage.cached_tokens}
        if usage.reasoning_tokens:
            found["output_token_details"] = {"reasoning": usage.reasoning_tokens}
    if cost is not None:
        found["total_cost"] = cost
    return found or None


def _body(content: Content | None) -> dict[str, Any]:
    body = None if content is None else content.body
    if body is None:
        return {}
    return body if isinstance(body, dict) else {"body": body}


def _error(record: Record) -> str | None:
    sort = error_type(record)
    return f"{sort}: {record.message}" if sort and record.message else sort


FACTORY = LangsmithFactory()
_: SinkFactory = FACTORY
