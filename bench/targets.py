"""
What was wanted of dheera with everything on, and whether it was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen

from bench.document import PLAIN, SUBJECT, TLS, YARDSTICK, Document
from bench.figures import ratio

Seen = Callable[[Document], float | None]


@frozen
class Target:
    """
    One line: what it is of, its bound, and how it is read from what was measured.

    :param at_least: whether more is better.
    """

    title: str
    bound: float
    unit: str
    seen: Seen
    at_least: bool = False

    def row(self, document: Document) -> list[str] | None:
        """What is wanted, what is seen, and whether that is enough; None if it was not measured."""
        seen = self.seen(document)
        if seen is None:
            return None
        met = seen >= self.bound if self.at_least else seen <= self.bound
        wanted = f"{'at least' if self.at_least else 'at most'} {self.bound:g} {self.unit}"
        return [self.title, wanted, f"{seen:.2f} {self.unit}", "yes" if met else "**missed**"]


def _figure(key: str, mode: str = PLAIN) -> Seen:
    def seen(document: Document) -> float | None:
        summary = document.figure(mode, SUBJECT, key)
        return None if summary is None else summary.median

    return seen


def _beside(other: str, key: str, mode: str = PLAIN) -> Seen:
    return lambda document: ratio(document.figure(mode, SUBJECT, key), document.figure(mode, other, key))


def _gain_of_workers(document: Document) -> float | None:
    # Two cores have also the load to carry here. What two workers could do with two of their own follows from what
    # a request costs each of them, as long as none waits for the other.
    costs = ratio(
        document.figure(PLAIN, "dheera-spread", "cpu_us_per_request"),
        document.figure(PLAIN, "dheera-2-workers", "cpu_us_per_request"),
    )
    return None if costs is None else 2 * costs


_TIMES = "times nginx's"

TARGETS: Sequence[Target] = (
    Target("CPU per request", 8, _TIMES, _beside(YARDSTICK, "cpu_us_per_request")),
    Target("CPU per SSE event", 1.6, _TIMES, _beside(YARDSTICK, "cpu_us_per_event")),
    Target("CPU per request, TLS to the upstream", 6, _TIMES, _beside(YARDSTICK, "cpu_us_per_request", TLS)),
    Target("CPU per SSE event, TLS to the upstream", 2.2, _TIMES, _beside(YARDSTICK, "cpu_us_per_event", TLS)),
    Target("CPU with a budget", 1.6, "times that without", _beside("dheera-sink", "cpu_us_per_request")),
    Target("latency added with one connection, p50", 0.5, "ms", _figure("added_p50_ms")),
    Target("memory per open stream, 1000 open", 20, "KiB", _figure("stream_kib_1000")),
    Target("the same, TLS to the upstream", 50, "KiB", _figure("stream_kib_1000", TLS)),
    Target("memory idle", 60, "MiB", _figure("idle_mib")),
    Target("memory growth while a 50 MB upload passes", 5, "MiB", _figure("upload_50mb_growth_mib")),
    Target("what two workers could serve of what one serves", 1.7, "times", _gain_of_workers, at_least=True),
)
