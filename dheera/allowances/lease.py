"""
One hold for many calls: taken ahead in one piece, and given to calls from memory. What none of them needs goes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import Factory, define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dheera.allowances.clock import StoreClock
from dheera.allowances.hold import Hold
from dheera.allowances.standings import Fields, Told, lines_of, told_of
from dheera.holding import Allowance, Claim, Kind, Rated, Release, Standing

Amounts = Sequence[tuple[Kind, int]]
"""
What a call may take of all allowances of each kind. Pairs: to go through a dict's takes three times as long.
"""
Drawn = Sequence[tuple[Kind, int, int]]
"""
The same, each with what was left of the lease then.
"""
LOW = 4
"""
When less than that part of it is left, calls may soon have to wait for the next one.
"""
TELL_SECONDS = 0.25
"""
How long it may take until what calls have left that outlast their lease can be used by others.
"""


def _amounts(lease: Lease) -> dict[Kind, int]:
    return {share.allowance.kind: share.amount for share in lease.claim.shares}


@define(eq=False)
class Lease:
    """
    Calls draw from it until it is closed, and what they have left returns into it. From then on what is left returns to
    the store; it is over when the last of its calls is.

    :param standings: of the claim's shares, when it was let through.
    :param at_us: when that was, by the store's clock.
    :param begins: when it was asked for, in seconds of the reactor.
    :param ends: when it is closed, likewise.
    :param renews: from then on it is time to ask for the next one; sooner, if it runs low.
    :param tell: told what the store should hear.
    :param over: told once, when nobody has anything of it any more.
    """

    _reactor: IReactorTime
    _clock: StoreClock
    claim: Claim
    _standings: Sequence[Standing]
    _at_us: int
    begins: float = field(kw_only=True)
    ends: float = field(kw_only=True)
    _renews: float = field(kw_only=True)
    _tell: Callable[[Release], None] = field(kw_only=True)
    _over: Callable[[Lease], None] = field(kw_only=True)
    _told: Sequence[tuple[Kind, Sequence[Told]]] = field(init=False)
    _resets: bool = field(init=False)
    _taken: dict[Kind, int] = field(init=False, default=Factory(_amounts, takes_self=True))
    _left: dict[Kind, int] = field(init=False, default=Factory(_amounts, takes_self=True))
    _open: int = field(init=False, default=0)
    _is_low: bool = field(init=False, default=False)
    _is_closed: bool = field(init=False, default=False)
    _timer: IDelayedCall | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._told = [*told_of(self.claim.shares, self._standings).items()]
        self._resets = any(each.resets_us for _, told in self._told for each in told)
        self._timer = self._reactor.callLater(max(0.0, self.ends - self._reactor.seconds()), self._end)

    def draw(self, amounts: Amounts) -> Hold | None:
        """
        Give a call what it may take; ``None`` if so much is not left.
        """
        left = self._left
        drawn: list[tuple[Kind, int, int]] = []
        for kind, amount in amounts:
            rest = left.get(kind, 0) - amount
            if rest < 0:
                return None
            drawn.append((kind, amount, rest))
        nano = None
        for kind, amount, rest in drawn:
            left[kind] = rest
            if rest * LOW < self._taken[kind]:
                self._is_low = True
            if kind == "usd":
                nano = amount
        self._open += 1
        return _Drawn(self, drawn, nano, self.claim.call_id if nano else None)

    def is_due(self, now: float) -> bool:
        """
        Whether it is time to ask for the next one; told once.
        """
        if not self._is_low and now < self._renews:
            return False
        self._is_low, self._renews = False, self.ends
        return now < self.ends

    def spare(self, allowance: Allowance) -> int:
        """
        What the store counts of *allowance*, and no call has.
        """
        if all(share.allowance != allowance for share in self.claim.shares):
            return 0
        return max(0, self._left[allowance.kind])

    def close(self) -> None:
        """
        Give no more, and what is left back.
        """
        self._is_closed, self.ends = True, 0.0
        self._stop_timer()
        rates = [
            Rated(allowance=share.allowance, at_us=self._at_us, change=-left)
            for share in self.claim.shares
            if share.allowance.kind != "usd" and (left := self._left[share.allowance.kind])
        ]
        is_usd_left, is_over = self._left.get("usd"), not self._open
        for kind, left in self._left.items():
            self._taken[kind] -= left
            self._left[kind] = 0
        usd = self._taken.get("usd")
        if rates or is_usd_left or (is_over and usd is not None):
            self._tell(Release(call_id=self.claim.call_id, usd=usd or 0, rates=rates, lasts=not is_over))
        if is_over:
            self._over(self)

    def settle(self, drawn: Drawn, actual: Mapping[Kind, int]) -> None:
        """
        A call is over that had *drawn* so much.

        :param actual: what it has taken, of those kinds.
        """
        for kind, amount, _ in drawn:
            self._left[kind] += amount - actual.get(kind, 0)
        self._open -= 1
        if not self._is_closed:
            return
        if not self._open:
            self.close()
        elif self._timer is None:
            self._timer = self._reactor.callLater(TELL_SECONDS, self._end)

    def fields(self, left: Mapping[Kind, int]) -> Fields:
        """
        Header lines that tell what is left of all allowances of these kinds, when so much is left of the lease.
        """
        at_us = self._clock.at_us() if self._resets else 0
        fields: Fields = []
        for kind, told in self._told:
            if kind in left:
                fields += lines_of(kind, told, left[kind], at_us)
        return fields

    def _end(self) -> None:
        self._timer = None
        self.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@define(eq=False)
class _Drawn:
    """
    The hold of a call that is part of a lease.
    """

    _source: Lease
    _drawn: Drawn
    nano: int | None
    lease: str | None
    _is_settled: bool = field(init=False, default=False)

    def settle(self, *, usd: int, tokens: int, reached: bool) -> None:
        """
        The call is over.
        """
        if not self._is_settled:
            self._is_settled = True
            self._source.settle(self._drawn, {"usd": usd, "tokens": tokens, "requests": 1} if reached else {})

    def fields(self, *, usd: int | None = None, tokens: int | None = None) -> Fields:
        """
        Header lines that tell the caller what is left.
        """
        left: dict[Kind, int] = {}
        for kind, amount, rest in self._drawn:
            known = usd if kind == "usd" else tokens if kind == "tokens" else None
            left[kind] = rest if known is None else rest + amount - known
        return self._source.fields(left)


_: type[Hold] = _Drawn
