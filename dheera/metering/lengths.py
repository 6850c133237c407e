"""
How many characters a JSON string has, without holding it.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(rb"\\(?:u(?:([dD][89abAB][0-9a-fA-F]{2})|[0-9a-fA-F]{4})|[^u])", re.DOTALL)
"""
One that is the first half of a character is a group of its own.
"""

_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_CONTINUATION = bytes(range(0x80, 0xC0))


class Length:
    """
    Counts the characters of a string as it is written, its quotes included.
    """

    __slots__ = ("_count", "_cut")

    def __init__(self) -> None:
        self._count = 0
        self._cut = b""

    def feed(self, piece: bytes) -> None:
        """
        Take what comes next.
        """
        if self._cut or b"\\" in piece:
            piece = self._cut + piece
            if b"\\u" in piece:
                self._count -= sum(map(bool, _ESCAPE.findall(piece)))
            piece = _ESCAPE.sub(b"x", piece)
            cut = _CUT_ESCAPE.search(piece)
            self._cut = b"" if cut is None else cut.group()
        self._count += len(piece.translate(None, _CONTINUATION)) - len(self._cut)

    @property
    def characters(self) -> int:
        """
        Between the quotes.
        """
        return max(self._count - 2, 0)
