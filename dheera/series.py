"""
Calls that are counted together, since they have the same labels. Labels are bounded, whatever callers make up.

No Twisted and no I/O, but the files in which prometheus_client keeps what several workers count.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import TypeAlias

from attrs import define, field
from prometheus_client import Counter, Histogram

from dheera.money import NANO
from dheera.records import Outcome, Record

OTHER = "other"
MOST_NAMES = 1000
"""
Of models, of keys, and of teams, that are told apart.
"""
MOST_SERIES = 10_000
"""
Of calls with different labels.
"""

Labels: TypeAlias = tuple[str, str, str, str, int | None, Outcome]
"""
Endpoint, model, key, team, status, outcome.
"""


MICRO = 1_000_000


@define(eq=False)
class Spread:
    """
    Times as a histogram counts them. They are added up here, and reach prometheus_client with the next `flush`: its
    own `observe` takes ten calls of functions, and an exchange has three times to tell.
    """

    _histogram: Histogram
    _bounds: Sequence[float] = field(init=False)
    _counts: list[int] = field(init=False)
    _sum: float = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        # It has no other way to take many at once. Whole numbers are compared with whole numbers in half the time.
        bounds = [bound * MICRO for bound in self._histogram._upper_bounds]  # noqa: SLF001 - see above
        self._bounds = [round(bound) if bound < inf else inf for bound in bounds]
        self._counts = [0] * len(self._bounds)

    def add(self, microseconds: Sequence[float]) -> None:
        """
        Count these.
        """
        ordered = sorted(microseconds)  # 300 instructions for each, to look among the bounds for each takes 1,150
        counted = 0
        for place, bound in enumerate(self._bounds):
            end = bisect_right(ordered, bound, counted)
            self._counts[place] += end - counted
            counted = end
        self._sum += sum(microseconds)

    def flush(self) -> None:
        """
        Let prometheus_client have what was added up.
        """
        counts, self._counts = self._counts, [0] * len(self._bounds)
        if any(counts):
            for bucket, count in zip(self._histogram._buckets, counts, strict=True):  # noqa: SLF001 - see above
                if count:
                    bucket.inc(count)
            self._histogram._sum.inc(self._sum / MICRO)  # noqa: SLF001 - see above
            self._sum = 0


@define(eq=False, kw_only=True)
class Series:
    """
    What is counted of calls that have the same labels. Whole numbers are added up here, and reach prometheus_client
    with the next `flush`: that takes a microsecond for each, and a call has nine.

    :param duration: shared, as the three after it, with those who differ in other labels only.
    """

    _counters: Mapping[str, Counter]
    _duration: Spread
    _first_byte: Spread
    _gap: Spread
    _per_token: Spread
    requests: int = 0
    unpriced: int = 0
    estimated: int = 0
    cost: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    def add(self, records: Sequence[Record]) -> None:
        """
        Count *records*.
        """
        self.requests += len(records)
        self.bytes_up += sum([each.request_bytes or 0 for each in records])
        self.bytes_down += sum([each.response_bytes for each in records])
        self._duration.add([each.duration_us for each in records])
        self._first_byte.add([each.first_byte_us for each in records if each.first_byte_us is not None])
        costs = [each.cost_nano_usd for each in records if each.cost_nano_usd is not None]
        self.unpriced += len(records) - len(costs)
        self.cost += sum(costs)
        self.estimated += sum([each.estimated for each in records])
        usages = [each.usage for each in records if each.usage is not None]
        self.prompt += sum([usage.prompt_tokens for usage in usages])
        self.cached += sum([usage.cached_tokens for usage in usages])
        self.completion += sum([usage.completion_tokens for usage in usages])
        streams = [each for each in records if each.is_stream]
        if streams:
            self._gap.add([each.longest_gap_us for each in streams if each.longest_gap_us is not None])
            self._per_token.add([each for stream in streams if (each := _per_token(stream)) is not None])

    def flush(self) -> None:
        """
        Let prometheus_client have what was added up.
        """
        for name, counter in self._counters.items():
            if amount := getattr(self, name):
                counter.inc(amount / NANO if name == "cost" else amount)
                setattr(self, name, 0)
        for spread in (self._duration, self._first_byte, self._gap, self._per_token):
            spread.flush()


def _per_token(stream: Record) -> float | None:
    """
    Microseconds for each token of *stream* after its first byte, where they were told.
    """
    usage, first = stream.usage, stream.first_byte_us
    if stream.estimated or usage is None or first is None or usage.completion_tokens <= 0:
        return None
    return (stream.duration_us - first) / usage.completion_tokens


def alike(records: Iterable[Record]) -> Mapping[Labels, Sequence[Record]]:
    """
    *records* by their labels, which nobody has bounded yet.
    """
    groups: dict[Labels, list[Record]] = {}
    for record in records:
        team = record.team_alias or record.team_id or ""
        model = record.answered_model or record.model or ""
        spelled = (record.endpoint, model, record.key_alias, team, record.status, record.outcome)
        group = groups.get(spelled)
        if group is None:
            groups[spelled] = [record]
        else:
            group.append(record)
    return groups


@define(eq=False)
class _Names:
    """
    Label values of which there are not too many.
    """

    _known: set[str] = field(factory=set)

    def bounded(self, name: str) -> str:
        if name in self._known or not name:
            return name
        if len(self._known) >= MOST_NAMES:
            return OTHER
        self._known.add(name)
        return name


@define(eq=False)
class Sorting:
    """
    Finds the series of calls by their labels.

    :param is_known: whether a model has a price.
    :param make: a series with these labels.
    """

    _is_known: Callable[[str], bool]
    _make: Callable[[Labels], Series]
    _models: _Names = field(factory=_Names, init=False)
    _keys: _Names = field(factory=_Names, init=False)
    _teams: _Names = field(factory=_Names, init=False)
    _series: dict[Labels, Series] = field(factory=dict, init=False)
    _spelled: dict[Labels, Series] = field(factory=dict, init=False)
    _unflushed: list[Series] = field(factory=list, init=False)

    def find(self, spelled: Labels) -> Series:
        """
        The series of calls with these labels, which may begin with them, and to which they are added then.
        """
        found = self._spelled.get(spelled)
        if found is None:
            if len(self._spelled) >= MOST_SERIES:
                self._spelled.clear()  # names that nobody bounds must not fill the memory
            found = self._spelled[spelled] = self._bounded(spelled)
        if not found.requests:
            # A look at each of 10,000 series would keep the reactor for 10 ms, every five seconds.
            self._unflushed.append(found)
        return found

    def flush(self) -> None:
        """
        Let prometheus_client have what was added up in those that were found since the last time.
        """
        while self._unflushed:
            self._unflushed[-1].flush()  # one that cannot be is tried again
            self._unflushed.pop()

    def _bounded(self, spelled: Labels) -> Series:
        endpoint, named, alias, group, status, outcome = spelled
        model = self._models.bounded(named) if not named or self._is_known(named) else OTHER
        labels: Labels = (endpoint, model, self._keys.bounded(alias), self._teams.bounded(group), status, outcome)
        if labels not in self._series and len(self._series) >= MOST_SERIES:
            labels = (endpoint, OTHER, OTHER, OTHER, status, outcome)
        if labels not in self._series:
            self._series[labels] = self._make(labels)
        return self._series[labels]
