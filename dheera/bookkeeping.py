"""
What the exchange, the spool, the ledger and the sinks may rely on in each other. Protocols and the values that they
speak in; no logic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Literal, Protocol, TypeAlias

from attrs import field, frozen
from msgspec import Struct
from twisted.internet.defer import Deferred

from dheera.errors import Refusal
from dheera.holding import Grown
from dheera.money import Usd
from dheera.records import Alert, Begun, Record
from dheera.usage import Usage

Dimension: TypeAlias = Literal["key", "user", "team", "end_user", "model", "tag", "day", "endpoint"]
"""
By what spending can be told apart.
"""


# The spool.


class Entry(Struct, frozen=True, kw_only=True, gc=False):
    """
    What a reader of the spool is given.

    :param position: where the reader is once it is done with this.
    :param line: as it was written, without the line break.
    :param value: what it says.
    """

    position: int
    line: bytes
    value: Record | Alert

    def __repr__(self) -> str:
        return f"<Entry {self.position}>"


class Reader(Protocol):
    """
    Reads the spool from its own cursor on; the cursor outlives the process.
    """

    name: str

    def wait(self) -> Deferred[None]:
        """
        Be told when there is something to read; at once, if there is. One waits at a time. It can be cancelled.
        """
        ...

    def read(self, most: int) -> Sequence[Entry]:
        """
        What comes next, *most* entries and a mebibyte or so; always at least one, if there is one, also of what ended
        in this very turn of the reactor. The cursor stays.
        """
        ...

    def advance(self, position: int) -> None:
        """
        All up to *position*, that of an entry, is done with: it will not be read again, unless the process dies before
        that is on disk, a second later at most.
        """
        ...

    def lag(self) -> Lag:
        """
        How far it is behind.
        """
        ...


@frozen(kw_only=True)
class Lag:
    """
    How far a reader is behind.

    :param waiting_bytes: that it has not read.
    :param oldest_at: when the oldest of what it has not read was written; ``None`` if it has read all.
    :param dropped: lines that it will never read, since the spool was full or a line was damaged.
    """

    waiting_bytes: int = 0
    oldest_at: datetime | None = None
    dropped: int = 0


class Spool(Protocol):
    """
    The durable queue of what happened. What is written survives the death of the process.
    """

    def begin(self, begun: Begun) -> None:
        """
        Write that an exchange begins, at once; if the process dies before its `end` is written, the next start ends it
        as interrupted.

        :raises Unavailable: it cannot be written: the disk is full, or the ledger is too far behind. Then nothing may
            be sent to upstream.
        """
        ...

    def end(self, record: Record) -> None:
        """
        Write that an exchange is over, before the reactor's turn ends; also of one that never began, as it was refused.
        What cannot be written then is kept in memory until it can.
        """
        ...

    def alert(self, alert: Alert) -> None:
        """
        Write an alert, as `end`.
        """
        ...

    def reader(self, name: str, *, essential: bool = False) -> Reader:
        """
        The reader of this name: where it was, or at what comes next if it is new. Where those of earlier processes were
        is only known to who calls this before the spool opens.

        :param essential: nothing that it has not read is ever thrown away.
        """
        ...

    def dismiss(self, name: str) -> None:
        """
        Keep nothing any more for the reader of this name, which reads no more.
        """
        ...


class Lives(Protocol):
    """
    This process and those before it, by names that no two have: of those that died and left their lines to this one,
    somebody has to put right what they held (`AllowanceStore.forget`).

    :ivar owner: this one, from its start to its end.
    """

    owner: str

    def orphans(self) -> Sequence[str]:
        """
        Processes that are dead, and of which the ledger has all that they have written down.
        """
        ...

    def forgotten(self, owners: Sequence[str]) -> None:
        """
        These are not to be told again.
        """
        ...


# Counting.


class Tally(Protocol):
    """
    Counts what happens.
    """

    def began(self) -> None:
        """
        An exchange is under way.
        """
        ...

    def ended(self, record: Record | None) -> None:
        """
        It is over.

        :param record: ``None`` if it was refused before anybody knew whose it was.
        """
        ...

    def refused(self, refusal: Refusal) -> None:
        """
        Dheera answered in place of upstream, or could not complete its answer.
        """
        ...


# The ledger.


class LedgerLine(Struct, frozen=True, kw_only=True):
    """
    One exchange as the ledger keeps it.

    :param failed: it did not end as a whole, or with an error.
    :param cost: ``None`` if there is no price.
    """

    call_id: str
    started_at: datetime
    duration_us: int
    first_byte_us: int | None
    key_id: str | None
    key_alias: str
    user_id: str | None
    team_id: str | None
    end_user: str | None
    model: str | None
    endpoint: str
    outcome: str
    status: int | None
    error: str | None
    failed: bool
    estimated: bool
    cost: Usd | None
    price_list: str | None
    usage: Usage
    tags: list[str]
    client: str
    node: str
    upstream_id: str | None


@frozen(kw_only=True)
class LinesQuery:
    """
    Which lines are wanted.

    :param equal: columns (``call_id``, ``key_id``, ``key_alias``, ``user_id``, ``team_id``, ``end_user``, ``model``,
        ``endpoint``, ``outcome``, ``status``) and the values that they must have.
    :param tag: that must be among the tags.
    :param failed: only those that failed, or only those that did not.
    :param since: started then or later.
    :param until: started before.
    :param after: the position of the last line of the page before, as (``started_at``, ``call_id``): pages stay right
        while lines are added. Newest first.
    """

    equal: Mapping[str, object] = field(factory=dict)
    tag: str | None = None
    failed: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: tuple[datetime, str] | None = None
    offset: int = 0
    limit: int = 100


@frozen(kw_only=True)
class Question:
    """
    Which sums are wanted. They come from the daily roll-ups, which are never pruned.

    :param by: the sums are told apart by these, at most three; none gives one sum. With ``tag`` neither ``user``,
        ``team``, ``end_user`` nor ``endpoint``; a call with two tags counts under both.
    :param equal: dimensions (but ``day``) and the values that they must have; ``None`` and "" are where there is none.
    :param since: the first day, in UTC.
    :param until: the last day, in UTC, included.
    :param limit: the largest costs come first, or, with ``day`` among ``by``, the latest days.
    """

    by: Sequence[Dimension] = ()
    equal: Mapping[Dimension, str | None] = field(factory=dict)
    since: date | None = None
    until: date | None = None
    offset: int = 0
    limit: int = 1000


@frozen(kw_only=True)
class Sums:
    """
    Exchanges added up.

    :param of: the values of the dimensions asked for, in their order; ``None`` where there is none. A day is a
        ``date``, a key its id.
    :param requests: of them *failed*, *unpriced* (no price) and *estimated*.
    """

    of: tuple[str | date | None, ...] = ()
    requests: int = 0
    failed: int = 0
    unpriced: int = 0
    estimated: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    pages: int = 0
    audio_ms: int = 0
    characters: int = 0
    cost: Usd = field(factory=Usd)


@frozen
class Moved:
    """
    That somebody's spend has grown.

    :param kind: ``key``, ``user``, ``team``, ``customer``.
    :param name: its alias, or else its id.
    """

    kind: str
    id: str
    name: str
    before: Usd
    after: Usd


@frozen(kw_only=True)
class Kept:
    """
    What came of records that were kept.

    :param moved: whose spend has grown.
    :param grown: of which budgets more is used than before.
    """

    moved: Sequence[Moved] = ()
    grown: Sequence[Grown] = ()


class Books(Protocol):
    """
    Keeps the ledger. Each Deferred fails with `StoreAway` when the database does not answer, within seconds.
    """

    def keep(self, records: Sequence[Record]) -> Deferred[Kept]:
        """
        Write each record that is not yet there (by its ``call_id``), its share of the daily roll-ups, what it adds to
        the spend of its key, user, team and customer, and what becomes of its holds (`AllowanceStore`): all, or
        nothing. A record whose ``once`` is there already costs nothing. To be asked again with the same records does no
        harm.
        """
        ...

    def lines(self, query: LinesQuery) -> Deferred[Sequence[LedgerLine]]:
        """
        The lines of one page, newest first.
        """
        ...

    def count(self, query: LinesQuery) -> Deferred[int]:
        """
        How many lines there are on all pages.
        """
        ...

    def sums(self, question: Question) -> Deferred[Sequence[Sums]]:
        """
        The sums of one page.
        """
        ...

    def prune(self, before: datetime, most: int) -> Deferred[int]:
        """
        Delete up to *most* of the lines that started before that, the oldest first; roll-ups and spends stay. What may
        be billed once only is remembered.

        :return: how many were deleted.
        """
        ...
