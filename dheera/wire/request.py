"""
A request as resources see it: Twisted's, with a body that streams and an answer whose head goes out as it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import datetimeToString
from twisted.web.http_headers import Headers

from dheera.errors import Refusal
from dheera.wire.heads import Fields, Head

if TYPE_CHECKING:
    from dheera.wire.body import RequestBody
    from dheera.wire.channel import Channel
    from dheera.wire.server import Server

NO_CONTENT = 204
_BODILESS = frozenset({NO_CONTENT, 304})


def reason_phrase(code: int) -> bytes:
    """
    The usual reason phrase of a status code, empty for an unknown one.
    """
    try:
        return HTTPStatus(code).phrase.encode("ascii")
    except ValueError:
        return b""


def http_date() -> bytes:
    """
    Now, as the header line ``Date`` has it (RFC 9110 §5.6.7).
    """
    return _date_at(int(time()))


@lru_cache(maxsize=256)
def _status_line(code: int, reason: bytes) -> bytes:
    return b"HTTP/1.1 %d %b" % (code, reason)


@lru_cache(maxsize=1)
def _date_at(second: int) -> bytes:
    date: bytes = datetimeToString(second)
    return date


class Request(server.Request):
    """
    One request. ``render`` runs when its head is complete; ``body`` brings the rest.

    Resources of ours answer in Twisted's ordinary way (``setHeader``, ``write``, ``finish``). What is passed on from
    upstream is begun with ``begin``, whose header lines go out in the order and spelling given.
    """

    channel: Channel  # type: ignore[assignment]  # Twisted names its own
    site: Server
    body: RequestBody | None = None
    queued = False
    sitepath: list[bytes]
    _bodiless = False
    _sized = False
    _left: Callable[[], object] | None = None

    def __init__(self, channel: Channel, head: Head) -> None:
        # Twisted's makes two sets of headers that nobody looks at: 9,000 of the 560,000 instructions of an exchange.
        self.channel = channel
        self.site = channel.site
        self.transport = channel.transport
        self.client = channel.peer
        self.host = channel.host
        self.notifications = []
        self.received_cookies = {}
        self.cookies = []
        self._adapterCache: dict[object, object] = {}
        self.head = head
        self.method = head.method
        self.uri = head.target
        self.path = head.path
        self.fields = head.fields
        self.upgrade_to = head.framing.upgrade

    @cached_property
    def clientproto(self) -> bytes:  # type: ignore[override]  # Twisted keeps an attribute, here and below
        """
        The version of HTTP that the client speaks.
        """
        return b"HTTP/" + self.head.version.encode("ascii")

    @cached_property
    def requestHeaders(self) -> Headers:  # type: ignore[override]
        """
        The header lines as Twisted has them; what is passed on needs only ``fields``.
        """
        headers = Headers()
        for name, value in self.fields:
            headers.addRawHeader(name, value)
        return headers

    @cached_property
    def responseHeaders(self) -> Headers:  # type: ignore[override]
        """
        The header lines of an answer of our own.
        """
        return Headers()

    def process(self) -> None:
        """
        Find the resource and let it render; what it raises is answered.
        """
        self.prepath: list[bytes] = []
        self.postpath = [*self.head.steps]
        try:
            if self.path == b"*":
                self.setResponseCode(NO_CONTENT)
                self.finish()
            else:
                self.render(self.site.getResourceFor(self))
        except Exception:  # noqa: BLE001 - the last one to catch; it logs
            self.processingFailed(Failure())

    def when_left(self, tell: Callable[[], object]) -> None:
        """
        Call *tell* if the client leaves before the answer is complete. That is what is wanted of ``notifyFinish`` for
        each exchange, without a Deferred that fires for nobody when all goes well.
        """
        self._left = tell

    def connectionLost(self, reason: Failure) -> None:
        """
        The client has left.
        """
        super().connectionLost(reason)  # type: ignore[no-untyped-call]  # Twisted has no types there
        tell, self._left = self._left, None
        if tell is not None:
            tell()

    def begin(self, code: int, reason: bytes, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """
        Begin the answer. Its head leaves with the first piece, or with ``flush``.

        :param fields: header lines without hop-by-hop ones. With a ``Content-Length`` among them the body is that long;
            without, it is chunked (to HTTP/1.0: ended by closing).
        """
        lines: list[bytes] = []
        sized = False
        for name, value in fields:
            if len(name) == 14 and name.lower() == b"content-length":  # noqa: PLR2004 - its length
                if code == NO_CONTENT:
                    continue  # RFC 9110 §8.6
                sized = True
            lines.append(b": ".join((name, value)))
        self.begin_written(code, reason, lines, sized=sized)

    def begin_written(self, code: int, reason: bytes, lines: Sequence[bytes], *, sized: bool) -> None:
        """
        The same with header lines as they are sent, but for the ``CRLF`` at their ends.

        :param sized: a ``Content-Length`` is among them.
        """
        self.startedWriting = 1
        self.code, self.code_message = code, reason
        head = [_status_line(code, reason), *lines]
        self._bodiless = self.method == b"HEAD" or code in _BODILESS
        self._sized = sized or self._bodiless
        if not self._sized:
            if self.head.version == "1.0":
                self.channel.persistent = False
            else:
                self.chunked = 1
                head.append(b"Transfer-Encoding: chunked")
        if not self.channel.will_persist():
            head.append(b"Connection: close")
        head.append(b"\r\n")
        self.channel.hold(b"\r\n".join(head))

    def flush(self) -> None:
        """
        Send the head now if nothing has been written after it.
        """
        if not self._disconnected and not self.finished:
            self.channel.flush()

    def inform(self, code: int, reason: bytes, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """
        Pass on an interim answer (1xx, RFC 9110 §15.2); nothing is sent to HTTP/1.0 or once the answer has begun.
        """
        if self.head.version == "1.0" or self.startedWriting or self._disconnected:
            return
        lines = b"".join(b"%b: %b\r\n" % field for field in fields)
        self.channel.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (code, reason, lines))

    def write(self, data: bytes) -> None:
        """
        Send a piece of the answer; the first one sends the head before it.
        """
        if self._disconnected:
            return
        if not self.startedWriting:
            self.begin(self.code, self.code_message, self._own_fields())
        if data and not self._bodiless:
            self.sentLength += len(data)
            self.channel.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def unregisterProducer(self) -> None:
        """
        Nobody brings anything more; also when the client has left.
        """
        if not self._disconnected:
            super().unregisterProducer()  # type: ignore[no-untyped-call]  # Twisted has no types there

    def finish(self) -> None:
        """
        The answer is complete.
        """
        if self._disconnected or self.finished:
            return
        if not self.startedWriting:
            self.write(b"")
        if self.chunked:
            self.channel.write(b"0\r\n\r\n")
        else:
            self.channel.flush()
        self._finished()

    def finish_with(self, content: bytes) -> None:
        """
        Send all of the answer's body, and the end, in one piece; its head was made by ``begin``.
        """
        if self._disconnected:
            return
        if self._bodiless:
            content = b""
        self.sentLength += len(content)
        if self.chunked:
            content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if content else b"0\r\n\r\n"
        self.channel.write(content)
        self._finished()

    def _finished(self) -> None:
        self.finished = 1
        self._left = None
        if self.producer is not None:
            self._cleanup()  # which logs that it should not be there any more
            return
        self.channel.requestDone(self)
        del self.channel
        for each in self.notifications:
            each.callback(None)

    def cut(self) -> None:
        """
        The answer cannot be completed: end it so that the client sees that something is missing.
        """
        if not self._disconnected and not self.finished:
            self.channel.cut(flush=self._sized or bool(self.chunked))

    def upgrade(self, fields: Sequence[tuple[bytes, bytes]], protocol: IProtocol) -> None:
        """
        Answer 101 with *fields* and hand the connection over to *protocol*.
        """
        lines = b"".join(b"%b: %b\r\n" % field for field in fields)
        channel = self.channel
        channel.write(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % lines)
        self.startedWriting = self.finished = 1
        self._left = None
        channel.become_tunnel(protocol)

    def refuse(self, refusal: Refusal) -> None:
        """
        Answer with the JSON envelope of *refusal*; an answer that has begun is cut instead.
        """
        if self.startedWriting:
            self.cut()
            return
        fields, content = refusal.answer()
        self.setResponseCode(refusal.status, reason_phrase(refusal.status))
        for name, value in fields:
            self.setHeader(name, value)
        self.write(content)
        self.finish()

    def processingFailed(self, reason: Failure) -> Failure:
        """
        A resource raised: a refusal is answered, anything else is logged and told as a 500.
        """
        if isinstance(reason.value, Refusal):
            self.refuse(reason.value)
        else:
            self._log.failure("A request failed", reason)
            self.refuse(Refusal("Something failed inside dheera; its log says what."))
        return reason

    def _own_fields(self) -> Fields:
        headers = self.responseHeaders
        if not headers.hasHeader(b"Date"):
            headers.setRawHeaders(b"Date", [http_date()])
        fields = [*self.channel.stamp()] if not headers.hasHeader(b"x-dheera-call-id") else []
        return fields + [(name, value) for name, values in headers.getAllRawHeaders() for value in values]
