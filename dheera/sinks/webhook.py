"""
Records to any HTTP server: as one JSON array, as lines of JSON, or each by itself.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import ClassVar, Literal

import msgspec
from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from dheera.bookkeeping import Entry
from dheera.config import ConfigurationError
from dheera.keys import Secret
from dheera.records import Record
from dheera.sinks import contract
from dheera.sinks.contract import Sink, SinkSettings, Tools
from dheera.sinks.lines import joined
from dheera.sinks.shapes import litellm_payload
from dheera.wire.outgoing import split

CONTENT_TYPES: Mapping[str, str] = {
    "json_array": "application/json",
    "ndjson": "application/x-ndjson",
    "single": "application/json",
}
URL_VARIABLE = "GENERIC_LOGGER_ENDPOINT"
HEADERS_VARIABLE = "GENERIC_LOGGER_HEADERS"
SIGNATURE = "x-dheera-signature"


class WebhookSettings(SinkSettings, frozen=True, kw_only=True):
    """
    ``[sinks.webhook]``

    :param url: often a secret itself. Environment: ``GENERIC_LOGGER_ENDPOINT``.
    :param headers: beside our own. Environment: ``GENERIC_LOGGER_HEADERS``, as ``name=value,name=value``.
    :param format: how a batch is written; ``single`` is one request for each record.
    :param shape: how a record is written; in that of LiteLLM there are no alerts.
    :param compress: with gzip. Many who take webhooks cannot read it.
    :param signing_secret: the body, before it is compressed, is signed with it: `signature` says how.
    """

    url: Secret | None = None
    headers: dict[str, Secret] = msgspec.field(default_factory=dict)
    method: Literal["POST", "PUT"] = "POST"
    format: Literal["json_array", "ndjson", "single"] = "json_array"
    shape: Literal["dheera", "litellm"] = "dheera"
    compress: bool = False
    signing_secret: Secret | None = None


@define(eq=False)
class WebhookSink:
    """
    Sends to one URL.

    :ivar _arrived: of ``single``: the records of a batch that failed half way which are there already.
    """

    _settings: WebhookSettings
    _tools: Tools
    _url: str = field(repr=False)
    _headers: Mapping[str, str] = field(repr=False)
    _arrived: set[int] = field(factory=set, init=False)

    def send(self, entries: Sequence[Entry]) -> Deferred[None]:
        """
        Send a batch.
        """
        return Deferred.fromCoroutine(self._send(entries))

    def close(self) -> Deferred[None]:
        """
        Nothing is open: the courier keeps the connections.
        """
        return succeed(None)

    async def _send(self, entries: Sequence[Entry]) -> None:
        if self._settings.shape == "litellm":
            entries = [_reshaped(each, each.value) for each in entries if isinstance(each.value, Record)]
        if self._settings.format == "single":
            await self._send_each(entries)
        elif entries and self._settings.format == "ndjson":
            await self._post(joined(entries))
        elif entries:
            await self._post(b"[%b]" % b",".join([each.line for each in entries]))

    async def _send_each(self, entries: Sequence[Entry]) -> None:
        for each in entries:
            if each.position not in self._arrived:
                await self._post(each.line)
                self._arrived.add(each.position)
        self._arrived -= {each.position for each in entries}

    async def _post(self, content: bytes) -> None:
        settings = self._settings
        headers = {"Content-Type": CONTENT_TYPES[settings.format], **self._headers}
        if settings.signing_secret is not None:
            moment = int(self._tools.now().timestamp())
            headers[SIGNATURE] = signature(settings.signing_secret, moment, content)
        await self._tools.courier.send(
            self._url,
            content,
            headers,
            method=settings.method,
            compress=settings.compress,
            timeout_seconds=settings.timeout_seconds,
        )


def signature(secret: Secret, moment: int, content: bytes) -> str:
    """
    That *content* was sent by somebody who knows *secret*, and when: HMAC-SHA256 of the seconds, a dot, and the body.
    """
    mac = hmac.new(secret.reveal().encode(), b"%d.%b" % (moment, content), sha256)
    return f"t={moment},v1={mac.hexdigest()}"


def _reshaped(entry: Entry, record: Record) -> Entry:
    return Entry(position=entry.position, line=msgspec.json.encode(litellm_payload(record)), value=record)


class WebhookFactory:
    """
    Makes the sink ``webhook``.
    """

    kind: ClassVar[str] = "webhook"
    settings: ClassVar[type[SinkSettings]] = WebhookSettings
    takes: ClassVar[Literal["records", "alerts", "all"]] = "all"

    def make(self, settings: WebhookSettings, tools: Tools) -> Sink:
        """
        See `dheera.sinks.contract.SinkFactory`.
        """
        problems = []
        url = tools.environment.get(URL_VARIABLE, "") if settings.url is None else settings.url.reveal()
        if not url:
            problems.append(f"url: is not said: write it, or set {URL_VARIABLE}")
        elif not _is_usable(url):
            problems.append("url: found something else (not shown, it may be secret), wanted an http or https URL")
        headers = {name: each.reveal() for name, each in settings.headers.items()}
        if not headers:
            headers = _from_variable(tools.environment.get(HEADERS_VARIABLE, ""), problems)
        problems.extend(_unusable(headers))
        if problems:
            raise ConfigurationError(problems)
        return WebhookSink(settings, tools, url, headers)


def _is_usable(url: str) -> bool:
    try:
        split(url.encode("ascii"))
    except ValueError:
        return False
    return True


def _from_variable(text: str, problems: list[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in text.split(",") if each.strip()]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        problems.append(f"headers: {HEADERS_VARIABLE} is none of name=value,name=value (not shown, it may be secret)")
        return {}
    return {name.strip(): value.strip() for name, _, value in pairs}


def _unusable(headers: Mapping[str, str]) -> list[str]:
    return [
        f"headers: {json.dumps(name, ensure_ascii=False)} cannot be sent, "
        "wanted a name of letters, digits and -, and a text in ASCII"
        for name, value in headers.items()
        if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum())
        or not (value.isascii() and value.isprintable())
    ]


FACTORY = WebhookFactory()

_: contract.SinkFactory = FACTORY
