"""
The name of one call: a UUID version 7, sorted by time (RFC 9562 §5.7).
"""

from __future__ import annotations

import os
import time

_DIGITS = 20
_AT_ONCE = 256


class CallIds:
    """
    Names calls, many a second: asks the system for random bits of many names at a time, which else takes 1.1 us for
    each. After a fork, only one of both processes may go on with it.
    """

    def __init__(self) -> None:
        self._noise = ""
        self._used = 0
        self._millisecond = 0
        self._stamp = ""

    def next(self) -> str:
        """
        A new UUIDv7 in its usual 36 characters: 48 bits of Unix milliseconds, then 74 random bits.
        """
        now = time.time_ns() // 1_000_000
        if now != self._millisecond:
            self._millisecond, self._stamp = now, _stamp(now)
        start = self._used
        if start == len(self._noise):
            start, self._noise = 0, _noise(_AT_ONCE)
        end = self._used = start + _DIGITS
        noise = self._noise
        return f"{self._stamp}-{noise[start : start + 4]}-{noise[start + 4 : start + 8]}-{noise[start + 8 : end]}"


def new_call_id() -> str:
    """
    One such name, for what seldom needs one.
    """
    noise = _noise(1)
    return f"{_stamp(time.time_ns() // 1_000_000)}-{noise[:4]}-{noise[4:8]}-{noise[8:]}"


def _stamp(milliseconds: int) -> str:
    return (milliseconds & 0xFFFFFFFFFFFF).to_bytes(6).hex("-", -4)


def _noise(count: int) -> str:
    """
    The other twenty digits of *count* names: random, but for those that say the version and the variant.
    """
    drawn = int.from_bytes(os.urandom(count * _DIGITS // 2))
    fixed, free = int("70008000000000000000" * count, 16), int("0FFF3FFFFFFFFFFFFFFF" * count, 16)
    return (drawn & free | fixed).to_bytes(count * _DIGITS // 2).hex()
