"""
The directory in an SQLite file, shared by any number of processes on one machine.

The only room of the house with threads: SQLite waits for the disk and for other writers, so one thread writes, one
reads what is soon found, and one what takes long, and none holds up another. What other processes change is found by
looking four times a second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004 - what a Deferred's timeout raises
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from dheera.boundaries import Change
from dheera.errors import StoreAway
from dheera.stores.database import AnyStep, Database, Rows
from dheera.stores.sheet import Clock, machine_clock
from dheera.stores.sqlite.file import Hindered, SqliteFile
from dheera.stores.watchers import Watchers

log = Logger()

MOST_SEARCHES = 64
"""
Of those that take long: how many wait, at most. One who comes later would wait in vain.
"""

Result = TypeVar("Result")


class _Daemon(Thread):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        # A process that ends in a hurry, or fails to start, does not wait for it.
        super().__init__(*arguments, daemon=True, **named)


class _OneThread(ThreadPool):
    threadFactory = _Daemon  # noqa: N815 - Twisted's name

    def __init__(self, name: str) -> None:
        super().__init__(1, 1, name)


def _unheard(*_: Change) -> None:
    pass


@define(eq=False)
class SqliteDatabase:
    """
    Transactions on an SQLite file.

    :param reactor: with time, and a way back from threads.
    :param in_state_directory: the file is where we keep what is our own: the directory is made if need be.
    :param patience_seconds: how long a caller waits at most, for those before it, other writers, or a slow disk.
    :param poll_seconds: how often one looks for changes that other processes made.
    :param clock: by which allowances are counted; all processes on the file must have the same.
    """

    _reactor: Any
    _path: Path
    _in_state_directory: bool = field(default=False, kw_only=True)
    _patience_seconds: float = field(default=5, kw_only=True)
    _poll_seconds: float = field(default=0.25, kw_only=True)
    _clock: Clock = field(default=machine_clock, kw_only=True)
    _file: SqliteFile = field(init=False)
    _writing: ThreadPool = field(init=False, factory=lambda: _OneThread("sqlite-writing"))
    _reading: ThreadPool = field(init=False, factory=lambda: _OneThread("sqlite-reading"))
    _searching: ThreadPool = field(init=False, factory=lambda: _OneThread("sqlite-searching"))
    _searches: int = field(init=False, default=0)
    _polling: LoopingCall = field(init=False)
    _watchers: Watchers = field(init=False, factory=Watchers)
    _is_open: bool = field(init=False, default=False)
    _deaf: bool = field(init=False, default=False)
    _refused: bool = field(init=False, default=False)
    _seen: int = field(init=False, default=0)
    _told: set[int] = field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        self._file = SqliteFile(self._path, in_state_directory=self._in_state_directory, clock=self._clock)
        self._polling = LoopingCall(lambda: Deferred.fromCoroutine(self._poll()))
        self._polling.clock = self._reactor

    def watch(self, changed: Callable[[Change], None], lost: Callable[[], None]) -> Callable[[], None]:
        """
        Be told of changes.
        """
        return self._watchers.add(changed, lost)

    def is_away(self) -> bool:
        """
        Whether the file could not be read, or changes cannot be heard. While it can only not be written, since the disk
        is full or another process keeps it locked, each writer is told `StoreAway`, and all keys go on working: then
        the database is not away.
        """
        return self._deaf

    def open(self) -> Deferred[None]:
        """
        Make the file if need be, and bring it up to date.
        """
        return Deferred.fromCoroutine(self._open())

    async def _open(self) -> None:
        for thread, _ in self._threads():
            thread.start()
        self._is_open = True
        try:
            await deferToThreadPool(self._reactor, self._writing, self._file.open)
            await deferToThreadPool(self._reactor, self._reading, self._file.news)
        except BaseException:
            await self._close()
            raise
        self._polling.start(self._poll_seconds, now=False).addErrback(self._fail_to_poll)

    def close(self) -> Deferred[None]:
        """
        Finish what is under way, and end the threads.
        """
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        if self._polling.running:
            self._polling.stop()
        for thread, end in self._threads():
            ending = deferToThreadPool(self._reactor, thread, end)
            try:
                await ending.addTimeout(self._patience_seconds + 1, self._reactor)
            except TimeoutError:
                log.warn("The disk does not answer; what was to be written to it may be lost.")
            else:
                thread.stop()

    def _threads(self) -> list[tuple[ThreadPool, Callable[[], None]]]:
        return [
            (self._writing, self._file.end_writing),
            (self._reading, self._file.end_reading),
            (self._searching, self._file.end_searching),
        ]

    def run(
        self,
        steps: Sequence[AnyStep],
        *,
        changes: Sequence[Change] | None = None,
        slow: bool = False,
        lasting: bool = True,
    ) -> Deferred[list[Rows]]:
        """
        Do *steps* in one transaction.
        """
        if changes is not None:
            return Deferred.fromCoroutine(self._write(steps, changes, lasting=lasting))
        return Deferred.fromCoroutine(self._read(self._search(steps) if slow else self._find(steps)))

    async def _read(self, reading: Awaitable[list[Rows]]) -> list[Rows]:
        try:
            return await reading
        except Hindered:
            raise
        except StoreAway as away:
            self._lose(away)
            raise

    async def _find(self, steps: Sequence[AnyStep]) -> list[Rows]:
        self._require_readable()
        return await self._on(self._reading, lambda _: self._file.read(steps))

    async def _search(self, steps: Sequence[AnyStep]) -> list[Rows]:
        self._require_readable()
        if self._searches >= MOST_SEARCHES:
            raise Hindered
        self._searches += 1
        # Counted for as long as the thread has it before it, also if who waited has left.
        return await self._on(self._searching, lambda patience: self._file.search(steps, patience), self._end_search)

    def _end_search(self) -> None:
        self._searches -= 1

    def _require_readable(self) -> None:
        # Nobody else need try what the next look for changes tries; unless a bug has ended those.
        if self._deaf and self._polling.running:
            raise Hindered

    async def _write(self, steps: Sequence[AnyStep], changes: Sequence[Change], *, lasting: bool) -> list[Rows]:
        try:
            rows, serials = await self._on(
                self._writing, lambda patience: self._file.write(steps, changes, patience, lasting=lasting)
            )
        except StoreAway as away:
            if not self._refused:
                log.warn("Nothing can be written to the database: {reason}", reason=_reason(away))
                self._refused = True
            raise
        if self._refused:
            log.info("The database can be written again.")
            self._refused = False
        self._told.update(serial for serial in serials if serial > self._seen)
        for change in changes:
            self._watchers.tell(change)
        return rows

    async def _on(
        self, thread: ThreadPool, job: Callable[[float], Result], done: Callable[[], None] = _unheard
    ) -> Result:
        """
        The result of *job*, which is given the seconds that it may take.

        :param done: called when the thread has done with it, however long that takes.
        :raises Hindered: it, or what was to be done before it, took too long.
        """
        if not self._is_open:
            raise Hindered
        deadline = self._reactor.seconds() + self._patience_seconds
        result: Deferred[Result] = Deferred()
        doing = deferToThreadPool(self._reactor, thread, self._do_until, deadline, job)
        doing.chainDeferred(result)
        doing.addBoth(lambda _: done())
        try:
            # What waits for a lock ends by itself; a disk may never answer.
            return await result.addTimeout(self._patience_seconds + 1, self._reactor)
        except TimeoutError as error:
            raise Hindered from error

    def _do_until(self, deadline: float, job: Callable[[float], Result]) -> Result:
        remaining = deadline - self._reactor.seconds()
        if remaining <= 0:
            raise Hindered
        return job(remaining)

    async def _poll(self) -> None:
        try:
            news = await self._on(self._reading, lambda _: self._file.news())
        except StoreAway as away:
            # Also if it was only late: nothing that others change is heard meanwhile.
            self._lose(away)
            return
        if self._deaf:
            log.info("The database can be read again.")
            self._deaf = False
            self._watchers.tell(Change("", ""))
        for serial, change in news:
            self._seen = serial
            if serial in self._told:
                self._told.discard(serial)
            else:
                self._watchers.tell(change)

    def _lose(self, away: StoreAway) -> None:
        if self._is_open and not self._deaf:
            log.warn("The database cannot be read: {reason}", reason=_reason(away))
            self._deaf = True
            self._watchers.lose()

    def _fail_to_poll(self, failure: Failure) -> None:
        log.failure("Bug: nobody looks for changes any more", failure)
        self._lose(StoreAway())


def _reason(away: StoreAway) -> str:
    cause = away.__cause__
    return "it took too long" if cause is None or isinstance(cause, TimeoutError) else str(cause)


_: type[Database] = SqliteDatabase
