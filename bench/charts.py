"""
Which charts there are, and what they show: a file for each, always of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from bench.document import DIRECT, PLAIN, SUBJECT, TLS, YARDSTICK, Document
from bench.figures import COMMON_PER_SECOND, CONNECTIONS, STREAMS, Summary, ratio
from bench.svg import Bar, Chart, Row, drawn

# What is in its own chart, in the order in which one thing is added to the one before.
PARTS = ("dheera-open", "dheera-key", "dheera-ledger", "dheera-sink", SUBJECT, "dheera-limits")
_PG = ("dheera-pg", "dheera-pg-limits")


@frozen
class Series:
    """
    One bar of each row: what it is called, and where its figure is.
    """

    name: str
    key: str
    mode: str = PLAIN


@frozen(kw_only=True)
class Plot:
    """
    One chart.

    :param of: the programs; empty: all that are other programs, and the subject.
    """

    file: str
    title: str
    series: Sequence[Series]
    digits: int
    of: Sequence[str] = ()
    compared: bool = False
    logarithmic: bool = True


PLOTS: Sequence[Plot] = (
    Plot(
        file="cpu-per-request.svg",
        title="CPU of one request (us), 32 connections",
        series=(Series("HTTP to the upstream", "cpu_us_per_request"), Series("TLS", "cpu_us_per_request", TLS)),
        digits=0,
        compared=True,
    ),
    Plot(
        file="cpu-per-event.svg",
        title="CPU of one SSE event (us), 200 streams",
        series=(Series("HTTP to the upstream", "cpu_us_per_event"), Series("TLS", "cpu_us_per_event", TLS)),
        digits=0,
        compared=True,
        logarithmic=False,
    ),
    Plot(
        file="requests-per-second.svg",
        title="Requests a second on one core",
        series=(
            Series("one connection", f"requests_per_second_{CONNECTIONS[0]}"),
            Series(f"{CONNECTIONS[-1]} connections", f"requests_per_second_{CONNECTIONS[-1]}"),
        ),
        digits=0,
    ),
    Plot(
        file="latency.svg",
        title=f"Latency (ms), {COMMON_PER_SECOND} requests a second whatever comes back",
        series=(Series("p50", "open_common_p50_ms"), Series("p99", "open_common_p99_ms")),
        digits=2,
    ),
    Plot(
        file="first-byte.svg",
        title="First byte (ms, p99), streams that all start at once",
        series=tuple(Series(f"{count} streams", f"first_p99_ms_{count}") for count in STREAMS),
        digits=0,
    ),
    Plot(
        file="event-delay.svg",
        title=f"Delay of an event (ms), {STREAMS[-1]} streams",
        series=(Series("p50", f"delay_p50_ms_{STREAMS[-1]}"), Series("p99", f"delay_p99_ms_{STREAMS[-1]}")),
        digits=1,
    ),
    Plot(
        file="memory-idle.svg",
        title="Memory when idle, after some work (MiB)",
        series=(Series("proportional set size", "idle_mib"),),
        digits=0,
        logarithmic=False,
    ),
    Plot(
        file="memory-per-stream.svg",
        title=f"Memory of one open stream (KiB), {STREAMS[-1]} open",
        series=(
            Series("HTTP to the upstream", f"stream_kib_{STREAMS[-1]}"),
            Series("TLS", f"stream_kib_{STREAMS[-1]}", TLS),
        ),
        digits=1,
        logarithmic=False,
    ),
    Plot(
        file="parts.svg",
        title="What each part adds to the CPU of a request (us)",
        series=(Series("each row has what the one above it has, and one thing more", "cpu_us_per_request"),),
        digits=0,
        of=(*PARTS, *_PG),
        compared=True,
        logarithmic=False,
    ),
)


def plotted(document: Document, plot: Plot) -> str | None:
    """
    One chart's file; None if nothing of it was measured.
    """
    names = plot.of or [name for name in document.programs() if not name.startswith(f"{SUBJECT}-") and name != DIRECT]
    series = [each for each in plot.series if any(document.figure(each.mode, name, each.key) for name in names)]
    rows = []
    for name in names:
        found = [document.figure(each.mode, name, each.key) for each in series]
        if any(found):
            bars = [_bar(document, plot, each, summary) for each, summary in zip(series, found, strict=True)]
            rows.append(Row(name, bars, ours=name == SUBJECT))
    if not rows:
        return None
    return drawn(
        Chart(title=plot.title, series=[each.name for each in series], rows=rows, logarithmic=plot.logarithmic)
    )


def _bar(document: Document, plot: Plot, series: Series, summary: Summary | None) -> Bar | None:
    if summary is None:
        return None
    text = f"{summary.median:,.{plot.digits}f}"
    if plot.compared:
        times = ratio(summary, document.figure(series.mode, YARDSTICK, series.key))
        text += f"  ({times:.1f} x {YARDSTICK})" if times is not None else ""
    return Bar(summary.median, min(summary.rounds), max(summary.rounds), text)


def write_plots(document: Document, folder: Path) -> Mapping[str, str]:
    """
    All charts that there are figures for: their files' names and titles.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for plot in PLOTS:
        text = plotted(document, plot)
        if text is not None:
            (folder / plot.file).write_text(text)
            written[plot.file] = plot.title
    return written
