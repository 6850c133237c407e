"""
What is counted, for Prometheus: through prometheus_client, of all workers together where
``PROMETHEUS_MULTIPROC_DIR`` names a directory that they share.

Labels are bounded: `dheera.series` says how.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from attrs import frozen
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from twisted.logger import Logger

from dheera.errors import Refusal, UpstreamError
from dheera.records import Record
from dheera.series import Labels, Series, Sorting, Spread, alike
from dheera.workers import bury, shared_directory

log = Logger()

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LONG = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
_GAPS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
_WRITES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)

COUNTED_TOGETHER = 64
"""
Records: one by itself took 12,000 instructions, of the 340,000 of a call, and half of that so. They may hold bodies, so
there are no more.
"""


@frozen(kw_only=True)
class Level:
    """
    A value that goes up and down, as it is now.

    :param name: of one of `LEVELS`.
    :param labels: in their order there.
    """

    name: str
    labels: tuple[str, ...] = ()
    value: float


LEVELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "in_flight_requests": ("Calls that are under way", ()),
    "queued_requests": ("Calls that wait for their turn", ()),
    "client_connections": ("Connections of clients", ()),
    "upstream_connections": ("Connections to upstream", ("state",)),
    "upstream_key_resting": ("1 while one of several keys of an upstream rests", ("upstream", "upstream_key")),
    "spool_bytes": ("What the spool takes on the disk", ()),
    "spool_max_bytes": ("What it may take", ()),
    "spool_failing": ("1 while the spool cannot be written", ()),
    "spool_lag_bytes": ("What a reader of the spool has not read", ("reader",)),
    "spool_lag_seconds": ("Age of the oldest line that a reader of the spool has not read", ("reader",)),
    "spool_dropped_lines": ("Lines that a reader of the spool will never read", ("reader",)),
    "sink_away": ("1 while a sink does not take records", ("sink",)),
    "sink_sent_records": ("Records that a sink has taken", ("sink",)),
    "sink_refused_records": ("Records that a sink will never take", ("sink",)),
    "sink_retries": ("Batches that were sent again", ("sink",)),
    "store_away": ("1 while the database does not answer", ()),
}
"""
What the name of each level means, and its labels.
"""
GROWING = frozenset({"spool_dropped_lines", "sink_sent_records", "sink_refused_records", "sink_retries"})
"""
Levels that only grow while a process lives. They are counters: what a worker has added stays when it goes.
"""
WORST = frozenset({"spool_failing", "spool_lag_seconds", "sink_away", "store_away", "upstream_key_resting"})
"""
Levels of which the largest of all workers is shown, and not the sum.
"""


class Metrics:
    """
    Counts.

    :param is_known: whether a model has a price.
    :param levels: asked for what goes up and down.
    :raises ConfigurationError: workers shall share a directory, and it cannot be used.
    """

    def __init__(self, is_known: Callable[[str], bool], levels: Callable[[], Iterable[Level]] = tuple) -> None:
        self.in_flight = 0
        self._levels = levels
        self._uncounted: list[Record] = []
        self._sorting = Sorting(is_known, self._make)
        self._grown: dict[tuple[str, ...], float] = {}
        self._shown: set[tuple[str, ...]] = set()
        self._spreads: dict[tuple[str, ...], Spread] = {}
        self._registry = registry = CollectorRegistry()
        self._directory = shared_directory()
        if self._directory is not None:
            bury(self._directory, os.getpid())  # of one who had the same number, as the first in a container has
        # They would be a second series for each, in a format that has no use for it.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types there

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"dheera_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"dheera_{name}", text, labels, buckets=buckets, registry=registry)

        who = ("endpoint", "model", "key", "team")
        self._requests = counter("requests", "Calls that are over", *who, "status", "outcome")
        self._unpriced = counter("unpriced_requests", "Calls for which there is no price", "endpoint", "model")
        self._estimated = counter("estimated_requests", "Calls whose use was estimated", "endpoint", "model")
        self._cost = counter("cost_usd", "US dollars", "model", "key", "team")
        self._tokens = counter("tokens", "Tokens; those of the prompt include cached ones", *who[1:], "kind")
        self._bytes = counter("bytes", "Bytes of bodies", "endpoint", "direction")
        self._refusals = counter("refusals", "Calls that dheera answered itself", "reason")
        self._upstream_errors = counter("upstream_errors", "Calls that upstream failed", "reason")
        self._retries = counter("upstream_retries", "Times that calls were sent again", "upstream", "reason")
        at = ("endpoint", "model")
        self._duration = histogram("request_duration_seconds", "From head to end", *at, buckets=_LONG)
        self._first_byte = histogram("first_byte_seconds", "From the request to upstream's head", *at, buckets=_LONG)
        overhead = histogram("overhead_seconds", "Of that, what dheera took", buckets=_SHORT)
        self._overhead = Spread(overhead)
        self._gap = histogram("longest_gap_seconds", "Longest silence within a stream", *at, buckets=_GAPS)
        self._per_token = histogram(
            "time_per_output_token_seconds", "Time after the first byte, by token", *at, buckets=_PER_TOKEN
        )
        self._store = histogram("store_seconds", "One transaction of the database", "work", buckets=_WRITES)
        self._gauges = {
            name: Gauge(
                f"dheera_{name}",
                text,
                labels,
                registry=registry,
                multiprocess_mode="livemax" if name in WORST else "livesum",
            )
            for name, (text, labels) in LEVELS.items()
            if name not in GROWING
        }
        self._growing = {name: counter(name, LEVELS[name][0], *LEVELS[name][1]) for name in LEVELS if name in GROWING}

    def began(self) -> None:
        """
        An exchange is under way.
        """
        self.in_flight += 1

    def ended(self, record: Record | None) -> None:
        """
        It is over.
        """
        self.in_flight -= 1
        if record is not None:
            self._uncounted.append(record)
            if len(self._uncounted) >= COUNTED_TOGETHER:
                self._count()

    def refused(self, refusal: Refusal) -> None:
        """
        Dheera answered in place of upstream, or upstream failed.
        """
        counter = self._upstream_errors if isinstance(refusal, UpstreamError) else self._refusals
        counter.labels(type(refusal).__name__).inc()

    def store_took(self, work: str, seconds: float) -> None:
        """
        The database was asked, and has answered, or not.

        :param work: ``look-up``, ``search``, ``write`` or ``turn``.
        """
        self._store.labels(work).observe(seconds)

    def refresh(self) -> None:
        """
        Take what was counted since, and the levels as they are now.
        """
        self._flush()
        self._gauges["in_flight_requests"].set(self.in_flight)
        gone, self._shown = self._shown, set()
        for level in self._levels():
            if level.name in GROWING:
                self._grow(level)
                continue
            self._show(level)
            self._shown.add((level.name, *level.labels))
        for name, *labels in gone - self._shown:  # a sink or a key that a reload has left out
            self._show(Level(name=name, labels=tuple(labels), value=0))

    def close(self) -> None:
        """
        This worker goes. Others that share its directory show what it has counted, and its levels no more.
        """
        self._flush()
        if self._directory is not None:
            bury(self._directory, os.getpid())

    def text(self) -> bytes:
        """
        All of it, in Prometheus's text format.
        """
        self.refresh()
        if self._directory is None:
            return generate_latest(self._registry)
        bury(self._directory)
        together = CollectorRegistry()
        MultiProcessCollector(together, str(self._directory))  # type: ignore[no-untyped-call]  # the library has no types there
        return generate_latest(together)

    def _count(self) -> None:
        """
        Those that cannot be counted are lost, and told in the log: neither the others nor the call that happened to be
        the last one have to do with it.
        """
        records, self._uncounted = self._uncounted, []
        for labels, those in alike(records).items():
            try:
                self._sorting.find(labels).add(those)
            except Exception:  # noqa: BLE001 - see above
                log.failure("Bug: {count} calls cannot be counted", count=len(those))
        self._overhead.add([each.overhead_us for each in records if each.overhead_us is not None])
        for record in [each for each in records if each.tries]:
            try:
                for each in record.tries[: record.attempts - 1]:  # after the last one its client may have left
                    self._retries.labels(record.upstream, each.error or str(each.status)).inc()
            except Exception:  # noqa: BLE001 - see above
                log.failure("Bug: it cannot be counted that call {call_id} was sent again", call_id=record.call_id)

    def _flush(self) -> None:
        self._count()
        self._sorting.flush()
        self._overhead.flush()

    def _show(self, level: Level) -> None:
        gauge = self._gauges[level.name]
        (gauge.labels(*level.labels) if level.labels else gauge).set(level.value)

    def _grow(self, level: Level) -> None:
        which = (level.name, *level.labels)
        more = level.value - self._grown.get(which, 0)
        self._growing[level.name].labels(*level.labels).inc(max(more, 0))
        self._grown[which] = level.value

    def _make(self, labels: Labels) -> Series:
        endpoint, model, key, team, status, outcome = labels
        at, whose = (endpoint, model), (model, key, team)
        answered = "none" if status is None else str(status)
        return Series(
            counters={
                "requests": self._requests.labels(endpoint, *whose, answered, outcome),
                "unpriced": self._unpriced.labels(*at),
                "estimated": self._estimated.labels(*at),
                "cost": self._cost.labels(*whose),
                "prompt": self._tokens.labels(*whose, "prompt"),
                "cached": self._tokens.labels(*whose, "cached"),
                "completion": self._tokens.labels(*whose, "completion"),
                "bytes_up": self._bytes.labels(endpoint, "up"),
                "bytes_down": self._bytes.labels(endpoint, "down"),
            },
            duration=self._spread("duration", self._duration, at),
            first_byte=self._spread("first_byte", self._first_byte, at),
            gap=self._spread("gap", self._gap, at),
            per_token=self._spread("per_token", self._per_token, at),
        )

    def _spread(self, name: str, histogram: Histogram, at: tuple[str, str]) -> Spread:
        found = self._spreads.get((name, *at))
        if found is None:
            found = self._spreads[name, *at] = Spread(histogram.labels(*at))
        return found
