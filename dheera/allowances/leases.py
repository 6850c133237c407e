"""
All leases of this process.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from dheera.allowances.clock import StoreClock
from dheera.allowances.lease import Lease
from dheera.allowances.turns import Turns
from dheera.holding import Claim, Release, Share, Standing, Verdict


@define(eq=False)
class Leases:
    """
    Those that are not over.

    :ivar returns: how often something of one was given back.
    """

    _reactor: IReactorTime
    _turns: Turns
    _clock: StoreClock
    returns: int = field(init=False, default=0)
    _open: set[Lease] = field(init=False, factory=set)

    def __bool__(self) -> bool:
        return bool(self._open)

    def open(self, claim: Claim, verdict: Verdict, at_us: int, *, begins: float, ends: float, renews: float) -> Lease:
        """
        What the store has given.
        """
        lease = Lease(
            self._reactor,
            self._clock,
            claim,
            verdict.standings,
            at_us,
            begins=begins,
            ends=ends,
            renews=renews,
            tell=self._tell,
            over=self._open.discard,
        )
        self._open.add(lease)
        return lease

    def recall(self, share: Share, standing: Standing) -> bool:
        """
        The store has refused a call this share: give back what no call has of it, if that is enough.

        :return: whether it is.
        """
        spare = {lease: left for lease in self._open if (left := lease.spare(share.allowance))}
        if not spare or sum(spare.values()) < standing.taken + share.amount - share.cap:
            return False
        for lease in spare:
            lease.close()
        return True

    def close(self) -> None:
        """
        Give back all that no call has.
        """
        for lease in [*self._open]:
            lease.close()

    def _tell(self, release: Release) -> None:
        self.returns += 1
        self._turns.release(release)
