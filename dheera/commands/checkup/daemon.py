"""
The daemon that runs with this configuration: whether it does, how it is, and what it says of ledger and sinks.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any

from twisted.internet.error import ConnectError, DNSLookupError
from twisted.web.client import ResponseFailed

from dheera import __version__
from dheera.commands.checkup.addresses import Address, addresses_of
from dheera.commands.checkup.findings import Finding
from dheera.commands.checkup.questions import Reply, ask
from dheera.commands.checkup.rounds import Check, on_thread
from dheera.entities import now
from dheera.keys import Secret
from dheera.settings import Config

NAME = "daemon"
KEY = "master key"
LATE_SECONDS = 60.0
"""
How old the oldest record may be that the ledger or a sink has not got.
"""
_ABSENT = (ConnectError, DNSLookupError, ResponseFailed)
_START = "Start it: dheera_ai, with the options of this command, or systemctl start dheera."
_STUCK = "Look at its log; if it has none of late it hangs: stop it with SIGTERM, and start it again."
_STATES: Mapping[str, tuple[str, str]] = {
    "draining": ("warn", "If nobody has stopped it, look at its log."),
    "database away": ("fail", "What the line about the store says will mend that; it heals by itself then."),
    "spool not writable": ("fail", "Make room on the disk of the state directory, or let it write there."),
}
"""
What readiness says beside "ready": how bad that is, and what to do.
"""


def daemon_checks(reactor: Any, config: Config, seconds: float) -> Iterator[Check]:
    """
    The checks of it.

    :param seconds: that a connection may take.
    """
    addresses, unknown = addresses_of(config.listen)
    if unknown:
        yield Check(name=NAME, look=partial(_hidden, unknown), hangs="")
    for each in addresses:
        yield Check(name=NAME, look=partial(look_at_daemon, reactor, each, seconds), hangs=_STUCK)
    for each in addresses[:1]:
        look = partial(look_inside, reactor, each, config.master_key, seconds)
        yield Check(name="inside the daemon", look=look, hangs=_STUCK)


async def _hidden(unknown: Sequence[str]) -> Sequence[Finding]:
    mend = "Say where it is, and it is asked too: dheera_ai doctor --listen tcp:4000."
    return [Finding.warn(NAME, f"where it listens cannot be told from {', '.join(unknown)}", mend)]


async def look_at_daemon(reactor: Any, address: Address, seconds: float) -> Sequence[Finding]:
    """
    Whether it runs there, and is ready, and of this version.
    """
    agent = address.agent(reactor, seconds)
    try:
        readiness = await ask(agent, f"{address.url}/health/readiness")
        welcome = await ask(agent, f"{address.url}/")
    except _ABSENT as error:
        return [absent(address, error)]
    return list(judged(address, readiness, welcome))


def absent(address: Address, error: Exception) -> Finding:
    """
    What it means that nobody was reached.
    """
    if getattr(error, "osError", None) == errno.EACCES:
        mend = "Run doctor as the user of dheera, or as one who may write to that socket."
        return Finding.warn(NAME, f"this user may not connect to {address}", mend)
    if isinstance(error, ResponseFailed):
        mend = "If that is no dheera, stop it, or choose another port; if it is one, scheme or certificate differ."
        return Finding.fail(NAME, f"what listens at {address} does not speak {address.scheme} as dheera does", mend)
    return Finding.warn(NAME, f"not running: nothing answers at {address}", _START)


def judged(address: Address, readiness: Reply, welcome: Reply) -> Iterator[Finding]:
    """
    What its answers to ``/health/readiness`` and ``/`` mean.
    """
    version = welcome.text_at("version")
    if not is_dheera(welcome):
        mend = "Stop that, or choose another port with --port or DHEERA_AI_PORT."
        yield Finding.fail(NAME, f"another program answers at {address}", mend)
        return
    status = readiness.text_at("status")
    if readiness.is_ok:
        yield Finding.ok(NAME, f"ready at {address}, version {version or 'unknown'}")
    elif status in _STATES:
        state, mend = _STATES[status]
        words = f"not ready at {address}: {status}"
        yield Finding.warn(NAME, words, mend) if state == "warn" else Finding.fail(NAME, words, mend)
    else:
        said = (status or readiness.text_at("message") or "no reason is given").rstrip(".")
        yield Finding.fail(NAME, f"not ready at {address} ({readiness.status}): {said}", _STUCK)
    if version and version != __version__:
        mend = "Let the newer one take over: kill -USR2 its process, or restart it; or install that version here."
        yield Finding.warn("version", f"version {version} runs, and this is {__version__}", mend)


def is_dheera(welcome: Reply) -> bool:
    """
    Whether it is one of us who answers so to ``/``, or refuses to.
    """
    return welcome.text_at("name") == "dheera" or "x-dheera-error-source" in welcome.fields


async def look_inside(reactor: Any, address: Address, master_key: Secret | None, seconds: float) -> Sequence[Finding]:
    """
    What it says to who has the master key. Nothing if no dheera runs there, which is told elsewhere.
    """
    if not await on_thread(reactor, address.is_here):
        mend = "Run doctor where the daemon runs; dheera_ai keys list --url tries the key from elsewhere."
        return [Finding.warn(KEY, f"it is not sent to {address}, which is no address of this machine", mend)]
    agent = address.agent(reactor, seconds)
    try:
        if not is_dheera(await ask(agent, f"{address.url}/")):
            return []
        keys = await ask(agent, f"{address.url}/key/list?size=1", master_key)
        services = None if master_key is None else await ask(agent, f"{address.url}/health/services", master_key)
    except _ABSENT:
        return []
    found = list(admitted(keys, has_key=master_key is not None))
    if services is not None and services.is_ok and isinstance(services.document, dict):
        found += kept(services.document, now())
    return found


def admitted(keys: Reply, *, has_key: bool) -> Iterator[Finding]:
    """
    What its answer to ``/key/list`` says of the master key.
    """
    if keys.is_ok and has_key:
        yield Finding.ok(KEY, "the running daemon takes it")
    elif keys.status == HTTPStatus.UNAUTHORIZED:
        found = (
            "the running daemon does not know it" if has_key else "the running daemon has one, and there is none here"
        )
        mend = "Set DHEERA_AI_MASTER_KEY, or master_key, as that daemon has it; or let it read its configuration anew."
        yield Finding.fail(KEY, found, mend) if has_key else Finding.warn(KEY, found, mend)
    elif keys.status == HTTPStatus.FORBIDDEN and has_key:
        mend = "It was started without: let it read its configuration anew (systemctl reload dheera, or SIGHUP)."
        yield Finding.fail(KEY, "the running daemon has none, and there is one here", mend)
    elif has_key:
        said = (keys.text_at("message") or "no reason is given").rstrip(".")
        mend = "Mend what the other lines tell, then look again."
        yield Finding.warn(KEY, f"it could not be tried ({keys.status}: {said})", mend)


def kept(services: Mapping[str, Any], moment: datetime) -> Iterator[Finding]:
    """
    What ``/health/services`` says of ledger and sinks.
    """
    ledger = services.get("ledger") or {}
    lost = "Its log says which, and why. They are in no sum, and in no sink that was behind as well."
    yield _told("ledger", ledger, moment, lost, "Is the database slow, or away?")
    for name, state in (services.get("sinks") or {}).items():
        title = f"sink {name}"
        if state.get("status") == "away":
            reason = str(state.get("reason") or "no reason is given").rstrip(".")
            mend = f"Mend that; records wait meanwhile. Then try it: dheera_ai sinks test {name}."
            yield Finding.fail(title, f"away since {state.get('since')}: {reason}", mend)
        else:
            lost = "Its log says why: they did not fit, or the spool had no room for them."
            yield _told(title, state, moment, lost, "Does it take records slower than they come?")


def _told(name: str, state: Mapping[str, Any], moment: datetime, lost: str, slow: str) -> Finding:
    lag = state.get("lag") or {}
    refused, dropped, waiting = state.get("refused") or 0, lag.get("dropped") or 0, lag.get("waiting_bytes") or 0
    oldest = lag.get("oldest_at")
    late = (moment - datetime.fromisoformat(oldest)).total_seconds() if oldest else 0.0
    if refused or dropped:
        return Finding.warn(name, f"{refused} records refused and {dropped} dropped since the daemon started", lost)
    if late > LATE_SECONDS:
        return Finding.warn(name, f"{late:.0f} seconds behind, {waiting} bytes wait", slow)
    return Finding.ok(name, f"up to date, {waiting} bytes wait" if waiting else "up to date")
