"""
One reader of the spool: those who keep up are handed what was written, those who are behind read the files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import islice

import msgspec
from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from dheera.bookkeeping import Entry, Lag, Reader
from dheera.records import Alert, Begun, Record, parsed
from dheera.spool.segments import Segments

log = Logger()

AT_HAND_BYTES = 4 * 1024 * 1024
"""
Of lines that a reader may leave in memory before it has to read them from the files.
"""

READ_BYTES = 1024 * 1024
_BLOCK_BYTES = 256 * 1024
_PEEK_BYTES = 16 * 1024
_BEGIN = b'{"line":"begin"'
"""
How the line of a `Begun` starts. Every other line is one, so they are not decoded to be passed over.
"""


@define(eq=False)
class FileReader:
    """
    What it has at hand begins where it is; if it is not all that there is, the files have the rest.

    :param essential: nothing that it has not read is ever thrown away.
    :param flush: writes what is held, so that it can be read, too.
    :param rouse: somebody waits, and there is something.
    :param moved: the place has changed.
    :ivar dropped: lines that it will never read, since this process began.
    """

    name: str
    essential: bool
    _flush: Callable[[], None]
    _rouse: Callable[[], None]
    _moved: Callable[[], None]
    dropped: int = field(init=False, default=0)
    _segments: Segments = field(init=False)
    _at_hand: deque[Entry] = field(init=False, factory=deque)
    _at_hand_bytes: int = field(init=False, default=0)
    _follows: bool = field(init=False, default=False)
    _following: int = field(init=False, default=0)
    _is_stuck: bool = field(init=False, default=False)
    _waiter: Deferred[None] | None = field(init=False, default=None)

    def start(self, segments: Segments, place: int) -> None:
        """
        Read these, from *place* on; or from where they begin or end, if it is not among them.
        """
        self._segments = segments
        self._following = max(segments.start, min(place, segments.end))
        self._follows = self._following == segments.end

    # As `dheera.bookkeeping.Reader`.

    def wait(self) -> Deferred[None]:
        """
        Be told when there is something to read.
        """
        if self.has_more():
            return succeed(None)
        self._waiter = Deferred(self._leave)
        return self._waiter

    def _leave(self, _: Deferred[None]) -> None:
        self._waiter = None

    def read(self, most: int) -> Sequence[Entry]:
        """
        What comes next.
        """
        self._flush()  # when dheera stops, what ended last is read in the very turn in which it did
        while not self._follows and len(self._at_hand) < most and self._at_hand_bytes < READ_BYTES:
            if not self._fetch(most - len(self._at_hand), _BLOCK_BYTES):
                break
        some: list[Entry] = []
        size = 0
        for entry in islice(self._at_hand, most):
            size += len(entry.line)
            if some and size > READ_BYTES:
                break
            some.append(entry)
        return some

    def advance(self, position: int) -> None:
        """
        All up to *position* is done with.
        """
        self._pass(position)
        self._moved()

    def lag(self) -> Lag:
        """
        How far it is behind.
        """
        self.has_more()
        waiting = self._segments.end - self.place
        oldest = _written_at(self._at_hand[0].value) if self._at_hand else None
        return Lag(waiting_bytes=waiting, oldest_at=oldest, dropped=self.dropped)

    # For the spool.

    @property
    def place(self) -> int:
        """
        All that was written before is done with.
        """
        if self._at_hand:
            first = self._at_hand[0]
            return first.position - len(first.line) - 1
        return self._segments.end if self._follows else self._following

    def has_more(self) -> bool:
        """
        Whether there is something to read.
        """
        while not self._at_hand and not self._follows and self._fetch(1, _PEEK_BYTES):
            pass
        return bool(self._at_hand)

    def take(self, entries: Sequence[Entry], size: int) -> None:
        """
        These were just written.

        :param size: of their lines, without the breaks.
        """
        if self._follows:
            if self._at_hand_bytes < AT_HAND_BYTES:
                self._at_hand.extend(entries)
                self._at_hand_bytes += size
            else:
                self.look_up(entries[0].position - len(entries[0].line) - 1)
        if self._waiter is not None:
            self._rouse()

    def look_up(self, place: int) -> None:
        """
        What was written from *place* on is in the files only.
        """
        if self._follows:
            self._follows, self._following = False, place

    def wake(self) -> None:
        """
        Tell who waits, if there is something.
        """
        self._is_stuck = False
        if self._waiter is not None and self.has_more():
            waiter, self._waiter = self._waiter, None
            waiter.callback(None)

    def skip(self, place: int) -> None:
        """
        What lies before *place* is thrown away.
        """
        self._pass(place)
        if not self._follows:
            self._following = max(self._following, place)

    def _pass(self, position: int) -> None:
        at_hand = self._at_hand
        while at_hand and at_hand[0].position <= position:
            self._at_hand_bytes -= len(at_hand.popleft().line)

    def _fetch(self, most: int, size: int) -> bool:
        """
        Take some from the files.

        :return: whether there may be more, now.
        """
        if self._is_stuck:
            return False
        try:
            lines, position, following = self._segments.read(self._following, size)
        except OSError as error:
            self._is_stuck = True  # until the spool wakes us, a second later at most
            log.warn("{reader} cannot read the spool: {reason}", reader=self.name, reason=error.strerror)
            return False
        damaged = 0
        for line in lines:
            position += len(line) + 1
            if not is_for_readers(line):
                continue
            try:
                value = parsed(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                damaged += 1
                continue
            if isinstance(value, Begun) and not isinstance(value, Record):
                continue
            self._at_hand.append(Entry(position=position, line=line, value=value))
            self._at_hand_bytes += len(line)
            most -= 1
            if not most:
                following = position
                break
        if damaged:
            self.dropped += damaged
            log.warn("{reader} passes over {count} damaged lines of the spool", reader=self.name, count=damaged)
        self._following = min(following, self._segments.end)
        self._follows = self._following == self._segments.end
        return not self._follows


def is_for_readers(line: bytes) -> bool:
    """
    Whether readers are given that line, if it is not damaged.
    """
    return bool(line) and not line.startswith(_BEGIN)


def _written_at(value: Record | Alert) -> datetime:
    if isinstance(value, Record):
        return value.started_at + timedelta(microseconds=value.duration_us)
    return value.at


_: type[Reader] = FileReader
