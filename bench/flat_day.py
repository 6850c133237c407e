"""
`python -m bench day`: what calls cost, and what lives, in each hour of a day that takes minutes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from time import process_time

import click

from bench.day import HOURS, Day, beginning, living, log_nothing
from bench.guard_works import Yardstick
from bench.kernel import reading

MOST_CPU = 0.15
MOST_ENTRIES = 0.02
"""
By how much the last hours may be above the first: what is measured of CPU time is never quite the same.
"""
LOOKS = 6
"""
First and last hours that are compared.
"""
FILLING = 6
"""
Hours before them, in which what remembers names is filled: ten thousand of each sort.
"""
_EVERY = 20


@click.command()
@click.option("--calls", default=200_000, show_default=True, help="In the whole day.")
@click.option("--keys", default=200, show_default=True, help="At each time; some are replaced in each hour.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write each hour here.")
def day(*, calls: int, keys: int, json_file: Path | None) -> None:
    """
    Whether calls cost more at the end of a day than at its beginning, or leave more behind.
    """
    log_nothing()
    hours = []
    with (
        tempfile.TemporaryDirectory(prefix="dheera-day-") as folder,
        beginning(Path(folder), keys=keys, names=sys.maxsize, yesterday=calls) as passing,
    ):
        for number in range(1, HOURS + 1):
            hours.append(_hour(passing, calls // HOURS))
            click.echo(f"hour {number}: " + ", ".join(f"{name} {value:.6g}" for name, value in hours[-1].items()))
    if json_file is not None:
        json_file.write_text(json.dumps(hours, indent=1) + "\n")
    grown = {name: _growth([each[name] for each in hours]) for name in hours[0]}
    click.echo("last hours beside first: " + ", ".join(f"{name} {more:+.1%}" for name, more in grown.items()))
    if grown["CPU beside the yardstick's"] > MOST_CPU or grown["entries"] > MOST_ENTRIES:
        sys.exit(1)


def _hour(passing: Day, calls: int) -> dict[str, float]:
    yardstick = Yardstick()
    measure, before, start = 0.0, passing.made, process_time()
    for moment, _ in enumerate(passing.hour(calls)):
        if moment % _EVERY == 0:
            began = process_time()
            yardstick()
            measure += (process_time() - began) / yardstick.units
    looks = moment // _EVERY + 1
    seconds = process_time() - start - measure * yardstick.units
    lives = living()
    return {
        "CPU us per call": seconds / (passing.made - before) * 1e6,
        "CPU beside the yardstick's": seconds / (passing.made - before) / (measure / looks),
        "entries": lives.pop("entries"),
        "objects": lives.total(),
        "memory MiB": reading(os.getpid()).own_kib / 1024,
    }


def _growth(values: Sequence[float]) -> float:
    return mean(values[-LOOKS:]) / mean(values[FILLING : FILLING + LOOKS]) - 1
