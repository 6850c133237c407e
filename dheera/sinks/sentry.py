"""
Sentry: what failed, one event each, and alerts. Nothing of what calls are about is sent.

Sentry takes one event at a time, so this is no place for all that happens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec
from attrs import define, field, frozen
from twisted.internet.defer import Deferred, succeed

from dheera import __version__
from dheera.bookkeeping import Entry
from dheera.keys import Secret
from dheera.records import Alert, Record
from dheera.sinks.contract import Reply, Sink, SinkAway, SinkFactory, SinkSettings, Tools
from dheera.sinks.figures import cost_of, ended_at, error_type, uuid_of
from dheera.sinks.vendor import Table

CLIENT = f"dheera/{__version__}"
_SERVER_ERRORS = 500
_LONGEST_TAG = 200
_OUR_CATEGORIES = {"", "default", "error"}
_ALERTS = {"warning": "warning", "critical": "fatal", "resolved": "info"}


class SentrySettings(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What ``[sinks.NAME]`` may say with ``kind = "sentry"``.

    :param dsn: of the project: ``https://KEY@HOST/PROJECT``.
    :param environment: such as ``production``.
    :param release: in place of that of dheera.
    :param least: ``error`` leaves out what callers did wrong, and those who left.
    """

    dsn: Secret | None = None
    environment: str = ""
    release: str = ""
    least: Literal["warning", "error"] = "warning"


@frozen(kw_only=True)
class Project:
    """
    Where events go.
    """

    url: str
    key: Secret

    @classmethod
    def of(cls, dsn: str) -> Project | None:
        """
        The project that a DSN names; ``None`` if it is none.
        """
        try:
            parts = urlsplit(dsn)
            path, _, number = parts.path.rpartition("/")
            fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # brackets, ports
            return None
        if not (fine and re.fullmatch(r"[0-9A-Za-z_-]+", parts.username or "") and re.fullmatch(r"[0-9]+", number)):
            return None
        host = parts.netloc.rpartition("@")[2]
        return cls(url=f"{parts.scheme}://{host}{path}/api/{number}/envelope/", key=Secret(parts.username or ""))


class SentryFactory:
    """
    Makes sinks that send to Sentry.
    """

    kind: ClassVar[str] = "sentry"
    settings: ClassVar[type[SinkSettings]] = SentrySettings
    takes: ClassVar[Literal["records", "alerts", "all"]] = "all"

    def make(self, settings: SentrySettings, tools: Tools) -> Sink:
        """
        See `dheera.sinks.contract.SinkFactory`.
        """
        with Table.of(tools) as table:
            project = Project.of(table.token("dsn", settings.dsn, "SENTRY_DSN").reveal())
            if project is None:
                table.refuse("dsn", "is no DSN of Sentry, such as https://KEY@HOST/PROJECT")
                raise table.refusal()
            return SentrySink(
                tools=tools,
                project=project,
                environment=table.text(settings.environment, "SENTRY_ENVIRONMENT") or "production",
                release=table.text(settings.release, "SENTRY_RELEASE") or f"dheera@{__version__}",
                settings=settings,
            )


@define(kw_only=True, eq=False)
class SentrySink:
    """
    Sends events, one after the other. Of a batch that comes again it sends what has not arrived.
    """

    _tools: Tools = field(repr=False)
    _project: Project
    _environment: str
    _release: str
    _settings: SentrySettings
    _arrived: set[str] = field(factory=set, init=False)
    _limited_until: float = field(default=0.0, init=False)

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
        for event in self._events(entries):
            if event["event_id"] not in self._arrived:
                self._obey_limit()
                reply = await self._bring(event)
                self._arrived.add(event["event_id"])
                self._limited_until = self._tools.reactor.seconds() + limit_of(reply)
        self._arrived.clear()

    def _obey_limit(self) -> None:
        # Sentry announces with a 200 that it will drop what comes next.
        seconds = self._limited_until - self._tools.reactor.seconds()
        if seconds > 0:
            raise SinkAway(
                "Sentry takes no events for a while: its rate limit or quota is used up.", retry_after_seconds=seconds
            )

    def _bring(self, event: dict[str, Any]) -> Deferred[Reply]:
        auth = f"Sentry sentry_version=7, sentry_client={CLIENT}, sentry_key={self._project.key.reveal()}"
        headers = {"X-Sentry-Auth": auth, "Content-Type": "application/x-sentry-envelope"}
        content = envelope(event, self._tools.now())
        return self._tools.courier.send(
            self._project.url, content, headers, timeout_seconds=self._settings.timeout_seconds
        )

    def _events(self, entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
        for entry in entries:
            value = entry.value
            found = _of_alert(value) if isinstance(value, Alert) else _of_record(value)
            if found is None or (found["level"] == "warning" and self._settings.least == "error"):
                continue
            yield {
                "platform": "other",
                "logger": "dheera",
                "server_name": value.node,
                "environment": self._environment,
                "release": self._release,
                **found,
            }


def envelope(event: dict[str, Any], now: datetime) -> bytes:
    """
    An envelope with one event: a line about it, a line about its item, and the item.
    """
    head = {"event_id": event["event_id"], "sent_at": now, "sdk": {"name": "dheera", "version": __version__}}
    item = msgspec.json.encode(event)
    about = {"type": "event", "length": len(item), "content_type": "application/json"}
    return b"\n".join([msgspec.json.encode(head), msgspec.json.encode(about), item, b""])


def limit_of(reply: Reply) -> float:
    """
    For how many seconds Sentry takes no events of ours, by what ``X-Sentry-Rate-Limits`` says:
    ``60:error;transaction:organization:reason, ...``, where no category stands for all.
    """
    longest = 0.0
    for name, value in reply.fields:
        if name.lower() == b"x-sentry-rate-limits":
            for limit in value.decode("latin-1").split(","):
                seconds, _, rest = limit.strip().partition(":")
                categories = set(rest.partition(":")[0].lower().split(";"))
                if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", seconds) and categories & _OUR_CATEGORIES:
                    longest = max(longest, float(seconds))
    return longest


def _of_alert(alert: Alert) -> dict[str, Any]:
    return {
        "event_id": uuid_of(alert.id).hex,
        "timestamp": alert.at,
        "level": _ALERTS[alert.level],
        "message": {"formatted": alert.text},
        "fingerprint": ["dheera-alert", alert.about, alert.subject],
        "tags": {"about": alert.about, "subject": alert.subject[:_LONGEST_TAG]},
    }


def _of_record(record: Record) -> dict[str, Any] | None:
    sort = error_type(record)
    if sort is None:
        return None
    number = uuid_of(record.call_id)
    user = {"id": record.end_user, "ip_address": record.client}
    return {
        "event_id": number.hex,
        "timestamp": ended_at(record),
        "level": _level(record),
        "message": {"formatted": f"{sort} on {record.endpoint}" + (f": {record.message}" if record.message else "")},
        "transaction": record.endpoint,
        "fingerprint": ["dheera", sort, record.endpoint],
        "tags": _tags(record, sort),
        "user": {name: value for name, value in user.items() if value},
        "request": {"method": record.method, "url": record.path, "headers": {"User-Agent": record.user_agent}},
        "contexts": {"trace": {"trace_id": number.hex, "span_id": number.hex[16:], "op": "http.server"}},
        "extra": {
            "call_id": record.call_id,
            "attempts": record.attempts,
            "tries": msgspec.to_builtins(record.tries),
            "upstream_key": record.upstream_key,
            "duration_ms": record.duration_us / 1000,
            "response_bytes": record.response_bytes,
            "cost_usd": cost_of(record),
            "upstream_id": record.upstream_id,
        },
    }


def _tags(record: Record, sort: str) -> dict[str, str]:
    found = {
        "error": sort,
        "outcome": record.outcome,
        "endpoint": record.endpoint,
        "upstream": record.upstream,
        "status": None if record.status is None else str(record.status),
        "model": record.model,
        "key_alias": record.key_alias,
        "team": record.team_alias or record.team_id,
    }
    return {name: value[:_LONGEST_TAG] for name, value in found.items() if value}


def _level(record: Record) -> str:
    if record.outcome == "client_left":
        return "warning"
    is_ours = (record.status or _SERVER_ERRORS) >= _SERVER_ERRORS or record.outcome in ("upstream_cut", "interrupted")
    return "error" if is_ours else "warning"


FACTORY = SentryFactory()
_: SinkFactory = FACTORY
