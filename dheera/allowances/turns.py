"""
Speaks with the store: one turn at a time, and what comes meanwhile goes together in the next.

No timer holds a claim up, so that a call that is alone waits for nobody, and many at once cost few transactions.
"""

from __future__ import annotations

from secrets import SystemRandom

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, TimeoutError  # noqa: A004 - what a timeout raises
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dheera.allowances.clock import StoreClock
from dheera.allowances.waiting import Asking, Waiting
from dheera.errors import Outdated, StoreAway
from dheera.holding import AllowanceStore, Release, Turn, Verdict

log = Logger()

RELEASE_SECONDS = 0.005
"""
So long a release waits for company: a client that calls again at once costs one turn for both.
"""
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
CLOSE_SECONDS = 5.0
"""
How long a stop waits for the last releases.
"""

_random = SystemRandom()


@define(eq=False)
class Turns:
    """
    Claims and releases on their way to the store.

    While the store is away nobody waits for it: `StoreAway` is told at once, and now and then it is asked whether it
    is back. Releases are kept until then.

    :param clock: is told the store's time.
    """

    _reactor: IReactorTime
    _store: AllowanceStore
    _clock: StoreClock
    _waiting: Waiting
    _is_closed: bool = field(init=False, default=False)
    _is_due: bool = field(init=False, default=False)
    _is_busy: bool = field(init=False, default=False)
    _is_away: bool = field(init=False, default=False)
    _pause: float = field(init=False, default=FIRST_PAUSE_SECONDS)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _doing: Deferred[None] | None = field(init=False, default=None)

    @property
    def is_away(self) -> bool:
        """
        Whether the store did not answer when it was last asked.
        """
        return self._is_away

    @property
    def is_in_doubt(self) -> bool:
        """
        Whether the store may have let claims through of which nobody has heard.
        """
        return self._waiting.is_in_doubt

    def ask(self, asking: Asking, *, again: bool = False) -> None:
        """
        Claim, in the next turn.

        :param again: before all others.
        """
        if self._is_away or self._is_closed:
            asking.fail(StoreAway())
            return
        self._waiting.ask(asking, again=again)
        self._begin()

    def release(self, release: Release) -> None:
        """
        Tell the store, soon.
        """
        self._waiting.release(release)
        if not self._is_busy:
            self._wake_in(RELEASE_SECONDS)

    def extend(self) -> None:
        """
        Let the holds of this process last on from now, and those of which nobody knows end.
        """
        self._waiting.extends = True
        if not self._is_away:
            self._waiting.remind()
            self._begin()

    async def close(self) -> None:
        """
        Tell the store all that it has not been told, if that is soon done.
        """
        try:
            await Deferred.fromCoroutine(self._finish()).addTimeout(CLOSE_SECONDS, self._reactor)
        except TimeoutError:
            log.warn("The database takes too long; what is held for calls that are over is free after its deadline.")
        self._stop_timer()

    async def _finish(self) -> None:
        if self._doing is not None:
            await self._doing
        self._is_closed = True
        self._is_due = self._waiting.has_releases
        await self._take_turns()

    def _begin(self) -> None:
        if not self._is_busy:
            self._doing = Deferred.fromCoroutine(self._take_turns())
            self._doing.addErrback(_tell_bug)

    async def _take_turns(self) -> None:
        self._is_busy = True
        try:
            while self._is_due or (self._waiting.is_urgent and not self._is_away):
                await self._take_turn()
        finally:
            self._is_busy = False
        if self._is_away:
            self._wake_in(self._pause * _random.uniform(0.5, 1.0))
        elif self._waiting.has_releases:
            self._wake_in(RELEASE_SECONDS)

    async def _take_turn(self) -> None:
        turn, asking = self._waiting.next(probing=self._is_away)
        self._is_due = self._is_closed and self._waiting.has_releases
        if not (asking or turn.releases or turn.extends or self._is_away):
            return
        try:
            turned = await self._store.turn(turn)
            verdicts = list(zip(asking, turned.verdicts, strict=True))
        except CancelledError:  # the stop has waited for long enough
            self._go_away(turn, asking)
            raise
        except (StoreAway, Outdated):
            if not self._is_away:
                log.warn("Allowances cannot be counted: the database does not answer.")
            self._go_away(turn, asking)
        except Exception as error:  # noqa: BLE001 - whatever the database has against one of them
            self._look_into(turn, asking, error)
        else:
            self._clock.hear(turned.at_us)
            self._come_back()
            self._waiting.cleared(turn)
            self._is_due = self._is_due or self._waiting.is_wary
            for each, verdict in verdicts:
                _tell(each, verdict, turned.at_us)

    def _look_into(self, turn: Turn, asking: list[Asking], error: Exception) -> None:
        if asking and (turn.releases or turn.extends or len(asking) > 1):
            self._waiting.put_back(turn, undone=True)
            self._waiting.suspect(asking)
        elif asking:
            log.failure("Bug: the database will not take a claim")
            self._waiting.doubt(asking[0])
            asking[0].fail(error)
        elif len(turn.releases) == 1 and self._waiting.is_wary:
            log.failure("Bug: the database will not take what a call gives back; time will have to do it")
            self._waiting.cleared(turn)
            self._is_due = self._waiting.is_wary
        else:
            if not self._is_away:
                log.failure("Allowances cannot be counted.")
            self._go_away(turn, asking, undone=True)
            self._waiting.suspect_releases(turn)

    def _go_away(self, turn: Turn, asking: list[Asking], *, undone: bool = False) -> None:
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS) if self._is_away else FIRST_PAUSE_SECONDS
        self._is_away, self._is_due = True, False
        self._waiting.put_back(turn, undone=undone)
        # Whatever comes first when it is back: what has not been ended by then lasts on.
        self._waiting.extends = True
        for each in asking:
            self._waiting.doubt(each)
        for each in asking + self._waiting.leave():
            each.fail(StoreAway())

    def _come_back(self) -> None:
        if self._is_away:
            self._is_away = False
            log.info("Allowances are counted again.")

    def _wake_in(self, seconds: float) -> None:
        # What the timer was for may have gone with a claim meanwhile: to let it run costs less than to stop it.
        if self._timer is None and not self._is_closed:
            self._timer = self._reactor.callLater(seconds, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._is_due = self._is_away or self._waiting.has_releases
        self._begin()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _tell(asking: Asking, verdict: Verdict, at_us: int) -> None:
    try:
        asking.hear(verdict, at_us)
    except Exception as error:  # noqa: BLE001 - the others are waiting
        log.failure("Bug: what became of a claim cannot be told")
        asking.fail(error)


def _tell_bug(failure: Failure) -> Failure | None:
    if failure.check(CancelledError):  # whoever did that waits for it
        return failure
    log.failure("Bug: turns have ended", failure)
    return None
