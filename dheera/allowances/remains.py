"""
What processes that died have left: holds of calls that they never began.
"""

from __future__ import annotations

from functools import partial

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from dheera.bookkeeping import Lives
from dheera.errors import Outdated, StoreAway
from dheera.holding import AllowanceStore

log = Logger()

LOOK_SECONDS = 2.0
"""
How often it is seen whether the ledger has caught up with one of them. Where there is none the store is not asked.
"""


@define(eq=False)
class Remains:
    """
    Gives them back, as soon as the ledger has all that their process has written down.

    :param lasts_seconds: after so long it is done once more: a claim that was on its way when the process died may have
        come to the store after all.
    """

    _reactor: IReactorTime
    _store: AllowanceStore
    _lives: Lives
    _lasts_seconds: float
    _first: dict[str, float] = field(init=False, factory=dict)
    _rests_until: float = field(init=False, default=0.0)
    _forgetting: Deferred[int] | None = field(init=False, default=None)
    _looking: LoopingCall = field(init=False)

    def begin(self) -> None:
        """
        Look for them from now on.
        """
        self._looking = LoopingCall(self._look)
        self._looking.clock = self._reactor
        self._looking.start(LOOK_SECONDS, now=False).addErrback(
            partial(log.failure, "Bug: what dead processes never began is not given back any more")
        )

    def end(self) -> None:
        """
        Leave what there is to the next.
        """
        self._looking.stop()
        if self._forgetting is not None:
            self._forgetting.cancel()

    async def _look(self) -> None:
        now = self._reactor.seconds()
        owners = [name for name in self._lives.orphans() if self._is_due(name, now)]
        if not owners or now < self._rests_until:
            return
        self._forgetting = self._store.forget(owners)
        try:
            count = await self._forgetting
        except (StoreAway, Outdated, CancelledError):
            log.debug("What dead processes never began is given back later.")
        except Exception:  # noqa: BLE001 - the next may go well
            log.failure("Bug: what dead processes never began cannot be given back")
            self._rests_until = now + self._lasts_seconds
        else:
            if count:
                log.info("What was held for calls that a dead process never began is given back: {count}", count=count)
            again = [name for name in owners if self._first.pop(name, None) is not None]
            self._lives.forgotten(again)
            self._first.update((name, now) for name in owners if name not in again)
        finally:
            self._forgetting = None

    def _is_due(self, name: str, now: float) -> bool:
        return name not in self._first or now - self._first[name] >= self._lasts_seconds
