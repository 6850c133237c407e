"""
The files of one lane, as they are read. Each is named by how many bytes were written before it, so a place in the lane
is one number for ever. Everything here blocks, but reads little at a time.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from attrs import define, field

SUFFIX = ".jsonl"
_DIGITS = 20
_BLOCK = 64 * 1024


@define(eq=False)
class Segment:
    """
    One file.

    :param start: the place of its first byte.
    :param size: of the whole lines in it. What lies behind them is the rest of a write that failed.
    """

    path: Path
    start: int
    size: int

    @property
    def end(self) -> int:
        """
        The place behind its last line.
        """
        return self.start + self.size


@define(eq=False)
class Segments:
    """
    The files that follow one another; between two there may be a gap, where the machine lost what was not yet on disk.

    :ivar size: of all of them, in bytes.
    """

    folder: Path
    _files: list[Segment]
    size: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.size = sum(each.size for each in self._files)

    @classmethod
    def found_in(cls, folder: Path) -> Segments:
        """
        Those that are in a folder.

        :raises OSError: they cannot be read.
        """
        files = [
            Segment(path, int(path.stem), path.stat().st_size)
            for path in sorted(folder.glob("[0-9]" * _DIGITS + SUFFIX))
        ]
        for each, following in pairwise(files):
            each.size = min(each.size, following.start - each.start)
        if files:
            files[-1].size = _whole(files[-1].path, files[-1].size)
        return cls(folder, files)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> Segment:
        return self._files[number]

    @property
    def start(self) -> int:
        """
        The first place.
        """
        return self._files[0].start if self._files else 0

    @property
    def end(self) -> int:
        """
        The place where the next line will be.
        """
        return self._files[-1].end if self._files else 0

    def following(self) -> Segment:
        """
        One that could be added, still empty.
        """
        return Segment(self.folder / f"{self.end:0{_DIGITS}}{SUFFIX}", self.end, 0)

    def add(self, segment: Segment) -> None:
        """
        Now it is the last.
        """
        self._files.append(segment)

    def count_before(self, place: int) -> int:
        """
        How many end there or before; the last, which is written to, is never counted.
        """
        return next((number for number, each in enumerate(self._files[:-1]) if each.end > place), len(self._files) - 1)

    def take_away(self, count: int) -> Sequence[Segment]:
        """
        The first *count*, which are no longer part of the lane; their files are for the caller to delete.
        """
        gone, self._files = self._files[:count], self._files[count:]
        self.size -= sum(each.size for each in gone)
        return gone

    def read(self, place: int, most: int) -> tuple[list[bytes], int, int]:
        """
        The lines from *place* on, out of one file, *most* bytes of them or a single longer one.

        :return: the lines, without their breaks; the place of the first; the place to go on from. Without lines, that
            is the end, or lies behind a gap.
        :raises OSError: they cannot be read.
        """
        number = bisect_right(self._files, place, key=lambda each: each.start) - 1
        if number < 0 or place >= self._files[number].end:
            number += 1  # in a gap
        if number >= len(self._files):
            return [], self.end, self.end
        segment = self._files[number]
        place = max(place, segment.start)
        content = _some(segment, place, most)
        if not content:
            return [], segment.end, segment.end
        if not content.endswith(b"\n"):  # somebody has been at the file
            return [content], place, segment.end
        return content[:-1].split(b"\n"), place, place + len(content)


def sync_folder(folder: Path) -> None:
    """
    Bring to the disk which files a folder holds.

    :raises OSError: it may not be there.
    """
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _some(segment: Segment, place: int, most: int) -> bytes:
    """
    Whole lines, as far as there are any.
    """
    file = _opened(segment.path)
    if file is None:
        return b""
    try:
        content = b""
        while b"\n" not in content:
            left = segment.end - place - len(content)
            more = os.pread(file, min(most, left), place - segment.start + len(content))
            if not more:
                return content
            content += more
            most = max(most, len(content))  # so that a long line is not copied too often
        return content[: content.rfind(b"\n") + 1]
    finally:
        os.close(file)


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # as with a file that is too short: what is not there cannot be waited for
        return None


def _whole(path: Path, size: int) -> int:
    """
    How many of the first *size* bytes are whole lines.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        while size > 0:
            begin = max(0, size - _BLOCK)
            block = os.pread(file, size - begin, begin)
            if (found := block.rfind(b"\n")) >= 0:
                return begin + found + 1
            size = begin
        return 0
    finally:
        os.close(file)
