"""
Datadog: records and alerts as logs, by its HTTP intake.

Datadog does not tell that a log has come before: one that is sent again after a failure is there twice, with the same
``call_id``. It takes no logs of more than 18 hours ago.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import msgspec
from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from dheera.bookkeeping import Entry
from dheera.keys import Secret
from dheera.records import Alert, Record
from dheera.sinks.contract import Sink, SinkFactory, SinkSettings, Tools
from dheera.sinks.figures import cost_of, ended_at, error_type
from dheera.sinks.vendor import Table, pieces

DEFAULT_SITE = "datadoghq.com"
MOST_LOGS = 1000
MOST_BYTES = 5_000_000 - 2
"""
What the intake takes at once, before compression, less the brackets. A log of more than 1 MB it shortens by itself.
"""
_SERVER_ERRORS = 500
_SEPARATORS = re.compile(r"[,\s]")
_ALERTS = {"warning": "warn", "critical": "critical", "resolved": "ok"}


class DatadogSettings(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What ``[sinks.NAME]`` may say with ``kind = "datadog"``.

    :param site: of Datadog, such as ``datadoghq.eu``.
    :param url: of the intake, in place of that of the site.
    :param service: ``dheera`` if it is not said.
    :param env: such as ``production``.
    :param tags: such as ``["region:eu"]``.
    """

    site: str = ""
    url: str = ""
    api_key: Secret | None = None
    service: str = ""
    env: str = ""
    tags: list[str] = msgspec.field(default_factory=list)


class DatadogFactory:
    """
    Makes sinks that send to Datadog.
    """

    kind: ClassVar[str] = "datadog"
    settings: ClassVar[type[SinkSettings]] = DatadogSettings
    takes: ClassVar[Literal["records", "alerts", "all"]] = "all"

    def make(self, settings: DatadogSettings, tools: Tools) -> Sink:
        """
        See `dheera.sinks.contract.SinkFactory`.
        """
        with Table.of(tools) as table:
            site = table.text(settings.site, "DD_SITE") or DEFAULT_SITE
            if not re.fullmatch(r"[a-z0-9.-]+", site):
                table.refuse("site", f"is to be a site of Datadog, such as {DEFAULT_SITE}")
                site = DEFAULT_SITE  # what would follow from the other is no news
            tags = [*settings.tags, *filter(None, _SEPARATORS.split(table.text("", "DD_TAGS")))]
            env = table.text(settings.env, "DD_ENV")
            if env:
                tags.append(f"env:{env}")
            return DatadogSink(
                tools=tools,
                url=table.url("url", settings.url or f"https://http-intake.logs.{site}/api/v2/logs"),
                api_key=table.token("api_key", settings.api_key, "DD_API_KEY"),
                service=table.text(settings.service, "DD_SERVICE") or "dheera",
                tags=tags,
                timeout_seconds=settings.timeout_seconds,
            )


@define(kw_only=True, eq=False)
class DatadogSink:
    """
    Writes logs.
    """

    _tools: Tools = field(repr=False)
    _url: str
    _api_key: Secret
    _service: str
    _tags: Sequence[str]
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
        headers = {"DD-API-KEY": self._api_key.reveal(), "Content-Type": "application/json"}
        logs = [msgspec.json.encode(self._log(entry.value)) for entry in entries]
        for together in pieces(((each, len(each) + 1) for each in logs), most=MOST_LOGS, most_bytes=MOST_BYTES):
            content = b"[" + b",".join(together) + b"]"
            await self._tools.courier.send(self._url, content, headers, timeout_seconds=self._timeout_seconds)

    def _log(self, value: Record | Alert) -> dict[str, Any]:
        own = _tags(value) if isinstance(value, Record) else [f"about:{value.about}"]
        common = {
            "ddsource": "dheera",
            "ddtags": ",".join([*self._tags, *own]),
            "hostname": value.node,
            "service": self._service,
        }
        return {**common, **(_call(value) if isinstance(value, Record) else _alert(value))}


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "message": alert.text,
        "status": _ALERTS[alert.level],
        "timestamp": alert.at,
        "dheera": alert,
    }


def _call(record: Record) -> dict[str, Any]:
    """
    A log with Datadog's standard attributes, and the whole record below ``dheera``.
    """
    error = error_type(record)
    found = {
        "message": _sentence(record),
        "status": _status(record),
        "timestamp": ended_at(record),
        "duration": record.duration_us * 1000,  # nanoseconds, as Datadog has it
        "http": {
            "method": record.method,
            "status_code": record.status,
            "url_details": {"path": record.path},
            "useragent": record.user_agent or None,
        },
        "network": {"client": {"ip": record.client}} if record.client else None,
        "usr": {"id": record.end_user} if record.end_user else None,
        "error": {"kind": error, "message": record.message} if error else None,
        "cost_usd": cost_of(record),
        "dheera": record,
    }
    return {name: value for name, value in found.items() if value is not None}


def _tags(record: Record) -> list[str]:
    told = {"endpoint": record.endpoint, "model": record.model, "key_alias": record.key_alias, "team": record.team_id}
    return [f"{name}:{_SEPARATORS.sub('_', value)}" for name, value in told.items() if value]


def _sentence(record: Record) -> str:
    subject = f"{record.method} {record.endpoint} {record.model or ''}".rstrip()
    end = record.status if record.outcome == "complete" else f"{record.outcome} ({record.status})"
    return f"{subject}: {end} in {record.duration_us / 1000:.0f} ms"


def _status(record: Record) -> str:
    if not record.failed:
        return "info"
    is_ours = (record.status or _SERVER_ERRORS) >= _SERVER_ERRORS or record.outcome == "upstream_cut"
    return "error" if is_ours else "warn"


FACTORY = DatadogFactory()
_: SinkFactory = FACTORY
