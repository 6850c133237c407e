"""
Bodies for records: as much of one as was asked for, and as may be shown.

Paths of a redaction can be followed in whole JSON alone. Where there are any, and the JSON is cut off or is none,
nothing is shown but size and digest. No Twisted.
"""

from __future__ import annotations

import codecs
import re
import zlib
from hashlib import sha256
from typing import Any, Literal, TypeAlias, cast

import msgspec
from attrs import define, field, frozen

from dheera.records import Content
from dheera.redaction import REDACTED, SHORTEST_HASHED, Redaction

_WINDOWS = {b"gzip": (31,), b"x-gzip": (31,), b"deflate": (15, -15)}  # for zlib; some send deflate without its frame
_EVENTS = b"text/event-stream"
_LINES = frozenset({_EVENTS, b"application/x-ndjson", b"application/jsonl", b"application/x-jsonlines"})
_FORM = b"application/x-www-form-urlencoded"
_TEXTS = frozenset({_FORM, b"application/xml", b"application/javascript", b"application/yaml", b"application/graphql"})
_LINE_ENDS = re.compile(r"(\r\n|\r|\n)")


ContentPolicy: TypeAlias = Literal["none", "meta", "full"]
_AMOUNTS = ("none", "meta", "full")


@frozen(kw_only=True)
class ContentRules:
    """
    How much of what calls are about is recorded.

    :param policy: the most.
    :param limit_bytes: of each body.
    :param redaction: what is not shown of it.
    """

    policy: ContentPolicy = "meta"
    limit_bytes: int = 65536
    redaction: Redaction = field(factory=lambda: Redaction.of((), ()))

    def of(self, wish: str | None) -> ContentPolicy:
        """
        The policy for a key, which may ask for less.
        """
        if wish not in _AMOUNTS or _AMOUNTS.index(wish) >= _AMOUNTS.index(self.policy):
            return self.policy
        return cast("ContentPolicy", wish)


@define(eq=False)
class Capture:
    """
    A body that passes by, up to a limit. Hashing begins when that is passed, or when the content is asked for.

    :param limit_bytes: that are kept.
    """

    _limit_bytes: int
    _kept: bytearray = field(factory=bytearray, init=False)
    _size_bytes: int = field(default=0, init=False)
    _hash: Any = field(default=None, init=False)

    def feed(self, piece: bytes) -> None:
        """
        The next piece of the body.
        """
        self._size_bytes += len(piece)
        if self._hash is not None:
            self._hash.update(piece)
            return
        if self._size_bytes > self._limit_bytes:
            self._hash = sha256(self._kept)
            self._hash.update(piece)
            piece = piece[: self._limit_bytes - len(self._kept)]
        self._kept += piece

    def content(self, content_type: bytes, content_encoding: bytes, redaction: Redaction) -> Content:
        """
        The body as it may be shown. It can be asked for at any time, and again.

        :param content_type: as the header has it; empty if there is none.
        :param content_encoding: as well.
        """
        coding = content_encoding.strip().lower()
        body, is_whole = _decoded(bytes(self._kept), coding, self._limit_bytes)
        is_whole = is_whole and self._hash is None
        kind = content_type.split(b";", 1)[0].strip().lower()
        try:
            shown, is_changed = (None, True) if body is None else _shown(body, kind, redaction, is_whole=is_whole)
        except RecursionError:
            shown, is_changed = None, True
        is_hashed = (is_changed or not is_whole or bool(coding)) and self._size_bytes >= SHORTEST_HASHED
        return Content(
            body=shown,
            size_bytes=self._size_bytes,
            sha256=(self._hash or sha256(self._kept)).hexdigest() if is_hashed else None,
            truncated=not is_whole and shown is not None,
        )


def _decoded(body: bytes, coding: bytes, limit_bytes: int) -> tuple[bytes | None, bool]:
    """
    The body without its coding, ``None`` if that cannot be had; and whether that is all of it.
    """
    if coding in (b"", b"identity"):
        return body, True
    for window in _WINDOWS.get(coding, ()):
        inflated, is_whole = _inflated(body, window, limit_bytes)
        if inflated:
            return inflated, is_whole
    return (None, True) if body else (b"", True)


def _inflated(body: bytes, window: int, limit_bytes: int) -> tuple[bytes, bool]:
    inflated = b""
    while body and len(inflated) < limit_bytes:  # RFC 1952 §2.2: one member may follow another
        inflater = zlib.decompressobj(window)
        try:
            inflated += inflater.decompress(body, limit_bytes - len(inflated))
        except zlib.error:
            return inflated, False
        if not inflater.eof:
            return inflated, False
        body = inflater.unused_data
    return inflated, not body


def _shown(body: bytes, kind: bytes, redaction: Redaction, *, is_whole: bool) -> tuple[Any, bool]:
    """
    What may be shown of *body*, ``None`` for nothing; and whether that is something else than it was.
    """
    is_json = kind == b"application/json" or kind.endswith(b"+json")
    is_text = kind.startswith(b"text/") or kind.endswith(b"+xml") or kind in _TEXTS
    if kind not in _LINES and (is_json or ((is_text or not kind) and body.lstrip()[:1] in (b"{", b"["))):
        is_json = True
        try:
            value = msgspec.json.decode(body) if is_whole else None
        except (msgspec.MsgspecError, UnicodeError):
            value = None
        if value is not None:
            shown = redaction.value(value)
            return shown, shown != value
    elif not is_text and kind not in _LINES:
        return None, bool(body)
    if b"\0" in body or (redaction.has_paths and (is_json or kind == _FORM)):
        return None, True
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(body, final=is_whole)
    shown = _lines(text, redaction) if redaction.has_paths and kind in _LINES else redaction.text(text)
    return shown, shown != text or "\ufffd" in text


def _lines(text: str, redaction: Redaction) -> str:
    """
    Events, or JSON values a line each, as they may be shown; a value that cannot be read is not.
    """
    return "".join(each if _LINE_ENDS.fullmatch(each) else _line(each, redaction) for each in _LINE_ENDS.split(text))


def _line(line: str, redaction: Redaction) -> str:
    name, colon, value = line.partition(":")
    if not line or (colon and name in ("", "event", "id", "retry")):
        return redaction.text(line)
    start, payload = ("data: ", value.strip()) if name == "data" and colon else ("", line.strip())
    if payload in ("", "[DONE]"):
        return start + payload
    try:
        shown = redaction.value(msgspec.json.decode(payload))
    except (msgspec.MsgspecError, UnicodeError):
        return start + REDACTED
    return start + (shown if isinstance(shown, str) else msgspec.json.encode(shown).decode())
