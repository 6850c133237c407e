"""
An SQLite file, read and written. Everything here blocks, so `sqlite` does it on threads.

One connection writes, one reads what is soon found, and one what takes long, each on its own thread; in WAL mode none
waits for another. They are given up when they fail, and made anew when they are next needed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from math import ceil
from pathlib import Path
from time import monotonic

from attrs import define, field

from dheera.boundaries import Change
from dheera.errors import Outdated, StoreAway, Taken
from dheera.stores.database import AnyStep, Filling, Procedure, Rows
from dheera.stores.sheet import Clock, machine_clock
from dheera.stores.sqlite.migration import connect, set_up, transaction
from dheera.stores.sqlite.procedures import perform

CHANGES_KEPT = 10_000
_PRUNE_EVERY = 256
ROWS_AT_ONCE = 64
"""
In one statement. More make it no faster, and SQLite takes no more than 32,766 values.
"""

_STEPS_BETWEEN_LOOKS = 10_000
"""
Of SQLite's machine: well under a millisecond.
"""
_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_INTERRUPT})
"""
What leaves the connection as good as before.
"""
_UNIQUE = frozenset({sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})


class Hindered(StoreAway):
    """
    Not this time; that does not say anything of others.
    """


@define(eq=False)
class Place:
    """
    Where the file is, and which one it is. SQLite would go on with a file that was moved away, deleted or replaced, and
    all that is written would be lost.
    """

    path: Path
    _identity: tuple[int, int] | None = None

    def remember(self) -> None:
        """
        The file that is there now is the one.
        """
        self._identity = self._find()

    def check(self) -> None:
        """
        :raises OSError: the file is not there.
        """
        if self._find() != self._identity:
            msg = "the file was replaced while dheera was running: stop every dheera that uses it, then start again"
            raise OSError(msg)

    def _find(self) -> tuple[int, int]:
        status = self.path.stat()
        return status.st_dev, status.st_ino


@define(eq=False)
class Connection:
    """
    A connection that is there when it is needed.

    :param prepare: called with each new connection.
    """

    _place: Place
    _prepare: Callable[[sqlite3.Connection], object]
    _connection: sqlite3.Connection | None = None

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """
        The connection, for as long as the block runs.

        :raises StoreAway: the file cannot be used.
        :raises Hindered: it could not be used for this, and can for other things.
        :raises Taken: what must be unique would not be.
        """
        try:
            self._place.check()
            yield self._ready()
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode not in _UNIQUE:
                raise
            # The message ends with the column: keys.alias
            raise Taken(str(error).rpartition(".")[2]) from error
        except sqlite3.ProgrammingError:
            raise
        except (sqlite3.DatabaseError, OSError) as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR) & 0xFF
            if code == sqlite3.SQLITE_ERROR:  # the statement is wrong, not the file
                raise
            if code in _PASSING:
                raise Hindered from error
            self.close()
            raise StoreAway from error

    def close(self) -> None:
        """
        Let go of the file.
        """
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ready(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = connect(self._place.path)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection


@define(eq=False)
class SqliteFile:
    """
    The file, and what is done with it. `write` and `end_writing` belong to one thread, `read`, `news` and `end_reading`
    to another, `search` and `end_searching` to a third.

    :param in_state_directory: it is where we keep what is our own: the directory is made if need be.
    :param clock: of procedures.
    """

    _path: Path
    _in_state_directory: bool = field(default=False, kw_only=True)
    _clock: Clock = field(default=machine_clock, kw_only=True)
    _writer: Connection = field(init=False)
    _reader: Connection = field(init=False)
    _searcher: Connection = field(init=False)
    _place: Place = field(init=False)
    _last: int = field(init=False, default=0)
    _patience_ms: int = field(init=False, default=0)
    _lasting: bool = field(init=False, default=True)

    def __attrs_post_init__(self) -> None:
        self._place = Place(self._path)
        self._writer = Connection(self._place, self._prepare_writer)
        self._reader = Connection(self._place, self._prepare_reader)
        self._searcher = Connection(self._place, _prepare_searcher)

    def open(self) -> None:
        """
        Make the file if there is none, and bring its schema up to date.

        :raises NewerSchema: a newer dheera has made it.
        :raises CannotStart: it is no database, or cannot be written.
        """
        set_up(self._path, in_state_directory=self._in_state_directory)
        self._place.remember()

    def read(self, steps: Sequence[AnyStep]) -> list[Rows]:
        """
        Do *steps*, all on the same state of the database.
        """
        with self._reader.use() as connection:
            if len(steps) == 1:
                return _do(connection, steps, self._clock)
            with transaction(connection, "begin"):
                return _do(connection, steps, self._clock)

    def search(self, steps: Sequence[AnyStep], patience_seconds: float) -> list[Rows]:
        """
        As `read`, for what may take long.

        :param patience_seconds: after which it is broken off.
        """
        latest = monotonic() + patience_seconds
        with self._searcher.use() as connection:
            connection.set_progress_handler(lambda: monotonic() > latest, _STEPS_BETWEEN_LOOKS)
            with transaction(connection, "begin"):
                return _do(connection, steps, self._clock)

    def write(
        self, steps: Sequence[AnyStep], changes: Sequence[Change], patience_seconds: float, *, lasting: bool = True
    ) -> tuple[list[Rows], list[int]]:
        """
        Do *steps*, and publish *changes*, or do nothing.

        :param patience_seconds: how long to wait for another process that is writing.
        :param lasting: wait until it is on the disk.
        :return: the rows that each step gave, and the serial numbers of the changes.
        """
        with self._writer.use() as connection:
            self._set(connection, _patience_ms(patience_seconds), lasting=lasting)
            with transaction(connection, "begin immediate"):
                return _do(connection, steps, self._clock), _publish(connection, changes)

    def news(self) -> list[tuple[int, Change]]:
        """
        Changes, with their serial numbers, that were published since this was last called.
        """
        with self._reader.use() as connection:
            rows = connection.execute(
                "select serial, kind, id from changes where serial > ? order by serial", (self._last,)
            ).fetchall()
        if not rows:
            return []
        missed = rows[0][0] > self._last + 1
        self._last = rows[-1][0]
        if missed:
            return [(self._last, Change("", ""))]
        return [(serial, Change(kind, id_)) for serial, kind, id_ in rows]

    def end_writing(self) -> None:
        """
        Let go of the writing connection.
        """
        self._writer.close()

    def end_reading(self) -> None:
        """
        Let go of the reading connection.
        """
        self._reader.close()

    def end_searching(self) -> None:
        """
        Let go of the third connection.
        """
        self._searcher.close()

    def _set(self, connection: sqlite3.Connection, patience_ms: int, *, lasting: bool) -> None:
        if self._patience_ms != patience_ms:
            connection.execute(f"pragma busy_timeout = {patience_ms}")
            self._patience_ms = patience_ms
        if self._lasting != lasting:
            connection.execute(f"pragma synchronous = {'full' if lasting else 'normal'}")
            self._lasting = lasting

    def _prepare_writer(self, connection: sqlite3.Connection) -> None:
        # A key that was made must not be gone after a loss of power; nor may a call that is in the ledger, since the
        # spool does not read it again. With "normal" both could, until the next checkpoint. It costs one wait for each
        # transaction, on this thread.
        self._patience_ms, self._lasting = 0, False
        self._set(connection, _patience_ms(0), lasting=True)

    def _prepare_reader(self, connection: sqlite3.Connection) -> None:
        connection.execute("pragma query_only = on")
        [(self._last,)] = connection.execute("select coalesce(max(serial), 0) from changes")


def _prepare_searcher(connection: sqlite3.Connection) -> None:
    connection.execute("pragma query_only = on")


def _patience_ms(seconds: float) -> int:
    # In whole tenths: it is told to SQLite anew only when it changes.
    return ceil(seconds * 10) * 100


def _do(connection: sqlite3.Connection, steps: Sequence[AnyStep], clock: Clock) -> list[Rows]:
    results: list[Rows] = []
    for step in steps:
        if isinstance(step, Filling):
            _fill(connection, step)
            results.append([])
            continue
        if isinstance(step, Procedure):
            results.append(perform(connection, step, clock))
            continue
        cursor = connection.execute(step.sql, _adapted(step.parameters))
        results.append(cursor.fetchall())
        if step.touching is not None and cursor.rowcount != step.touching:
            raise Outdated
    return results


def _fill(connection: sqlite3.Connection, filling: Filling) -> None:
    """
    In statements of many rows each. With one for each row this thread would ask for Python's lock between any two, and
    each time the reactor would be kept from its work; with all in one there would be a new statement for each number.
    """
    row = f"({', '.join('?' * len(filling.columns))})"
    start, size = 0, ROWS_AT_ONCE
    while start < len(filling.rows):
        while start + size > len(filling.rows):
            size //= 2  # so that statements are of a few lengths, and SQLite's are kept
        some = filling.rows[start : start + size]
        connection.execute(filling.sql(f"values {', '.join([row] * size)}"), [*chain.from_iterable(some)])
        start += size


def _publish(connection: sqlite3.Connection, changes: Sequence[Change]) -> list[int]:
    insertion = "insert into changes (kind, id) values (?, ?)"
    serials = [connection.execute(insertion, (change.kind, change.id)).lastrowid or 0 for change in changes]
    if any(serial % _PRUNE_EVERY == 0 for serial in serials):
        connection.execute("delete from changes where serial <= ?", (serials[-1] - CHANGES_KEPT,))
    return serials


def _adapted(parameters: Mapping[str, object]) -> dict[str, object]:
    return {name: _text(value) if isinstance(value, datetime) else value for name, value in parameters.items()}


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
