"""
CSV for spreadsheets, which take some texts for formulas.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from decimal import Decimal
from io import StringIO

from dheera.commands.tables import clean

_FORMULA = ("=", "+", "-", "@")


def sheet(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """
    The lines of a CSV file, the names of the columns first. Numbers are written as they are, ``None`` as nothing, and
    texts without signs that a terminal would obey; one that a spreadsheet would gets an apostrophe in front: names come
    from whoever calls.
    """
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:f}"
    text = clean(str(value))
    return f"'{text}" if isinstance(value, str) and text.lstrip().startswith(_FORMULA) else text
