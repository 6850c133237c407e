"""
Answers in a content coding: inflated aside, as they come, for a meter to read.
"""

from __future__ import annotations

import zlib
from typing import Protocol

from attrs import define, field

from dheera.usage import Reading

MOST_BYTES = 64 * 1024 * 1024
MOST_TIMES = 64
"""
An answer that has more bytes inflated than that, and that many times more than it came in, is not read on: it may be a
bomb. The output of a large batch is longer too, but deflates to a tenth or so.
"""

CODINGS = frozenset({b"gzip", b"x-gzip", b"deflate"})

_PIECE = 65536
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW, _ZLIB_WINDOW, _RAW_WINDOW = 31, 15, -15
_HEAD_BYTES = 2


class Reader(Protocol):
    """
    Whatever reads plain bytes.
    """

    def feed(self, piece: bytes) -> None:
        """
        Take what comes next.
        """
        ...

    def reading(self) -> Reading:
        """
        What is known so far.
        """
        ...


@define(eq=False)
class Inflated:
    """
    Reads a compressed answer through *_reader*. One that is damaged, or a bomb, says nothing at all.

    :param coding: one of `CODINGS`.
    """

    _reader: Reader
    _coding: bytes
    _inflater: zlib._Decompress | None = field(init=False, default=None)
    _head: bytes = field(init=False, default=b"")
    _packed_bytes: int = field(init=False, default=0)
    _inflated_bytes: int = field(init=False, default=0)
    _has_member: bool = field(init=False, default=False)
    _is_over: bool = field(init=False, default=False)
    _is_lost: bool = field(init=False, default=False)

    def feed(self, piece: bytes) -> None:
        """
        Take what comes next.
        """
        self._packed_bytes += len(piece)
        while piece and not (self._is_over or self._is_lost):
            inflater = self._inflater
            piece = self._begin(self._head + piece) if inflater is None else self._inflate(inflater, piece)

    def reading(self) -> Reading:
        """
        What is known so far.
        """
        return Reading() if self._is_lost else self._reader.reading()

    def _begin(self, head: bytes) -> bytes:
        """
        Choose a format. Of gzip there may be several members, and after the last one zeros, or anything else. What is
        called deflate comes with zlib's frame, as it should, or without.
        """
        if len(head) < _HEAD_BYTES:
            self._head = head
            return b""
        self._head = b""
        if self._coding != b"deflate":
            self._is_over = self._has_member and not head.startswith(_GZIP)
            window = _GZIP_WINDOW
        else:
            self._is_over = self._has_member
            is_framed = head[0] & 15 == zlib.DEFLATED and int.from_bytes(head[:2], "big") % 31 == 0
            window = _ZLIB_WINDOW if is_framed else _RAW_WINDOW
        self._inflater = zlib.decompressobj(window)
        return head

    def _inflate(self, inflater: zlib._Decompress, piece: bytes) -> bytes:
        """
        :return: what comes after the end.
        """
        is_more = True
        while is_more:
            try:
                plain = inflater.decompress(piece, _PIECE)
            except zlib.error:
                self._is_lost = True
                return b""
            self._inflated_bytes += len(plain)
            if self._inflated_bytes > max(MOST_BYTES, MOST_TIMES * self._packed_bytes):
                self._is_lost = True
                return b""
            self._reader.feed(plain)
            piece = inflater.unconsumed_tail
            is_more = not inflater.eof and (bool(piece) or len(plain) == _PIECE)
        if inflater.eof:
            self._has_member = True
            self._inflater = None
        return inflater.unused_data
