"""
The durable queue of what happened, as its callers see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004 - what a Deferred's timeout raises
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from dheera.bookkeeping import Entry, Lag, Spool
from dheera.errors import Unavailable
from dheera.records import Alert, Begun, Record
from dheera.settings import SpoolSettings
from dheera.spool.adoption import Adoption
from dheera.spool.alarms import Alarms
from dheera.spool.journal import Journal
from dheera.spool.lineage import Lineage
from dheera.spool.pen import Pen
from dheera.spool.reading import FileReader
from dheera.spool.room import Room
from dheera.spool.segments import Segments
from dheera.spool.taking import Taking
from dheera.spool.thread import Aside, DiskThread
from dheera.spool.upkeep import FULL, Upkeep

log = Logger()

CLOSE_SECONDS = 10
"""
How long the disk is waited for at the end.
"""

_FEWEST_SEGMENTS = 4
"""
Into which the space is divided: what is thrown away when it is used up, is thrown away by segments.
"""


@frozen(kw_only=True)
class SpoolState:
    """
    How the spool of this process is.

    :param size_bytes: on the disk.
    :param is_full: nothing is begun, since the ledger is too far behind.
    :param failing: why nothing can be written; ``None`` if all is well.
    :param written: lines, since the start.
    :param waiting: lines that are in memory only, until they can be written.
    :param lost: lines that were given up since the start: refusals, while they could not be written.
    :param open: exchanges that have begun and not ended.
    :param readers: by their names.
    """

    lane: int
    size_bytes: int
    max_bytes: int
    is_full: bool
    failing: str | None
    written: int
    waiting: int
    lost: int
    open: int
    readers: dict[str, Lag]


@define(eq=False)
class FileSpool:
    """
    A spool in a directory that it shares with those of other processes. It is written to only while it is open.

    :param reactor: with time.
    :param interrupted: the end of an exchange that dheera did not live to see.
    :param alarm: takes what a person should know of the spool; ``None`` writes it down as an alert.
    :ivar lives: this process, and those whose lines it has.
    """

    _reactor: Any
    _directory: Path
    _settings: SpoolSettings
    _now: Callable[[], datetime]
    _node: str
    _interrupted: Callable[[Begun], Record]
    _aside: Aside
    _alarm: Callable[[Alert], None] | None = None
    lives: Lineage = field(init=False, factory=Lineage)
    _readers: dict[str, FileReader] = field(init=False, factory=dict)
    _alarms: Alarms = field(init=False)
    _segments: Segments = field(init=False)
    _pen: Pen = field(init=False)
    _journal: Journal = field(init=False)
    _room: Room = field(init=False)
    _upkeep: Upkeep = field(init=False)
    _reserve: int = field(init=False)
    _turn_end: IDelayedCall | None = field(init=False, default=None)
    _rouses: bool = field(init=False, default=False)
    _lost: int = field(init=False, default=0)
    _is_open: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._reserve = self._settings.max_bytes + self._settings.segment_bytes
        self._alarms = Alarms(self._reactor, self._now, self._node, self._alarm or self.alert)

    def begin(self, begun: Begun) -> None:
        """
        Write that an exchange begins.
        """
        if self._segments.size >= self._settings.max_bytes and not self._room.make():
            raise Unavailable(FULL, retry_after_seconds=5)
        try:
            self._journal.begin(begun)
        except OSError as error:
            raise Unavailable(
                f"Calls cannot be recorded, so none is let through: {error.strerror}. "
                "Whoever runs this dheera must see to the disk of its state directory.",
                retry_after_seconds=1,
            ) from None
        if self._pen.has_turned:
            self._turn_if_due()

    def end(self, record: Record) -> None:
        """
        Write that an exchange is over, before this turn of the reactor ends.
        """
        if self._segments.size >= self._reserve and record.call_id not in self._journal.begun:
            self._lost += 1
            return
        self._journal.put(record)
        self._await_turn_end()

    def alert(self, alert: Alert) -> None:
        """
        Write an alert, as `end`.
        """
        self._journal.put(alert)
        self._await_turn_end()

    def reader(self, name: str, *, essential: bool = False) -> FileReader:
        """
        The reader of this name. One that is new to a spool that is open reads what is written from now on.
        """
        reader = self._readers.get(name)
        if reader is None:
            reader = self._readers[name] = FileReader(name, essential, self._flush, self._rouse, self._moved)
            if self._is_open:
                reader.start(self._segments, self._segments.end)
        return reader

    def dismiss(self, name: str) -> None:
        """
        The reader of this name reads no more, and nothing is kept for it.
        """
        if self._readers.pop(name, None) is not None and self._is_open:
            self._moved()

    def state(self) -> SpoolState:
        """
        How it is now; it must be open.
        """
        return SpoolState(
            lane=self._upkeep.lane.number,
            size_bytes=self._segments.size,
            max_bytes=self._settings.max_bytes,
            is_full=self._room.is_full(),
            failing=self._journal.failing,
            written=self._journal.written,
            waiting=self._journal.waiting,
            lost=self._journal.lost + self._lost,
            open=len(self._journal.begun),
            readers={name: reader.lag() for name, reader in self._readers.items()},
        )

    def open(self) -> Deferred[None]:
        """
        Take a lane, and make good what its last owner could not.

        :return: fails with `CannotStart`.
        """
        return Deferred.fromCoroutine(self._open())

    async def _open(self) -> None:
        self._aside.start()
        segment_bytes = max(1, min(self._settings.segment_bytes, self._settings.max_bytes // _FEWEST_SEGMENTS))
        taking = Taking(self._directory, segment_bytes)
        try:
            await self._aside.run(taking.take)
            self._settle_in(taking)
            await self._upkeep.begin()
        except BaseException:
            self._aside.stop()
            taking.give_back()
            raise
        for _, _, begun in taking.replay.open():
            try:
                self.end(self._interrupted(begun))
            except Exception:  # noqa: BLE001 - it stays open, and the next start tries again
                log.failure("An exchange that was interrupted cannot be ended")
        self._journal.flush()

    def _settle_in(self, taking: Taking) -> None:
        self._segments, self._pen = taking.segments, taking.pen
        self._journal = Journal(self._pen, self._tell, self._tell_failure)
        # Before anything is remembered: a process that dies again at once has left them open still.
        self._journal.begun.update(
            (begun.call_id, (place, line + b"\n")) for place, line, begun in taking.replay.open()
        )
        readers = self._readers
        for reader in readers.values():
            reader.start(self._segments, taking.place_of(reader.name))
        taking.forget_all_but(readers)
        self._is_open = True
        sync = self._pen.sync
        self._room = Room(
            self._segments, self._journal, readers, self._aside, sync, self._alarms, self._settings.max_bytes
        )
        adoption = Adoption(
            self._directory, self._aside, self._inherit, self._interrupted, sync, self._room.has_room_for, readers
        )
        self.lives.start(self._segments, self._journal, self._room, taking.owners)
        self._upkeep = Upkeep(
            reactor=self._reactor,
            aside=self._aside,
            lane=taking.lane,
            segments=self._segments,
            pen=self._pen,
            journal=self._journal,
            room=self._room,
            readers=readers,
            alarms=self._alarms,
            adoption=adoption,
            lineage=self.lives,
            fsync_seconds=self._settings.fsync_seconds,
        )

    def close(self) -> Deferred[None]:
        """
        Write what is still to be written, and leave the lane.
        """
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._is_open = False
        if self._turn_end is not None:
            self._turn_end.cancel()
        self._journal.flush()
        ending = Deferred.fromCoroutine(self._upkeep.end())
        try:
            await ending.addTimeout(CLOSE_SECONDS, self._reactor)
        except TimeoutError:
            log.warn("The disk does not answer; the last records may be lost.")
        else:
            self._aside.stop()

    # For those that it is made of.

    def _tell(self, entries: Sequence[Entry]) -> None:
        size = sum([len(entry.line) for entry in entries])
        for reader in self._readers.values():
            reader.take(entries, size)

    def _tell_failure(self, reason: str) -> None:
        text = f"Calls cannot be recorded, and none is let through: {reason}."
        self._alarms.begin("spool disk", text, "critical")

    def _inherit(self, lines: Sequence[bytes]) -> None:
        place = self._journal.inherit(lines)
        for reader in self._readers.values():
            reader.look_up(place)
        self._rouse()
        self._turn_if_due()

    def _turn_if_due(self) -> None:
        if self._pen.has_turned:
            self._pen.has_turned = False
            self._room.turn()

    def _flush(self) -> None:
        self._journal.flush()

    def _moved(self) -> None:
        self._room.retire()

    def _rouse(self) -> None:
        self._rouses = True
        self._await_turn_end()

    def _await_turn_end(self) -> None:
        if not self._is_open:  # it is closing, and waits for no turn any more
            self._journal.flush()
        elif self._turn_end is None:
            self._turn_end = self._reactor.callLater(0, self._end_turn)

    def _end_turn(self) -> None:
        self._journal.flush()
        self._turn_end = None
        self._turn_if_due()
        if self._rouses:
            self._rouses = False
            for reader in self._readers.values():
                reader.wake()


def make_spool(
    reactor: Any,
    directory: Path,
    settings: SpoolSettings,
    *,
    now: Callable[[], datetime],
    node: str,
    interrupted: Callable[[Begun], Record],
    alarm: Callable[[Alert], None] | None = None,
) -> FileSpool:
    """
    The spool of a process that has a real reactor.
    """
    return FileSpool(reactor, directory, settings, now, node, interrupted, DiskThread(reactor), alarm)


_: type[Spool] = FileSpool
