"""
What becomes of a lane whose owner has died: what nobody has read goes to us, what was open is interrupted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from attrs import define, field
from twisted.logger import Logger

from dheera.records import Begun, Record, to_line
from dheera.spool.lanes import Cursors, Lane, take_abandoned
from dheera.spool.replay import Replay
from dheera.spool.segments import Segments
from dheera.spool.thread import Aside

log = Logger()

Succeed: TypeAlias = Callable[[Sequence[str]], Awaitable[None]]
"""
Told whose lines are all ours now; remembers it for good.
"""


@define(eq=False)
class Adoption:
    """
    Looks for such lanes.

    :param inherit: writes lines of theirs to ours.
    :param sync: brings what is written to the disk; it blocks.
    :param has_room: whether we may have so many bytes more.
    :param readers: the names of ours.
    """

    _directory: Path
    _aside: Aside
    _inherit: Callable[[Sequence[bytes]], None]
    _interrupted: Callable[[Begun], Record]
    _sync: Callable[[], None]
    _has_room: Callable[[int], bool]
    _readers: Collection[str]
    is_ending: bool = field(init=False, default=False)

    async def look(self, succeed: Succeed) -> None:
        """
        Adopt all there are, and say whose they were. What is left since there is no room is found again the next time;
        if we die in between, some lines come twice.
        """
        seen: set[int] = set()
        while not self.is_ending:
            try:
                lane = await self._aside.run(partial(take_abandoned, self._directory, seen))
                if lane is None:
                    return
                seen.add(lane.number)
                try:
                    await self._adopt(lane, succeed)
                finally:
                    lane.leave()
            except OSError as error:
                log.warn("What a process that died has left cannot be taken over: {reason}", reason=error.strerror)
                return

    async def _adopt(self, lane: Lane, succeed: Succeed) -> None:
        cursors = await self._aside.run(lane.cursors)
        segments, since, unread = await self._aside.run(partial(self._examine, lane, cursors))
        if not self._has_room(segments.end - unread):
            log.warn("There is no room yet for what lane {number} has left", number=lane.number)
            return
        replay = Replay(segments, since)
        batches = replay.lines(unread)
        count = 0
        while (lines := await self._aside.run(partial(next, batches, None))) is not None:
            if self.is_ending:
                return
            if lines:
                self._inherit(lines)
                count += len(lines)
        ends = [to_line(self._interrupted(begun)) for _, _, begun in replay.open()]
        if ends:
            self._inherit(ends)
        await self._aside.run(self._sync)
        await succeed([] if cursors is None else cursors.owners)
        await self._aside.run(lane.remove)
        log.info(
            "Took over lane {number} of a process that is gone: {count} lines, {interrupted} interrupted calls",
            number=lane.number,
            count=count,
            interrupted=len(ends),
        )

    def _examine(self, lane: Lane, cursors: Cursors | None) -> tuple[Segments, int, int]:
        """
        :return: its segments; since when exchanges may be open; from where on lines were not read.
        """
        segments = Segments.found_in(lane.folder)
        if cursors is None:
            return segments, 0, 0
        places = [place for name, place in cursors.readers.items() if name in self._readers]
        return segments, cursors.open_since, max(segments.start, min([*places, segments.end]))
