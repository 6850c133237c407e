"""
The command that measures: dheera and others in one run, as tables and, if wanted, as JSON.
"""

from __future__ import annotations

import datetime as dt
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from bench.document import PLAIN, TLS, Document
from bench.installing import NotInstalled, Tools
from bench.load import wrk_missing
from bench.machine import allow_many_files, described, two_cores
from bench.proxies import PROXIES
from bench.proxy import Proxy
from bench.rounds import Rounds
from bench.sections import SECTIONS
from bench.tables import as_text

_QUICK_SECONDS = 1.0
_MODES = {"off": (PLAIN,), "on": (TLS,), "both": (PLAIN, TLS)}

_HELP = """
Measure dheera beside nginx, HAProxy, Envoy, TensorZero, Portkey and LiteLLM: ratios hold where absolute figures do not.

What is missing is installed below the folder first, once; what cannot be had is left out, and a sentence says why.
One round of all takes about half an hour, with --quick a quarter of one; --of and --only make it shorter. Nothing else
should run meanwhile.
"""


def _default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dheera-bench"


@click.command("measure", help=_HELP)
@click.option("--seconds", default=3.0, show_default=True, help="Length of each timed part.")
@click.option("--quick", is_flag=True, help="One second for each timed part: a first look.")
@click.option("--only", type=click.Choice(list(SECTIONS)), multiple=True, help="One section; may be repeated.")
@click.option("--of", "wanted", type=click.Choice(list(PROXIES)), multiple=True, help="One program; may be repeated.")
@click.option(
    "--tls",
    type=click.Choice(list(_MODES)),
    default="both",
    show_default=True,
    help="TLS between proxy and upstream, for the main figures.",
)
@click.option(
    "--repeat",
    default=1,
    type=click.IntRange(1, 100),
    show_default=True,
    help="Rounds: the tables show the median, and the range in brackets.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all of it here.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=_default_folder,
    help="Where the others are installed, and stay.  [default: ~/.cache/dheera-bench]",
)
@click.option("--setup-only", is_flag=True, help="Install, say what can be measured, and end.")
def measure(
    *,
    seconds: float,
    quick: bool,
    only: Sequence[str],
    wanted: Sequence[str],
    tls: str,
    repeat: int,
    json_file: Path | None,
    folder: Path,
    setup_only: bool,
) -> None:
    """
    Measure, print, and end with 1 if a figure could not be had.
    """
    if (sentence := wrk_missing()) is not None:
        raise click.ClickException(sentence)
    # Like Ctrl-C: every `with` on the way out ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tools = Tools(folder.expanduser().resolve())
    versions, left_out = _versions([PROXIES[name] for name in PROXIES if not wanted or name in wanted], tools)
    if setup_only:
        return
    allow_many_files()
    cores = two_cores()
    os.sched_setaffinity(0, {cores.load})
    run = {
        "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": described(cores),
        "versions": versions,
        "seconds": min(seconds, _QUICK_SECONDS) if quick else seconds,
    }
    with tempfile.TemporaryDirectory(prefix="dheera-bench-") as scratch:
        rounds = Rounds(
            cores=cores,
            proxies=[PROXIES[name] for name in versions],
            sections=[name for name in SECTIONS if not only or name in only],
            modes=_MODES[tls],
            seconds=min(seconds, _QUICK_SECONDS) if quick else seconds,
            tools=tools,
            scratch=Path(scratch),
        )
        try:
            for number in range(1, repeat + 1):
                click.echo(f"round {number} of {repeat}", err=True)
                rounds.measure(number)
        finally:  # what was measured before it was stopped is worth having
            document = Document(
                runs=[{**run, "rounds": repeat}],
                figures=rounds.summaries(),
                left_out=left_out,
                problems=rounds.problems,
            )
            if json_file is not None:
                document.write(json_file)
            _print(document)
    if document.problems:
        sys.exit(1)


def _versions(proxies: Sequence[Proxy], tools: Tools) -> tuple[dict[str, str], dict[str, str]]:
    versions, left_out = {}, {}
    for proxy in proxies:
        try:
            versions[proxy.name] = proxy.version(tools)
        except NotInstalled as problem:
            left_out[proxy.name] = str(problem)
            click.echo(f"{proxy.name} is left out: {problem}", err=True)
        else:
            click.echo(f"{proxy.name}: {versions[proxy.name]}", err=True)
    return versions, left_out


def _print(document: Document) -> None:
    run = document.runs[-1]
    for name, value in (run["machine"] | run["versions"]).items():
        click.echo(f"{name}: {value}")
    for mode, programs in document.figures.items():
        click.echo(f"\n== upstream: {mode} ==\n\n{as_text(programs)}")
    for name, sentence in document.left_out.items():
        click.echo(f"\nLeft out: {name}: {sentence}")
    for problem in document.problems:
        click.echo(f"\nNo figure: {problem}", err=True)
