"""
What is measured of one program: each section gives figures by their keys, as soon as it has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bench.arrivals import open_loop
from bench.figures import COMMON_PER_SECOND, CONNECTIONS, STREAMS, USUAL_CONNECTIONS
from bench.kernel import peak_kib, reset_peak
from bench.percentiles import percentile
from bench.subject import Subject
from bench.transfers import answered, asked, downloaded, uploaded

Figures = Mapping[str, float]
Section = Callable[[Subject, float], Iterator[Figures]]

# More than one loader of ours can send on half a core.
_MOST_PER_SECOND = 4000
_FEWEST_OPEN = 200  # requests: with less there is no p99
_MOST_SECONDS = 10.0
_CAPACITY_SECONDS = 1.0
_MEMORY_SECONDS = 2.0
_MIB = 1024 * 1024
_MEGABYTE = 1_000_000
_COMPLETIONS = 5


def requests(subject: Subject, seconds: float) -> Iterator[Figures]:
    """
    The closed loop: what a request costs, how many there can be, how long one alone takes.
    """
    # First as it was warmed: what is left of before the window is as much as what is left at its end.
    before = subject.read()
    usual = subject.closed(USUAL_CONNECTIONS, seconds)
    after = subject.read()
    yield {f"requests_per_second_{USUAL_CONNECTIONS}": usual.per_second}
    if subject.process is not None:
        yield {"cpu_us_per_request": (after.cpu_us - before.cpu_us) / usual.requests}
    for connections in CONNECTIONS:
        if connections != USUAL_CONNECTIONS:
            subject.rest()
            # Each connection of a slow one has its turn, twice.
            turns = 2 * connections / usual.per_second
            seen = subject.closed(connections, min(max(seconds, turns), _MOST_SECONDS))
            yield {f"requests_per_second_{connections}": seen.per_second}
            if connections == 1:
                yield {"latency_p50_ms": seen.p50_ms, "latency_p99_ms": seen.p99_ms}


def arrivals(subject: Subject, seconds: float) -> Iterator[Figures]:
    """
    The open loop: at half of what it can do, and at one rate for all that can do more.
    """
    capacity = subject.closed(USUAL_CONNECTIONS, _CAPACITY_SECONDS).per_second
    rates = {"half": min(capacity / 2, _MOST_PER_SECOND)}
    if capacity > COMMON_PER_SECOND:
        rates["common"] = COMMON_PER_SECOND
    for name, rate in rates.items():
        subject.rest()
        lasting = min(max(seconds, _FEWEST_OPEN / rate), _MOST_SECONDS)
        took_ms = open_loop(subject.place, per_second=rate, seconds=lasting).took_ms
        yield {
            f"open_{name}_per_second": rate,
            f"open_{name}_p50_ms": percentile(took_ms, 50),
            f"open_{name}_p99_ms": percentile(took_ms, 99),
        }


def streams(subject: Subject, seconds: float) -> Iterator[Figures]:
    """
    All streams start in the same moment; then each event is timed.
    """
    for count in STREAMS:
        subject.rest()
        seen = subject.stream(count, at_once=True, seconds=seconds)
        yield {
            f"first_p50_ms_{count}": percentile(seen.first_ms, 50),
            f"first_p99_ms_{count}": percentile(seen.first_ms, 99),
            f"delay_p50_ms_{count}": percentile(seen.delay_ms, 50),
            f"delay_p99_ms_{count}": percentile(seen.delay_ms, 99),
        }
        if subject.process is not None and count == STREAMS[0]:
            yield {"cpu_us_per_event": (seen.after.cpu_us - seen.before.cpu_us) / seen.events}


def bodies(subject: Subject, seconds: float) -> Iterator[Figures]:
    """
    Big bodies each way: completions of 1 MB, files of 50 MB. Their size and not their time is fixed.
    """
    del seconds
    for name, complete in (("question", asked), ("answer", answered)):
        subject.rest()
        before = subject.read()
        took = [complete(subject.place, _MEGABYTE) for _ in range(_COMPLETIONS)]
        after = subject.read()
        yield {f"{name}_1mb_ms": percentile(took, 50) * 1000}
        if subject.process is not None:
            yield {f"{name}_1mb_cpu_ms": (after.cpu_us - before.cpu_us) / 1000 / _COMPLETIONS}
    if subject.place.files_url is None:
        return
    for name, move in (("upload", uploaded), ("download", downloaded)):
        subject.rest()
        begun = reset_peak(subject.process.pid) if subject.process is not None else 0
        before = subject.read()
        seconds_taken = move(subject.place, 50 * _MEGABYTE)
        after = subject.read()
        yield {f"{name}_50mb_mb_per_second": 50 / seconds_taken}
        if subject.process is not None:
            yield {
                f"{name}_50mb_cpu_ms": (after.cpu_us - before.cpu_us) / 1000,
                f"{name}_50mb_growth_mib": (peak_kib(subject.process.pid) - begun) / 1024,
            }


def memory(subject: Subject, seconds: float) -> Iterator[Figures]:
    """
    Idle after some work, then with few and with many streams open.
    """
    del seconds
    if subject.process is None:
        return
    subject.rest()
    idle = subject.read()
    yield {"idle_mib": idle.pss_kib / 1024}
    for count in STREAMS:
        seen = subject.stream(count, at_once=False, seconds=_MEMORY_SECONDS)
        # Against the first idle: what an earlier wave left behind counts.
        yield {f"stream_kib_{count}": (seen.after.own_kib - idle.own_kib) / count}


SECTIONS: Mapping[str, Section] = {
    "memory": memory,
    "requests": requests,
    "arrivals": arrivals,
    "streams": streams,
    "bodies": bodies,
}
