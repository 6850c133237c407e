"""
Bytes of a connection to request heads and bodies, by llhttp, and never a byte beyond what is asked for: what a client
pipelines behind a request stays unparsed.
"""

from __future__ import annotations

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from dheera.errors import BodyTooLarge, MalformedRequest
from dheera.wire.body import RequestBody, too_large
from dheera.wire.chunks import ChunkCounter
from dheera.wire.heads import (
    HEAD_END,
    Fields,
    Head,
    Memo,
    check_fields,
    check_partial_head,
    check_request_line,
    check_target,
    steps_of,
    too_long,
)
from dheera.wire.limits import ServerLimits
from dheera.wire.repeats import Repeatable


class RequestParser:
    """
    Parses one request after the other: its head, then its body if it has one.

    Each method takes what has come and gives back what it did not use; each raises ``MalformedRequest`` or
    ``BodyTooLarge``, after which the parser must not be used again.

    :ivar limits: may be replaced between two requests.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self.limits = limits
        self._llhttp = HttpRequestParser(self)
        self._is_spent = False
        self._last: Repeatable | None = None
        self._fields: Fields = []
        self._target = b""
        self._keep_alive = False
        self._body: RequestBody | None = None
        self._left: int | None = None
        self._chunks = ChunkCounter()
        self._pieces: list[bytes] = []
        self._chaff = 0
        self._trailed = False
        self._ended = False

    def head(self, data: bytes) -> tuple[Head | None, bytes]:
        """
        The next head, or ``None`` while it is incomplete.
        """
        if self._last is not None:
            again = self._last.again(data, self.limits)
            if again is not None:
                return again
        start = 0
        while data.startswith(b"\r\n", start):  # RFC 9112 §2.2
            start += 2
        if start:
            data = data[start:]
        limit = self.limits.head_bytes
        end = data.find(HEAD_END, 0, limit + len(HEAD_END)) + len(HEAD_END)
        if end < len(HEAD_END):
            if data not in (b"", b"\r"):
                check_partial_head(data, limit)
            return None, data
        if end > limit:
            raise too_long(data, limit)
        written = data[:end]
        head = self._parsed(written)
        self._last = Repeatable.of(written, head, self.limits)
        return head, data[end:]

    def _parsed(self, written: bytes) -> Head:
        check_request_line(written)
        self._fields = []
        if self._is_spent:
            self._llhttp = HttpRequestParser(self)
        upgrades = self._feed(written)
        method: bytes = self._llhttp.get_method()
        version: str = self._llhttp.get_http_version()
        check_target(method, self._target)
        if len(self._fields) > self.limits.header_count:
            raise MalformedRequest(f"The request has more than {self.limits.header_count} header lines.", status=431)
        framing = check_fields(method, version, self._fields)
        if framing.length is not None and framing.length > self.limits.body_bytes:
            raise BodyTooLarge(too_large(self.limits.body_bytes))
        path = self._target.partition(b"?")[0]
        head = Head(
            method,
            self._target,
            path,
            steps_of(path),
            version,
            self._fields,
            framing,
            self._keep_alive,
            Memo(),
        )
        self._is_spent = upgrades or bool(framing.length)
        if upgrades and framing.has_body and framing.length is None:
            self._restart()
        return head

    def _restart(self) -> None:
        """
        Behind an ``Upgrade`` header llhttp takes what follows for another protocol. We did not agree to that: a body is
        a body.
        """
        self._fields = []
        self._llhttp = HttpRequestParser(self)
        self._llhttp.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")

    def begin_body(self, body: RequestBody, length: int | None) -> None:
        """
        The body of the last head goes to *body*.
        """
        if length == 0:
            body.end()
            return
        self._body, self._left = body, length
        if length is None:
            self._chunks = ChunkCounter()
            self._chaff, self._trailed, self._ended = 0, False, False

    def body(self, data: bytes) -> bytes:
        """
        Deliver what is here of the body, as one piece, and its end.
        """
        body = self._body
        if body is None or not data:
            return data
        if self._left is None:
            return self._chunked(body, data)
        # llhttp would only count: the length has been judged with the head.
        piece = data if len(data) <= self._left else data[: self._left]
        self._left -= len(piece)
        body.deliver(piece)
        if not self._left:
            self._body = None
            body.end()
        return data[len(piece) :]

    def _chunked(self, body: RequestBody, data: bytes) -> bytes:
        stop = self._chunks.end(data)
        self._pieces = []
        self._feed(data[:stop])
        if self._chunks.done != self._ended:
            raise MalformedRequest("Where the body ends is not clear (RFC 9112 section 7.1).")
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        # Chunk extensions and trailers count as well: they could go on for ever.
        self._chaff = 0 if piece else self._chaff + stop
        if self._chaff > self.limits.head_bytes:
            raise MalformedRequest("The chunk extensions or trailers are too long.")
        if body.received + len(piece) > self.limits.body_bytes:
            raise BodyTooLarge(too_large(self.limits.body_bytes))
        if piece:
            body.deliver(piece)
        if self._ended:
            self._body = None
            if self._trailed:
                # What a trailer says of the connection is not to be heeded (RFC 9110 §6.5.1), but llhttp has heeded it.
                self._llhttp = HttpRequestParser(self)
            body.end()
        return data[stop:]

    def close(self) -> None:
        """
        Nothing more comes; the parser must not be used again.
        """
        del self._llhttp

    def _feed(self, data: bytes) -> bool:
        """
        Let llhttp parse; whether it saw an ``Upgrade``.
        """
        try:
            self._llhttp.feed_data(data)
        except HttpParserUpgrade:
            return True
        except HttpParserCallbackError as error:
            raise error.__context__ or error from None  # not the client's fault
        except HttpParserInvalidMethodError as error:
            raise MalformedRequest("This method is not known here.", status=501) from error
        except HttpParserError as error:
            raise MalformedRequest(f"The request is not valid HTTP/1.1: {error}.") from error
        return False

    # What llhttp calls.

    def on_url(self, target: bytes) -> None:
        """
        The request target; a whole head is fed at once, so it comes in one piece.
        """
        self._target = target

    def on_header(self, name: bytes, value: bytes) -> None:
        """
        One header line, or a trailer of a chunked body: those are dropped (RFC 9110 §6.5.1).
        """
        if self._body is None:
            self._fields.append((name, value.rstrip(b" \t")))
        else:
            self._trailed = True

    def on_headers_complete(self) -> None:
        """
        The head is complete. llhttp knows now, and no longer when the message is complete, whether another may follow.
        """
        self._keep_alive = self._llhttp.should_keep_alive()

    def on_body(self, piece: bytes) -> None:
        """
        A piece of the body.
        """
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """
        The end of the request.
        """
        self._ended = True
