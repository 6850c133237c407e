"""
Databases to start daemons on, each new and empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from tempfile import TemporaryDirectory
from typing import TypeAlias

from tests.postgres import server

Database: TypeAlias = Callable[[], AbstractContextManager[str]]
"""
Inside ``with`` there is one, at the ``DATABASE_URL`` that is given.
"""


@contextmanager
def sqlite() -> Iterator[str]:
    """
    A file.
    """
    with TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/dheera.sqlite"


@contextmanager
def postgres() -> Iterator[str]:
    """
    A database of the server that this process has.
    """
    name = server().fresh()
    try:
        yield server().url(name)
    finally:
        server().drop(name)
