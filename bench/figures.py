"""
The figures that there are: how each is called, shown, and gathered over rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from attrs import frozen

USUAL_CONNECTIONS = 32
CONNECTIONS = (1, 8, USUAL_CONNECTIONS, 128, 256)
STREAMS = (200, 1000)
COMMON_PER_SECOND = 500


@frozen
class Figure:
    """
    One column: its key in JSON, its title, and the digits worth showing.
    """

    key: str
    title: str
    digits: int


@frozen
class Table:
    """
    Figures that are shown together.
    """

    title: str
    figures: Sequence[Figure]


CPU_PER_REQUEST = Figure("cpu_us_per_request", "CPU us/request", 1)
CPU_PER_EVENT = Figure("cpu_us_per_event", "CPU us/SSE event", 1)
IDLE = Figure("idle_mib", "idle MiB", 1)

TABLES: Sequence[Table] = (
    Table(
        "Requests, closed loop",
        (
            CPU_PER_REQUEST,
            Figure(f"requests_per_second_{USUAL_CONNECTIONS}", f"requests/s, {USUAL_CONNECTIONS} connections", 0),
            Figure("latency_p50_ms", "1 connection p50 ms", 3),
            Figure("latency_p99_ms", "p99 ms", 3),
            Figure("added_p50_ms", "added p50 ms", 3),
            Figure("added_p99_ms", "added p99 ms", 3),
        ),
    ),
    Table(
        "Requests a second by connections",
        tuple(Figure(f"requests_per_second_{count}", str(count), 0) for count in CONNECTIONS),
    ),
    Table(
        "Requests, open loop (ms since each was due)",
        (
            Figure("open_common_p50_ms", f"{COMMON_PER_SECOND}/s p50", 2),
            Figure("open_common_p99_ms", "p99", 2),
            Figure("open_half_per_second", "half of what it can do /s", 0),
            Figure("open_half_p50_ms", "p50", 2),
            Figure("open_half_p99_ms", "p99", 2),
        ),
    ),
    Table(
        "Streams",
        (
            CPU_PER_EVENT,
            *(
                Figure(f"{key}_{count}", f"{count}: {title}", digits)
                for count in STREAMS
                for key, title, digits in (
                    ("first_p50_ms", "first byte p50 ms", 1),
                    ("first_p99_ms", "p99", 1),
                    ("delay_p50_ms", "event delay p50 ms", 3),
                    ("delay_p99_ms", "p99", 2),
                )
            ),
        ),
    ),
    Table(
        "Memory",
        (IDLE, *(Figure(f"stream_kib_{count}", f"KiB/stream, {count} open", 1) for count in STREAMS)),
    ),
    Table(
        "Bodies",
        (
            Figure("question_1mb_ms", "1 MB question ms", 1),
            Figure("question_1mb_cpu_ms", "CPU ms", 1),
            Figure("answer_1mb_ms", "1 MB answer ms", 1),
            Figure("answer_1mb_cpu_ms", "CPU ms", 1),
            Figure("upload_50mb_mb_per_second", "50 MB up MB/s", 0),
            Figure("upload_50mb_cpu_ms", "CPU ms", 0),
            Figure("upload_50mb_growth_mib", "grows MiB", 1),
            Figure("download_50mb_mb_per_second", "50 MB down MB/s", 0),
            Figure("download_50mb_cpu_ms", "CPU ms", 0),
            Figure("download_50mb_growth_mib", "grows MiB", 1),
        ),
    ),
)


@frozen
class Summary:
    """
    One figure of one program over all rounds.
    """

    rounds: Sequence[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.rounds)

    def cell(self, digits: int) -> str:
        """The median, and the range when there was more than one round."""
        text = f"{self.median:.{digits}f}"
        if len(self.rounds) > 1:
            text += f" ({min(self.rounds):.{digits}f}-{max(self.rounds):.{digits}f})"
        return text


Programs = Mapping[str, Mapping[str, Summary]]
"""
Each program's figures, by their keys.
"""


def ratio(one: Summary | None, other: Summary | None) -> float | None:
    """
    How many times the other; None where one is unknown or the other is not positive.

    Where both were there in each round it is the middle of what the rounds say: a machine that is slower for a while is
    so for both.
    """
    if one is None or other is None or other.median <= 0:
        return None
    if len(one.rounds) == len(other.rounds) and min(other.rounds) > 0:
        return statistics.median(mine / its for mine, its in zip(one.rounds, other.rounds, strict=True))
    return one.median / other.median
