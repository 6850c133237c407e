"""
The name of one call: a UUID version 7, sorted by time (RFC 9562 §5.7).
"""

from __future__ import annotations

import os
import time

_BYTES = 10
_AT_ONCE = 256


class CallIds:
    """
    Names calls, many a second: for that it asks the system for random bits of many names at a time, 1.1 us for each
    name otherwise. After a fork, only one of both processes may go on with it.
    """

    def __init__(self) -> None:
        self._noise = ""
        self._used = 0

    def next(self) -> str:
        """
        A new UUIDv7 in its usual 36 characters: 48 bits of Unix milliseconds, then 74 random bits.
        """
        if self._used == len(self._noise):
            self._noise, self._used = os.urandom(_BYTES * _AT_ONCE).hex(), 0
        start = self._used
        self._used = end = start + 2 * _BYTES
        return _named(self._noise[start:end])


def new_call_id() -> str:
    """
    One such name, for what seldom needs one.
    """
    return _named(os.urandom(_BYTES).hex())


def _named(noise: str) -> str:
    stamp = f"{time.time_ns() // 1_000_000 & 0xFFFFFFFFFFFF:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7{noise[:3]}-{_VARIANT[noise[3]]}{noise[4:7]}-{noise[7:19]}"


_VARIANT = {f"{digit:x}": "89ab"[digit & 3] for digit in range(16)}
