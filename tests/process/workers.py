"""
The processes behind one address: which there are, and whether they are still there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.process.daemon import Daemon, eventually


def children(pid: int) -> list[int]:
    """
    The processes that *pid* has started, and that live.
    """
    file = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(each) for each in file.read_text().split() if lives(int(each))]


def lives(pid: int) -> bool:
    """
    Whether there is such a process. One that nobody has waited for is dead all the same.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def open_files(pid: int) -> int:
    """
    How many files and sockets it has open.
    """
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@contextmanager
def ended_with(daemon: Daemon) -> Iterator[list[int]]:
    """
    A list of processes that are no children of ours: whoever is on it is gone at the end, and so is what *daemon* has
    started.
    """
    pids: list[int] = []
    try:
        yield pids
    finally:
        for each in [*pids, daemon.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGTERM)
        for each in pids:
            eventually(lambda pid=each: not lives(pid), f"process {each} ends")  # type: ignore[misc]  # bound now
