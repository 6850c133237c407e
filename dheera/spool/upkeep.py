"""
What is done for an open spool again and again, and once more at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from dheera.spool.adoption import Adoption
from dheera.spool.alarms import Alarms
from dheera.spool.journal import Journal
from dheera.spool.lanes import Cursors, Lane
from dheera.spool.lineage import Lineage
from dheera.spool.pen import Pen
from dheera.spool.reading import FileReader
from dheera.spool.room import Room
from dheera.spool.segments import Segments
from dheera.spool.thread import Aside

log = Logger()

TICK_SECONDS = 1
"""
How often cursors are written, and what failed is tried again.
"""

ADOPT_SECONDS = 60


@define(eq=False, kw_only=True)
class Upkeep:
    """
    Keeps one lane.

    :param fsync_seconds: how often what was written is brought to the disk.
    """

    _reactor: IReactorTime
    _aside: Aside
    lane: Lane
    _segments: Segments
    _pen: Pen
    _journal: Journal
    _room: Room
    _readers: Mapping[str, FileReader]
    _alarms: Alarms
    _adoption: Adoption
    _lineage: Lineage
    _fsync_seconds: float
    _remembered: Cursors | None = field(init=False, default=None)
    _loops: list[LoopingCall] = field(init=False, factory=list)
    _adopting: Deferred[None] | None = field(init=False, default=None)

    async def begin(self) -> None:
        """
        Do all of it from now on.
        """
        await self._remember()
        self._every(ADOPT_SECONDS, self._adopt, now=True)
        self._every(self._fsync_seconds, self.sync)
        self._every(TICK_SECONDS, lambda: Deferred.fromCoroutine(self._tick()))

    def _every(self, seconds: float, work: Callable[[], Deferred[None]], *, now: bool = False) -> None:
        # One failure, a bug, must not end all upkeep.
        loop = LoopingCall(lambda: work().addErrback(partial(log.failure, "The upkeep of the spool has failed")))
        loop.clock = self._reactor
        self._loops.append(loop)
        loop.start(seconds, now=now).addErrback(partial(log.failure, "The upkeep of the spool has ended"))

    async def end(self) -> None:
        """
        Stop, and leave all in order for the next owner.
        """
        self._adoption.is_ending = True
        for loop in self._loops:
            if loop.running:
                loop.stop()
        if self._adopting is not None:
            await self._adopting
        self._journal.retry()
        if self._journal.waiting:
            log.critical("{count} lines could not be written and are lost", count=self._journal.waiting)
        await self.sync()
        await self._remember()
        await self._aside.run(self._leave)

    def _leave(self) -> None:
        self._pen.close()
        self.lane.leave()

    def _adopt(self) -> Deferred[None]:
        self._adopting = Deferred.fromCoroutine(self._adoption.look(self._succeed))
        return self._adopting

    async def _succeed(self, owners: Sequence[str]) -> None:
        self._lineage.inherit(owners)
        await self.remember()

    def sync(self) -> Deferred[None]:
        """
        Bring to the disk what was written.
        """
        return Deferred.fromCoroutine(self._sync())

    async def _sync(self) -> None:
        if self._pen.is_dirty:
            try:
                await self._aside.run(self._pen.sync)
            except OSError as error:
                self._journal.fail(error)

    async def _tick(self) -> None:
        if self._journal.failing is not None:
            if self._journal.is_disk_full:
                self._room.shed()
            self._journal.retry()
        if self._journal.failing is None:
            self._alarms.end("spool disk", "Calls can be recorded again.")
        if self._room.make():
            self._alarms.end("spool", "There is room for records again.")
        else:
            self._alarms.begin("spool", FULL, "critical")
        for reader in self._readers.values():
            reader.wake()
            if not reader.lag().waiting_bytes:
                self._alarms.end(f"sink {reader.name}", f"{reader.name} has caught up.")
        await self._remember()

    async def _remember(self) -> None:
        try:
            await self.remember()
        except OSError as error:
            log.warn("It cannot be written down what has been read: {reason}", reason=error.strerror)

    async def remember(self) -> None:
        """
        Bring to the disk where all are now.

        :raises OSError: it is not there.
        """
        cursors = self.cursors()
        if cursors != self._remembered:
            await self._aside.run(partial(self.lane.remember, cursors))
            self._remembered = cursors

    def cursors(self) -> Cursors:
        """
        Where all are now.
        """
        places = {name: reader.place for name, reader in self._readers.items()}
        open_since = self._journal.open_since(self._segments.end)
        return Cursors(readers=places, open_since=open_since, owners=self._lineage.names())


FULL = "Calls cannot be recorded: the disk space for them is used up, and the ledger is too far behind."
