"""
What the kernel says about a process: its time, and its memory.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

_CPUCLOCK_SCHED = 2  # <linux/posix-timers.h>: all threads' time as the scheduler counts it
_RESET_PEAK = "5"  # man 5 proc, clear_refs


@frozen(kw_only=True)
class Reading:
    """
    What a process and its children have used up to now.

    :param pss_kib: proportional memory: pages that others map too count in part.
    :param own_kib: the same without files and programs. It grows and shrinks by what the process
        does alone, while `pss_kib` also falls when somebody else starts the same Python.
    """

    cpu_us: float
    pss_kib: float
    own_kib: float


def reading(pid: int) -> Reading:
    """
    What the process and its children have used up to this moment.
    """
    family = list(_family(pid))
    return Reading(
        cpu_us=sum(map(_cpu_us, family)),
        pss_kib=sum(_kib(member, "smaps_rollup", "Pss") for member in family),
        own_kib=sum(_kib(member, "smaps_rollup", "Pss_Anon") for member in family),
    )


def reset_peak(pid: int) -> float:
    """
    Forget the highest resident memory up to now; give the present one, in KiB.
    """
    family = list(_family(pid))
    for member in family:
        Path(f"/proc/{member}/clear_refs").write_text(_RESET_PEAK)
    return sum(_kib(member, "status", "VmRSS") for member in family)


def peak_kib(pid: int) -> float:
    """
    The highest resident memory since `reset_peak`.

    The kernel keeps this mark itself: a peak between two samples would be lost.
    """
    return sum(_kib(member, "status", "VmHWM") for member in _family(pid))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def _cpu_us(pid: int) -> float:
    # The clock that clock_getcpuclockid(3) gives: in nanoseconds, where /proc counts in ticks of
    # ten milliseconds, and with the threads that have ended, which /proc/PID/task forgets.
    return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED) / 1e3


def _kib(pid: int, file: str, name: str) -> float:
    text = Path(f"/proc/{pid}/{file}").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        raise LookupError(f"/proc/{pid}/{file} has no {name}: is this Linux?")
    return float(found[1])
