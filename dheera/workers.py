"""
The directory in which several workers of one machine count together: prometheus_client has it from the environment.
Each worker writes files there that have the number of its process in their names.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from dheera.config import ConfigurationError

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def named_directory() -> Path | None:
    """
    The directory, which need not be there yet; ``None`` if this worker counts alone. Nothing is made.

    :raises ConfigurationError: it cannot be used, or could not be made.
    """
    said = os.environ.get(DIRECTORY_VARIABLE)
    if said is None:
        return None
    directory = Path(said)
    there = next(each for each in (directory, *directory.absolute().parents) if os.access(each, os.F_OK))
    if not said or not _is_writable(there):
        raise _unusable(said)
    return directory


def shared_directory() -> Path | None:
    """
    As `named_directory`, which is made if it is not there.

    :raises ConfigurationError: it cannot be used.
    """
    directory = named_directory()
    if directory is not None:
        with suppress(OSError):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_writable(directory):
            raise _unusable(str(directory))
    return directory


def _is_writable(directory: Path) -> bool:
    return os.access(f"{directory}/.", os.W_OK | os.X_OK)  # only a directory has a dot


def _unusable(said: str) -> ConfigurationError:
    return ConfigurationError([f"{DIRECTORY_VARIABLE}: found {said!r}, wanted a directory that can be written"])


def bury(directory: Path, leaving: int | None = None) -> None:
    """
    Take away the levels of workers that are no more: nobody would set them again. What they have counted stays.

    :param leaving: a worker whose levels go though there is a process of that number.
    """
    for path in directory.glob("gauge_live*_*.db"):
        number = path.stem.rpartition("_")[2]
        if number.isdecimal() and (int(number) == leaving or not _is_alive(int(number))):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True
