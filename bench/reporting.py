"""
The command that shows what was measured: tables, one JSON of several, charts, and the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from bench.charts import write_plots
from bench.document import read, together
from bench.page import NoMarkers, rewritten, section
from bench.tables import as_text

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("report")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "json_file", type=_FILE, help="Write all of them here as one.")
@click.option("--plots", type=click.Path(path_type=Path, file_okay=False), help="Write charts into this folder.")
@click.option("--write", "page", type=_FILE, help="Put figures and charts between the markers of this page.")
def report(*, runs: Sequence[Path], json_file: Path | None, plots: Path | None, page: Path | None) -> None:
    """
    Show RUNS, files that --json of a measurement wrote. Several are put together: rounds of the same figure add up.
    """
    document = together([read(file) for file in runs])
    if json_file is not None:
        document.write(json_file)
    written = write_plots(document, plots) if plots is not None else {}
    if page is None:
        for mode, programs in document.figures.items():
            click.echo(f"== upstream: {mode} ==\n\n{as_text(programs)}\n")
        return
    folder = plots.resolve().relative_to(page.resolve().parent) if plots is not None else Path()
    try:
        page.write_text(rewritten(page.read_text(), section(document, written, folder=folder)))
    except NoMarkers as problem:
        raise click.ClickException(str(problem)) from None
