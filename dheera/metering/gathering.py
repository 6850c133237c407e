"""
JSON documents of any length, read into structs: in one go what can be held, by a scanner what is longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec
from attrs import define, field, frozen
from msgspec import Struct

from dheera.metering.finds import Found, Tree, decoded
from dheera.metering.scanning import Scanner

HELD_BYTES = 65536
"""
Of a document; one that is longer is scanned.
"""

_Read = TypeVar("_Read", bound=Struct)


@frozen(kw_only=True)
class Shape(Generic[_Read]):
    """
    A kind of document.

    :param kind: whose fields all have a default, and take whatever JSON has there.
    :param tree: the same, for the scanner.
    :param build: makes it of what the scanner found, where each value is decoded.
    """

    kind: type[_Read]
    tree: Tree
    build: Callable[[Found], _Read]
    decoder: msgspec.json.Decoder[_Read] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "decoder", msgspec.json.Decoder(self.kind))

    def read(self, content: bytes) -> _Read:
        """
        What *content* says; of a beginning, what it says so far. Nothing, if it is no
        JSON object.
        """
        read = self._decoded(content)
        return self._scanned(content)[0] if read is None else read

    def read_whole(self, content: bytes) -> _Read | None:
        """
        What *content* says; ``None`` if it is not one whole document.
        """
        read = self._decoded(content)
        if read is not None:
            return read
        found, is_whole = self._scanned(content)
        return found if is_whole else None

    def made_of(self, scanner: Scanner) -> _Read:
        """
        What *scanner* has found so far.
        """
        return self.build(_plain(scanner.found))

    def _decoded(self, content: bytes) -> _Read | None:
        """
        ``None`` if it is too long to be held, or not whole, or if anything is wrong with it. Upstream may be less
        strict about that: the scanner reads what it can.
        """
        if len(content) > HELD_BYTES:
            return None
        try:
            return self.decoder.decode(content)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return None

    def _scanned(self, content: bytes) -> tuple[_Read, bool]:
        scanner = Scanner(self.tree)
        for start in range(0, len(content), HELD_BYTES):
            scanner.feed(content[start : start + HELD_BYTES])
        return self.made_of(scanner), scanner.complete


@define(eq=False)
class Gathering(Generic[_Read]):
    """
    A document that comes in pieces. However it is cut, it reads as `Shape.read` does.
    """

    _shape: Shape[_Read]
    _pieces: list[bytes] = field(init=False, factory=list)
    _held_bytes: int = field(init=False, default=0)
    _scanner: Scanner | None = field(init=False, default=None)

    def feed(self, piece: bytes) -> None:
        """
        Take what comes next.
        """
        if self._scanner is not None:
            self._scanner.feed(piece)
            return
        self._pieces.append(piece)
        self._held_bytes += len(piece)
        if self._held_bytes > HELD_BYTES:
            self._scanner = Scanner(self._shape.tree)
            for each in self._pieces:
                self._scanner.feed(each)
            self._pieces.clear()
        elif len(self._pieces) > _MOST_PIECES:
            self._pieces = [b"".join(self._pieces)]

    def read(self) -> _Read:
        """
        What it says so far.
        """
        return self._shape.read(self._content()) if self._scanner is None else self._shape.made_of(self._scanner)

    def read_whole(self) -> _Read | None:
        """
        What it says; ``None`` if it is not one whole document.
        """
        if self._scanner is None:
            return self._shape.read_whole(self._content())
        return self._shape.made_of(self._scanner) if self._scanner.complete else None

    @property
    def held(self) -> bytes | None:
        """
        All of it; ``None`` if it is too long to be held.
        """
        return self._content() if self._scanner is None else None

    def _content(self) -> bytes:
        return b"".join(self._pieces)


_MOST_PIECES = 64


def _plain(found: Found) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in found.items()}


def _plain_value(value: Any) -> Any:
    match value:
        case bytes():
            return decoded(value)
        case dict():
            return _plain(value)
        case list():
            return [_plain(each) for each in value]
        case _:
            return value
