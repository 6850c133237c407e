"""
Where the directory is kept; all adapters pass one suite.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dheera.boundaries import Store
from dheera.config import Config, state_directory
from dheera.stores.memory import MemoryStore
from dheera.stores.sql import SqlStore
from dheera.stores.sqlite.database import SqliteDatabase

FILE = "dheera.sqlite"


def make_store(reactor: Any, config: Config, environment: Mapping[str, str]) -> Store:
    """
    The store that *config* asks for, not yet open: what ``DATABASE_URL`` names, or else a file in the state directory;
    the demo keeps nothing.

    :raises ConfigurationError: there is no place for a file.
    """
    url = "" if config.store.url is None else config.store.url.reveal()
    if url.lower().startswith("postgres"):
        # psycopg2 is a big library: those who do not use it need not load it.
        from dheera.stores.postgres.database import PostgresDatabase  # noqa: PLC0415

        return SqlStore(
            PostgresDatabase(
                reactor,
                url,
                connections=config.store.connections,
                patience_seconds=config.store.patience_seconds,
            )
        )
    if url:
        return SqlStore(SqliteDatabase(reactor, sqlite_path(url), patience_seconds=config.store.patience_seconds))
    if config.demo:
        return MemoryStore()
    return SqlStore(
        SqliteDatabase(
            reactor,
            state_directory(config, environment) / FILE,
            in_state_directory=True,
            patience_seconds=config.store.patience_seconds,
        )
    )


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
