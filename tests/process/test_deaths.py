"""
The account of calls survives the death of the daemon: nothing is lost, and nothing is counted twice.
"""

from __future__ import annotations

from tests.process import databases, deaths


class SqliteTests(deaths.Deaths):
    """
    On one file.
    """

    database = staticmethod(databases.sqlite)


class PostgresTests(deaths.Deaths):
    """
    On one PostgreSQL.
    """

    database = staticmethod(databases.postgres)
