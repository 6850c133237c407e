"""
Grafana Loki, by its push API.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, ClassVar, Literal

import msgspec
from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from dheera.bookkeeping import Entry
from dheera.keys import Secret
from dheera.records import Alert
from dheera.sinks import contract
from dheera.sinks.contract import SinkAway, SinkRefuses, SinkSettings, Tools
from dheera.sinks.figures import ended_at
from dheera.sinks.vendor import Table, basic, pieces

PATH = "/loki/api/v1/push"
MOST_BYTES = 1_000_000
"""
Of one request, uncompressed: well below Loki's limits for a burst (6 MB) and for a message between its parts (4 MB).
"""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
LEVELS: Mapping[str, str] = {"critical": "critical", "warning": "warn", "resolved": "info"}


class LokiSettings(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What ``[sinks.NAME] kind = "loki"`` may say.

    :param url: ``https://loki.example:3100``; the path of the push API is added.
    :param tenant: told as ``X-Scope-OrgID``.
    :param bearer_token: or else *username* and *password*.
    :param labels: of all streams, beside our own.
    :param structured_metadata: off for a Loki before 3.0, or one that does not allow it.
    """

    url: str = ""
    tenant: str = ""
    username: str = ""
    password: Secret | None = None
    bearer_token: Secret | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    structured_metadata: bool = True


@define(eq=False)
class LokiSink:
    """
    Pushes lines of JSON, in few streams. What is pushed again with the same time and line is there once.
    """

    _url: str
    _headers: Mapping[str, str] = field(repr=False)
    _labels: Mapping[str, str]
    _structured_metadata: bool
    _timeout_seconds: float
    _tools: Tools

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
        sized = [(entry, len(entry.line)) for entry in entries]
        for piece in pieces(sized, most=len(sized) or 1, most_bytes=MOST_BYTES):
            try:
                reply = await self._tools.courier.send(
                    self._url, self._content(piece), self._headers, timeout_seconds=self._timeout_seconds
                )
            except SinkRefuses as refusal:
                if "includes structured metadata" in str(refusal):  # "..., but this feature is disallowed"
                    raise SinkAway(f"{refusal} (write structured_metadata = false)") from refusal
                raise
            if reply.status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT):
                raise SinkAway(f"Loki answered {reply.status}: its operators have blocked what comes in.")

    def _content(self, entries: Sequence[Entry]) -> bytes:
        streams: dict[tuple[tuple[str, str], ...], list[tuple[int, list[Any]]]] = {}
        for entry in entries:
            stamp = _nanoseconds(entry)
            value: list[Any] = [str(stamp), entry.line.decode()]
            if self._structured_metadata:
                value.append(_metadata(entry))
            labels = tuple({**self._labels, **_labels(entry)}.items())
            streams.setdefault(labels, []).append((stamp, value))
        return _encoder.encode(
            {
                "streams": [
                    {"stream": dict(labels), "values": [value for _, value in sorted(found, key=_stamp)]}
                    for labels, found in streams.items()
                ]
            }
        )


class LokiFactory:
    """
    Makes `LokiSink`.
    """

    kind: ClassVar[str] = "loki"
    settings: ClassVar[type[SinkSettings]] = LokiSettings
    takes: ClassVar[Literal["records", "alerts", "all"]] = "all"

    def make(self, settings: LokiSettings, tools: Tools) -> LokiSink:
        """
        See `dheera.sinks.contract.SinkFactory`.
        """
        with Table.of(tools) as table:
            for name, text in settings.labels.items():
                if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) or not text:
                    table.refuse(
                        "labels", "wanted names of letters, digits and underscores, with texts that are not empty"
                    )
            tenant = table.text(settings.tenant, "LOKI_ORG_ID")
            if not re.fullmatch(r"[!-~]*", tenant):
                table.refuse("tenant", "wanted visible ASCII characters without a space")
            headers = {"Content-Type": "application/json", **_authorization(settings, table)}
            return LokiSink(
                url=table.url("url", settings.url, "LOKI_ADDR").removesuffix(PATH) + PATH,
                headers={**headers, "X-Scope-OrgID": tenant} if tenant else headers,
                labels=settings.labels,
                structured_metadata=settings.structured_metadata,
                timeout_seconds=settings.timeout_seconds,
                tools=tools,
            )


def _authorization(settings: LokiSettings, table: Table) -> dict[str, str]:
    """
    What the table says, or else the environment; Loki itself wants nothing.
    """
    # The table's word, of whatever sort, is not mixed with the environment's.
    in_table = settings.bearer_token or settings.username or settings.password
    bearer = settings.bearer_token if in_table else table.secret(None, "LOKI_BEARER_TOKEN")
    if bearer:
        return {"Authorization": f"Bearer {table.token('bearer_token', bearer).reveal()}"}
    user = table.text(settings.username, "LOKI_USERNAME")
    password = table.secret(settings.password, "LOKI_PASSWORD")
    if not user and not password:
        return {}
    if not user or ":" in user or not password:
        table.refuse("username", "wanted a user name without a colon, and a password with it")
        return {}
    return {"Authorization": basic(user, password)}


def _labels(entry: Entry) -> dict[str, str]:
    """
    What tells streams apart: each combination is one for Loki, so there are few.
    """
    value = entry.value
    labels = {"service_name": "dheera", "node": value.node or "unknown"}
    if isinstance(value, Alert):
        return {**labels, "line": "alert", "about": value.about}
    return {**labels, "line": "end", "outcome": value.outcome}


def _metadata(entry: Entry) -> dict[str, str]:
    """
    What is searched for, and has too many values for a label.
    """
    value = entry.value
    if isinstance(value, Alert):
        return {"id": value.id, "level": LEVELS[value.level]}
    found = {
        "call_id": value.call_id,
        "level": "error" if value.failed else "info",
        "endpoint": value.endpoint,
        "model": value.model,
        "key_alias": value.key_alias,
        "team_id": value.team_id,
    }
    return {name: text for name, text in found.items() if text}


def _nanoseconds(entry: Entry) -> int:
    """
    When it was over: in that order they come.
    """
    value = entry.value
    moment = value.at if isinstance(value, Alert) else ended_at(value)
    return (moment - EPOCH) // MICROSECOND * 1000


def _stamp(pair: tuple[int, list[Any]]) -> int:
    return pair[0]


_encoder = msgspec.json.Encoder()

FACTORY = LokiFactory()

_: contract.SinkFactory = FACTORY
_sink: type[contract.Sink] = LokiSink
