"""
A program that is up, and what the sections do with it.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

from attrs import define

from bench.kernel import Reading, reading
from bench.load import ClosedLoop, Place, closed_loop
from bench.programs import Program
from bench.streams import Streamed, Wave, streamed

_WARM_CONNECTIONS = 32
_WARM_SECONDS = 1.0
_WARM_STREAMS = 20
_WARM_STREAM_SECONDS = 0.5
# Many streams are then as much work in a second as few: only what is open differs.
_EVENTS_PER_SECOND = 10_000
_SLOW_SECONDS = 4.0  # with fewer, a slow one might give no answer at all
_REST_SECONDS = 5.0
_REST_PROBE_SECONDS = 0.1
_REST_CPU_US = 5_000.0


@define(eq=False, kw_only=True)
class Subject:
    """
    A program that is up; without a process it is the direct way to the upstream.

    :param pace: the part of the usual events a second that its streams get.
    """

    place: Place
    process: Program | None
    upstream: Program
    scratch: Path
    pace: float = 1.0

    def read(self) -> Reading:
        """What it has used up to now: nothing, where there is no process."""
        if self.process is None:
            return Reading(cpu_us=0, pss_kib=0, own_kib=0)
        return reading(self.process.pid)

    def warm(self) -> None:
        """Let it open its connections and fill its caches, as it would have after some real work."""
        self.stream(_WARM_STREAMS, at_once=True, seconds=_WARM_STREAM_SECONDS)
        self.closed(_WARM_CONNECTIONS, _WARM_SECONDS)

    def rest(self) -> None:
        """Wait until it has done what is left of earlier work, as requests whose clients are gone."""
        deadline = time.monotonic() + _REST_SECONDS
        before = self.read().cpu_us
        while time.monotonic() < deadline:
            time.sleep(_REST_PROBE_SECONDS)
            now = self.read().cpu_us
            if now - before < _REST_CPU_US:
                return
            before = now

    def closed(self, connections: int, seconds: float) -> ClosedLoop:
        """Completions, one after the other on each connection."""
        lasting = seconds if self.pace == 1 else max(seconds, _SLOW_SECONDS)
        return closed_loop(self.place, connections=connections, seconds=lasting, scratch=self.scratch)

    def stream(self, count: int, *, at_once: bool, seconds: float) -> Streamed:
        """A wave of streams through it."""
        wave = Wave(
            count=count,
            at_once=at_once,
            interval_ms=1000 * count / (_EVENTS_PER_SECOND * self.pace),
            seconds=seconds,
        )
        return streamed(self.place, wave, read=self.read, end=lambda: self.upstream.signal(signal.SIGUSR1))
