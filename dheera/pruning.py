"""
Deletes old lines from the ledger, gently. The sums of their days stay, and what was spent.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, TimeoutError  # noqa: A004 - what a timeout raises
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dheera.bookkeeping import Books
from dheera.entities import now
from dheera.errors import Outdated, StoreAway
from dheera.lifecycle import Room

log = Logger()

EVERY_SECONDS = 3600.0
SLICE = 200
"""
Lines that go in one transaction: others want to write, too. In an SQLite file with ten million lines it takes 10 ms of
CPU, and as long again for the disk; a thousand at once kept calls with budgets waiting for a tenth of a second.
"""
PAUSE_SECONDS = 0.1
"""
Between two slices, for the same reason.
"""
CLOSE_SECONDS = 10.0
"""
How long a stop waits for the slice that is under way.
"""


@define(eq=False)
class Pruning:
    """
    Deletes, as long as it is open, the lines that are older than they need be: at the start, and each hour.

    :param keep_days: how old they may become; with 0 none is ever deleted.
    """

    _reactor: IReactorTime
    _books: Books
    _keep_days: int
    _now: Callable[[], datetime] = field(kw_only=True, default=now)
    _is_open: bool = field(init=False, default=False)
    _pause: Deferred[None] | None = field(init=False, default=None)
    _doing: Deferred[None] = field(init=False)

    async def open(self) -> None:
        """
        Begin.
        """
        self._is_open = True
        self._doing = Deferred.fromCoroutine(self._prune_on())

    async def close(self) -> None:
        """
        Finish the slice that is under way, if that is soon done, and end.
        """
        self._is_open = False
        if self._pause is not None:
            self._pause.cancel()
        try:
            await self._doing.addTimeout(CLOSE_SECONDS, self._reactor)
        except TimeoutError:
            log.warn("The database takes too long; old lines of the ledger are deleted after the next start.")

    async def _prune_on(self) -> None:
        while self._is_open and self._keep_days:
            try:
                await self._prune()
            except (StoreAway, Outdated):
                log.debug("The database does not answer; old lines are deleted later.")
            except CancelledError:  # the stop has waited for long enough
                raise
            except Exception:  # noqa: BLE001 - the next may go well
                log.failure("Bug: old lines cannot be deleted from the ledger")
            await self._rest(EVERY_SECONDS)

    async def _prune(self) -> None:
        before = self._now() - timedelta(days=self._keep_days)
        while self._is_open and await self._books.prune(before, SLICE) >= SLICE:
            await self._rest(PAUSE_SECONDS)

    async def _rest(self, seconds: float) -> None:
        """
        Wait; no longer than until it is closed.
        """
        if not self._is_open:
            return
        self._pause = deferLater(self._reactor, seconds)
        try:
            await self._pause
        except CancelledError:
            if self._is_open:
                raise
        finally:
            self._pause = None


_: type[Room] = Pruning
