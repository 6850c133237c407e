"""
The schema's history: numbered files, one folder for each sort of database.
"""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"(\d{4})-[a-z0-9-]+\.sql")


def migrations(database: str) -> list[tuple[int, str]]:
    """
    What brings an empty database up to date: versions 1, 2, 3 ..., each with the statements that lead to it.

    :param database: ``sqlite`` or ``postgres``.
    """
    folder = files("dheera.stores") / "schema" / database
    named = sorted((match[1], each) for each in folder.iterdir() if (match := _NAME.fullmatch(each.name)))
    return [(int(number), each.read_text(encoding="utf-8")) for number, each in named]
