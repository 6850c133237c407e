"""
A disk that is soon full.
"""

from __future__ import annotations

import errno
import resource
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from tests.process.daemon import Daemon


class SmallDisk:
    """
    A disk of its own, in memory, inside ``with``. Where nobody may mount one it is a folder, and a daemon that finds
    it full is one that may write to no file any more.

    :ivar path: where it is.
    :ivar reason: what a daemon says when it is full.
    """

    BYTES = 3 << 20

    def __enter__(self) -> Self:
        self._folder = TemporaryDirectory()
        self.path = Path(self._folder.name)
        options = ("-t", "tmpfs", "-o", f"size={self.BYTES}", "tmpfs")
        done = subprocess.run(["mount", *options, self._folder.name], check=False, capture_output=True)
        self._is_mounted = done.returncode == 0
        self.reason = "No space left on device" if self._is_mounted else "File too large"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_mounted:
            subprocess.run(["umount", "--lazy", self._folder.name], check=True)
        self._folder.cleanup()

    def fill(self, daemon: Daemon) -> None:
        """
        Leave no room for *daemon*.
        """
        if not self._is_mounted:
            self._whole = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (0, self._whole[1]))
            return
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC, error

    def clear(self, daemon: Daemon) -> None:
        """
        Give the room back.
        """
        if self._is_mounted:
            self._ballast.unlink()
        else:
            resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, self._whole)

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"
