"""
WebSocket messages (RFC 6455), inflated if need be (RFC 7692), put together from the bytes of one direction.
"""

from __future__ import annotations

import zlib
from typing import Protocol

from attrs import define, field

MOST_MESSAGE_BYTES = 16 * 1024 * 1024
"""
Of a message, inflated. A longer one may be a bomb: nothing is read any more.
"""

_PIECE = 65536
_WINDOW = -15
"""
The largest, which fits whatever was agreed.
"""

_FLUSHED = b"\x00\x00\xff\xff"
_CONTINUATION, _CLOSE = 0, 8
_FIRST_OF_MESSAGE = (1, 2)
_CONTROL = (8, 9, 10)
_LONGEST_CONTROL = 125
_SHORT, _LONG = 126, 127


class Hearer(Protocol):
    """
    Whoever takes messages.
    """

    def hear(self, piece: bytes) -> None:
        """
        Take what comes next of a message.
        """
        ...

    def end(self) -> None:
        """
        The message is whole.
        """
        ...


@define(eq=False)
class Frames:
    """
    Watches one direction. Where it breaks the protocol, nothing more is read: its peers will part too.

    :param may_deflate: permessage-deflate was agreed.
    :param keeps_context: messages are deflated with what came before in mind.
    """

    _hearer: Hearer
    _may_deflate: bool
    _keeps_context: bool
    _head: bytes = field(init=False, default=b"")
    _left: int = field(init=False, default=-1)
    _mask: bytes = field(init=False, default=b"")
    _opcode: int = field(init=False, default=0)
    _is_last: bool = field(init=False, default=False)
    _in_message: bool = field(init=False, default=False)
    _is_deflated: bool = field(init=False, default=False)
    _message_bytes: int = field(init=False, default=0)
    _inflater: zlib._Decompress | None = field(init=False, default=None)
    _is_over: bool = field(init=False, default=False)

    def feed(self, piece: bytes) -> None:
        """
        Take what comes next.
        """
        piece, self._head = self._head + piece, b""
        at = 0
        while not self._is_over:
            if self._left < 0:
                end = self._begin(piece, at)
                if end is None:
                    self._head = piece[at:]
                    return
                at = end
            part = piece[at : at + self._left]
            at += len(part)
            self._left -= len(part)
            if part and self._opcode not in _CONTROL:
                self._take(part)
            if self._left:
                return
            self._left = -1
            self._end_frame()

    def _begin(self, piece: bytes, at: int) -> int | None:
        """
        Read a frame's head.

        :return: where its payload begins; ``None`` if the head is not whole.
        """
        if len(piece) < at + 2:
            return None
        first, second = piece[at], piece[at + 1]
        at += 2
        length = second & 0x7F
        size = {_SHORT: 2, _LONG: 8}.get(length, 0)
        is_masked = bool(second & 0x80)
        end = at + size + 4 * is_masked
        if len(piece) < end:
            return None
        if size:
            length = int.from_bytes(piece[at : at + size], "big")
        self._opcode, self._is_last, self._left = first & 0x0F, bool(first & 0x80), length
        self._mask = piece[at + size : end] if is_masked else b""
        self._is_over = not self._fits(first)
        return end

    def _fits(self, first: int) -> bool:
        """
        Whether such a frame may come now.
        """
        is_deflated = bool(first & 0x40)
        if first & 0x30 or (is_deflated and not self._may_deflate):
            return False
        if self._opcode in _CONTROL:
            return self._is_last and self._left <= _LONGEST_CONTROL and not is_deflated
        if self._opcode == _CONTINUATION:
            return self._in_message and not is_deflated
        if self._opcode not in _FIRST_OF_MESSAGE or self._in_message:
            return False
        self._in_message, self._is_deflated, self._message_bytes = True, is_deflated, 0
        return True

    def _take(self, part: bytes) -> None:
        if self._mask:
            part, self._mask = _unmasked(part, self._mask)
        if self._is_deflated:
            self._inflate(part)
        else:
            self._hear(part)

    def _inflate(self, part: bytes) -> None:
        if self._inflater is None:
            self._inflater = zlib.decompressobj(_WINDOW)
        is_more = True
        while is_more and not self._is_over:
            try:
                plain = self._inflater.decompress(part, _PIECE)
            except zlib.error:
                self._is_over = True
                return
            part = self._inflater.unconsumed_tail
            is_more = bool(part) or len(plain) == _PIECE
            self._hear(plain)

    def _hear(self, plain: bytes) -> None:
        self._message_bytes += len(plain)
        self._is_over = self._is_over or self._message_bytes > MOST_MESSAGE_BYTES
        if not self._is_over:
            self._hearer.hear(plain)

    def _end_frame(self) -> None:
        if self._opcode == _CLOSE:
            self._is_over = True
        if self._is_over or self._opcode in _CONTROL or not self._is_last:
            return
        self._in_message = False
        if self._is_deflated:
            self._inflate(_FLUSHED)
            if not self._keeps_context or (self._inflater is not None and self._inflater.eof):
                self._inflater = None
        if not self._is_over:
            self._hearer.end()


def _unmasked(part: bytes, mask: bytes) -> tuple[bytes, bytes]:
    """
    *part* in the clear, and the mask for what follows it.
    """
    size = len(part)
    pad = (mask * (size // 4 + 1))[:size]
    plain = int.from_bytes(part, "little") ^ int.from_bytes(pad, "little")
    turn = size % 4
    return plain.to_bytes(size, "little"), mask[turn:] + mask[:turn]
