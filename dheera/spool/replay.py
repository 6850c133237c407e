"""
Reading a lane over after its owner has died: which exchanges were open, and what nobody has read yet. It blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from attrs import define, field
from msgspec import Struct
from twisted.logger import Logger

from dheera.records import Begun, Line, parsed
from dheera.spool.segments import Segments

log = Logger()

_AT_ONCE = 1024 * 1024


class _Head(Struct):
    """
    What is looked at in a line.
    """

    line: str
    call_id: str = ""


@define(eq=False)
class Replay:
    """
    One pass over a lane.

    :param since: no exchange that is open began before.
    :ivar begun: those exchanges that have begun and not ended, by their call ids: where their lines are, and these.
    """

    _segments: Segments
    _since: int
    begun: dict[str, tuple[int, bytes]] = field(init=False, factory=dict)
    _damaged: int = field(init=False, default=0)

    def lines(self, unread: int) -> Iterator[list[bytes]]:
        """
        Go over it, a mebibyte at a time.

        :param unread: before this place readers have seen all.
        :return: what they have not.
        :raises OSError: it cannot be read.
        """
        place, end = min(self._since, unread), self._segments.end
        while place < end:
            lines, start, place = self._segments.read(place, _AT_ONCE)
            some = []
            for line in lines:
                if self._note(start, line) and start >= unread:
                    some.append(line)
                start += len(line) + 1
            yield some
        if self._damaged:
            log.warn(
                "{count} lines in {folder} are damaged and were passed over",
                count=self._damaged,
                folder=str(self._segments.folder),
            )

    def _note(self, place: int, line: bytes) -> bool:
        """
        Whether it is one for readers.
        """
        if not line:
            return False
        try:
            head = _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._damaged += 1
            return False
        if head.line == "begin":
            self.begun.pop(head.call_id, None)  # a line that was written anew counts where it is now
            self.begun[head.call_id] = place, line
            return False
        if head.line == "end":
            self.begun.pop(head.call_id, None)
        return True

    def open(self) -> Sequence[tuple[int, bytes, Begun]]:
        """
        The exchanges that have begun and not ended, in their order: where their lines are, these, what they say.
        """
        values = ((place, line, _parsed(line)) for place, line in self.begun.values())
        return [(place, line, value) for place, line, value in values if isinstance(value, Begun)]


def _parsed(line: bytes) -> Line | None:
    try:
        return parsed(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


_decoder = msgspec.json.Decoder(_Head)
