"""
Reads the spool and writes the books: each call is counted once, whatever died in between.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from secrets import SystemRandom

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, TimeoutError  # noqa: A004 - what a timeout raises
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dheera.bookkeeping import Books, Kept, Lag, Moved, Reader
from dheera.call_ids import new_call_id
from dheera.entities import now
from dheera.errors import Outdated, StoreAway
from dheera.holding import Allowance, Grown, member_of
from dheera.lifecycle import Room
from dheera.limits import UNCAPPED
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
ALL_PER_CENT = 100
NEARLY_PER_CENT = 80
"""
Of a budget, at which somebody is told.
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

    :param alert: told of budgets that are spent as far as somebody wants to know, nearly, or wholly.
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
        kept = await self._books.keep(records)
        for each in kept.moved:
            if each.kind == "key":
                self._note(each)
        self._tell_grown(kept)

    def _note(self, moved: Moved) -> None:
        self._known[moved.id] = moved.after
        self._known.move_to_end(moved.id)
        if len(self._known) > SPENDS_KNOWN:
            self._known.popitem(last=False)

    def _tell_grown(self, kept: Kept) -> None:
        names = {(each.kind, each.id): each.name for each in kept.moved}
        for grown in kept.grown:
            said = passed(grown)
            if said is None:
                continue
            whose = whose_budget(grown.allowance, names)
            self._alert(
                Alert(
                    id=new_call_id(),
                    at=self._now(),
                    node=self._node,
                    about="budget",
                    subject=whose,
                    text=f"The {whose} has {said}: {_spent(grown)}.",
                    level="critical" if _is_passed(grown, ALL_PER_CENT * grown.cap) else "warning",
                )
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


def passed(grown: Grown) -> str | None:
    """
    Of what somebody is told in a budget, the highest that was not reached before and is now, in words: the whole of it
    before all, then its soft budget or the greater part of it. ``None`` if there is no such thing.
    """
    allowance = grown.allowance
    budget = f"its {allowance.span} budget" if allowance.span else "its budget"
    if allowance.model:
        budget += f" for {allowance.model}"
    soft = (grown.soft or 0) * 100
    marks = [
        (ALL_PER_CENT * grown.cap, f"spent {ALL_PER_CENT} % of {budget}"),
        *sorted(
            [
                (NEARLY_PER_CENT * grown.cap, f"spent {NEARLY_PER_CENT} % of {budget}"),
                (soft, f"passed the soft mark of {Usd(grown.soft or 0)} US dollars in {budget}"),
            ],
            key=itemgetter(0),
            reverse=True,
        ),
    ]
    return next((said for mark, said in marks if _is_passed(grown, mark)), None)


def whose_budget(allowance: Allowance, names: Mapping[tuple[str, str], str]) -> str:
    """
    Whose budget it is: ``key ada``, ``team search``, ``member ada of team search``, ``end user x``, ``whole proxy``.

    :param names: by kind and id; who has none is called by the id.
    """
    kind, _, id_ = allowance.subject.partition("/")
    if kind == "proxy":
        return "whole proxy"
    if kind == "member":
        team, user = member_of(allowance.subject)
        return f"member {names.get(('user', user), user)} of team {names.get(('team', team), team)}"
    return f"{'end user' if kind == 'customer' else kind} {names.get((kind, id_), id_)}"


def _spent(grown: Grown) -> str:
    of = "" if grown.cap >= UNCAPPED else f" of {Usd(grown.cap)}"
    return f"{Usd(grown.after)}{of} US dollars"


def _is_passed(grown: Grown, hundredths: int) -> bool:
    return grown.before * 100 < hundredths <= grown.after * 100


_: type[Room] = Ledger
