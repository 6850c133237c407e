"""
All checks that a configuration asks for, in the order in which they are told.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred

from dheera.choices import Choices, node_of
from dheera.commands.checkup.daemon import daemon_checks
from dheera.commands.checkup.findings import Finding
from dheera.commands.checkup.machine import judged_certificate, judged_files, look_at_room, look_at_state
from dheera.commands.checkup.rounds import Check, on_thread
from dheera.commands.checkup.settings import judged_settings
from dheera.commands.checkup.sinks import sink_checks
from dheera.commands.checkup.sqlite import look_at_sqlite
from dheera.commands.checkup.upstreams import upstream_checks
from dheera.config import state_directory
from dheera.entities import now
from dheera.settings import Config
from dheera.stores import FILE, place_of, sqlite_path
from dheera.workers import named_directory

LISTENING = 1
"""
Connections to PostgreSQL beside those of ``[store] connections``: one listens.
"""
SHARE = 0.9
"""
Of the time that a check has: what connects has no more, so that it can say in words what has happened.
"""
_DISK_HANGS = "The file system does not answer: look whether a network file system lost its server, and at dmesg."
_STORE_HANGS = "Look at its log, and at its load."


@frozen(kw_only=True)
class Setting:
    """
    What is to be checked.

    :param file: of the configuration, if there is one.
    :param seconds: that each check may take.
    :param send: try sinks with a record.
    """

    config: Config
    choices: Choices
    file: Path | None
    environment: Mapping[str, str]
    seconds: float
    send: bool = False


def checks_for(reactor: Any, setting: Setting) -> Iterator[Check]:
    """
    The checks.
    """
    config, seconds = setting.config, setting.seconds * SHARE
    place = place_of(config, setting.environment)
    yield _at_once("configuration", lambda: list(judged_settings(config, setting.file, place)))
    if config.listen.tls_certificate is not None:
        file = config.listen.tls_certificate
        yield _aside(reactor, "certificate", lambda: [judged_certificate(file, now())])
    yield from daemon_checks(reactor, config, seconds)
    if not config.demo:
        yield from upstream_checks(reactor, config, seconds)
    yield from _store(reactor, setting, seconds)
    if not config.demo:
        folder = state_directory(config, setting.environment)
        look = partial(look_at_state, folder, config.spool, workers_of(config), os.geteuid())
        yield _aside(reactor, "state directory", look)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield _at_once("open files", lambda: [judged_files(config, hard)])
    if (directory := named_directory()) is not None:
        counted = Finding.ok("metrics", f"several processes count together in {directory}")
        yield _at_once("metrics", lambda: [counted])
    yield from sink_checks(reactor, setting.choices.sinks, node_of(config), send=setting.send)


def workers_of(config: Config) -> int:
    """
    How many processes serve.
    """
    return len(os.sched_getaffinity(0)) if config.workers == "auto" else config.workers


def _store(reactor: Any, setting: Setting, seconds: float) -> Iterator[Check]:
    config = setting.config
    url = "" if config.store.url is None else config.store.url.reveal()
    if url.lower().startswith("postgres"):
        wanted = (config.store.connections + LISTENING) * workers_of(config)
        yield Check(name="store", look=partial(_postgres, reactor, url, wanted, seconds), hangs=_STORE_HANGS)
    elif url or not config.demo:
        path = sqlite_path(url) if url else state_directory(config, setting.environment) / FILE
        yield _aside(reactor, "store", partial(look_at_sqlite, path, in_state_directory=not url))
        if url:
            yield _aside(reactor, "disk", partial(look_at_room, path))


async def _postgres(reactor: Any, url: str, wanted: int, seconds: float) -> Sequence[Finding]:
    # psycopg2 is a big library: those who do not use it need not load it.
    from dheera.commands.checkup.postgres import look_at_postgres  # noqa: PLC0415

    return await look_at_postgres(reactor, url, wanted, seconds)


def _at_once(name: str, judge: Callable[[], Sequence[Finding]]) -> Check:
    async def look() -> Sequence[Finding]:
        return judge()

    return Check(name=name, look=look, hangs="")


def _aside(reactor: Any, name: str, look: Callable[[], Sequence[Finding]]) -> Check:
    async def wait() -> Sequence[Finding]:
        looking: Deferred[Sequence[Finding]] = on_thread(reactor, look)
        return await looking

    return Check(name=name, look=wait, hangs=_DISK_HANGS)
