"""
Reads the spool and writes the books: each call is counted once, whatever died in between.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from secrets import SystemRandom

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, TimeoutError  # noqa: A004 - what a timeout raises
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dheera.bookkeeping import Books, Lag, Moved, Reader
from dheera.call_ids import new_call_id
from dheera.entities import now
from dheera.errors import Outdated, StoreAway
from dheera.lifecycle import Room
from dheera.money import Usd
from dheera.records import Alert, Record
from dheera.settings import LedgerSettings

log = Logger()

AT_ONCE = 500
"""
Records in one transaction. Their rows are made in two or three milliseconds, in which nobody else is served; twice as
many would make each of them cheaper by a twentieth.
"""
MUCH_BYTES = 512 * 1024
"""
Whoever reads that much from the spool may find more there.
"""
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
CLOSE_SECONDS = 10.0
"""
How long a stop waits for what is still to be written. What is not stays in the spool.
"""
MOST_STRANGE = 32
"""
So many records that cannot be kept, and none that can: then it is the database with which something is wrong.
"""
SPENDS_KNOWN = 10_000
THRESHOLDS = (100, 80)
"""
Per cent of a budget, at which somebody is told; the highest that is passed counts.
"""

_random = SystemRandom()


class _NothingTaken(Exception):
    """
    Not one record of a batch was taken. Were they given up now, all would be as long as the database is not in order.
    """


@define(eq=False)
class Ledger:
    """
    Writes what the spool has into the books, as long as it is open.

    :param alert: told of budgets that are nearly, or wholly, spent.
    :param node: which dheera this is.
    :ivar refused: how many records were given up since the books will never take them.
    """

    _reactor: IReactorTime
    _reader: Reader
    _books: Books
    _settings: LedgerSettings
    _alert: Callable[[Alert], None]
    _node: str = field(kw_only=True)
    _now: Callable[[], datetime] = field(kw_only=True, default=now)
    refused: int = field(init=False, default=0)
    _known: OrderedDict[str, Usd] = field(init=False, factory=OrderedDict)
    _is_open: bool = field(init=False, default=False)
    _away: bool = field(init=False, default=False)
    _pause: Deferred[None] | None = field(init=False, default=None)
    _writing: Deferred[None] = field(init=False)

    async def open(self) -> None:
        """
        Begin to write.
        """
        self._is_open = True
        self._writing = Deferred.fromCoroutine(self._write_on())

    async def close(self) -> None:
        """
        Write what is there, if that is soon done, and end.
        """
        self._is_open = False
        if self._pause is not None:
            self._pause.cancel()
        try:
            await self._writing.addTimeout(CLOSE_SECONDS, self._reactor)
        except TimeoutError:
            log.warn("The database takes too long; what is not in it yet stays in the spool.")

    def spend_of(self, key_id: str) -> Usd | None:
        """
        What has been spent on a key, as far as it is known here: after the last of its calls that was written, whoever
        made them. ``None`` if none was written since the start, or not lately.
        """
        return self._known.get(key_id)

    @property
    def lag(self) -> Lag:
        """
        How far the books are behind.
        """
        return self._reader.lag()

    async def _write_on(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while self._is_open:
            if await self._goes_well(self._write_next()):
                pause = FIRST_PAUSE_SECONDS
            else:
                await self._rest(deferLater(self._reactor, pause * _random.uniform(0.5, 1.0)))
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        await self._goes_well(self._write_all())

    async def _goes_well(self, doing: Awaitable[None]) -> bool:
        try:
            await doing
        except CancelledError:  # the stop has waited for long enough
            raise
        except Exception as error:  # noqa: BLE001 - it may go well when it is tried again
            self._tell_away(error)
            return False
        return True

    async def _write_next(self) -> None:
        await self._rest(self._reader.wait())
        await self._rest(deferLater(self._reactor, self._settings.delay_seconds))
        await self._write_all()

    async def _write_all(self) -> None:
        """
        Write what is there, until so little comes that it may wait for more.
        """
        is_much = True
        while (is_much or not self._is_open) and (entries := self._reader.read(AT_ONCE)):
            records = [entry.value for entry in entries if isinstance(entry.value, Record)]
            if records:
                await self._keep(records)
            self._tell_back()
            self._reader.advance(entries[-1].position)
            is_much = len(entries) >= AT_ONCE or sum(len(entry.line) for entry in entries) >= MUCH_BYTES

    async def _keep(self, records: Sequence[Record]) -> None:
        """
        Keep *records*: together, or else in ever smaller parts, until it is clear which cannot be kept.

        :raises _NothingTaken: it seems that none can.
        """
        parts = [records]
        strange: dict[str, Exception] = {}
        some_taken = False
        while parts and (some_taken or len(strange) < MOST_STRANGE):
            # At random, so that those which go well are met sooner or later, wherever they are.
            part = parts.pop(_random.randrange(len(parts)))
            try:
                await self._keep_together(part)
            except (StoreAway, Outdated, CancelledError):
                raise
            except Exception as error:  # noqa: BLE001 - whatever the database has against one of them
                if len(part) == 1:
                    strange[part[0].call_id] = error
                else:
                    half = len(part) // 2
                    parts += [part[:half], part[half:]]
            else:
                some_taken = True
        if not some_taken:
            raise _NothingTaken from next(iter(strange.values()))
        for call_id, reason in strange.items():
            self.refused += 1
            log.critical(
                "Bug: the database will never take the call {call_id}, which is missing in the ledger: {error}",
                call_id=call_id,
                error=type(reason).__name__,
            )

    async def _keep_together(self, records: Sequence[Record]) -> None:
        moved = await self._books.keep(records)
        for each in moved:
            self._note(each)

    def _note(self, moved: Moved) -> None:
        if moved.kind == "key":
            self._known[moved.id] = moved.after
            self._known.move_to_end(moved.id)
            if len(self._known) > SPENDS_KNOWN:
                self._known.popitem(last=False)
        for per_cent in THRESHOLDS:
            if is_passed(moved, per_cent):
                self._alert(self._alert_of(moved, per_cent))
                return

    def _alert_of(self, moved: Moved, per_cent: int) -> Alert:
        subject = f"{moved.kind} {moved.name}"
        budget = "" if moved.max_budget is None else f"{moved.max_budget.dollars():f}"
        return Alert(
            id=new_call_id(),
            at=self._now(),
            node=self._node,
            about="budget",
            subject=subject,
            text=f"The {subject} has spent {per_cent} % of its budget of {budget} US dollars.",
            level="warning" if per_cent < THRESHOLDS[0] else "critical",
        )

    async def _rest(self, until: Deferred[None]) -> None:
        """
        Wait; no longer than until it is closed.
        """
        self._pause = until
        if not self._is_open:
            until.cancel()
        try:
            await until
        except CancelledError:
            if self._is_open:
                raise
        finally:
            self._pause = None

    def _tell_away(self, error: Exception) -> None:
        if self._away:
            return
        self._away = True
        if isinstance(error, StoreAway | Outdated):
            log.warn("Calls cannot be written into the ledger: the database does not answer. They stay in the spool.")
        else:
            log.failure("Calls cannot be written into the ledger. They stay in the spool.")

    def _tell_back(self) -> None:
        if self._away:
            self._away = False
            log.info("Calls are written into the ledger again.")


def is_passed(moved: Moved, per_cent: int) -> bool:
    """
    Whether the spend was below that part of the budget before, and is not any more.
    """
    if moved.max_budget is None:
        return False
    limit = moved.max_budget.nano * per_cent
    return moved.before.nano * 100 < limit <= moved.after.nano * 100


_: type[Room] = Ledger
