"""
The machine that measures: its name for the page, and what it must lend us.
"""

from __future__ import annotations

import os
import platform
import re
import resource
from pathlib import Path

import click

from bench.rounds import Cores

# A thousand streams through a proxy are two thousand sockets of it.
_FILES_WANTED = 8192


def two_cores() -> Cores:
    """
    One for the proxy, one for all the rest.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) == 1:
        click.echo(
            "There is one core only: proxy and load share it. CPU figures hold, all others do not.",
            err=True,
        )
    return Cores(proxy=allowed[0], load=allowed[min(1, len(allowed) - 1)])


def allow_many_files() -> None:
    """
    As many open files as we may have, for us and what we start.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < _FILES_WANTED:
        click.echo(
            f"Only {hard} files may be open (ulimit -n); 1000 streams want {_FILES_WANTED}.",
            err=True,
        )


def described(cores: Cores) -> dict[str, str]:
    """
    What figures belong to.
    """
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores;"
        f" proxy on core {cores.proxy}, load and upstream on core {cores.load}",
        "memory": f"{memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "load average before": f"{os.getloadavg()[0]:.2f}",
    }
