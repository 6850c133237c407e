"""
Allowances hold over any number of daemons, and survive the death of each.
"""

from __future__ import annotations

from tests.process import budgets, databases, kills


class SqliteTests(budgets.Budgets, kills.Kills):
    """
    On one file.
    """

    database = staticmethod(databases.sqlite)


class PostgresTests(budgets.Budgets, kills.Kills):
    """
    On one PostgreSQL.
    """

    database = staticmethod(databases.postgres)
