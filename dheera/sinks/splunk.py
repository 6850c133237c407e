"""
Splunk, by its HTTP Event Collector.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal
from uuid import NAMESPACE_URL, uuid5

import msgspec
from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from dheera.bookkeeping import Entry
from dheera.keys import Secret
from dheera.records import Alert
from dheera.sinks import contract
from dheera.sinks.contract import Reply, SinkAway, SinkRefuses, SinkSettings, Tools
from dheera.sinks.vendor import Table, pieces

PATH = "/services/collector/event"
MOST_BYTES = 1_000_000
"""
Of one request, uncompressed: what Splunk recommends, and the default limit of older versions.
"""
MENDED_BY_OPERATORS = frozenset({7, 10, 11, 14, 16})
"""
Codes of answers with status 400 that are not about the events: an index that the token may not write to, channels
(which a token with acknowledgements wants), how it is authorized.
"""


class SplunkSettings(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What ``[sinks.NAME] kind = "splunk"`` may say.

    :param url: ``https://splunk.example:8088``; the path of the collector is added.
    :param index: the token's own, if not said.
    """

    url: str = ""
    token: Secret | None = None
    index: str = ""
    source: str = "dheera"
    sourcetype: str = "dheera"


@define(eq=False)
class SplunkSink:
    """
    Sends events; each is a record as it is, at the time when its call began.
    """

    _url: str
    _headers: Mapping[str, str] = field(repr=False)
    _metadata: Mapping[str, str]
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
        events = [self._event(entry) for entry in entries]
        for piece in pieces([(each, len(each)) for each in events], most=len(events) or 1, most_bytes=MOST_BYTES):
            try:
                reply = await self._tools.courier.send(
                    self._url, b"\n".join(piece), self._headers, timeout_seconds=self._timeout_seconds
                )
            except SinkRefuses as refusal:
                code = re.search(r'"code"\s*:\s*([0-9]+)', str(refusal))
                if code and int(code[1]) in MENDED_BY_OPERATORS:
                    raise SinkAway(f"{refusal} (check its index and its token's settings)") from refusal
                raise
            _check(reply)

    def _event(self, entry: Entry) -> bytes:
        value = entry.value
        moment = value.at if isinstance(value, Alert) else value.started_at
        event: dict[str, Any] = {"time": moment.timestamp(), "host": value.node, **self._metadata}
        return _encoder.encode({**event, "event": msgspec.Raw(entry.line)})


class SplunkFactory:
    """
    Makes `SplunkSink`.
    """

    kind: ClassVar[str] = "splunk"
    settings: ClassVar[type[SinkSettings]] = SplunkSettings
    takes: ClassVar[Literal["records", "alerts", "all"]] = "all"

    def make(self, settings: SplunkSettings, tools: Tools) -> SplunkSink:
        """
        See `dheera.sinks.contract.SinkFactory`.
        """
        with Table.of(tools) as table:
            url = table.url("url", settings.url, "SPLUNK_HEC_URL")
            url = re.sub(r"/services/collector(/event)?$", "", url) + PATH
            token = table.token("token", settings.token, "SPLUNK_HEC_TOKEN")
            return SplunkSink(
                url=url,
                headers={
                    "Authorization": f"Splunk {token.reveal()}",
                    "Content-Type": "application/json",
                    # Tokens with acknowledgements want one; others do not mind.
                    "X-Splunk-Request-Channel": str(uuid5(NAMESPACE_URL, f"dheera:{tools.node}:{tools.name}")),
                },
                metadata={
                    name: text
                    for name, text in (
                        ("source", settings.source),
                        ("sourcetype", settings.sourcetype),
                        ("index", settings.index),
                    )
                    if text
                },
                timeout_seconds=settings.timeout_seconds,
                tools=tools,
            )


def _check(reply: Reply) -> None:
    """
    :raises SinkAway: something else than a collector answered, or it did not take the events.
    """
    try:
        code = msgspec.json.decode(reply.content)["code"]
    except (msgspec.MsgspecError, LookupError, TypeError):
        raise SinkAway("What answered is not Splunk's HTTP Event Collector: check the URL.") from None
    if code != 0:
        raise SinkAway(f"Splunk's HTTP Event Collector answered with code {code!r:.20}.")


_encoder = msgspec.json.Encoder()

FACTORY = SplunkFactory()

_: contract.SinkFactory = FACTORY
_sink: type[contract.Sink] = SplunkSink
