"""
The command that measures: dheera and others in one run, as a table and, if wanted, as JSON.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from bench.figures import plain, table
from bench.load import wrk_missing
from bench.proxies import PROXIES
from bench.rounds import Cores, Rounds
from bench.sections import SECTIONS

_SUBJECT = "dheera"
_YARDSTICK = "nginx"
# A thousand streams through a proxy are two thousand sockets of it.
_FILES_WANTED = 8192
_QUICK_SECONDS = 2.0


@click.command("measure", help="Measure dheera beside nginx: ratios hold where absolute figures do not.")
@click.option("--seconds", default=6.0, show_default=True, help="Length of each timed part.")
@click.option("--quick", is_flag=True, help="Two seconds for each timed part: a first look.")
@click.option(
    "--only",
    type=click.Choice(sorted(SECTIONS)),
    multiple=True,
    help="One section; may be repeated. Default: all.",
)
@click.option(
    "--of",
    "wanted",
    type=click.Choice([proxy.name for proxy in PROXIES]),
    multiple=True,
    help="One program; may be repeated. Default: all that can be measured here.",
)
@click.option("--tls", is_flag=True, help="TLS between proxy and upstream, as in production.")
@click.option(
    "--repeat",
    default=1,
    type=click.IntRange(1, 100),
    show_default=True,
    help="Rounds: the table shows the median, and the range in brackets.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all of it here.")
def measure(
    *,
    seconds: float,
    quick: bool,
    only: Sequence[str],
    wanted: Sequence[str],
    tls: bool,
    repeat: int,
    json_file: Path | None,
) -> None:
    """
    Measure, print, and end with 1 if a figure could not be had.
    """
    if (sentence := wrk_missing()) is not None:
        raise click.ClickException(sentence)
    # Like Ctrl-C: every `with` on the way out ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if quick:
        seconds = min(seconds, _QUICK_SECONDS)
    _allow_many_files()
    cores = _two_cores()
    os.sched_setaffinity(0, {cores.load})
    proxies = []
    for proxy in [each for each in PROXIES if not wanted or each.name in wanted]:
        if (sentence := proxy.missing()) is not None:
            click.echo(sentence, err=True)
        else:
            proxies.append(proxy)
    machine = {**_machine(cores), **{proxy.name: proxy.version() for proxy in proxies}}
    with tempfile.TemporaryDirectory(prefix="dheera-bench-") as scratch:
        rounds = Rounds(
            cores=cores,
            proxies=proxies,
            sections=[name for name in SECTIONS if not only or name in only],
            seconds=seconds,
            tls=tls,
            scratch=Path(scratch),
        )
        for number in range(1, repeat + 1):
            click.echo(f"round {number} of {repeat}", err=True)
            rounds.measure(number)
    measured = rounds.summaries()
    click.echo("\n".join(f"{name}: {value}" for name, value in machine.items()))
    click.echo(f"TLS to the upstream: {'yes' if tls else 'no'}; rounds: {repeat}\n")
    click.echo(table(measured, subject=_SUBJECT, yardstick=_YARDSTICK))
    for problem in rounds.problems:
        click.echo(f"\nNo figure: {problem}", err=True)
    if json_file is not None:
        document = {
            "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "machine": machine,
            "tls": tls,
            "seconds": seconds,
            **plain(measured, subject=_SUBJECT, yardstick=_YARDSTICK),
            "problems": rounds.problems,
        }
        json_file.write_text(json.dumps(document, indent=1) + "\n")
    if rounds.problems:
        sys.exit(1)


def _two_cores() -> Cores:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) == 1:
        click.echo(
            "There is one core only: proxy and load share it. CPU figures hold, all others do not.",
            err=True,
        )
    return Cores(proxy=allowed[0], load=allowed[min(1, len(allowed) - 1)])


def _allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < _FILES_WANTED:
        click.echo(
            f"Only {hard} files may be open (ulimit -n); 1000 streams want {_FILES_WANTED}.",
            err=True,
        )


def _machine(cores: Cores) -> dict[str, str]:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return {
        "processor": f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores;"
        f" proxy on core {cores.proxy}, load and upstream on core {cores.load}",
        "kernel": f"{platform.system()} {platform.release()}",
        "load average before": f"{os.getloadavg()[0]:.2f} (others' work spoils all figures but CPU)",
    }
