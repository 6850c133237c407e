"""
Streams of server-sent events (WHATWG HTML 9.2). Hardly any event is looked into: those that may tell of usage,
of an error, or of the model as long as that is not known. The others are counted, many at a time.
"""

from __future__ import annotations

import re
from copy import copy

from attrs import define, field

from dheera.metering.documents import DOCUMENT
from dheera.metering.gathering import HELD_BYTES
from dheera.metering.gist import Gist
from dheera.metering.scanning import Scanner
from dheera.usage import Reading

_MARK = b"\xef\xbb\xbf"
"""
That a stream may begin with.
"""

_END = b"\n\n"
_FIELD = b"data:"
_NEXT = _END + _FIELD
_DONE = b"[DONE]"
_TELLING = (b'"usage', b"rror", _DONE)
"""
What is in each event that may be worth a look, once the model is known.
"""
_LONGEST_DONE = 32
_USAGE = re.compile(rb'"usage(?:_info)?"(?:\s|data:)*:(?:\s|data:)*\{')
_ERROR = re.compile(rb'rror(?:\n|"\s*(?:[,}]|:\s*[{"]))')
"""
It ends an event's name or a type, or is the name of something, but not of null.
"""

_NAME = re.compile(rb"^event:[ ]?([^\n]*)", re.MULTILINE)
_DATA = re.compile(rb"^data:[ ]?([^\n]*)", re.MULTILINE)


@define(eq=False)
class EventMeter:
    """
    Reads usage, model and errors from a stream, and counts its events.

    :param gist: what they are told to.
    """

    _gist: Gist
    _pending: bytearray = field(init=False, factory=bytearray)
    _long: _LongEvent | None = field(init=False, default=None)
    _after_return: bool = field(init=False, default=False)
    _is_first: bool = field(init=False, default=True)

    def feed(self, piece: bytes) -> None:
        """
        Take what comes next.
        """
        if piece:
            self._go_on(self._with_line_feeds(piece))

    def reading(self) -> Reading:
        """
        What is known so far. An event whose end is missing counts.
        """
        gist = copy(self._gist)
        if self._long is not None:
            self._long.tell(gist)
        elif self._pending:
            self._take(self._without_mark(bytes(self._pending)), gist)
        return gist.reading()

    def _with_line_feeds(self, piece: bytes) -> bytes:
        """
        *piece* with the three kinds of line ends made one.
        """
        if self._after_return and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_return = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in piece else piece

    def _go_on(self, text: bytes) -> None:
        if self._long is not None:
            rest = self._long.feed(text)
            if rest is None:
                return
            self._long.tell(self._gist)
            self._long = None
            text = rest
        start = max(len(self._pending) - 1, 0)
        self._pending += text
        end = self._pending.rfind(_END, start) + len(_END)
        if end >= len(_END):
            events = bytes(self._pending[:end])
            del self._pending[:end]
            self._take_all(self._without_mark(events))
            self._is_first = False
        if len(self._pending) > HELD_BYTES + 1:  # even without a line end that may belong to the end of the event
            self._long = _LongEvent()
            self._long.feed(self._without_mark(bytes(self._pending)))
            self._is_first = False
            self._pending.clear()

    def _take_all(self, events: bytes) -> None:
        events = _skip(self._gist, events)
        for block in events.split(_END):
            self._take(block, self._gist)

    def _without_mark(self, block: bytes) -> bytes:
        return block.removeprefix(_MARK) if self._is_first else block

    @staticmethod
    def _take(block: bytes, gist: Gist) -> None:
        if len(block) > HELD_BYTES:
            long = _LongEvent()
            long.feed(block)
            long.tell(gist)
        else:
            _tell(gist, block)


def _skip(gist: Gist, events: bytes) -> bytes:
    """
    Count the events at the beginning of *events* that are not worth a look: together, in a tenth of the time that each
    would take by itself.

    :return: the others.
    """
    if gist.looks_for_model or len(events) > HELD_BYTES:
        return events
    telling = [place for each in _TELLING if (place := events.find(each)) >= 0]
    end = events.rfind(_END, 0, min(telling)) + len(_END) if telling else len(events)
    count = events.count(_NEXT, 0, end) + events.startswith(_FIELD)
    if end < len(_END) or count * len(_END) != events.count(b"\n", 0, end):  # not all of them are one line of data
        return events
    gist.events += count
    return events[end:]


def _tell(gist: Gist, block: bytes) -> None:
    """
    Count an event, and look into it if that is worth the time.
    """
    if not block.startswith(_FIELD) and b"\ndata:" not in block:
        return
    if len(block) < _LONGEST_DONE and _payload(block).strip() == _DONE:
        return
    gist.events += 1
    if (
        gist.asks_for_model(block)
        or (b'"usage' in block and gist.bills and _USAGE.search(block))
        or (b"rror" in block and _ERROR.search(block))
    ):
        gist.learn(DOCUMENT.read(_payload(block)), _name(block))


@define(eq=False)
class _LongEvent:
    """
    An event that is too long to be held.
    """

    _scanner: Scanner = field(init=False, factory=lambda: Scanner(DOCUMENT.tree))
    _begin: bytes = field(init=False, default=b"")
    _is_data: bool | None = field(init=False, default=None)
    _has_data: bool = field(init=False, default=False)
    _after_line: bool = field(init=False, default=False)

    def feed(self, text: bytes) -> bytes | None:
        """
        Take what comes next.

        :return: what comes after the event; ``None`` if it goes on.
        """
        if not text:
            return None
        if self._after_line and text.startswith(b"\n"):
            return text[1:]
        text, end, rest = text.partition(_END)
        first, *others = text.split(b"\n")
        self._go_on(first)
        for line in others:
            self._end_line()
            self._go_on(line)
        self._after_line = text.endswith(b"\n")
        return rest if end else None

    def tell(self, gist: Gist) -> None:
        """
        Count it, and tell what it says so far.
        """
        if self._has_data or self._begin == _FIELD:
            gist.events += 1
            gist.learn(DOCUMENT.made_of(self._scanner))

    def _go_on(self, text: bytes) -> None:
        """
        Take more of a line, which is data if it begins so.
        """
        if self._is_data is None:
            self._begin += text
            if len(self._begin) <= len(_FIELD):
                return
            self._is_data = self._begin.startswith(_FIELD)
            text, self._begin = self._begin[len(_FIELD) :].removeprefix(b" "), b""
            if self._is_data and self._has_data:
                self._scanner.feed(b"\n")
            self._has_data = self._has_data or self._is_data
        if self._is_data:
            self._scanner.feed(text)

    def _end_line(self) -> None:
        self._has_data = self._has_data or self._begin == _FIELD
        self._begin, self._is_data = b"", None


def _payload(block: bytes) -> bytes:
    return b"\n".join(_DATA.findall(block))


def _name(block: bytes) -> str | None:
    name = _NAME.search(block)
    return None if name is None else name[1].decode("utf-8", "replace")
