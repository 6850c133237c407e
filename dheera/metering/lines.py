"""
JSON lines: the output of a batch when it is fetched, and streams of lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any, Generic, TypeVar

from attrs import define, field
from msgspec import Struct

from dheera.metering.documents import ANSWER, DOCUMENT, Document, built
from dheera.metering.finds import EACH, Found, Kept
from dheera.metering.gathering import Gathering, Shape
from dheera.metering.gist import Gist
from dheera.metering.quantities import added
from dheera.usage import Part, Reading, Usage

MOST_MODELS = 64
"""
Of a batch; what others used is put down to no model.
"""

_OK = 200
_Read = TypeVar("_Read", bound=Struct)


class _Image(Struct):
    image_annotation: Any = None


class _Page(Struct):
    images: list[_Image] | None = None


class _Body(Document):
    """
    The answer to one of a batch's requests. Whether pages were to be annotated, only the answer tells here.
    """

    document_annotation: Any = None
    pages: list[_Page] | None = None

    @property
    def is_annotated(self) -> bool:
        if self.document_annotation is not None:
            return True
        return any(image.image_annotation is not None for page in self.pages or () for image in page.images or ())


class _Answer(Struct):
    status_code: Any = None
    body: _Body | None = None


class _Outcome(Struct):
    response: _Answer | None = None


def _outcome(found: Found) -> _Outcome:
    answer = found.get("response")
    if answer is None:
        return _Outcome()
    body = answer.get("body")
    return _Outcome(response=_Answer(answer.get("status_code"), None if body is None else _body(body)))


def _body(found: Found) -> _Body:
    pages = [_Page([_Image(**image) for image in page.get("images", ())]) for page in found.get("pages", ())]
    return built(_Body, {**found, "pages": pages})


_OUTCOME = Shape(
    kind=_Outcome,
    tree={
        "response": {
            "status_code": Kept.VALUE,
            "body": {
                **ANSWER,
                "document_annotation": Kept.PRESENCE,
                "pages": {EACH: {"images": {EACH: {"image_annotation": Kept.PRESENCE}}}},
            },
        }
    },
    build=_outcome,
)


@define(eq=False)
class BatchMeter:
    """
    Reads what each request of a batch used, from the file that has an answer in each line. Other files tell nothing.
    """

    _lines: _Lines[_Outcome] = field(init=False, factory=lambda: _Lines(_OUTCOME))
    _used: dict[str | None, Usage] = field(init=False, factory=dict)

    def feed(self, piece: bytes) -> None:
        """
        Take what comes next.
        """
        for outcome in self._lines.feed(piece):
            _add(self._used, outcome)

    def reading(self) -> Reading:
        """
        What is known so far, by model.
        """
        used = dict(self._used)
        last = self._lines.last()
        if last is not None:
            _add(used, last)
        parts = [Part(model=model, usage=usage, is_batch=True) for model, usage in used.items()]
        return Reading(model=next(iter(used), None), parts=parts)


def _add(used: dict[str | None, Usage], outcome: _Outcome) -> None:
    answer = outcome.response
    if answer is None or answer.body is None or answer.status_code != _OK:
        return
    usage = answer.body.used(annotates=answer.body.is_annotated)
    if usage is None:
        return
    model = answer.body.named_model()
    if model not in used and len(used) >= MOST_MODELS:
        model = None
    used[model] = added(used[model], usage) if model in used else usage


@define(eq=False)
class LineMeter:
    """
    Reads a stream of JSON lines: usage and model as an answer has them, in whichever line.
    """

    _gist: Gist = field(init=False, factory=Gist)
    _lines: _Lines[Document] = field(init=False, factory=lambda: _Lines(DOCUMENT))

    def feed(self, piece: bytes) -> None:
        """
        Take what comes next.
        """
        for document in self._lines.feed(piece):
            self._gist.events += 1
            self._gist.learn(document)

    def reading(self) -> Reading:
        """
        What is known so far.
        """
        gist = copy(self._gist)
        last = self._lines.last()
        if last is not None:
            gist.events += 1
            gist.learn(last)
        return gist.reading()


@define(eq=False)
class _Lines(Generic[_Read]):
    """
    Lines, of which each is a document; what is none, is left out.
    """

    _shape: Shape[_Read]
    _line: Gathering[_Read] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._line = Gathering(self._shape)

    def feed(self, piece: bytes) -> Iterator[_Read]:
        """
        The lines that end in *piece*.
        """
        first, *others = piece.split(b"\n")
        self._line.feed(first)
        for begin in others:
            read = self._line.read_whole()
            self._line = Gathering(self._shape)
            self._line.feed(begin)
            if read is not None:
                yield read

    def last(self) -> _Read | None:
        """
        The line that has not ended, if nothing is missing but its end.
        """
        return self._line.read_whole()
