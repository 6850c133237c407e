"""
What becomes of a file of records that is full: it gets a name with the time, is compressed, and is deleted in the end.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger()

_STAMP = "%Y%m%dT%H%M%SZ"


@define(eq=False, kw_only=True)
class Rotation:
    """
    The full files of one path: ``PATH.20261122T120000Z``, ``PATH.20261122T120000Z-1``, both perhaps with ``.gz``.

    :param keep: how many there may be; 0 for any number.
    :param sink: its name, for the log.
    """

    _reactor: Any = field(kw_only=False)
    _path: Path = field(kw_only=False)
    _now: Callable[[], datetime] = field(kw_only=False)
    _keep: int
    _compresses: bool
    _sink: str
    _compressing: Deferred[None] = field(factory=lambda: succeed(None), init=False)

    def turn(self) -> None:
        """
        Move the file away. It may be read to its end, or be written to, by whoever has it open.

        :raises OSError: it cannot be moved.
        """
        away = self._free_name()
        self._path.rename(away)
        self._delete()
        if self._compresses:
            # One after another: a disk that is busy with one has no use for a second.
            self._compressing.addCallback(lambda _: self._compress(away))

    def finish(self) -> Deferred[None]:
        """
        Wait for what is being compressed.
        """
        waiting: Deferred[None] = Deferred()
        self._compressing.addCallback(waiting.callback)
        return waiting

    def full_files(self) -> list[Path]:
        """
        Those that are there, the oldest first.
        """
        return [each for _, _, each in self._found()]

    def _found(self) -> list[tuple[str, int, Path]]:
        """
        The same with the time in their names, and which of that second they are.
        """
        pattern = re.compile(re.escape(self._path.name) + r"\.([0-9]{8}T[0-9]{6}Z)(?:-([0-9]+))?(?:\.gz)?")
        matches = ((pattern.fullmatch(each.name), each) for each in self._path.parent.iterdir())
        return sorted((match[1], int(match[2] or 0), each) for match, each in matches if match)

    def _free_name(self) -> Path:
        """
        A name that sorts behind all others of its second: one of theirs may be free again.
        """
        stamp = self._now().strftime(_STAMP)
        numbers = [number for of, number, _ in self._found() if of == stamp]
        return self._path.with_name(f"{self._path.name}.{stamp}{f'-{max(numbers) + 1}' if numbers else ''}")

    def _delete(self) -> None:
        if self._keep:
            for each in self.full_files()[: -self._keep]:
                with suppress(FileNotFoundError):
                    each.unlink()

    def _compress(self, file: Path) -> Deferred[None]:
        done: Deferred[None] = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), compress, file)
        return done.addErrback(self._not_compressed, file)

    def _not_compressed(self, failure: Failure, file: Path) -> None:
        log.warn(
            "Sink {sink}: {file} stays uncompressed: {reason}",
            sink=self._sink,
            file=str(file),
            reason=failure.getErrorMessage(),
        )


def compress(file: Path) -> None:
    """
    Put ``FILE.gz`` in the place of *file*, unless it is gone. Blocks.
    """
    made = file.with_name(f"{file.name}.gz")
    beside = file.with_name(f".{file.name}.gz")
    try:
        with file.open("rb") as source, beside.open("wb") as target:
            os.fchmod(target.fileno(), os.fstat(source.fileno()).st_mode & 0o777)
            with gzip.GzipFile(file.name, "wb", 6, target) as packed:
                shutil.copyfileobj(source, packed, 1024 * 1024)
            target.flush()
            os.fsync(target.fileno())
        beside.rename(made)
        file.unlink()
    except FileNotFoundError:
        pass  # it was one too many meanwhile
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()
