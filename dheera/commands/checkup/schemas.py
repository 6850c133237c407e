"""
Whether the tables in a database are those that this dheera knows.
"""

from __future__ import annotations

from dheera.commands.checkup.findings import Finding
from dheera.stores.migrations import migrations


def judged_schema(name: str, place: str, version: int, sort: str, *, may_create: bool = True) -> Finding:
    """
    What the version of the schema means; 0 if there are no tables.

    :param place: what is told of where it is.
    :param sort: of the database: ``PostgreSQL``, ``SQLite``.
    :param may_create: whether tables may be made there.
    """
    known = migrations("postgres" if sort == "PostgreSQL" else "sqlite")[-1][0]
    words = f"{place}, schema version {version}"
    if version > known:
        mend = "Run the newer dheera that made it, or name another database: there is no way back."
        return Finding.fail(name, f"{words}, and this dheera knows none above {known}", mend)
    if version == known:
        return Finding.ok(name, words)
    if not may_create:
        found = f"{place}, and its user may not make tables, of which some are missing"
        mend = "Let it create in that schema, or let another user start dheera once."
        return Finding.fail(name, found, mend)
    if not version:
        return Finding.ok(name, f"{place}, empty: the first start makes its tables")
    mend = "The next start brings it up to date, and there is no way back: make a backup first."
    return Finding.warn(name, f"{words}, and this dheera has {known}", mend)
