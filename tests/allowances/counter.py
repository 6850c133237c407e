"""
A store that counts, as far as the room of the allowances looks at it: when it is asked for what, and what it says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from dheera.holding import (
    RATE_US,
    Allowance,
    AllowanceStore,
    Claim,
    Share,
    Standing,
    Turn,
    Turned,
    Used,
    Verdict,
)

START_US = 1_769_860_800_000_000
"""
2026-01-31 12:00:00 UTC.
"""


@define(eq=False)
class Counter:
    """
    Counts without windows of rates: nothing returns by time alone.

    :ivar fault: with which it fails.
    :ivar strange: call ids of claims that it will not take.
    :ivar stuck: call ids of releases that it will not take.
    :ivar is_slow: it answers only when told so.
    :ivar ahead_us: of the clock.
    :ivar sweeping: what it says when it is to sweep, if it is something else.
    :ivar turns: that it was asked for.
    :ivar forgotten: owners, each time that it was told of some.
    :ivar forgetting: what it says when it is to forget, if it is something else.
    """

    clock: Clock
    fault: Exception | None = None
    strange: set[str] = field(factory=set)
    stuck: set[str] = field(factory=set)
    is_slow: bool = False
    ahead_us: int = 0
    turns: list[Turn] = field(factory=list)
    sweeps: int = 0
    sweeping: Deferred[int] | None = None
    forgotten: list[list[str]] = field(factory=list)
    forgetting: Deferred[int] | None = None
    taken: defaultdict[Allowance, int] = field(factory=lambda: defaultdict(int))
    held: dict[str, list[tuple[Allowance, int]]] = field(factory=dict)
    told: set[Allowance] = field(factory=set)
    _pending: list[tuple[Turn, Deferred[Turned]]] = field(factory=list)

    @property
    def at_us(self) -> int:
        return START_US + int(self.clock.seconds() * 1_000_000) + self.ahead_us

    def turn(self, turn: Turn) -> Deferred[Turned]:
        self.turns.append(turn)
        if self.is_slow:
            waiting: Deferred[Turned] = Deferred()
            self._pending.append((turn, waiting))
            return waiting
        return self._answer(turn)

    def answer(self) -> None:
        """
        Do what was asked first, and say so.
        """
        turn, waiting = self._pending.pop(0)
        self._answer(turn).chainDeferred(waiting)

    def sweep(self) -> Deferred[int]:
        self.sweeps += 1
        if self.sweeping is not None:
            return self.sweeping
        return succeed(1) if self.fault is None else fail(self.fault)

    def forget(self, owners: Sequence[str]) -> Deferred[int]:
        if self.forgetting is not None:
            return self.forgetting
        if self.fault is not None:
            return fail(self.fault)
        self.forgotten.append([*owners])
        return succeed(len(owners))

    def look(self, subjects: Sequence[str]) -> Deferred[Sequence[Used]]:
        return fail(NotImplementedError(*subjects))  # the room does not ask

    def _answer(self, turn: Turn) -> Deferred[Turned]:
        if self.fault is not None:
            return fail(self.fault)
        if not self.strange.isdisjoint(claim.call_id for claim in turn.claims):
            return fail(ValueError("strange"))
        if not self.stuck.isdisjoint(release.call_id for release in turn.releases):
            return fail(ValueError("stuck"))
        for release in turn.releases:
            for allowance, amount in self.held.pop(release.call_id, []):
                self.taken[allowance] -= amount - (release.usd if allowance.kind == "usd" else 0)
            for rated in release.rates:
                self.taken[rated.allowance] += rated.change
        return succeed(Turned(at_us=self.at_us, verdicts=[self._decide(claim) for claim in turn.claims]))

    def _decide(self, claim: Claim) -> Verdict:
        if any(share.ends_us and not share.starts_us <= self.at_us < share.ends_us for share in claim.shares):
            return Verdict(turned=True)
        refused = next((place for place, share in enumerate(claim.shares) if not self._fits(share)), None)
        first = False
        if refused is None:
            for share in claim.shares:
                self.taken[share.allowance] += share.amount
            self.held[claim.call_id] = [
                (share.allowance, share.amount) for share in claim.shares if share.allowance.kind in ("usd", "parallel")
            ]
        else:
            allowance = claim.shares[refused].allowance
            first = allowance.kind == "usd" and allowance not in self.told
            self.told.add(allowance)
        return Verdict(refused=refused, standings=[self._standing(share) for share in claim.shares], first=first)

    def _fits(self, share: Share) -> bool:
        return self.taken[share.allowance] + share.amount <= share.cap

    def _standing(self, share: Share) -> Standing:
        held = sum(amount for each in self.held.values() for allowance, amount in each if allowance == share.allowance)
        is_rate = share.allowance.kind in ("requests", "tokens")
        return Standing(
            taken=self.taken[share.allowance], held=held, resets_us=self.at_us + RATE_US if is_rate else share.ends_us
        )


_: type[AllowanceStore] = Counter
