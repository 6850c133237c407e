"""
Brings records to where OTLP over HTTP is taken: spans first, then measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from dheera.bookkeeping import Entry
from dheera.keys import Secret
from dheera.records import Record
from dheera.sinks.contract import Reply, Sink, Tools
from dheera.sinks.otlp.encoding import Encoding, Period
from dheera.sinks.otlp.measures import measured
from dheera.sinks.otlp.spans import Span, Value, nanoseconds
from dheera.sinks.vendor import pieces

log = Logger()

MOST_SPANS = 100
"""
In one request: some milliseconds of work; then others have their turn.
"""
MOST_BYTES = 4 * 1024 * 1024
"""
Of records, in one request. As spans they take two or three times as much; the OpenTelemetry Collector takes 20 MiB.
"""
_LONGEST_QUOTE = 200


@frozen(kw_only=True)
class Receiver:
    """
    Where one sort of request goes.

    :param headers: by their names; their values may be credentials.
    """

    url: str
    headers: Mapping[str, Secret]
    timeout_seconds: float
    compresses: bool


@define(kw_only=True, eq=False)
class OtlpSink:
    """
    Sends a span for each record, and what a batch adds to the measures.

    :param spans: where they go.
    :param measures: where they go; ``None`` if nobody wants them.
    :param resource: says who tells all this.
    :param span_of: how a record is told.
    :param server: the host of upstream.
    :ivar rejected: how many spans and points the other side has thrown away.
    """

    _tools: Tools = field(repr=False)
    _encoding: Encoding = field(repr=False)
    _spans: Receiver = field(repr=False)
    _measures: Receiver | None = field(repr=False)
    _resource: Mapping[str, Value]
    _span_of: Callable[[Record, str], Span] = field(repr=False)
    _server: str
    rejected: int = field(default=0, init=False)
    _told_until: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._told_until = nanoseconds(self._tools.now())

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
        found = [(entry.value, len(entry.line)) for entry in entries if isinstance(entry.value, Record)]
        for records in pieces(found, most=MOST_SPANS, most_bytes=MOST_BYTES):
            spans = [self._span_of(each, self._server) for each in records]
            reply = await self._bring(self._spans, self._encoding.spans(self._resource, spans))
            self._note("spans", *self._encoding.rejected_spans(reply.content))
        # Spans that come again are known by their ids. Measures are not: so they go last, when nothing can fail after.
        if self._measures is not None:
            await self._send_measures(self._measures, [record for record, _ in found])

    async def _send_measures(self, receiver: Receiver, records: Sequence[Record]) -> None:
        measures = measured(records, self._server)
        period = Period(since=self._told_until, until=max(nanoseconds(self._tools.now()), self._told_until + 1))
        if measures:
            reply = await self._bring(receiver, self._encoding.measures(self._resource, measures, period))
            self._note("points", *self._encoding.rejected_points(reply.content))
            self._told_until = period.until

    def _bring(self, receiver: Receiver, content: bytes) -> Deferred[Reply]:
        headers = {name: value.reveal() for name, value in receiver.headers.items()}
        return self._tools.courier.send(
            receiver.url,
            content,
            {**headers, "Content-Type": self._encoding.content_type},
            compress=receiver.compresses,
            timeout_seconds=receiver.timeout_seconds,
        )

    def _note(self, sort: str, count: int, reason: str) -> None:
        # OTLP forbids to send again what was thrown away so.
        self.rejected += count
        if count or reason:
            log.warn(
                "Sink {sink}: the receiver has rejected {count} {sort}: {reason}",
                sink=self._tools.name,
                count=count,
                sort=sort,
                reason=reason[:_LONGEST_QUOTE],
            )


_: type[Sink] = OtlpSink
