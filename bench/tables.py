"""
Figures as tables: a row for each program, a column for each figure, in plain text and in Markdown.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.document import SUBJECT, YARDSTICK
from bench.figures import TABLES, Programs, Table, ratio

# Of these the ratio to the yardstick is what to look at.
_COMPARED = frozenset({"cpu_us_per_request", "cpu_us_per_event"})
_NONE = "-"


def rows(table: Table, programs: Programs, names: Sequence[str]) -> list[list[str]]:
    """
    The head and one row for each program that has any of these figures; the head alone if there is none.
    """
    figures = [each for each in table.figures if any(each.key in programs.get(name, {}) for name in names)]
    yardstick = programs.get(YARDSTICK, {})
    head = [""]
    for figure in figures:
        head.append(figure.title)
        if figure.key in _COMPARED:
            head.append(f"x {YARDSTICK}")
    found = [head]
    for name in names:
        measured = programs.get(name, {})
        if not any(figure.key in measured for figure in figures):
            continue
        row = [name]
        for figure in figures:
            summary = measured.get(figure.key)
            row.append(_NONE if summary is None else summary.cell(figure.digits))
            if figure.key in _COMPARED:
                times = ratio(summary, yardstick.get(figure.key))
                row.append(_NONE if times is None else f"{times:.2f}")
        found.append(row)
    return found


def as_text(programs: Programs) -> str:
    """
    All tables, for a terminal.
    """
    parts = []
    for table in TABLES:
        found = rows(table, programs, list(programs))
        if len(found) > 1:
            parts.append(f"{table.title}\n{_aligned(found)}")
    return "\n\n".join(parts)


def _aligned(found: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*found, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in found
    )


def as_markdown(table: Table, programs: Programs, names: Sequence[str]) -> str:
    """
    One table of some programs, for a page; the empty string if there is nothing to show.
    """
    found = rows(table, programs, names)
    if len(found) == 1:
        return ""
    lines = [found[0], ["---", *("--:" for _ in found[0][1:])]]
    lines += [[f"**{row[0]}**" if row[0] == SUBJECT else row[0], *row[1:]] for row in found[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
