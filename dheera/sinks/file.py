"""
Records as JSON lines in a file that is rotated by size and by day.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed

from dheera.bookkeeping import Entry
from dheera.config import ConfigurationError
from dheera.kinds import shown
from dheera.sinks import contract
from dheera.sinks.contract import Sink, SinkAway, SinkSettings, Tools
from dheera.sinks.lines import joined
from dheera.sinks.rotation import Rotation

MODE = 0o640
"""
Records say who called: not everybody on this machine needs to know.
"""


class FileSettings(SinkSettings, frozen=True, kw_only=True):
    """
    ``[sinks.file]``

    :param path: absolute; its folder must be there.
    :param max_bytes: after which a new file is begun; 0 for never.
    :param daily: a new file is begun with each day of UTC.
    :param keep: how many files that are full are kept; 0 for all.
    :param compress: with gzip, what is full.
    :param fsync: each batch is brought to the disk.
    """

    path: Path
    max_bytes: int = 100 * 1024 * 1024
    daily: bool = False
    keep: int = 10
    compress: bool = True
    fsync: bool = False
    batch_records: int = 1000
    batch_seconds: float = 0.2


@define(eq=False)
class FileSink:
    """
    Appends whole lines. Several processes may append to one file; it may be moved away, and a new one is begun.
    """

    _settings: FileSettings
    _tools: Tools
    _rotation: Rotation
    _descriptor: int | None = field(default=None, init=False)

    def send(self, entries: Sequence[Entry]) -> Deferred[None]:
        """
        Write a batch: all of it, or nothing.
        """
        try:
            self._append(joined(entries))
        except OSError as error:
            self._let_go()
            return fail(SinkAway(f"{self._settings.path} cannot be written to: {error.strerror}."))
        return succeed(None)

    def close(self) -> Deferred[None]:
        """
        Close the file, and wait for what is being compressed.
        """
        self._let_go()
        return self._rotation.finish()

    def _append(self, content: bytes) -> None:
        while True:
            descriptor = self._opened()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                status = os.fstat(descriptor)
                if not self._is_in_place(status):
                    self._let_go()  # somebody has moved it
                elif self._is_full(status, len(content)):
                    self._rotation.turn()
                    self._let_go()
                else:
                    self._write(descriptor, content, status.st_size)
                    return
            finally:
                if self._descriptor is not None:
                    fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _opened(self) -> int:
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(self._settings.path, flags, MODE)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError(0, "it is no regular file")
            self._descriptor = descriptor
        return self._descriptor

    def _is_in_place(self, status: os.stat_result) -> bool:
        try:
            there = self._settings.path.stat()
        except FileNotFoundError:
            return False
        return (there.st_ino, there.st_dev) == (status.st_ino, status.st_dev)

    def _is_full(self, status: os.stat_result, more: int) -> bool:
        if status.st_size == 0:
            return False
        if self._settings.max_bytes and status.st_size + more > self._settings.max_bytes:
            return True
        return self._settings.daily and datetime.fromtimestamp(status.st_mtime, UTC).date() < self._tools.now().date()

    def _write(self, descriptor: int, content: bytes, size: int) -> None:
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            content = b"\n" + content  # a loss of power has torn the last line
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(descriptor, view) :]
            if self._settings.fsync:
                os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, size)  # no half lines
            raise

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class FileFactory:
    """
    Makes the sink ``file``.
    """

    kind: ClassVar[str] = "file"
    settings: ClassVar[type[SinkSettings]] = FileSettings
    takes: ClassVar[Literal["records", "alerts", "all"]] = "all"

    def make(self, settings: FileSettings, tools: Tools) -> Sink:
        """
        See `dheera.sinks.contract.SinkFactory`.
        """
        problems = []
        if not settings.path.is_absolute():
            problems.append(f"path: found {shown(str(settings.path))}, wanted one from the root on")
        problems.extend(
            f"{name}: found {shown(value)}, wanted a whole number, 0 or more"
            for name, value in (("max_bytes", settings.max_bytes), ("keep", settings.keep))
            if value < 0
        )
        if problems:
            raise ConfigurationError(problems)
        rotation = Rotation(
            tools.reactor, settings.path, tools.now, keep=settings.keep, compresses=settings.compress, sink=tools.name
        )
        return FileSink(settings, tools, rotation)


FACTORY = FileFactory()

_: contract.SinkFactory = FACTORY
