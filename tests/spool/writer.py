"""
A process that writes to a spool as fast as it can, and says what was written: killed by its parent.

    python -m tests.spool.writer DIRECTORY
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater, react

from dheera.settings import SpoolSettings
from dheera.spool.spool import make_spool
from tests.spool.desk import begun, interrupted, record


async def write(reactor: Any, directory: str) -> None:
    """
    Begin and end exchanges, three of them open at any time, until somebody ends us.
    """
    settings = SpoolSettings(segment_bytes=20_000, fsync_seconds=0.01)
    spool = make_spool(
        reactor, Path(directory), settings, now=lambda: datetime.now(UTC), node="n", interrupted=interrupted
    )
    reader = spool.reader("ledger", essential=True)
    await spool.open()
    run = os.getpid()
    for number in count():
        spool.begin(begun(f"{run}-{number}"))
        os.write(1, b"begun %d-%d\n" % (run, number))
        if number >= 4:  # the end before this beginning was written with it
            os.write(1, b"ended %d-%d\n" % (run, number - 4))
        if number >= 3:
            spool.end(record(f"{run}-{number - 3}"))
        if number % 50 == 0:
            entries = reader.read(20)
            os.write(1, b"".join(b"read %s\n" % entry.value.call_id.encode() for entry in entries))  # type: ignore[union-attr]
            reader.advance(entries[-1].position if entries else 0)
            await deferLater(reactor, 0)


if __name__ == "__main__":
    react(write, sys.argv[1:])
