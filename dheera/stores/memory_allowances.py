"""
Allowances in dictionaries: for the demo and for tests. They are gone when the process ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from attrs import Factory, define, field
from twisted.internet.defer import Deferred, fail, succeed

from dheera.entities import KINDS
from dheera.errors import StoreAway
from dheera.holding import Allowance, AllowanceStore, Grown, Paid, Share, Turn, Turned, Used, member_of
from dheera.money import Usd
from dheera.stores import reckoning
from dheera.stores.ledger_sums import COUNTERS, DAILY
from dheera.stores.reckoning import EXPIRED_US
from dheera.stores.seeds import Days, Spend, source_of
from dheera.stores.sheet import Clock, Count, Hold, Sheet, machine_clock
from dheera.stores.shelves import Shelves

Result = TypeVar("Result")

_COST = COUNTERS.index("cost")
_COLUMNS = list(DAILY.values())


@define(eq=False)
class MemoryAllowances:
    """
    Counts as long as the process lives.

    :param shelves: of the directory and the books that say what was spent before.
    """

    _shelves: Shelves = Factory(Shelves)
    _clock: Clock = field(default=machine_clock, kw_only=True)
    _counts: dict[Allowance, dict[int, Count]] = field(init=False, factory=dict)
    _holds: dict[str, dict[Allowance, Hold]] = field(init=False, factory=dict)
    _away: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._shelves.resets.append(self.reset)

    def fail(self) -> None:
        """
        Act as if there were a database and it were away. For tests and demonstrations.
        """
        self._away = True

    def recover(self) -> None:
        """
        Be back after `fail`.
        """
        self._away = False

    def turn(self, turn: Turn) -> Deferred[Turned]:
        """
        Extend, release, and claim.
        """
        return self._answer(lambda: self._turn(turn))

    def sweep(self) -> Deferred[int]:
        """
        End what is due, and forget what is over.
        """
        return self._answer(self._sweep)

    def forget(self, owners: Sequence[str]) -> Deferred[int]:
        """
        Give back what the dead hold.
        """
        return self._answer(lambda: reckoning.forget(self._sheet(), frozenset(owners)))

    def look(self, subjects: Sequence[str]) -> Deferred[Sequence[Used]]:
        """
        How all allowances of *subjects* stand.
        """
        return self._answer(lambda: self._look(frozenset(subjects)))

    def settle(self, paid: Sequence[Paid]) -> Sequence[Grown]:
        """
        What the books do with holds, within the transaction in which they keep records.
        """
        return reckoning.settle(self._sheet(), reckoning.begun(paid, self._clock()))

    def reset(self, subject: str, nano: int | None) -> None:
        """
        What *subject* has used of its budgets for all models is set anew, in their latest windows.

        :param nano: ``None``: it is no more, and all of it is forgotten.
        """
        if nano is None:
            self._remove(subject)
            return
        for allowance, windows in self._counts.items():
            if (allowance.subject, allowance.kind, allowance.model) == (subject, "usd", ""):
                count = windows[max(windows)]
                count.used, count.told = nano, False
                self._forget_expired(partial(_is_in, count))

    def _answer(self, make: Callable[[], Result]) -> Deferred[Result]:
        return fail(StoreAway()) if self._away else succeed(make())

    def _sheet(self) -> Sheet:
        return Sheet(self._counts, self._holds, self._seed)

    def _turn(self, turn: Turn) -> Turned:
        now = self._clock()
        if turn.extends:
            for hold in self._all():
                if hold.owner == turn.owner and not hold.released and not hold.expired:
                    hold.deadline_us = now + turn.lasts_us
        return reckoning.take_turn(self._sheet(), turn, now)

    def _sweep(self) -> int:
        now = self._clock()
        ended = reckoning.end_due(self._sheet(), now)
        self._forget_expired(lambda hold: hold.deadline_us <= now - EXPIRED_US)
        for allowance, windows in list(self._counts.items()):
            for count in [each for each in windows.values() if reckoning.is_idle(each, now)]:
                del windows[count.starts_us]
            if not windows:
                del self._counts[allowance]
        return ended

    def _forget_expired(self, is_meant: Callable[[Hold], bool]) -> None:
        sheet = self._sheet()
        for hold in self._all():
            if hold.expired and is_meant(hold):
                sheet.end(hold)

    def _remove(self, gone: str) -> None:
        sheet = self._sheet()
        for hold in self._all():
            if _is_of(hold.allowance.subject, gone):
                sheet.end(hold)
        for allowance in [each for each in self._counts if _is_of(each.subject, gone)]:
            del self._counts[allowance]

    def _look(self, subjects: frozenset[str]) -> list[Used]:
        counts = [
            count
            for allowance, windows in self._counts.items()
            if allowance.subject in subjects
            for count in windows.values()
        ]
        return reckoning.look(counts, self._clock())

    def _all(self) -> list[Hold]:
        return [hold for of_call in self._holds.values() for hold in of_call.values()]

    def _seed(self, share: Share) -> int:
        match source_of(share):
            case Spend() as whose:
                spend = self._spend(whose)
                return 0 if spend is None else spend.nano
            case Days(since, equal, spenders):
                wanted = [(_COLUMNS.index(column), value) for column, value in equal.items()]
                days = sum(
                    counts[_COST]
                    for name, counts in self._shelves.daily.items()
                    if name[0] >= since and all(name[place] == value for place, value in wanted)
                )
                return min([days, *(each.nano for each in map(self._spend, spenders) if each is not None)])
        return 0

    def _spend(self, whose: Spend) -> Usd | None:
        entity = self._shelves.entities[KINDS[whose.kind]].get(whose.id)
        return None if entity is None else entity.spend


def _is_of(subject: str, gone: str) -> bool:
    """
    Whether it goes with *gone*.
    """
    kind, _, id_ = gone.partition("/")
    if not subject.startswith("member/"):
        return subject == gone
    team, user = member_of(subject)
    return (kind == "team" and team == id_) or (kind == "user" and user == id_)


def _is_in(count: Count, hold: Hold) -> bool:
    return (hold.allowance, hold.starts_us) == (count.allowance, count.starts_us)


_: type[AllowanceStore] = MemoryAllowances
