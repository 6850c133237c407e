"""
Which meter an answer needs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from attrs import define, field
from msgspec.structs import replace

from dheera.metering.documents import DOCUMENT, Document
from dheera.metering.events import EventMeter
from dheera.metering.gathering import HELD_BYTES, Gathering
from dheera.metering.gist import Gist
from dheera.metering.inflation import CODINGS, Inflated
from dheera.metering.lines import BatchMeter, LineMeter
from dheera.metering.usual import usual
from dheera.usage import Part, Reading, Usage, Wanted

FREE = frozenset({"moderations", "chat/moderations", "classifications", "chat/classifications"})
"""
Endpoints whose answers tell no usage, and need none.
"""

_SPEECH = "audio/speech"
_BATCH = "files/content"
_EVENTS = b"text/event-stream"
_LINES = frozenset({b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/jsonlines"})
_JSON = b"application/json"
_OK, _NOT_OK = 200, 300


class Meter(Protocol):
    """
    Reads an answer's bytes as they pass. It never raises, whatever they are, and keeps less than a mebibyte of them.
    However they are cut, the reading is the same.
    """

    def feed(self, piece: bytes) -> None:
        """
        Take what comes next.
        """
        ...

    def reading(self) -> Reading:
        """
        What is known so far. It may be asked at any time, and again.
        """
        ...


def make_meter(  # noqa: PLR0917 - what its head says, in its order
    endpoint: str, method: bytes, code: int, content_type: bytes, content_encoding: bytes, wanted: Wanted
) -> Meter | None:
    """
    What reads this answer; ``None`` if there is nothing to read.

    :param endpoint: a path without the version, as in records: ``chat/completions``, ``files/content``.
    :param wanted: what its request says, as far as is known when the answer begins.
    """
    if not _OK <= code < _NOT_OK:
        return None
    meter = _plain_meter(endpoint, method, _kind(content_type), wanted)
    if content_encoding and meter is not None:
        coding = content_encoding.strip().lower()
        if coding not in (b"", b"identity"):
            meter = Inflated(meter, coding) if coding in CODINGS else None
    if endpoint == _SPEECH and method == b"POST":
        return _SpeechMeter(meter, wanted)
    return meter


@lru_cache(maxsize=64)
def _kind(content_type: bytes) -> bytes:
    return content_type.partition(b";")[0].strip().lower()


def _plain_meter(endpoint: str, method: bytes, kind: bytes, wanted: Wanted) -> Meter | None:
    """
    What is looked up was not used now, even where its usage is told: only what is posted is billed, and the output of
    a batch, which is told of nowhere else.
    """
    is_use = method == b"POST"
    meter: Meter | None = None
    if is_use and (kind == _JSON or (kind.startswith(b"application/") and kind.endswith(b"+json"))):  # most are
        meter = _JsonMeter(wanted.annotates, endpoint in FREE)
    elif method == b"GET" and endpoint == _BATCH:
        meter = BatchMeter()
    elif kind == _EVENTS:
        meter = EventMeter(Gist(bills=is_use))
    elif is_use and kind in _LINES:
        meter = LineMeter()
    return meter


@define(eq=False)
class _JsonMeter:
    """
    Reads an answer that is one JSON document. Most come in one piece, which then is all there is to keep.

    :param annotates: its pages were annotated.
    :param is_free: it need tell no usage.
    """

    _annotates: bool
    _is_free: bool
    _only: bytes = field(init=False, default=b"")
    _pieces: Gathering[Document] | None = field(init=False, default=None)

    def feed(self, piece: bytes) -> None:
        if self._pieces is None:
            if not self._only and len(piece) <= HELD_BYTES:
                self._only = piece
                return
            self._pieces = Gathering(DOCUMENT)
            self._pieces.feed(self._only)
        self._pieces.feed(piece)

    def reading(self) -> Reading:
        held = self._only if self._pieces is None else self._pieces.held
        if held is not None and (told := usual(held)) is not None:
            return told
        document = DOCUMENT.read(self._only) if self._pieces is None else self._pieces.read()
        model = document.named_model()
        used = document.used(annotates=self._annotates)
        if used is None and self._is_free and model is not None:
            used = Usage()
        return Reading(model=model, parts=[] if used is None else [Part(model=model, usage=used)])


@define(eq=False)
class _SpeechMeter:
    """
    Adds to what an answer tells the characters that were to be spoken: they are what is paid, and no answer tells.
    """

    _meter: Meter | None
    _wanted: Wanted

    def feed(self, piece: bytes) -> None:
        if self._meter is not None:
            self._meter.feed(piece)

    def reading(self) -> Reading:
        told = Reading() if self._meter is None else self._meter.reading()
        first = told.parts[0] if told.parts else Part(model=told.model, usage=Usage())
        spoken = replace(first, usage=replace(first.usage, characters=self._wanted.characters))
        return replace(told, parts=[spoken, *told.parts[1:]])
