"""
From limits to what is claimed, and from what was claimed to what is given back. No Twisted, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attrs import define, field

from dheera.allowances.clock import microseconds
from dheera.holding import Allowance, Claim, Rated, Release, Share
from dheera.limits import Limit
from dheera.windows import Window, window_at

WINDOWS_KNOWN = 10_000


@define(eq=False)
class Windows:
    """
    Tells windows, and remembers them while they last: to reckon with months takes longer than all else in a claim.
    """

    _known: dict[tuple[str, datetime | None], Window] = field(factory=dict, init=False)

    def at(self, span: str, anchor: datetime | None, at_us: int) -> Window:
        """
        As `windows.window_at`.
        """
        window = self._known.get((span, anchor))
        if window is None or not window.starts_us <= at_us < window.ends_us:
            if len(self._known) >= WINDOWS_KNOWN:
                self._known.clear()
            window = self._known[span, anchor] = window_at(span, anchor, at_us)
        return window


def shares_of(
    limits: Sequence[Limit], windows: Windows, *, nano: int, tokens: int, at_us: int
) -> list[tuple[Limit, Share]]:
    """
    What a call takes of each of *limits*. A call that cannot cost anything takes nothing of budgets, and one that
    cannot have tokens nothing of those: however much of them is spent, they do not stop it.

    :param limits: no two of the same allowance.
    :param nano: nano-dollars that the call may cost at most.
    :param tokens: that it may have at most.
    :param at_us: by the store's clock.
    """
    shares = ((limit, _share_of(limit, windows, nano, tokens, at_us)) for limit in limits)
    return [(limit, share) for limit, share in shares if share is not None]


def released(claim: Claim, at_us: int, *, usd: int, tokens: int, reached: bool) -> Release | None:
    """
    What is told to the store when a call is over; ``None`` if it has nothing to correct.

    :param at_us: when the claim was let through, by the store's clock.
    :param usd: nano-dollars that the call cost.
    :param tokens: that it had.
    :param reached: whether upstream has seen it. Else it has taken nothing, not even a request.
    """
    rates: list[Rated] = []
    lasts = False
    for share in claim.shares:
        match share.allowance.kind:
            case "requests":
                change = 0 if reached else -share.amount
            case "tokens":
                change = (tokens if reached else 0) - share.amount
            case _:
                change, lasts = 0, True
        if change:
            rates.append(Rated(allowance=share.allowance, at_us=at_us, change=change))
    if not rates and not lasts:
        return None
    return Release(call_id=claim.call_id, usd=usd if reached else 0, rates=rates)


def _share_of(limit: Limit, windows: Windows, nano: int, tokens: int, at_us: int) -> Share | None:
    kind, cap = limit.kind, _cap_of(limit, at_us)
    allowance = Allowance(subject=limit.subject, kind=kind, span=limit.span, model=limit.model)
    match kind:
        case "usd" if nano:
            window = windows.at(limit.span, limit.anchor, at_us)
            return Share(
                allowance=allowance,
                cap=cap,
                amount=nano,
                soft=limit.soft,
                starts_us=window.starts_us,
                ends_us=window.ends_us,
            )
        case "tokens" if tokens:
            # A call that may take more than the whole minute has it all to itself; where there is nothing, it takes
            # one, so that it is refused.
            return Share(allowance=allowance, cap=cap, amount=min(tokens, max(cap, 1)))
        case "requests" | "parallel":
            return Share(allowance=allowance, cap=cap, amount=1)
        case _:
            return None


def _cap_of(limit: Limit, at_us: int) -> int:
    if limit.raised_by and limit.raised_until is not None and at_us < microseconds(limit.raised_until):
        return limit.cap + limit.raised_by
    return limit.cap
