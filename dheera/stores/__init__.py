"""
Where the directory, the ledger and the allowances are kept, in one database; all adapters pass one suite.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from attrs import frozen

from dheera.bookkeeping import Books
from dheera.boundaries import Store
from dheera.config import state_directory
from dheera.holding import AllowanceStore
from dheera.settings import Config
from dheera.stores.allowances import SqlAllowances
from dheera.stores.database import Database
from dheera.stores.ledger import SqlBooks
from dheera.stores.memory import MemoryStore
from dheera.stores.memory_allowances import MemoryAllowances
from dheera.stores.memory_ledger import MemoryBooks
from dheera.stores.shelves import Shelves
from dheera.stores.sql import SqlStore
from dheera.stores.sqlite.database import SqliteDatabase
from dheera.stores.timing import Observer, TimedDatabase, unobserved

FILE = "dheera.sqlite"


@frozen(kw_only=True)
class Stores:
    """
    What one database keeps. It is the directory that is opened and closed, and all else with it.
    """

    directory: Store
    books: Books
    allowances: AllowanceStore


def make_stores(reactor: Any, config: Config, environment: Mapping[str, str], observe: Observer = unobserved) -> Stores:
    """
    The stores that *config* asks for, not yet open: in what ``DATABASE_URL`` names, or else in a file in the state
    directory; the demo keeps nothing.

    :param observe: told how long each transaction takes.
    :raises ConfigurationError: there is no place for a file.
    """
    url = "" if config.store.url is None else config.store.url.reveal()
    if url.lower().startswith("postgres"):
        # psycopg2 is a big library: those who do not use it need not load it.
        from dheera.stores.postgres.database import PostgresDatabase  # noqa: PLC0415

        return _timed(
            reactor,
            observe,
            PostgresDatabase(
                reactor,
                url,
                connections=config.store.connections,
                patience_seconds=config.store.patience_seconds,
            ),
        )
    if url:
        return _timed(
            reactor, observe, SqliteDatabase(reactor, sqlite_path(url), patience_seconds=config.store.patience_seconds)
        )
    if config.demo:
        return memory_stores()
    return _timed(
        reactor,
        observe,
        SqliteDatabase(
            reactor,
            state_directory(config, environment) / FILE,
            in_state_directory=True,
            patience_seconds=config.store.patience_seconds,
        ),
    )


def memory_stores() -> Stores:
    """
    Stores that keep all as long as the process lives.
    """
    shelves = Shelves()
    allowances = MemoryAllowances(shelves)
    return Stores(
        directory=MemoryStore(shelves),
        books=MemoryBooks(shelves, settle=allowances.settle),
        allowances=allowances,
    )


def stores_on(database: Database) -> Stores:
    """
    Stores in a database that speaks SQL.
    """
    return Stores(directory=SqlStore(database), books=SqlBooks(database), allowances=SqlAllowances(database))


def _timed(reactor: Any, observe: Observer, database: Database) -> Stores:
    return stores_on(TimedDatabase(database, reactor, observe))


def place_of(config: Config, environment: Mapping[str, str]) -> str:
    """
    Where that store keeps things, for an operator; no part of a URL is told, since any may be secret.

    :raises ConfigurationError: there is no place for a file.
    """
    url = "" if config.store.url is None else config.store.url.reveal()
    if url.lower().startswith("postgres"):
        return "PostgreSQL"
    if url:
        return str(sqlite_path(url))
    return "memory" if config.demo else str(state_directory(config, environment) / FILE)


def sqlite_path(url: str) -> Path:
    """
    The file that ``sqlite:///relative`` or ``sqlite:////absolute`` names.
    """
    return Path(unquote(url[len("sqlite:///") :])).absolute()
