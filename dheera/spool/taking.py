"""
Coming into possession of a lane: its files, its cursors, and what its last owner left undone. It blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from attrs import define, field
from twisted.logger import Logger

from dheera.errors import CannotStart
from dheera.spool.lanes import Lane, take_one
from dheera.spool.pen import Pen
from dheera.spool.replay import Replay
from dheera.spool.segments import Segments

log = Logger()


@define(eq=False)
class Taking:
    """
    A lane that becomes ours.

    :ivar owners: who has written there before.
    """

    _directory: Path
    _segment_bytes: int
    lane: Lane = field(init=False)
    _is_taken: bool = field(init=False, default=False)
    segments: Segments = field(init=False)
    pen: Pen = field(init=False)
    replay: Replay = field(init=False)
    owners: Sequence[str] = field(init=False, default=())
    _places: dict[str, int] | None = field(init=False, default=None)

    def take(self) -> None:
        """
        Take the first that is free, and go over it.

        :raises CannotStart: there is none that can be used.
        """
        self.lane = take_one(self._directory)
        try:
            self._examine()
        except BaseException as error:
            self.lane.leave()
            if isinstance(error, OSError):
                raise CannotStart(f"{self.lane.folder} cannot be used ({error.strerror})") from error
            raise
        self._is_taken = True

    def give_back(self) -> None:
        """
        Leave it, if it was taken.
        """
        if self._is_taken:
            self.pen.close()
            self.lane.leave()

    def _examine(self) -> None:
        self.segments = Segments.found_in(self.lane.folder)
        self.pen = Pen(self.segments, self._segment_bytes)
        self.pen.open()
        cursors = self.lane.cursors()
        self.replay = Replay(self.segments, 0 if cursors is None else cursors.open_since)
        for _ in self.replay.lines(self.segments.end):
            pass
        if cursors is not None:
            self._places, self.owners = cursors.readers, cursors.owners
        elif self.segments.end:
            log.warn("It is not known what of {folder} was read: all is read again", folder=str(self.lane.folder))

    def place_of(self, name: str) -> int:
        """
        Where a reader goes on; at the end, if it is new.
        """
        if self._places is None:
            return 0
        return self._places.get(name, self.segments.end)

    def forget_all_but(self, names: Collection[str]) -> None:
        """
        Say whose places are not kept any longer.
        """
        for name in sorted(set(self._places or ()) - set(names)):
            log.info("{name} is no longer configured: what it had not read is not kept for it", name=name)
