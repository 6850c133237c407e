"""
The generated part of docs/performance.md, between two markers: all that a new run changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.charts import PARTS
from bench.document import PLAIN, SUBJECT, TLS, Document
from bench.figures import TABLES
from bench.tables import as_markdown
from bench.targets import TARGETS

BEGIN = "<!-- figures: written by `python -m bench report --write` -->"
END = "<!-- end of figures -->"
_SIDES = {PLAIN: "HTTP to the upstream", TLS: "TLS to the upstream"}


class NoMarkers(Exception):
    """
    The page does not say where its generated part is.
    """


def rewritten(page: str, section: str) -> str:
    """
    The page with this section in place of the one between the markers.

    :raises NoMarkers: it has none, or in the wrong order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NoMarkers(f"The page wants a line {BEGIN} and, below it, a line {END}.")
    return f"{before}{BEGIN}\n\n{section.strip()}\n\n{END}{after}"


def section(document: Document, plots: Mapping[str, str], *, folder: Path) -> str:
    """
    Where the figures are from, targets, charts, and tables.

    :param plots: files and titles of charts.
    :param folder: theirs, as seen from the page.
    """
    names = document.programs()
    others = [name for name in names if not name.startswith(f"{SUBJECT}-")]
    variants = [name for name in (*PARTS, *names) if name.startswith(SUBJECT) and name in names]
    parts = ["### Where they are from", _origin(document), "### Against what was wanted", _targets(document)]
    parts.append("### Beside others")
    parts += [f"![{title}]({(folder / file).as_posix()})" for file, title in plots.items()]
    for mode, programs in document.figures.items():
        for table in TABLES:
            if text := as_markdown(table, programs, [name for name in others if name in programs]):
                parts += [f"**{table.title}** ({_SIDES[mode]})", text]
    parts.append("### What each part costs")
    programs = document.figures.get(PLAIN, {})
    for table in TABLES:
        if text := as_markdown(table, programs, list(dict.fromkeys(variants))):
            parts += [f"**{table.title}**", text]
    return "\n\n".join(part for part in parts if part)


def _origin(document: Document) -> str:
    lines = []
    for run in document.runs:
        machine = "; ".join(f"{name} {value}" for name, value in run["machine"].items())
        versions = ", ".join(f"{name} {value}" for name, value in _short(run["versions"]).items())
        lines.append(f"- {run['when']}, {run['rounds']} rounds, {run['seconds']:g} s each part: {machine}. {versions}.")
    lines += [f"- {name} is not here: {sentence}" for name, sentence in document.left_out.items()]
    lines += [f"- No figure: {_first_line(problem)}" for problem in document.problems]
    return "\n".join(lines)


def _short(versions: Mapping[str, str]) -> dict[str, str]:
    # All variants of the subject are of its version.
    return {name: value for name, value in versions.items() if not name.startswith(f"{SUBJECT}-")}


def _first_line(problem: str) -> str:
    return problem.strip().splitlines()[0]


def _targets(document: Document) -> str:
    rows: Sequence[list[str]] = [row for target in TARGETS if (row := target.row(document)) is not None]
    if not rows:
        return ""
    lines = [["with everything on", "wanted", "seen", "met"], ["---"] * 4, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
