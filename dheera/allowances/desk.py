"""
Which calls get a lease in place of a hold of their own: those whose limits are claimed again and again.

What a lease has left is out of reach of other processes. So it is small beside what is free, and short: where little is
left, and where calls are few, each claims for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import define, field
from msgspec import structs
from twisted.internet.interfaces import IReactorTime

from dheera.allowances.claims import Windows, shares_of
from dheera.allowances.clock import StoreClock, microseconds
from dheera.allowances.hold import Hold
from dheera.allowances.lease import Amounts, Lease
from dheera.allowances.leases import Leases
from dheera.allowances.turns import Turns
from dheera.call_ids import new_call_id
from dheera.holding import SLICE_US, Claim, Kind, Share, Standing, Verdict
from dheera.limits import Limit

LEASE_US = 1_000_000
"""
So long calls draw from one, at most.
"""
AHEAD_SECONDS = 0.1
"""
So long before its end the next one is asked for, so that nobody waits for it.
"""
COUNT_SECONDS = 1.0
"""
So long calls are counted, to tell how many come.
"""
LEAST_CALLS = 4
"""
With fewer there is none: a lease costs the store as much as two calls.
"""
MOST_CALLS = 256
PART = 16
"""
A lease is at most this part of what is free of each allowance.
"""
DESKS_KNOWN = 4096


class Applicant(Protocol):
    """
    A call that wants what it may take.

    :ivar nano: nano-dollars that it may cost at most.
    :ivar tokens: that it may have at most.
    :ivar is_gone: it waits no longer.
    """

    nano: int
    tokens: int
    is_gone: bool

    def get(self, hold: Hold) -> None:
        """
        It has it.
        """
        ...

    def ask(self) -> None:
        """
        It is to claim for itself.
        """
        ...


@define(eq=False)
class Desk:
    """
    Serves calls that are bound by the same limits, none of which is of requests at the same time: these are free when
    their call is over, which the store has to hear at once.

    :ivar _count: of calls, in the second that is under way; in the one before it there were *_before*.
    :ivar _latest: the shares of those who asked the store last, and how they stood.
    """

    _reactor: IReactorTime
    _turns: Turns
    _clock: StoreClock
    _windows: Windows
    _leases: Leases
    _limits: tuple[Limit, ...]
    _kinds: frozenset[Kind] = field(init=False)
    _lease: Lease | None = field(init=False, default=None)
    _asked: _Asked | None = field(init=False, default=None)
    _since: float = field(init=False, default=0.0)
    _count: int = field(init=False, default=0)
    _before: int = field(init=False, default=0)
    _latest: tuple[Sequence[Share], Sequence[Standing]] = field(init=False, default=((), ()))

    def __attrs_post_init__(self) -> None:
        self._kinds = frozenset(limit.kind for limit in self._limits)

    @property
    def is_used(self) -> bool:
        """
        Whether it has a lease, or asks for one.
        """
        return self._asked is not None or (self._lease is not None and self._lease.ends > 0)

    def draw(self, nano: int, tokens: int) -> Hold | None:
        """
        A call is here: what it may take, if a lease has so much.
        """
        amounts = self._amounts(nano, tokens)
        if not amounts:
            return None
        now = self._reactor.seconds()
        self._note(now)
        lease = self._lease
        # Behind its beginning, the clock was set back: nobody knows how long it would last.
        if lease is None or not lease.begins <= now < lease.ends:
            return None
        hold = lease.draw(amounts)
        if lease.is_due(now) and self._asked is None:
            self._ask(nano, tokens)
        return hold

    def wait(self, call: Applicant) -> bool:
        """
        Let *call* wait for a lease, if it should.
        """
        asked = self._asked or self._ask(call.nano, call.tokens)
        if asked is None or len(asked.calls) >= asked.most:
            return False
        asked.calls.append(call)
        return True

    def learn(self, shares: Sequence[Share], standings: Sequence[Standing]) -> None:
        """
        The store was asked for *shares*, and so they stand.
        """
        self._latest = shares, standings

    def serve(self, lease: Lease | None) -> None:
        """
        The store has given a lease, or not: serve those who wait.
        """
        asked, self._asked = self._asked, None
        if lease is not None:
            if self._lease is not None and self._lease.ends:
                self._lease.close()
            self._lease = lease
        for call in asked.calls if asked is not None else ():
            if call.is_gone:
                continue
            # It waited while the store gave: so it is within the lease's time, also if that is over here by now.
            hold = None if lease is None else lease.draw(self._amounts(call.nano, call.tokens))
            if hold is None:
                call.ask()
            else:
                call.get(hold)

    def _amounts(self, nano: int, tokens: int) -> Amounts:
        kinds = self._kinds
        amounts: list[tuple[Kind, int]] = []
        if nano and "usd" in kinds:
            amounts.append(("usd", nano))
        if tokens and "tokens" in kinds:
            amounts.append(("tokens", tokens))
        if "requests" in kinds:
            amounts.append(("requests", 1))
        return amounts

    def _note(self, now: float) -> None:
        lasted = now - self._since
        if not 0 <= lasted < COUNT_SECONDS:
            if 0 <= lasted < 2 * COUNT_SECONDS:
                self._before = self._count
            else:
                self._before, self._latest = 0, ((), ())
            self._since, self._count = now, 0
        self._count += 1

    def _ask(self, nano: int, tokens: int) -> _Asked | None:
        """
        Ask for a lease for calls like this one, unless they are few, or would have too much of what is free.
        """
        calls = min(max(self._count, self._before), MOST_CALLS)
        if calls < LEAST_CALLS:
            return None
        at_us = self._clock.at_us()
        pairs = shares_of(self._limits, self._windows, nano=nano, tokens=tokens, at_us=at_us)
        taken = {share.allowance: standing.taken for share, standing in zip(*self._latest, strict=True)}
        for _, share in pairs:
            free = share.cap - taken.get(share.allowance, share.cap)
            calls = min(calls, free // (PART * share.amount))
        if calls < LEAST_CALLS:
            return None
        self._asked = _Asked(self, self._leases, pairs, calls, self._reactor.seconds())
        self._turns.ask(self._asked)
        return self._asked


@define(eq=False)
class Desks:
    """
    The desks of those who have called lately.
    """

    _reactor: IReactorTime
    _turns: Turns
    _clock: StoreClock
    _windows: Windows
    _leases: Leases
    _known: dict[tuple[Limit, ...], Desk | None] = field(init=False, factory=dict)

    def of(self, limits: Sequence[Limit]) -> Desk | None:
        """
        Where calls are served that *limits* bind; ``None`` if each must claim for itself.
        """
        name = tuple(limits)
        try:
            return self._known[name]
        except KeyError:
            return self._open(name)

    def _open(self, name: tuple[Limit, ...]) -> Desk | None:
        if len(self._known) >= DESKS_KNOWN:
            self._known = {each: desk for each, desk in self._known.items() if desk is not None and desk.is_used}
        is_served = all(limit.kind != "parallel" for limit in name)
        desk = Desk(self._reactor, self._turns, self._clock, self._windows, self._leases, name) if is_served else None
        self._known[name] = desk
        return desk


@define(eq=False)
class _Asked:
    """
    A lease that is asked for.

    :param at: when, in seconds of the reactor.
    :param pairs: the limits, and what one call takes of them.
    :param most: so many of these.
    :ivar calls: that wait for it.
    """

    _desk: Desk
    _leases: Leases
    _pairs: Sequence[tuple[Limit, Share]]
    most: int
    _at: float
    claim: Claim = field(init=False)
    is_gone: bool = field(init=False, default=False)
    calls: list[Applicant] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        shares = [structs.replace(share, amount=share.amount * self.most) for _, share in self._pairs]
        self.claim = Claim(call_id=new_call_id(), shares=shares, ahead=True)

    def hear(self, verdict: Verdict, at_us: int) -> None:
        """
        What the store has decided.
        """
        if not verdict.turned:
            self._desk.learn(self.claim.shares, verdict.standings)
        if verdict.turned or verdict.refused is not None:
            self._desk.serve(None)
            return
        # The store said what time it is after it was asked: so it is no later there than this.
        ends_us = self._ends_us(at_us)
        is_whole = ends_us == at_us + LEASE_US
        ends = self._at + (ends_us - at_us) / 1_000_000
        renews = ends - AHEAD_SECONDS if is_whole else ends
        self._desk.serve(self._leases.open(self.claim, verdict, at_us, begins=self._at, ends=ends, renews=renews))

    def fail(self, _: Exception) -> None:
        """
        It has not. If it is away, calls that claim for themselves hear of that at once.
        """
        self._desk.serve(None)

    def _ends_us(self, at_us: int) -> int:
        """
        When no call may be counted any more where this lease is, by the store's clock.
        """
        ends = [at_us + LEASE_US]
        for limit, share in self._pairs:
            if share.allowance.kind != "usd":
                # It counts for 65 seconds from the beginning of its slice: a call that began after its end would count
                # for less than the minute in which it lies.
                ends.append(at_us - at_us % SLICE_US + SLICE_US)
            elif share.ends_us:
                ends.append(share.ends_us)
            if limit.raised_until is not None and microseconds(limit.raised_until) > at_us:
                ends.append(microseconds(limit.raised_until))
        return min(ends)
