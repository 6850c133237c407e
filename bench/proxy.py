"""
What a measured proxy is, and how one is started. The proxies themselves are in `bench.proxies`.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from attrs import field, frozen

from bench.certificates import authority_and_server
from bench.installing import Tools
from bench.load import Place
from bench.programs import NotStarted, Program, program
from bench.upstream import CREDENTIAL

CLIENT_CREDENTIAL = "Bearer sk-of-the-client"
_START_SECONDS = 90.0


@frozen(kw_only=True)
class Plan:
    """
    What to run for a proxy, and where it then serves.

    :param settle: done as soon as it listens, before the first completion is asked for; gives the place, which not
        every proxy lets us choose; raises ``OSError`` until then.
    """

    arguments: Sequence[str]
    place: Place
    environment: Mapping[str, str] = field(factory=dict)
    settle: Callable[[Place], Place] = lambda place: place


class Proxy(Protocol):
    """
    One way to stand between a client and Mistral.
    """

    @property
    def name(self) -> str:
        """The column's title, and what `--of` takes."""
        ...

    @property
    def sections(self) -> frozenset[str] | None:
        """The only ones that are measured of it; None: all."""
        ...

    @property
    def pace(self) -> float:
        """The part of the usual events a second that its streams get: a slow one would only show its queue."""
        ...

    @property
    def spread(self) -> bool:
        """Whether it has all cores, those of the load too: what several processes are for."""
        ...

    def version(self, tools: Tools) -> str:
        """
        What is measured, for the head of the table; it is installed by then.

        :raises NotInstalled: it cannot be had here.
        """
        ...

    def plan(self, upstream: Place, *, port: int, scratch: Path, tools: Tools) -> Plan:
        """What to run so that it serves `upstream` on the loopback interface."""
        ...


@contextmanager
def upstream_on(core: int, scratch: Path, *, tls: bool) -> Iterator[tuple[Place, Program]]:
    """
    The stand-in for Mistral, serving while the block lasts.
    """
    authority, server = authority_and_server(scratch) if tls else (None, None)
    with program(
        [sys.executable, "-m", "bench.upstream", *([str(server)] if server else [])],
        cores=frozenset({core}),
        log=scratch / "upstream.log",
        piped=True,
    ) as running:
        found = re.fullmatch(r"PORT (\d+)", running.read_line())
        if found is None:
            raise NotStarted(f"the stand-in for Mistral did not start:\n{running.said()}")
        place = Place(
            url=f"{'https' if tls else 'http'}://127.0.0.1:{found[1]}/v1",
            credential=CREDENTIAL,
            ca_file=authority,
        )
        yield place, running


@contextmanager
def proxy_on(
    cores: frozenset[int], scratch: Path, proxy: Proxy, upstream: Place, tools: Tools
) -> Iterator[tuple[Place, Program]]:
    """
    A proxy in front of `upstream`, serving while the block lasts.

    :raises NotStarted: it ended, or answered no completion in time.
    """
    plan = proxy.plan(upstream, port=_free_port(), scratch=scratch, tools=tools)
    with program(
        plan.arguments,
        cores=cores,
        log=scratch / f"{proxy.name}.log",
        environment=plan.environment,
    ) as running:
        yield _await_completion(proxy.name, plan, running), running


def _await_completion(name: str, plan: Plan, running: Program) -> Place:
    deadline = time.monotonic() + _START_SECONDS
    answer = "no connection"
    place: Place | None = None
    while time.monotonic() < deadline:
        if running.ended():
            raise NotStarted(f"{name} ended at its start:\n{running.said()}")
        try:
            if place is None:
                place = plan.settle(plan.place)
            answer = _completion(place)
        except (OSError, http.client.HTTPException) as problem:
            answer = repr(problem)
        if place is not None and answer.startswith("200"):
            return place
        time.sleep(0.1)
    raise NotStarted(f"{name} did not serve in time: {answer}\n{running.said()}")


def _completion(place: Place) -> str:
    parts = urlsplit(place.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("POST", f"{parts.path}/chat/completions", json.dumps(place.chat()), place.headers())
        response = connection.getresponse()
        return f"{response.status} {response.read(500)!r}"
    finally:
        connection.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
