"""
The rows by which allowances are counted, laid out to be reckoned with. No Twisted, no I/O: a store sees to it that the
rows which concern somebody are on the sheet, that nobody else reckons with them meanwhile, and that what has changed is
kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time_ns
from typing import TypeAlias

from attrs import define, field
from msgspec import Struct

from dheera.holding import RATE_US, SLICE_US, Allowance, Share

RATES = frozenset({"requests", "tokens"})
"""
The kinds that are counted in slices.
"""
COUNTED_US = RATE_US + SLICE_US
"""
From its beginning on, a slice counts for so long.
"""

Clock: TypeAlias = Callable[[], int]
"""
Tells microseconds since the epoch.
"""


def machine_clock() -> int:
    """
    The clock of this machine.
    """
    return time_ns() // 1000


class Count(Struct, kw_only=True, gc=False, array_like=True):
    """
    How much of an allowance is taken in one window: of a budget, of a slice of a rate, or of all times.

    :param ends_us: when it counts no longer; 0: it does for ever.
    :param cap: when it was last claimed.
    :param told: that calls are refused since it is spent, if it is a budget.
    """

    allowance: Allowance
    starts_us: int
    ends_us: int
    used: int = 0
    held: int = 0
    cap: int = 0
    soft: int | None = None
    told: bool = False


class Hold(Struct, kw_only=True, gc=False, array_like=True):
    """
    What one call has of one allowance: of its `Count` it is in *held*, and in *used* when it is expired.

    :param starts_us: of the count.
    :param released: the call is over, and *amount* is its cost; of a lease, what of it was not paid yet.
    :param paid: of a lease: what calls have cost that are in the ledger.
    """

    call_id: str
    allowance: Allowance
    starts_us: int
    amount: int
    owner: str
    deadline_us: int
    released: bool = False
    expired: bool = False
    paid: int = 0


@define(eq=False)
class Window:
    """
    What counts for one allowance now.

    :param place: where what is taken now is counted; the latest of *counts*.
    :param counts: the oldest first.
    """

    place: Count
    counts: Sequence[Count]
    taken: int = field(init=False)
    held: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.held = sum(count.held for count in self.counts)
        self.taken = self.held + sum(count.used for count in self.counts)


@define(eq=False)
class Sheet:
    """
    The rows that are reckoned with, and which of them have changed.

    :param seed: what was spent already in the window of a budget that is claimed for the first time.
    :ivar changed: counts, each with what was used before.
    :ivar held: holds that are new, or have changed.
    :ivar ended: holds that are no more.
    """

    counts: dict[Allowance, dict[int, Count]]
    holds: dict[str, dict[Allowance, Hold]]
    seed: Callable[[Share], int] = lambda _: 0
    changed: dict[int, tuple[Count, int]] = field(init=False, factory=dict)
    held: dict[int, Hold] = field(init=False, factory=dict)
    ended: dict[int, Hold] = field(init=False, factory=dict)
    _windows: dict[tuple[Allowance, int], Window] = field(init=False, factory=dict)

    def change(self, count: Count, *, used: int = 0, held: int = 0) -> None:
        """
        Add to what is taken; below 0 it does not go.
        """
        if id(count) not in self.changed:
            self.changed[id(count)] = (count, count.used)
        if used:
            count.used = max(0, count.used + used)
        if held:
            count.held = max(0, count.held + held)

    def note(self, hold: Hold) -> None:
        """
        This hold is new, or has changed.
        """
        self.holds.setdefault(hold.call_id, {})[hold.allowance] = hold
        self.held[id(hold)] = hold

    def end(self, hold: Hold) -> None:
        """
        There is no such hold any more.
        """
        of_call = self.holds[hold.call_id]
        del of_call[hold.allowance]
        if not of_call:
            del self.holds[hold.call_id]
        self.held.pop(id(hold), None)
        self.ended[id(hold)] = hold

    def window(self, share: Share, now: int) -> Window:
        """
        What counts for *share*. Who takes of it changes the window too; nobody else may, once it was asked for.
        """
        is_budget = share.allowance.kind == "usd"
        name = share.allowance, share.starts_us if is_budget else 0
        window = self._windows.get(name)
        if window is None:
            window = self._windows[name] = self._open(share, now, is_budget=is_budget)
        place = window.place
        # What is taken of other kinds is soon forgotten: that a cap is another can wait until something is.
        if is_budget and (place.cap != share.cap or place.soft != share.soft or place.ends_us != share.ends_us):
            self.change(place)
            place.cap, place.soft, place.ends_us = share.cap, share.soft, share.ends_us
        return window

    def _open(self, share: Share, now: int, *, is_budget: bool) -> Window:
        allowance = share.allowance
        is_rate = allowance.kind in RATES
        starts = ends = 0
        if is_budget:
            starts, ends = share.starts_us, share.ends_us
        elif is_rate:
            starts = now - now % SLICE_US
            ends = starts + COUNTED_US
        counts = self.counts.setdefault(allowance, {})
        place = counts.get(starts)
        if place is None:
            place = counts[starts] = Count(allowance=allowance, starts_us=starts, ends_us=ends)
            if is_budget:
                place.used = self.seed(share)
                self.change(place)
        if not is_rate:
            return Window(place, [place])
        return Window(place, [counts[each] for each in sorted(counts) if now - COUNTED_US < each <= now])
