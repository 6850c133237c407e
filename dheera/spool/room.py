"""
How much disk the lines may take, and what goes when it is not enough: first what all have read, then what is not
essential, oldest first. What the ledger has not read stays; then nothing new is begun.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from attrs import define
from twisted.logger import Logger
from twisted.python.failure import Failure

from dheera.spool.alarms import Alarms
from dheera.spool.journal import Journal
from dheera.spool.reading import FileReader, is_for_readers
from dheera.spool.segments import Segment, Segments
from dheera.spool.thread import Aside

log = Logger()

_SEGMENTS_BACK = 4
"""
How far back the line of an exchange that is open may be; it is written anew when it is farther, so that a restart need
not read more than that.
"""


@define(eq=False)
class Room:
    """
    The disk of one lane.

    :param readers: all there are.
    :param sync: brings what is written to the disk; it blocks.
    """

    _segments: Segments
    _journal: Journal
    _readers: Mapping[str, FileReader]
    _aside: Aside
    _sync: Callable[[], None]
    _alarms: Alarms
    _most: int

    def is_full(self) -> bool:
        """
        Whether nothing new may be begun, since what may be thrown away would not be enough. A look, which changes
        nothing.
        """
        if self._segments.size < self._most:
            return False
        may_go = range(self._segments.count_before(self.kept()))
        return self._segments.size - sum(self._segments[number].size for number in may_go) >= self._most

    def kept(self) -> int:
        """
        Before this place there is nothing that an essential reader has not done with.
        """
        return min((reader.place for reader in self._readers.values() if reader.essential), default=self._segments.end)

    def make(self) -> bool:
        """
        Throw away what may go, the oldest first, until something new may be begun.

        :return: whether it may.
        """
        while self._segments.size >= self._most:
            if not self.shed():
                return False
        return True

    def has_room_for(self, size: int) -> bool:
        """
        Whether lines of somebody else, so many bytes, may be added; if there is next to nothing here, any number.
        """
        return self._segments.size + size <= self._most or len(self._segments) == 1

    def turn(self) -> None:
        """
        A segment was begun.
        """
        if len(self._segments) > _SEGMENTS_BACK:
            self._journal.carry(self._segments[-_SEGMENTS_BACK].start)
        self.retire()

    def retire(self) -> None:
        """
        Delete what all have read.
        """
        if len(self._segments) > 1:
            read = min((reader.place for reader in self._readers.values()), default=self._segments.end)
            count = self._segments.count_before(read)
            if count and self._journal.carry(self._segments[count].start):
                self._delete(self._segments.take_away(count), {})

    def shed(self) -> bool:
        """
        Delete the oldest segment, though it was not read by all.

        :return: whether that was possible.
        """
        if len(self._segments) < 2:  # noqa: PLR2004 - the last is written to
            return False
        following = self._segments[1].start
        late = [reader for reader in self._readers.values() if reader.place < following]
        if any(reader.essential for reader in late) or not self._journal.carry(following):
            return False
        places = {reader.name: reader.place for reader in late}
        gone = self._segments.take_away(1)
        for reader in late:
            reader.skip(following)
        self._delete(gone, places)
        return True

    def _delete(self, gone: Sequence[Segment], places: Mapping[str, int]) -> None:
        deleting = self._aside.run(partial(_delete, gone, places, self._sync))
        deleting.addCallbacks(self._count, _not_deleted)
        deleting.addErrback(partial(log.failure, "What was thrown away could not be counted"))

    def _count(self, lost: Mapping[str, int]) -> None:
        for name, count in lost.items():
            reader = self._readers.get(name)
            if reader is None:
                continue  # it was dismissed
            reader.dropped += count
            text = (
                f"The disk space for what is told of calls is used up: {name} was too far behind, and has lost "
                f"{reader.dropped} lines since the start"
            )
            self._alarms.begin(f"sink {name.removeprefix('sink-')}", text, "warning")


def _delete(gone: Sequence[Segment], places: Mapping[str, int], sync: Callable[[], None]) -> Mapping[str, int]:
    """
    :return: how many lines each reader has lost.
    """
    with suppress(OSError):  # which is told by whoever syncs next; here room is needed
        sync()  # what was carried over must be there first
    lost = {name: _count_lines(gone[0], place) for name, place in places.items()}
    for each in gone:
        each.path.unlink(missing_ok=True)
    return lost


def _count_lines(segment: Segment, place: int) -> int:
    content = _content(segment.path)[max(0, place - segment.start) :]
    return sum(map(is_for_readers, content.split(b"\n")))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _not_deleted(failure: Failure) -> Mapping[str, int]:
    failure.trap(OSError)
    log.error("What is no longer needed could not be deleted: {reason}", reason=failure.getErrorMessage())
    return {}
