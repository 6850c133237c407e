"""
Who writes where: each process has a lane of its own, a numbered directory, and holds its lock while it lives.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Container, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from attrs import define
from msgspec import Struct

from dheera.errors import CannotStart
from dheera.spool.segments import sync_folder

MOST = 4096
"""
Lanes; far more than there are processes on a machine.
"""

_CURSORS = "cursors.json"


class Cursors(Struct, frozen=True, kw_only=True):
    """
    What a lane's owner remembers beside the lines.

    :param readers: where each of them is.
    :param open_since: no exchange that is open began before this place.
    :param owners: whose lines are in it, as the store of the allowances knows them; the latest is the last.
    """

    readers: dict[str, int]
    open_since: int
    owners: list[str] = []


@define(eq=False)
class Lane:
    """
    A directory that is ours until it is left.
    """

    number: int
    folder: Path
    _lock: int

    def cursors(self) -> Cursors | None:
        """
        What was remembered; ``None`` if nothing was, or it is damaged.
        """
        try:
            return msgspec.json.decode((self.folder / _CURSORS).read_bytes(), type=Cursors)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def remember(self, cursors: Cursors) -> None:
        """
        Put them in place of those before; whatever happens, either are there as a whole.

        :raises OSError: those before are still there.
        """
        new = self.folder / (_CURSORS + ".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(cursors))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.folder / _CURSORS)

    def remove(self) -> None:
        """
        Delete all that is in it. It is not left by that.

        :raises OSError: some of it is still there.
        """
        for each in sorted(self.folder.iterdir()):  # digits first, cursors last: without them all would be read again
            each.unlink()
        self.folder.rmdir()
        sync_folder(self.folder.parent)

    def leave(self) -> None:
        """
        Let others have it.
        """
        lock, self._lock = self._lock, -1
        with suppress(OSError):
            os.close(lock)


def take_one(directory: Path) -> Lane:
    """
    The first lane that nobody owns; it is made if need be.

    :raises CannotStart: there is none, or the directory cannot be used.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(MOST):
            lane = _take(directory, number)
            if lane is not None:
                lane.folder.mkdir(mode=0o700, exist_ok=True)
                return lane
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotStart(
            f"the directory {directory}, for what is told of calls, cannot be used ({reason}): set DHEERA_AI_STATE_DIR"
        ) from error
    raise CannotStart(f"the directory {directory} is used by {MOST} processes: set another DHEERA_AI_STATE_DIR")


def take_abandoned(directory: Path, but: Container[int] = ()) -> Lane | None:
    """
    A lane that holds something, and whose owner is dead.

    :param but: numbers of lanes that are not wanted.
    :raises OSError: the directory cannot be read.
    """
    for number in _numbers(directory):
        lane = None if number in but else _take(directory, number)
        if lane is None:
            continue
        if lane.folder.is_dir():
            return lane
        lane.leave()  # somebody else has just removed it
    return None


def _numbers(directory: Path) -> Sequence[int]:
    return sorted(int(each.name) for each in directory.iterdir() if each.name.isdigit() and each.is_dir())


def _take(directory: Path, number: int) -> Lane | None:
    # Beside the lane and never deleted: two processes could else each have a lock, on two files of the same name.
    lock = os.open(directory / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    return Lane(number, directory / str(number), lock)
