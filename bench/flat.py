"""
`python -m bench flat`: whether cost and memory grow with what a daemon has seen.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import click
from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from bench.flat_daemons import serving
from bench.flat_stock import Stock
from bench.load import wrk_missing
from bench.machine import described, two_cores
from bench.proxy import upstream_on
from bench.rounds import Cores
from dheera.boundaries import Query
from dheera.entities import Key
from dheera.keys import Secret
from dheera.settings import Config, Storage
from dheera.stores import make_stores, sqlite_path

FEW = 1000
"""
Keys of a store that is new, all of which call.
"""
KEEP_DAYS = 360
"""
While old lines are deleted.
"""
_TELL_SECONDS = 10.0
_NEW = "new"

Measured: TypeAlias = dict[str, dict[str, list[float]]]
"""
By the daemon, and by what was measured: what each round has given.
"""


@click.command()
@click.option("--rows", default=10_000_000, show_default=True, help="Lines of the ledger that has seen much.")
@click.option("--keys", default=100_000, show_default=True, help="Keys beside it.")
@click.option("--seconds", default=4.0, show_default=True, help="Length of each timed part.")
@click.option("--repeat", default=5, show_default=True, help="Rounds.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("~/.cache/dheera-bench"),
    show_default=True,
    help="Where the SQLite file is kept for the next time: 600 bytes for a line.",
)
@click.option("--url", help="A PostgreSQL in place of that file: empty, or filled by this command.")
@click.option("--new-url", help="An empty one, to compare with.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all of it here.")
def flat(
    *,
    rows: int,
    keys: int,
    seconds: float,
    repeat: int,
    folder: Path,
    url: str | None,
    new_url: str | None,
    json_file: Path | None,
) -> None:
    """
    Whether calls cost more, or memory grows, where a daemon has seen much: a year of calls, and many keys.
    """
    if (sentence := wrk_missing()) is not None:
        raise click.ClickException(sentence)
    if (url is None) != (new_url is None):
        raise click.ClickException("--url and --new-url go together.")
    place, stock = folder.expanduser(), Stock(keys, rows)
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dheera-flat-") as scratch:
        full = url or f"sqlite:///{place / f'{keys}-keys-{rows}-calls.sqlite'}"
        new = new_url or f"sqlite:///{Path(scratch) / 'new.sqlite'}"
        _filled([(full, stock), (new, Stock(FEW, 0))])
        cores = two_cores()
        measured, pages = _measure(full, new, stock, cores, seconds=seconds, repeat=repeat, scratch=Path(scratch))
    figures = {what: {name: _summary(each[what]) for name, each in measured.items()} for what in measured[_NEW]}
    click.echo(_table(figures))
    click.echo(_table(pages))
    if json_file is not None:
        document = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "stock": {"keys": keys, "rows": rows},
            "machine": described(cores),
            "measured": measured,
            "pages": pages,
        }
        json_file.write_text(json.dumps(document, indent=1) + "\n")


def _filled(wanted: Sequence[tuple[str, Stock]]) -> None:
    try:
        react(lambda reactor: Deferred.fromCoroutine(_fill(reactor, wanted)))
    except SystemExit as end:  # that is how it returns
        if end.code:
            raise


async def _fill(reactor: Any, wanted: Sequence[tuple[str, Stock]]) -> None:
    for url, stock in wanted:
        path = None if not url.startswith("sqlite") else sqlite_path(url)
        if path is not None and path.exists():
            continue
        # Under its name there is only a file that is full.
        filling = url if path is None else f"{url}.part"
        stores = make_stores(reactor, Config(store=Storage(url=Secret(filling), patience_seconds=60.0)), {})
        await stores.directory.open()
        _, known = await stores.directory.find(Key, Query(limit=1))
        if not known:
            await stock.fill(stores, _Progress(time.monotonic()))
        await stores.directory.close()
        if path is not None:
            sqlite_path(filling).rename(path)


@define(eq=False)
class _Progress:
    """
    Says now and then how far it is.
    """

    _told_at: float

    def __call__(self, what: str, many: int) -> None:
        if time.monotonic() - self._told_at >= _TELL_SECONDS:
            self._told_at = time.monotonic()
            click.echo(f"{many} {what} are there", err=True)


def _measure(
    full: str, new: str, stock: Stock, cores: Cores, *, seconds: float, repeat: int, scratch: Path
) -> tuple[Measured, dict[str, dict[str, float]]]:
    """
    Both in turns, and then the one that has seen much while it deletes.
    """
    proxy, load = cores.proxy, cores.load
    os.sched_setaffinity(0, {load})
    measured: Measured = {}
    with ExitStack() as stack:
        upstream, _ = stack.enter_context(upstream_on(load, scratch, tls=False))
        young = stack.enter_context(
            serving(_NEW, new, keys=FEW, upstream=upstream, core=proxy, scratch=scratch, keep_days=0)
        )
        with serving("full", full, keys=stock.keys, upstream=upstream, core=proxy, scratch=scratch, keep_days=0) as old:
            pages = {
                what: {_NEW: here, "full": there}
                for (what, here), there in zip(young.pages().items(), old.pages().values(), strict=True)
            }
            pages["start s"] = {_NEW: young.start_seconds, "full": old.start_seconds}
            turns = [(_NEW, young, FEW), (f"full, {FEW} keys", old, FEW), ("full, all keys", old, stock.keys)]
            for number in range(repeat + 1):
                for name, served, keys in turns:
                    click.echo(f"round {number} of {repeat}: {name}", err=True)
                    _note(measured, name, served.load(keys, seconds, scratch), warm=number > 0)
        with serving(
            "pruning", full, keys=stock.keys, upstream=upstream, core=proxy, scratch=scratch, keep_days=KEEP_DAYS
        ) as old:
            for number in range(repeat + 1):
                name = f"full, {FEW} keys, pruning"
                _note(measured, name, old.load(FEW, seconds, scratch), warm=number > 0)
    return measured, pages


def _note(measured: Measured, name: str, found: Mapping[str, float], *, warm: bool) -> None:
    if warm:
        for what, value in found.items():
            measured.setdefault(name, {}).setdefault(what, []).append(value)


def _summary(values: Sequence[float]) -> str:
    return f"{median(values):.4g} ({min(values):.4g}-{max(values):.4g})"


def _table(rows: Mapping[str, Mapping[str, object]]) -> str:
    columns = list(next(iter(rows.values())))
    lines = [["", *columns]]
    for what, cells in rows.items():
        values = [cells[column] for column in columns]
        lines.append([what, *(f"{each:.4g}" if isinstance(each, float) else str(each) for each in values)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
