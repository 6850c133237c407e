"""
What the kernel says about a process, and how figures become a table.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from attrs import asdict, frozen

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


def percentile(values: Sequence[float], percent: float) -> float:
    """
    The smallest value that so many percent of all do not exceed.
    """
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@frozen(kw_only=True)
class Figure:
    """
    One row of the table: its key in JSON, its title, and the digits worth showing.
    """

    key: str
    title: str
    digits: int


FIGURES: Sequence[Figure] = (
    Figure(key="cpu_us_per_request", title="CPU us per request", digits=1),
    Figure(key="requests_per_second", title="requests/s, 32 connections", digits=0),
    Figure(key="latency_p50_ms", title="latency p50 ms, 1 connection", digits=3),
    Figure(key="latency_p99_ms", title="latency p99 ms, 1 connection", digits=3),
    Figure(key="added_p50_ms", title="  added to direct, p50 ms", digits=3),
    Figure(key="added_p99_ms", title="  added to direct, p99 ms", digits=3),
    Figure(key="cpu_us_per_event", title="CPU us per SSE event", digits=1),
    Figure(key="first_p50_ms", title="200 streams at once: first event p50 ms", digits=1),
    Figure(key="first_p99_ms", title="200 streams at once: first event p99 ms", digits=1),
    Figure(key="delay_p50_ms", title="delay of an event p50 ms", digits=3),
    Figure(key="delay_p99_ms", title="delay of an event p99 ms", digits=3),
    Figure(key="download_mb_per_second", title="256 MiB download MB/s", digits=0),
    Figure(key="download_cpu_ms", title="  CPU ms", digits=0),
    Figure(key="download_growth_mib", title="  memory growth, peak MiB", digits=1),
    Figure(key="upload_mb_per_second", title="256 MiB upload MB/s", digits=0),
    Figure(key="upload_cpu_ms", title="  CPU ms", digits=0),
    Figure(key="upload_growth_mib", title="  memory growth, peak MiB", digits=1),
    Figure(key="idle_mib", title="memory idle MiB", digits=1),
    Figure(key="stream_kib_200", title="KiB per open stream, 200 open", digits=1),
    Figure(key="stream_kib_1000", title="KiB per open stream, 1000 open", digits=1),
)


@frozen(kw_only=True)
class Summary:
    """
    One figure of one program over all rounds.
    """

    median: float
    lowest: float
    highest: float
    rounds: list[float]

    def cell(self, digits: int) -> str:
        """The median, and the range when there was more than one round."""
        text = f"{self.median:.{digits}f}"
        if len(self.rounds) > 1:
            text += f" ({self.lowest:.{digits}f}-{self.highest:.{digits}f})"
        return text


def summaries(rounds: Sequence[Mapping[str, float]]) -> dict[str, Summary]:
    """
    Each figure that came in at least one round.
    """
    keys = {key for figures in rounds for key in figures}
    return {key: _summary([figures[key] for figures in rounds if key in figures]) for key in keys}


def _summary(values: list[float]) -> Summary:
    return Summary(
        median=statistics.median(values),
        lowest=min(values),
        highest=max(values),
        rounds=values,
    )


def ratio(one: Summary | None, other: Summary | None) -> float | None:
    """
    How many times the other; None where one is unknown or the other is not positive.
    """
    if one is None or other is None or other.median <= 0:
        return None
    return one.median / other.median


def table(measured: Mapping[str, Mapping[str, Summary]], *, subject: str, yardstick: str) -> str:
    """
    Programs as columns, with the subject's ratio to the yardstick beside them.
    """
    names = list(measured)
    rows = [["", *names, f"{subject}/{yardstick}"]]
    for figure in FIGURES:
        found = [measured[name].get(figure.key) for name in names]
        if not any(found):
            continue
        times = ratio(measured.get(subject, {}).get(figure.key), measured.get(yardstick, {}).get(figure.key))
        rows.append(
            [
                figure.title,
                *(summary.cell(figure.digits) if summary else "-" for summary in found),
                "-" if times is None else f"{times:.2f}",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in rows
    )


def plain(measured: Mapping[str, Mapping[str, Summary]], *, subject: str, yardstick: str) -> dict[str, object]:
    """
    The same for JSON, in the table's order.
    """
    known = [f.key for f in FIGURES]
    return {
        "figures": {
            name: {key: asdict(found[key]) for key in known if key in found} for name, found in measured.items()
        },
        "ratios": {
            key: ratio(measured.get(subject, {}).get(key), measured.get(yardstick, {}).get(key))
            for key in known
            if any(key in found for found in measured.values())
        },
    }
