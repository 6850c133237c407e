"""
Writing at the end of a lane: whole lines or nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress

from attrs import define, field

from dheera.spool.segments import Segment, Segments, sync_folder

_HOW = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


@define(eq=False)
class Pen:
    """
    Appends to the last segment and begins the next when that is full. Only `sync` and `close` may be called from
    another thread than the rest, and both from the same.

    :param segments: of a lane that is ours alone.
    :ivar has_turned: a segment was begun since the caller last set it to false.
    :ivar is_dirty: something was written since the last `sync`.
    """

    _segments: Segments
    _segment_bytes: int
    has_turned: bool = field(init=False, default=False)
    is_dirty: bool = field(init=False, default=True)
    _last: Segment = field(init=False)
    _file: int = field(init=False, default=-1)
    _full: list[int] = field(init=False, factory=list)
    _is_torn: bool = field(init=False, default=False)

    def open(self) -> None:
        """
        Go on where the last line ends; the rest of a write that a crash cut short is cut away.

        :raises OSError: it cannot be written to.
        """
        if not len(self._segments):
            self._segments.add(self._segments.following())
        self._last = self._segments[-1]
        self._file = os.open(self._last.path, _HOW, 0o600)
        os.ftruncate(self._file, self._last.size)

    def append(self, lines: bytes) -> int:
        """
        Write lines, the last of them with its break, too.

        :return: the place behind them.
        :raises OSError: nothing was written.
        """
        last = self._last
        if (last.size + len(lines) > self._segment_bytes and last.size) or self._is_torn:
            last = self._turn()
        written = os.write(self._file, lines)
        if written != len(lines):
            self._write_rest(lines[written:])
        last.size += len(lines)
        self._segments.size += len(lines)
        self.is_dirty = True
        return last.start + last.size

    def _write_rest(self, lines: bytes) -> None:
        # A write is short when the disk is full; the next one tells the reason.
        try:
            while lines:
                lines = lines[os.write(self._file, lines) :]
        except OSError:
            try:
                os.ftruncate(self._file, self._last.size)
            except OSError:
                # Readers stop at the size that is known here and, later, at the start of the next file.
                self._is_torn = True
            raise

    def _turn(self) -> Segment:
        following = self._segments.following()
        try:
            file = os.open(following.path, _HOW | os.O_TRUNC, 0o600)
        except OSError:
            if self._is_torn:
                raise
            return self._last  # the size of a file is a wish; that a call can be written down is none
        self._full.append(self._file)
        self._file = file
        self._is_torn = False
        if self._last.size:  # else it is the same file
            self._segments.add(following)
            self._last = following
            self.has_turned = True
        return self._last

    def sync(self) -> None:
        """
        Bring all that was written before to the disk.

        :raises OSError: it may not be there.
        """
        self.is_dirty = False
        try:
            self._sync()
        except OSError:
            self.is_dirty = True
            raise

    def _sync(self) -> None:
        turned = bool(self._full)
        while self._full:
            full = self._full.pop(0)
            try:
                os.fsync(full)
            finally:
                os.close(full)
        os.fsync(self._file)
        if turned:
            sync_folder(self._segments.folder)

    def close(self) -> None:
        """
        Write no more.
        """
        files, self._file = [*self._full, self._file], -1
        self._full.clear()
        for file in files:
            with suppress(OSError):
                os.close(file)
