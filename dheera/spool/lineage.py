"""
Whose lines are in a lane: those of its owner, and of lives before it that are over.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from attrs import define, field

from dheera.bookkeeping import Lives
from dheera.call_ids import new_call_id
from dheera.spool.journal import Journal
from dheera.spool.room import Room
from dheera.spool.segments import Segments

MOST = 1000
"""
Of lives that are over, whose names are kept, the latest: who dies at once, again and again, cannot have them forgotten.
"""


@define(eq=False)
class _Ancestor:
    """
    A life that is over.

    :param open: its exchanges whose end is not written yet.
    :ivar end: all that there is of it lies before this place; ``None`` as long as something is still to be written.
    """

    name: str
    open: Collection[str]
    end: int | None = field(init=False, default=None)


@define(eq=False)
class Lineage:
    """
    The lives of one lane.

    :ivar owner: who we are, from start to end.
    """

    owner: str = field(factory=new_call_id)
    _ancestors: dict[str, _Ancestor] = field(init=False, factory=dict)
    _segments: Segments = field(init=False)
    _journal: Journal = field(init=False)
    _room: Room = field(init=False)

    def start(self, segments: Segments, journal: Journal, room: Room, owners: Sequence[str]) -> None:
        """
        The lane is ours, after *owners*. All that is open in it was theirs.
        """
        self._segments, self._journal, self._room = segments, journal, room
        self.inherit(owners, frozenset(journal.begun))

    def inherit(self, owners: Sequence[str], still_open: Collection[str] = ()) -> None:
        """
        All lines of *owners* are ours now, but for the ends of what is still open.
        """
        self._ancestors.update((name, _Ancestor(name, still_open)) for name in owners)
        for name in [*self._ancestors][:-MOST]:
            del self._ancestors[name]

    def names(self) -> list[str]:
        """
        Who is to be remembered; the latest is the last.
        """
        return [*self._ancestors, self.owner]

    # As `dheera.bookkeeping.Lives`.

    def orphans(self) -> Sequence[str]:
        """
        Those whose ends are all written, and kept.
        """
        kept = self._room.kept()
        return [each.name for each in self._ancestors.values() if (end := self._end(each)) is not None and end <= kept]

    def forgotten(self, owners: Sequence[str]) -> None:
        """
        They need not be remembered any longer.
        """
        for name in owners:
            self._ancestors.pop(name, None)

    def _end(self, ancestor: _Ancestor) -> int | None:
        if ancestor.end is None and not any(call_id in self._journal.begun for call_id in ancestor.open):
            ancestor.end = self._segments.end
        return ancestor.end


_: type[Lives] = Lineage
