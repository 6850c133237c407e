"""
`python -m bench guard`: whether an exchange, or an event of a stream, has become dearer than it was.

Two guards. Calls of functions are counted, which is exact. CPU time is compared with that of other work in Python, in
the same process and in turns, since no machine is as fast as it was a minute ago.
"""

from __future__ import annotations

import cProfile
import gc
import platform
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import process_time

import click
from attrs import frozen

from bench.guard_works import Work, Yardstick, works

FILE = Path(__file__).with_name("guard.toml")
CALLS_MARGIN = 0.03
CPU_MARGIN = 0.1
"""
A quarter more, planted, was seen as 13 to 18 % on a machine with four times the work that it has cores for; of work
that was the same, the least of four attempts was never more than 7 % above the middle.
"""
STRANGE_MARGIN = 0.4
"""
Of CPU time, on another processor than that on which the figures were made, whose caches are others, or by another build
of Python: one that was optimised by a profile of its use (PGO) gains a fifth more with the yardstick than with a call.
"""
ATTEMPTS = 5
"""
How often something may be too dear before it is. Noise, too, makes work dearer, but not each time.
"""
TURNS = 100
_COUNTED = 8

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
"""
Of Python: each calls other functions for the same work.
"""
HEAD = """\
# What a call, and an event, cost when somebody looked last: functions that were called for one, and its CPU time in
# that of the yardstick's (bench/guard_works.py). Written by
#
#     python -m bench guard --store
#
# which belongs into the commit that makes them cheaper, or dearer for a reason that its message tells.
"""
ADVICE = (
    "Find what has made it dearer, and mend that. If it is worth its price, say so in the commit, with what "
    "`python -m bench guard --store` has written."
)

Figures = Mapping[str, float]
"""
By the names of the works.
"""


@frozen(kw_only=True)
class Stored:
    """
    What it was when somebody looked last, with this version of Python.

    :param build: of Python, as it tells itself.
    :param calls: of functions, for each unit.
    :param cpu: time for each unit, in that of the yardstick's.
    """

    made: str
    processor: str
    build: str
    calls: Figures
    cpu: Figures

    @property
    def cpu_margin(self) -> float:
        """
        What more of CPU time is let pass here.
        """
        return CPU_MARGIN if (self.processor, self.build) == (_processor(), _build()) else STRANGE_MARGIN


def dearer(found: Figures, stored: Figures, margin: float) -> dict[str, float]:
    """
    By how much what was *found* is more than what is *stored*, where that is more than *margin*. What is not stored is
    as it may be.
    """
    grown = {name: value / stored[name] - 1 for name, value in found.items() if name in stored}
    return {name: more for name, more in grown.items() if more > margin}


def dearer_each_time(measure: Callable[[], Figures], stored: Figures, margin: float) -> dict[str, float]:
    """
    As `dearer`, of the least that was found in some attempts; there is no other one when nothing is too dear.
    """
    least: dict[str, float] = {}
    grown: dict[str, float] = {}
    for _ in range(ATTEMPTS):
        least = {name: min(value, least.get(name, value)) for name, value in measure().items()}
        grown = dearer(least, stored, margin)
        if not grown:
            break
    return grown


def calls(measured: Mapping[str, Work]) -> dict[str, float]:
    """
    How many functions, in Python and built in, are called for one unit of each.
    """
    return {name: round(_count(work) / work.units, 1) for name, work in measured.items()}


def cpu(measured: Mapping[str, Work]) -> dict[str, float]:
    """
    The CPU time of a unit of each, in that of the yardstick's: the middle of many turns, in each of which both were at
    work one right after the other.
    """
    yardstick = Yardstick()
    seen: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(TURNS):
        for name, work in measured.items():
            measure = _seconds(yardstick)
            seen[name].append(_seconds(work) / measure)
    return {name: round(median(some), 4) for name, some in seen.items()}


def _count(work: Work) -> float:
    work()  # what is made now and then has been made
    gc.disable()  # what that calls comes at any time
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(_COUNTED):
        work()
    profile.disable()
    gc.enable()
    return sum(entry.callcount for entry in profile.getstats()) / _COUNTED


def _seconds(work: Work) -> float:
    start = process_time()
    work()
    return (process_time() - start) / work.units


@click.command()
@click.option("--store", is_flag=True, help="From now on it is to be as it is now.")
def guard(*, store: bool) -> None:
    """
    Fail if a call, or an event, has become dearer than bench/guard.toml says.
    """
    everything = read(FILE.read_text())
    with works() as measured:
        if store:
            everything[VERSION] = look(measured)
            FILE.write_text(written(everything))
            click.echo(f"{FILE} says so now.")
            return
        if VERSION not in everything:
            click.echo(f"Nothing is stored for Python {VERSION}: python -m bench guard --store")
            return
        stored = everything[VERSION]
        margin = stored.cpu_margin
        dear_calls = dearer(calls(measured), stored.calls, CALLS_MARGIN)
        dear_cpu = dearer_each_time(lambda: _told(cpu(measured), stored.cpu), stored.cpu, margin)
    complaints = [
        *_complaints("calls of functions", dear_calls, stored.calls, CALLS_MARGIN),
        *_complaints("CPU time", dear_cpu, stored.cpu, margin),
    ]
    if complaints:
        click.echo("\n".join([*complaints, ADVICE]), err=True)
        sys.exit(1)
    click.echo(f"Calls and events are no dearer than on {stored.made}.")


def read(text: str) -> dict[str, Stored]:
    """
    What is stored, by versions of Python.
    """
    return {version: Stored(**said) for version, said in tomllib.loads(text).items()}


def written(everything: Mapping[str, Stored]) -> str:
    """
    The same as a text.
    """
    lines = [HEAD]
    for version, stored in sorted(everything.items()):
        lines += [f'["{version}"]', *(f'{name} = "{getattr(stored, name)}"' for name in ("made", "processor", "build"))]
        for title, figures in (("calls", stored.calls), ("cpu", stored.cpu)):
            lines += ["", f'["{version}".{title}]', *(f'"{name}" = {value}' for name, value in figures.items())]
        lines.append("")
    return "\n".join(lines)


def look(measured: Mapping[str, Work]) -> Stored:
    """
    What it is now.
    """
    looks = [_told(cpu(measured)) for _ in range(ATTEMPTS)]
    return Stored(
        made=f"{datetime.now(UTC):%Y-%m-%d}",
        processor=_processor(),
        build=_build(),
        calls=calls(measured),
        cpu={name: median(look[name] for look in looks) for name in measured},
    )


def _told(found: Figures, stored: Figures | None = None) -> Figures:
    beside = "" if stored is None else f"; stored: {_in_words(stored)}"
    click.echo(f"CPU time beside the yardstick's: {_in_words(found)}{beside}", err=True)
    return found


def _in_words(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


def _complaints(what: str, dear: Figures, stored: Figures, margin: float) -> list[str]:
    return [
        f"{name}: {more:.0%} more {what} (now {stored[name] * (1 + more):.4g}, before {stored[name]:.4g}; "
        f"{margin:.0%} more are let pass)"
        for name, more in dear.items()
    ]


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _build() -> str:
    return f"{platform.python_version()} of {platform.python_build()[1]}, {platform.python_compiler()}"
