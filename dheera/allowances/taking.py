"""
One call and its hold: from its claim to what the store has decided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from dheera.allowances.claims import Windows, released, shares_of
from dheera.allowances.clock import StoreClock
from dheera.allowances.desk import Applicant, Desk, Desks
from dheera.allowances.hold import Hold, OwnHold
from dheera.allowances.leases import Leases
from dheera.allowances.refusals import alert_of, refusal_of
from dheera.allowances.turns import Turns
from dheera.errors import StoreAway
from dheera.holding import Claim, Release, Verdict
from dheera.limits import Limit
from dheera.records import Alert

MOST_TRIES = 5
"""
So often a claim is made whose window is over when it arrives. Windows of a second may need a second try.
"""


@define(eq=False)
class Taking:
    """
    Takes holds.

    :ivar goes_on: while nobody counts, calls are made without a hold.
    """

    _reactor: IReactorTime
    _turns: Turns
    _clock: StoreClock
    goes_on: bool = field(kw_only=True)
    _node: str = field(kw_only=True)
    _alert: Callable[[Alert], None] = field(kw_only=True)
    _open: int = field(init=False, default=0)
    _windows: Windows = field(init=False, factory=Windows)
    _leases: Leases = field(init=False)
    _desks: Desks = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._leases = Leases(self._reactor, self._turns, self._clock)
        self._desks = Desks(self._reactor, self._turns, self._clock, self._windows, self._leases)

    @property
    def is_holding(self) -> bool:
        """
        Whether there are holds that are not settled, or leases.
        """
        return self._open > 0 or bool(self._leases)

    def close(self) -> None:
        """
        Give back what leases have left.
        """
        self._leases.close()

    def draw(self, limits: Sequence[Limit], nano: int, tokens: int) -> Hold | None:
        """
        As `room.Allowances.draw`.
        """
        desk = self._desks.of(limits)
        return None if desk is None else desk.draw(nano, tokens)

    def take(self, call_id: str, limits: Sequence[Limit], *, nano: int, tokens: int) -> Deferred[Hold]:
        """
        As `room.Allowances.take`.
        """
        desk = self._desks.of(limits)
        call = _Call(self, self._windows, desk, call_id, limits, nano, tokens)
        call.compose(self._clock.at_us())
        if not call.claim.shares:
            call.go_unheld()
        elif desk is None or not desk.wait(call):
            call.ask()
        return call.taken

    def claim(self, call: _Call, *, again: bool = False) -> None:
        """
        Ask the store.

        :param again: since the windows of its claim were not those of the store's clock, or there is more than before.
        """
        call.returns = self._leases.returns
        self._turns.ask(call, again=again)

    def refuse(self, call: _Call, verdict: Verdict, place: int, at_us: int) -> None:
        """
        Tell the caller, and, the first time, whoever should know. What leases of this process have left is given
        back before a call is refused that wants it.

        :param place: of the share that does not fit.
        """
        which = call.wanted[place], call.claim.shares[place], verdict.standings[place]
        if not verdict.first and not call.is_recalled:
            # What leases gave back for another call, since this one has asked, may be enough for both.
            call.is_recalled = True
            if self._leases.recall(*which[1:]) or self._leases.returns != call.returns:
                self.claim(call, again=True)
                return
        if verdict.first:
            self._alert(alert_of(*which, at_us=at_us, node=self._node))
        call.fail(refusal_of(*which, at_us))

    def hold(self, claim: Claim, verdict: Verdict, at_us: int) -> Hold:
        """
        What the store has given.
        """
        self._open += 1
        nano = next((share.amount for share in claim.shares if share.allowance.kind == "usd"), None)
        return OwnHold(claim, verdict.standings, at_us, self._clock, self._end, nano)

    def give_back(self, claim: Claim, at_us: int) -> None:
        """
        The store has given it, and nobody is there to take it.
        """
        release = released(claim, at_us, usd=0, tokens=0, reached=False)
        if release is not None:
            self._turns.release(release)

    def unheld(self, call_id: str) -> Hold:
        """
        For a call that takes nothing, or of which nobody counts what it takes.
        """
        return OwnHold(Claim(call_id=call_id, shares=[]), [], 0, self._clock, _forget)

    def lets_go_on(self, error: Exception) -> bool:
        """
        Whether calls are made though nobody counts.
        """
        return self.goes_on and isinstance(error, StoreAway)

    def _end(self, release: Release | None) -> None:
        self._open -= 1
        if release is not None:
            self._turns.release(release)


@define(eq=False)
class _Call:
    """
    Waits for its hold.

    :param desk: that learns how its limits stand.
    :ivar wanted: the limits that the shares of its claim are of.
    :ivar is_recalled: it was refused, and claims once more since leases may have given back what it wants.
    :ivar returns: how often leases had given something back when it claimed.
    """

    _taking: Taking
    _windows: Windows
    _desk: Desk | None
    _call_id: str
    _limits: Sequence[Limit]
    nano: int
    tokens: int
    claim: Claim = field(init=False)
    wanted: list[Limit] = field(init=False)
    is_gone: bool = field(init=False, default=False)
    is_recalled: bool = field(init=False, default=False)
    returns: int = field(init=False, default=0)
    taken: Deferred[Hold] = field(init=False)
    _tries: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.taken = Deferred(self._leave)

    def compose(self, at_us: int) -> None:
        """
        Claim what is right at that time of the store's clock.
        """
        pairs = shares_of(self._limits, self._windows, nano=self.nano, tokens=self.tokens, at_us=at_us)
        self.wanted = [limit for limit, _ in pairs]
        self.claim = Claim(call_id=self._call_id, shares=[share for _, share in pairs])
        self._tries += 1

    def ask(self) -> None:
        """
        Claim.
        """
        self._taking.claim(self)

    def get(self, hold: Hold) -> None:
        """
        Have it, and go on.
        """
        self.taken.callback(hold)

    def go_unheld(self) -> None:
        """
        Have nothing, and go on.
        """
        self.get(self._taking.unheld(self._call_id))

    def hear(self, verdict: Verdict, at_us: int) -> None:
        """
        What the store has decided.
        """
        if verdict.turned:
            self._turn(at_us)
            return
        if self._desk is not None:
            self._desk.learn(self.claim.shares, verdict.standings)
        if verdict.refused is not None:
            self._taking.refuse(self, verdict, verdict.refused, at_us)
        elif self.is_gone:
            self._taking.give_back(self.claim, at_us)
        else:
            self.get(self._taking.hold(self.claim, verdict, at_us))

    def fail(self, error: Exception) -> None:
        """
        There is no hold.
        """
        if self.taken.called:
            return
        if self._taking.lets_go_on(error):
            self.go_unheld()
        else:
            self.taken.errback(error)

    def _turn(self, at_us: int) -> None:
        if self.is_gone:
            return
        if self._tries < MOST_TRIES:
            self.compose(at_us)
            self._taking.claim(self, again=True)
        else:
            self.fail(StoreAway())

    def _leave(self, _: Deferred[Hold]) -> None:
        self.is_gone = True


def _forget(_: Release | None) -> None:
    """
    There is nothing that the store should hear.
    """


_: type[Applicant] = _Call
