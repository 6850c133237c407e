"""
Making an SQLite file, and bringing its schema up to date. It blocks.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import quote

from dheera.errors import CannotStart, NewerSchema
from dheera.stores.migrations import migrations

PATIENCE_SECONDS = 60
"""
How long another process may take to bring the schema up to date.
"""


def set_up(path: Path, *, in_state_directory: bool) -> None:
    """
    Make a file if there is none, and bring its schema up to date.

    :param in_state_directory: make the directory, too.
    :raises NewerSchema: a newer dheera has made it.
    :raises CannotStart: it is no database, or cannot be written.
    """

    def cannot_start(problem: str, error: Exception) -> CannotStart:
        advice = "set DHEERA_AI_STATE_DIR" if in_state_directory else "change DATABASE_URL"
        return CannotStart(f"{problem} ({_reason(path.parent, error)}): {advice}")

    try:
        _require_directory(path.parent, make=in_state_directory)
    except OSError as error:
        kind = "state" if in_state_directory else "database's"
        done = "made" if in_state_directory else "used"
        raise cannot_start(f"the {kind} directory {path.parent} cannot be {done}", error) from error
    try:
        _create(path)
    except OSError as error:
        raise cannot_start(f"the database's file {path} cannot be opened", error) from error
    try:
        with closing(connect(path)) as connection:
            migrate(connection, migrations("sqlite"))
    except sqlite3.DatabaseError as error:
        raise cannot_start(f"{path} cannot be used as a database", error) from error


def _require_directory(folder: Path, *, make: bool) -> None:
    if folder.is_dir():
        return
    if not make:
        # It may be misspelt, or a volume that is not mounted: in a new one all keys would seem to be gone.
        raise FileNotFoundError(errno.ENOENT, "it does not exist, and is not made")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # nobody else may read it


def _reason(folder: Path, error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    for each in (folder, *folder.parents):
        with suppress(OSError):
            if each.exists() and not each.is_dir():
                return f"{each} is not a directory"
    return error.strerror or str(error)


def connect(path: Path) -> sqlite3.Connection:
    """
    A connection to a file that is there; one thread at a time may use it.
    """
    address = f"file:{quote(str(path))}?mode=rw"
    connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute("pragma foreign_keys = on")
    return connection


def migrate(connection: sqlite3.Connection, history: Sequence[tuple[int, str]]) -> None:
    """
    Bring the schema up to date; of several processes that try, one does it and the others wait.

    :param history: versions, and the statements that lead to each.
    :raises NewerSchema: it is beyond all of them.
    """
    connection.execute(f"pragma busy_timeout = {PATIENCE_SECONDS * 1000}")
    _refuse_newer(connection, history)
    _use_wal(connection)
    for number, text in history:
        if version(connection) < number:
            _advance(connection, number, text)
    _refuse_newer(connection, history)


def version(connection: sqlite3.Connection) -> int:
    """
    The version of the schema; 0 for an empty file.
    """
    [(found,)] = connection.execute("pragma user_version")
    return int(found)


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    """
    A transaction around the block: done when the block ends, undone when it raises.
    """
    connection.execute(begin)
    try:
        yield
        connection.execute("commit")
    finally:
        if connection.in_transaction:
            connection.execute("rollback")


def _advance(connection: sqlite3.Connection, number: int, text: str) -> None:
    with transaction(connection, "begin immediate"):
        if version(connection) >= number:  # another process was first
            return
        for statement in _statements(text):
            connection.execute(statement)
        connection.execute(f"pragma user_version = {number}")


def _refuse_newer(connection: sqlite3.Connection, history: Sequence[tuple[int, str]]) -> None:
    found, known = version(connection), max(number for number, _ in history)
    if found > known:
        raise NewerSchema(found=found, known=known)


def _use_wal(connection: sqlite3.Connection) -> None:
    # SQLite does not wait by itself for others who change the mode at the same time.
    deadline = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            connection.execute("pragma journal_mode = wal")
        except sqlite3.OperationalError:
            if monotonic() > deadline:
                raise
            sleep(0.01)
        else:
            return


def _statements(text: str) -> Iterator[str]:
    # sqlite3's own executescript would end our transaction first.
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    yield statement
