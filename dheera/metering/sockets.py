"""
Realtime sessions: their messages are JSON, and those that end a turn tell what it used.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from msgspec import Struct
from msgspec.structs import replace

from dheera.metering.documents import DOCUMENT, Document
from dheera.metering.finds import Kept
from dheera.metering.frames import Frames
from dheera.metering.gathering import Gathering, Shape
from dheera.metering.gist import Gist
from dheera.metering.lengths import Length
from dheera.metering.quantities import MOST
from dheera.usage import Part, Reading, Usage


class _Append(Struct):
    """
    A message with text that is to be spoken.
    """

    type: Any = None
    text: Any = None


_APPEND = Shape(kind=_Append, tree={"type": Kept.VALUE, "text": Kept.LENGTH}, build=lambda found: _Append(**found))


class SocketMeter:
    """
    Reads a session from both of its directions, after the handshake.

    :param extensions: that upstream agreed to: the value of its ``Sec-WebSocket-Extensions``.
    :param model: that was asked for; used where upstream names none.
    """

    def __init__(self, extensions: bytes, model: str | None) -> None:
        agreed = {word.strip().lower() for word in extensions.replace(b",", b";").split(b";")}
        may_deflate = b"permessage-deflate" in agreed
        self._model = model
        self._told = _Told()
        self._spoken = _Spoken()
        self._down = Frames(self._told, may_deflate, b"server_no_context_takeover" not in agreed)
        self._up = Frames(self._spoken, may_deflate, b"client_no_context_takeover" not in agreed)

    def feed_down(self, piece: bytes) -> None:
        """
        Take what upstream sends next.
        """
        self._down.feed(piece)

    def feed_up(self, piece: bytes) -> None:
        """
        Take what the client sends next.
        """
        self._up.feed(piece)

    def reading(self) -> Reading:
        """
        What is known so far.
        """
        told = self._told.gist.reading()
        used = told.parts[0].usage if told.parts else None
        if self._spoken.characters:
            used = replace(used or Usage(), characters=self._spoken.characters)
        parts = [] if used is None else [Part(model=told.model or self._model, usage=used)]
        return replace(told, parts=parts)


@define(eq=False)
class _Told:
    """
    What upstream says.
    """

    gist: Gist = field(init=False, factory=lambda: Gist(sums=True))
    _message: Gathering[Document] = field(init=False, factory=lambda: Gathering(DOCUMENT))

    def hear(self, piece: bytes) -> None:
        self._message.feed(piece)

    def end(self) -> None:
        message, self._message = self._message, Gathering(DOCUMENT)
        self.gist.events += 1
        held = message.held
        if held is None or b'"usage' in held or b"rror" in held or self.gist.asks_for_model(held):
            document = message.read()
            is_done = isinstance(document.type, str) and document.type.endswith(".done")
            self.gist.learn(document, has_usage=is_done)  # before the end it is not all of it


@define(eq=False)
class _Spoken:
    """
    What the client says: of the text that is to be spoken, how long it is.
    """

    characters: int = field(init=False, default=0)
    _message: Gathering[_Append] = field(init=False, factory=lambda: Gathering(_APPEND))

    def hear(self, piece: bytes) -> None:
        self._message.feed(piece)

    def end(self) -> None:
        message, self._message = self._message, Gathering(_APPEND)
        held = message.held
        if held is not None and b"input_text" not in held:
            return
        append = message.read()
        if isinstance(append.type, str) and append.type.startswith("input_text."):
            length = append.text.characters if isinstance(append.text, Length) else _length(append.text)
            self.characters = min(self.characters + length, MOST)


def _length(text: Any) -> int:
    return len(text) if isinstance(text, str) else 0
