"""
Sinks: told, or tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from dheera.commands.checkup.findings import Finding
from dheera.commands.checkup.rounds import Check
from dheera.entities import now
from dheera.sinks.catalogue import Configured
from dheera.sinks.trying import Tried, try_sink

NAME = "sinks"
_HANGS = "Look whether somebody answers there; its timeout_seconds may be longer than --timeout, too."


def sink_checks(reactor: Any, configured: Sequence[Configured], node: str, *, send: bool) -> Iterator[Check]:
    """
    The checks of them.

    :param send: try each with a record.
    """
    # What goes to standard output there goes to ours here, among the findings.
    tried = [each for each in configured if each.factory.kind != "stdout"] if send else []
    if not tried:
        yield Check(name=NAME, look=partial(_list, configured), hangs="")
    for each in tried:
        yield Check(name=f"sink {each.name}", look=partial(_try, reactor, each, node), hangs=_HANGS)


async def _list(configured: Sequence[Configured]) -> Sequence[Finding]:
    if not configured:
        return [Finding.ok(NAME, "none are configured; the ledger has all calls")]
    names = ", ".join(f"{each.name} ({each.factory.kind})" for each in configured)
    return [Finding.ok(NAME, f"{names}; nothing was sent, which --send does")]


async def _try(reactor: Any, configured: Configured, node: str) -> Sequence[Finding]:
    return [judged(await try_sink(reactor, configured, node, now))]


def judged(tried: Tried) -> Finding:
    """
    What came of a trial.
    """
    name = f"sink {tried.name}"
    if tried.arrived:
        return Finding.ok(name, f"a record arrived in {tried.seconds:.2f} s; look there for {tried.sent}")
    mend = f"Mend [sinks.{tried.name}], or what is said to be wrong there."
    return Finding.fail(name, f"a record did not arrive: {tried.reason.rstrip('.')}", mend)
