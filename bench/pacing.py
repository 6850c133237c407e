"""
A clock that beats evenly, more finely than an event loop's timers, which know milliseconds only.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from attrs import define, field

_SECOND_NS = 1_000_000_000
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC are the same
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_EXPIRATIONS_BYTES = 8
_AHEAD_NS = 10_000_000


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


@define(eq=False, kw_only=True)
class Pacemaker:
    """
    Calls `beat` with the moment (monotonic, ns) when each beat was due: late ones too, and all of them.

    The kernel's timerfd(2) counts what has come due while the loop was busy.
    """

    _per_second: float
    _total: int
    _beat: Callable[[int], None]
    _descriptor: int = field(default=-1, init=False)
    _begun_ns: int = field(default=0, init=False)
    _count: int = field(default=0, init=False)
    done: asyncio.Event = field(factory=asyncio.Event, init=False)

    def __enter__(self) -> Self:
        interval_ns = round(_SECOND_NS / self._per_second)
        self._begun_ns = time.monotonic_ns() + _AHEAD_NS
        self._descriptor = _timer(self._begun_ns, interval_ns)
        asyncio.get_running_loop().add_reader(self._descriptor, self._due, interval_ns)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _due(self, interval_ns: int) -> None:
        try:
            expired = int.from_bytes(os.read(self._descriptor, _EXPIRATIONS_BYTES), sys.byteorder)
        except BlockingIOError:
            return
        for _ in range(min(expired, self._total - self._count)):
            self._beat(self._begun_ns + self._count * interval_ns)
            self._count += 1
        if self._count == self._total:
            self.done.set()


def _timer(begin_ns: int, interval_ns: int) -> int:
    # Python has these from 3.13 on (os.timerfd_create).
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.timerfd_create(time.CLOCK_MONOTONIC, _FLAGS)
    spec = _TimerSpec(_spec(interval_ns), _spec(begin_ns))
    if descriptor < 0 or libc.timerfd_settime(descriptor, _ABSOLUTE, ctypes.byref(spec), None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd")
    return descriptor


def _spec(nanoseconds: int) -> _TimeSpec:
    return _TimeSpec(*divmod(nanoseconds, _SECOND_NS))
