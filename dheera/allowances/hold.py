"""
What a call has got of its allowances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import define, field

from dheera.allowances.claims import released
from dheera.allowances.clock import StoreClock
from dheera.allowances.standings import Fields, fields_of, settled
from dheera.holding import Claim, Release, Standing


class Hold(Protocol):
    """
    Lasts until it is settled; that is the caller's to do, whatever becomes of the call.

    :ivar nano: nano-dollars that are held of budgets; ``None`` if none is concerned.
    :ivar lease: of which these are part; ``None`` if of none.
    """

    nano: int | None
    lease: str | None

    def settle(self, *, usd: int, tokens: int, reached: bool) -> None:
        """
        The call is over. To say it again changes nothing.

        :param usd: nano-dollars that it cost.
        :param tokens: that it had.
        :param reached: whether upstream has seen it; if not, all returns, the request too.
        """
        ...

    def fields(self, *, usd: int | None = None, tokens: int | None = None) -> Fields:
        """
        Header lines that tell the caller what is left. Those named ``x-ratelimit-...`` are upstream's as well.

        :param usd: nano-dollars that the call cost, if that is known already; else as much as it may cost counts.
        :param tokens: that it had, likewise.
        """
        ...


@define(eq=False)
class OwnHold:
    """
    What the store has given to one call.

    :param standings: of the claim's shares, when it was let through.
    :param at_us: when that was, by the store's clock.
    :param end: told once, with what the store should hear.
    """

    _claim: Claim
    _standings: Sequence[Standing]
    _at_us: int
    _clock: StoreClock
    _end: Callable[[Release | None], None]
    nano: int | None = None
    lease: str | None = field(init=False, default=None)
    _is_settled: bool = field(init=False, default=False)

    def settle(self, *, usd: int, tokens: int, reached: bool) -> None:
        """
        The call is over.
        """
        if not self._is_settled:
            self._is_settled = True
            self._end(released(self._claim, self._at_us, usd=usd, tokens=tokens, reached=reached))

    def fields(self, *, usd: int | None = None, tokens: int | None = None) -> Fields:
        """
        Header lines that tell the caller what is left.
        """
        actual = {"usd": usd, "tokens": tokens}
        standings = [
            standing if (known := actual.get(share.allowance.kind)) is None else settled(share, standing, known)
            for share, standing in zip(self._claim.shares, self._standings, strict=True)
        ]
        return fields_of(self._claim.shares, standings, self._clock.at_us())


_: type[Hold] = OwnHold
