"""
Slack, by an incoming webhook: alerts, for people to read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC
from typing import ClassVar, Literal
from urllib.parse import urlsplit

import msgspec
from attrs import define
from twisted.internet.defer import Deferred, succeed

from dheera.bookkeeping import Entry
from dheera.keys import Secret
from dheera.records import Alert
from dheera.sinks import contract
from dheera.sinks.contract import SinkAway, SinkRefuses, SinkSettings, Tools
from dheera.sinks.vendor import Table, pieces

LONGEST_LETTERS = 4000
"""
Of one message, as Slack recommends.
"""
LONGEST_ALERT_LETTERS = 600
LEVELS = {"critical": "CRITICAL", "warning": "Warning", "resolved": "Resolved"}


class SlackSettings(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What ``[sinks.NAME] kind = "slack"`` may say.

    :param url: of the incoming webhook: whoever has it may write to the channel.
    """

    url: Secret | None = None


@define(eq=False)
class SlackSink:
    """
    Posts a line for each alert; those of one batch stand in one message, as far as they fit.
    """

    _url: Secret
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
        lines = [told(entry.value) for entry in entries if isinstance(entry.value, Alert)]
        for piece in pieces([(line, len(line) + 1) for line in lines], most=50, most_bytes=LONGEST_LETTERS):
            content = msgspec.json.encode({"text": "\n".join(piece), "mrkdwn": False})
            headers = {"Content-Type": "application/json"}
            try:
                await self._tools.courier.send(
                    self._url.reveal(), content, headers, compress=False, timeout_seconds=self._timeout_seconds
                )
            except SinkRefuses as refusal:
                if "channel_is_archived" in str(refusal):
                    raise SinkAway(f"{refusal} (unarchive the channel, or make another webhook)") from refusal
                raise


class SlackFactory:
    """
    Makes `SlackSink`.
    """

    kind: ClassVar[str] = "slack"
    settings: ClassVar[type[SinkSettings]] = SlackSettings
    takes: ClassVar[Literal["records", "alerts", "all"]] = "alerts"

    def make(self, settings: SlackSettings, tools: Tools) -> SlackSink:
        """
        See `dheera.sinks.contract.SinkFactory`.
        """
        with Table.of(tools) as table:
            url = table.secret(settings.url, "SLACK_WEBHOOK_URL")
            if url is None or not _is_url(url.reveal()):
                table.refuse(
                    "url",
                    "wanted the URL of an incoming webhook, https://hooks.slack.com/services/..., here or in "
                    "SLACK_WEBHOOK_URL (what was found is not shown)",
                )
                raise table.refusal()
            return SlackSink(url=url, timeout_seconds=settings.timeout_seconds, tools=tools)


def told(alert: Alert) -> str:
    """
    *alert* as a line of a message, in which nothing is a link or a mention. The id at its end tells that it is not sent
    for the first time.
    """
    moment = alert.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    said = " ".join(f"{LEVELS[alert.level]}: {alert.subject}: {alert.text}".split())
    if len(said) > LONGEST_ALERT_LETTERS:
        said = f"{said[:LONGEST_ALERT_LETTERS]}..."
    text = f"{said} ({alert.node}, {moment}, {alert.id})"
    # These three, and no others: https://docs.slack.dev/messaging/formatting-message-text#escaping
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(re.fullmatch(r"(?i:https?)://[!-~]+", text)) and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


FACTORY = SlackFactory()

_: contract.SinkFactory = FACTORY
_sink: type[contract.Sink] = SlackSink
