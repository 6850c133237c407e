"""
What is measured of one program: each section gives figures by their keys.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import define

from bench.figures import Reading, peak_kib, percentile, reading, reset_peak
from bench.load import Place, closed_loop
from bench.programs import Program
from bench.streams import Streamed, Wave, streamed
from bench.transfers import downloaded, uploaded

_CONNECTIONS = 32
_WARM_SECONDS = 1.0
_WARM_STREAMS = 20
_WARM_STREAM_SECONDS = 0.5
_STREAMS = 200
_OPEN_STREAMS = (200, 1000)
# Many streams are then as much work in a second as few: only what is open differs.
_EVENTS_PER_SECOND = 10_000
_MEMORY_SECONDS = 2.0
_MIB = 1024 * 1024
_TRANSFER_BYTES = 256 * _MIB


@define(eq=False, kw_only=True)
class Subject:
    """
    A program that is up; without a process it is the direct way to the upstream.
    """

    place: Place
    process: Program | None
    upstream: Program
    scratch: Path

    def read(self) -> Reading:
        """What it has used up to now: nothing, where there is no process."""
        if self.process is None:
            return Reading(cpu_us=0, pss_kib=0, own_kib=0)
        return reading(self.process.pid)

    def warm(self) -> None:
        """Let it open its connections and fill its caches, as it would have after some real work."""
        closed_loop(self.place, connections=_CONNECTIONS, seconds=_WARM_SECONDS, scratch=self.scratch)
        self.stream(_WARM_STREAMS, at_once=True, seconds=_WARM_STREAM_SECONDS)

    def stream(self, count: int, *, at_once: bool, seconds: float) -> Streamed:
        """A wave of streams through it."""
        wave = Wave(
            count=count,
            at_once=at_once,
            interval_ms=1000 * count / _EVENTS_PER_SECOND,
            seconds=seconds,
        )
        return streamed(self.place, wave, read=self.read, end=lambda: self.upstream.signal(signal.SIGUSR1))


Section = Callable[[Subject, float], Mapping[str, float]]


def requests(subject: Subject, seconds: float) -> Mapping[str, float]:
    """
    The closed loop: many connections for the cost of a request, one for its latency.
    """
    before = subject.read()
    many = closed_loop(
        subject.place,
        connections=_CONNECTIONS,
        seconds=seconds,
        scratch=subject.scratch,
    )
    after = subject.read()
    one = closed_loop(subject.place, connections=1, seconds=seconds, scratch=subject.scratch)
    figures = {
        "requests_per_second": many.per_second,
        "latency_p50_ms": one.p50_ms,
        "latency_p99_ms": one.p99_ms,
    }
    if subject.process is not None:
        figures["cpu_us_per_request"] = (after.cpu_us - before.cpu_us) / many.requests
    return figures


def streams(subject: Subject, seconds: float) -> Mapping[str, float]:
    """
    All streams start in the same moment; then each event is timed.
    """
    seen = subject.stream(_STREAMS, at_once=True, seconds=seconds)
    figures = {
        "first_p50_ms": percentile(seen.first_ms, 50),
        "first_p99_ms": percentile(seen.first_ms, 99),
        "delay_p50_ms": percentile(seen.delay_ms, 50),
        "delay_p99_ms": percentile(seen.delay_ms, 99),
    }
    if subject.process is not None:
        figures["cpu_us_per_event"] = (seen.after.cpu_us - seen.before.cpu_us) / seen.events
    return figures


def transfer(subject: Subject, seconds: float) -> Mapping[str, float]:
    """
    A big body each way. Its size and not its time is fixed.
    """
    del seconds
    figures: dict[str, float] = {}
    for name, move in (("download", downloaded), ("upload", uploaded)):
        begun = reset_peak(subject.process.pid) if subject.process is not None else 0
        before = subject.read()
        took = move(subject.place, _TRANSFER_BYTES)
        after = subject.read()
        figures[f"{name}_mb_per_second"] = _TRANSFER_BYTES / 1e6 / took
        if subject.process is not None:
            figures[f"{name}_cpu_ms"] = (after.cpu_us - before.cpu_us) / 1000
            figures[f"{name}_growth_mib"] = (peak_kib(subject.process.pid) - begun) / 1024
    return figures


def memory(subject: Subject, seconds: float) -> Mapping[str, float]:
    """
    Idle after some work, then with few and with many streams open.
    """
    del seconds
    if subject.process is None:
        return {}
    idle = subject.read()
    figures = {"idle_mib": idle.pss_kib / 1024}
    for count in _OPEN_STREAMS:
        seen = subject.stream(count, at_once=False, seconds=_MEMORY_SECONDS)
        # Against the first idle: what an earlier wave left behind counts.
        figures[f"stream_kib_{count}"] = (seen.after.own_kib - idle.own_kib) / count
    return figures


SECTIONS: Mapping[str, Section] = {
    "memory": memory,
    "requests": requests,
    "streams": streams,
    "transfer": transfer,
}
