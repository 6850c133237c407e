"""
The room of the allowances: whoever wants to send a call upstream asks here what it may take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from secrets import SystemRandom

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dheera.allowances.clock import StoreClock
from dheera.allowances.hold import Hold
from dheera.allowances.remains import Remains
from dheera.allowances.taking import Taking
from dheera.allowances.turns import Turns
from dheera.allowances.waiting import Waiting
from dheera.bookkeeping import Lives
from dheera.entities import now
from dheera.errors import Outdated, StoreAway
from dheera.holding import AllowanceStore
from dheera.lifecycle import Room
from dheera.limits import Limit
from dheera.records import Alert
from dheera.settings import AllowanceSettings

log = Logger()

EXTENSIONS = 4
"""
So often the holds of this process are extended before their deadline: it may be told in vain a few times.
"""

_random = SystemRandom()


@define(eq=False)
class Allowances:
    """
    Takes holds for calls, and keeps them alive while this process does.

    :param lives: who holds, and who did so before.
    :param node: which dheera this is.
    :param alert: told of a budget that refuses a call for the first time in its window.
    """

    _reactor: IReactorTime
    _store: AllowanceStore
    _settings: AllowanceSettings
    _lives: Lives = field(kw_only=True)
    _node: str = field(kw_only=True)
    _alert: Callable[[Alert], None] = field(kw_only=True)
    _now: Callable[[], datetime] = field(kw_only=True, default=now)
    _sweep: Deferred[int] | None = field(init=False, default=None)
    _turns: Turns = field(init=False)
    _taking: Taking = field(init=False)
    _remains: Remains = field(init=False)
    _extending: LoopingCall = field(init=False)
    _sweeping: LoopingCall = field(init=False)

    def __attrs_post_init__(self) -> None:
        clock = StoreClock(self._reactor, self._now)
        waiting = Waiting(self._lives.owner, int(self._settings.deadline_seconds * 1_000_000))
        self._turns = Turns(self._reactor, self._store, clock, waiting)
        self._taking = Taking(
            self._reactor,
            self._turns,
            clock,
            goes_on=self._settings.when_store_down == "allow",
            node=self._node,
            alert=self._alert,
        )
        self._remains = Remains(self._reactor, self._store, self._lives, self._settings.deadline_seconds)
        self._extending, self._sweeping = LoopingCall(self._extend), LoopingCall(self._clear)
        self._extending.clock = self._sweeping.clock = self._reactor

    def change(self, settings: AllowanceSettings) -> None:
        """
        From now on go by these, but for ``deadline_seconds``, which is part of holds that are open.
        """
        self._taking.goes_on = settings.when_store_down == "allow"

    async def open(self) -> None:
        """
        Begin to keep holds alive, and to end those of processes that are dead.
        """
        self._remains.begin()
        seconds = self._settings.deadline_seconds
        self._extending.start(seconds / EXTENSIONS, now=False).addErrback(_tell_bug)
        # Each process does it; not all at the same time.
        self._sweeping.start(seconds * _random.uniform(0.8, 1.2), now=False).addErrback(_tell_bug)

    async def close(self) -> None:
        """
        Give back what calls have left that are over, if that is soon done.
        """
        self._remains.end()
        self._extending.stop()
        self._sweeping.stop()
        if self._sweep is not None:
            self._sweep.cancel()
        self._taking.close()
        await self._turns.close()

    def draw(self, limits: Sequence[Limit], nano: int, tokens: int) -> Hold | None:
        """
        As `take`, from what was taken ahead for calls like this one.

        :return: ``None``: there is not so much of it, and `take` asks for more.
        """
        return self._taking.draw(limits, nano, tokens)

    def take(self, call_id: str, limits: Sequence[Limit], *, nano: int, tokens: int) -> Deferred[Hold]:
        """
        Hold what a call may take of all *limits*, or of none, after `draw` has given nothing. Cancelled, it takes
        nothing.

        :param nano: nano-dollars that it may cost at most.
        :param tokens: that it may have at most.
        :return: fails with `BudgetExceeded`, `RateLimited`, or `StoreAway` where calls are refused while nobody counts.
        """
        return self._taking.take(call_id, limits, nano=nano, tokens=tokens)

    def _extend(self) -> None:
        if self._taking.is_holding or self._turns.is_in_doubt:
            self._turns.extend()

    async def _clear(self) -> None:
        if self._turns.is_away:  # a sweep that came first when it is back would end what this process is to extend
            return
        self._sweep = self._store.sweep()
        try:
            ended = await self._sweep
        except (StoreAway, Outdated, CancelledError):
            log.debug("What dead processes held is given back later.")
        except Exception:  # noqa: BLE001 - the next may go well
            log.failure("Bug: what dead processes held cannot be given back")
        else:
            if ended:
                log.info("What {count} calls held was given back after its deadline.", count=ended)
        finally:
            self._sweep = None


def _tell_bug(failure: Failure) -> None:
    log.failure("Bug: holds are not kept alive any more", failure)


_: type[Room] = Allowances
