"""
Elasticsearch and OpenSearch, by their bulk API.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Literal

import msgspec
from attrs import define, field
from msgspec import Struct
from twisted.internet.defer import Deferred, succeed

from dheera.bookkeeping import Entry
from dheera.keys import Secret
from dheera.records import Alert
from dheera.sinks import contract
from dheera.sinks.contract import Reply, SinkAway, SinkRefuses, SinkSettings, Tools
from dheera.sinks.vendor import Table, basic, pieces

FILTER = "filter_path=errors,items.*.status,items.*.error.type"
"""
What we want to know of each item: not the reason, which may quote the document.
"""
MOST_DOCUMENTS = 500
"""
Of one request: the answer to it stays within what the courier reads.
"""
MOST_BYTES = 5_000_000
"""
Of one request, uncompressed: both recommend 5 to 15 MB; small clusters of Amazon's take 10.
"""


class ElasticsearchSettings(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What ``[sinks.NAME] kind = "elasticsearch"``, or ``"opensearch"``, may say.

    :param index: of an index or a data stream.
    :param api_key: in its encoded form; or else *username* and *password*.
    """

    url: str = ""
    index: str = "logs-dheera-default"
    api_key: Secret | None = None
    username: str = ""
    password: Secret | None = None


@define(eq=False)
class ElasticsearchSink:
    """
    Creates a document for each record, under its call id: one that is there already is told, and has arrived.
    """

    _url: str
    _headers: Mapping[str, str] = field(repr=False)
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
        actions = [action(entry) for entry in entries]
        for piece in pieces([(each, len(each)) for each in actions], most=MOST_DOCUMENTS, most_bytes=MOST_BYTES):
            try:
                reply = await self._tools.courier.send(
                    self._url, b"".join(piece), self._headers, timeout_seconds=self._timeout_seconds
                )
            except SinkRefuses as refusal:
                # Of documents that do not fit it tells one by one, with 200: this is about the index, or the settings.
                if " answered 400" in str(refusal):
                    raise SinkAway(f"{refusal} (check the index)") from refusal
                raise
            _check(reply, len(piece))


class ElasticsearchFactory:
    """
    Makes `ElasticsearchSink`; for OpenSearch too, which kept the bulk API.
    """

    kind: ClassVar[str] = "elasticsearch"
    settings: ClassVar[type[SinkSettings]] = ElasticsearchSettings
    takes: ClassVar[Literal["records", "alerts", "all"]] = "all"

    def make(self, settings: ElasticsearchSettings, tools: Tools) -> ElasticsearchSink:
        """
        See `dheera.sinks.contract.SinkFactory`.
        """
        with Table.of(tools) as table:
            family = "OPENSEARCH" if (settings.kind or tools.name) == "opensearch" else "ELASTICSEARCH"
            url = table.url("url", settings.url, f"{family}_URL")
            if not re.fullmatch(r"[a-z0-9.][a-z0-9._-]{0,254}", settings.index) or settings.index in (".", ".."):
                table.refuse("index", "wanted the name of an index or a data stream, in lower case")
            return ElasticsearchSink(
                url=f"{url}/{settings.index}/_bulk?{FILTER}",
                headers={"Content-Type": "application/x-ndjson", **_authorization(settings, table, family)},
                timeout_seconds=settings.timeout_seconds,
                tools=tools,
            )


def _authorization(settings: ElasticsearchSettings, table: Table, family: str) -> dict[str, str]:
    """
    What the table says, or else the environment; some servers want nothing.
    """
    # The table's word, of whatever sort, is not mixed with the environment's.
    in_table = settings.api_key or settings.username or settings.password
    api_key = settings.api_key if in_table else table.secret(None, f"{family}_API_KEY")
    if api_key:
        return {"Authorization": f"ApiKey {table.token('api_key', api_key).reveal()}"}
    user = table.text(settings.username, f"{family}_USERNAME")
    password = table.secret(settings.password, f"{family}_PASSWORD")
    if not user and not password:
        return {}
    if not user or ":" in user or not password:
        table.refuse("username", "wanted a user name without a colon, and a password with it")
        return {}
    return {"Authorization": basic(user, password)}


def action(entry: Entry) -> bytes:
    """
    The two lines of the bulk API that create the document of *entry*.

    What callers write stays out of the index's mapping, which their names and types would fill, and break: settings
    and bodies are texts of JSON.
    """
    value = entry.value
    alert = isinstance(value, Alert)
    document: dict[str, Any] = msgspec.json.decode(entry.line)
    document["@timestamp"] = document["at" if alert else "started_at"]
    if "parameters" in document:
        document["parameters"] = _text(document["parameters"])
    for name in ("request", "response"):
        if document.get(name, {}).get("body") is not None:
            document[name]["body"] = _text(document[name]["body"])
    head = {"create": {"_id": value.id if isinstance(value, Alert) else value.call_id}}
    return _encoder.encode(head) + b"\n" + _encoder.encode(document) + b"\n"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _encoder.encode(value).decode()


class _Error(Struct, frozen=True):
    type: str = "unknown"


class _Result(Struct, frozen=True):
    status: int
    error: _Error = _Error()


class _Answer(Struct, frozen=True):
    errors: bool
    items: list[dict[str, _Result]] = []


def _check(reply: Reply, count: int) -> None:
    """
    :raises SinkAway: not all documents are there, and they may be later.
    :raises SinkRefuses: not all documents are there, and some never will.
    """
    try:
        answer = _answers.decode(reply.content)
        results = [result for item in answer.items for result in item.values()]
        complete = not answer.errors or len(results) == count
    except msgspec.MsgspecError:
        complete = False
    if not complete:
        raise SinkAway("What answered does not speak the bulk API: check the URL.")
    if not answer.errors:
        return
    # 409: it is there already, from a time when we did not hear the answer.
    bad = [each for each in results if each.status >= HTTPStatus.BAD_REQUEST and each.status != HTTPStatus.CONFLICT]
    passing = [each for each in bad if each.status != HTTPStatus.BAD_REQUEST]
    if passing:
        raise SinkAway(f"{len(bad)} of {count} documents were not taken: {_told(passing)}.")
    if bad:
        raise SinkRefuses(f"{len(bad)} of {count} documents do not fit the index: {_told(bad)}.")


def _told(results: Sequence[_Result]) -> str:
    """
    The errors, those that happened most first.
    """
    found = Counter(f"{each.status} {each.error.type:.60}" for each in results).most_common(3)
    return ", ".join(text for text, _ in found)


_encoder = msgspec.json.Encoder()
_answers = msgspec.json.Decoder(_Answer)

FACTORY = ElasticsearchFactory()

_: contract.SinkFactory = FACTORY
_sink: type[contract.Sink] = ElasticsearchSink
