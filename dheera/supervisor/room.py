"""
The supervisor: opens the doors, lets its workers serve there, and passes on to them what it is told.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from dheera.children import Child, Exit, start
from dheera.ports import BACKLOG, Ports, Sockets
from dheera.settings import Config, Listen
from dheera.sockets import in_url
from dheera.succession import Succession
from dheera.supervisor.worker import Worker
from dheera.workers import DIRECTORY_VARIABLE

log = Logger()

WORKER_VARIABLE = "DHEERA_AI_WORKER"
"""
Which worker a process is, from 1.
"""
OWN_VARIABLE = "DHEERA_AI_OWN_METRICS_DIR"
"""
Set for a successor if the directory of the metrics is not the operator's: whoever goes last removes it.
"""
_NOT_FOR_WORKERS = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}


def count(workers: int | str) -> int:
    """
    How many workers that is: for ``auto``, one for each processor that we may use.
    """
    return len(os.sched_getaffinity(0)) if workers == "auto" else int(workers)


@define(eq=False)
class Supervisor:
    """
    Serves by several processes, as `dheera.run.Served` has it.

    :param command: starts a dheera as this one was started.
    :param environment: of this process, from which its workers' is made.
    :param announce: told where it serves.
    :param main_pid: told the number of a successor.
    :param to_systemd: what a successor needs in its environment to speak to systemd.
    """

    _reactor: Any
    _config: Config
    _count: int
    _command: Sequence[str]
    _environment: MutableMapping[str, str]
    _announce: Callable[[str], None]
    _main_pid: Callable[[int], None] = lambda _: None
    _to_systemd: Callable[[], Mapping[str, str]] = dict
    _ports: Ports = field(init=False)
    _doors: list[IListeningPort] = field(factory=list, init=False)
    _workers: list[Worker] = field(factory=list, init=False)
    _starting: Deferred[None] | None = field(default=None, init=False)
    _succession: Succession | None = field(default=None, init=False)
    _metrics: Path | None = field(default=None, init=False)
    _serves: bool = field(default=False, init=False)
    _is_relieved: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._ports = Ports(self._reactor, self._environment, self._count)

    def startService(self) -> Deferred[None]:
        """
        Open the doors, and start the workers: one first, which brings the database up to date and says alone what is
        wrong, then the others.

        :return: fires when all serve; fails if one cannot.
        """
        self._starting = Deferred.fromCoroutine(self._start())
        return self._starting

    def stopService(self) -> Deferred[None]:
        """
        Stop all workers.

        :return: fires when they are no more.
        """
        if self._starting is not None:
            self._starting.cancel()
        return Deferred.fromCoroutine(self._stop())

    def reload(self, config: Config) -> Deferred[None]:
        """
        Let all workers read the configuration anew, and a successor that does not serve yet.

        :param config: what they will read.
        :return: fires when the workers have.
        """
        log.info("Telling the workers to read the configuration anew")
        self._config = config
        if self._succession is not None:
            self._succession.outdated()
        return gatherResults([each.reload() for each in self._workers]).addCallback(lambda _: None)

    def hurry(self) -> None:
        """
        Tell all workers again to stop.
        """
        for each in self._workers:
            each.hurry()

    def upgrade(self) -> None:
        """
        Let another supervisor, with workers of its own, take the place of this one.
        """
        if not self._serves:
            log.warn("No upgrade: not all workers serve yet")
            return
        if self._succession is None:
            environment = {**self._environment, **self._to_systemd()}
            if self._metrics is not None:
                environment |= {DIRECTORY_VARIABLE: str(self._metrics), OWN_VARIABLE: "1"}
            self._succession = Succession(
                self._reactor,
                self._command,
                self._ports.sockets,
                self._relieve,
                self._main_pid,
                self._reactor.stop,
                environment,
            )
        self._succession.begin()

    def status(self) -> str:
        """
        What it does, for people.
        """
        serving = sum(each.serves for each in self._workers)
        return f"{serving} of {self._count} workers serve"

    async def _start(self) -> None:
        listen = self._config.listen
        try:
            await self._open(listen)
            self._ports.close_rest()
            self._metrics = _directory_of_metrics(self._environment)
            self._workers = [self._worker(index) for index in range(self._count)]
            await self._workers[0].start()
            await gatherResults([each.start() for each in self._workers[1:]], consumeErrors=True)
        except BaseException as error:
            if not isinstance(error, CancelledError | GeneratorExit):  # else whoever stops it does the same
                await self._stop()
            raise
        self._serves = True
        for each, scheme in zip(self._doors, _schemes(listen), strict=True):
            self._announce(f"RUNNING on {in_url(scheme, each.getHost())}")

    async def _open(self, listen: Listen) -> None:
        for text in listen.endpoints:
            self._doors.append(await serverFromString(self._ports, text).listen(Door()))
        if not listen.endpoints:
            self._doors.append(self._ports.listenTCP(listen.port, Door(), BACKLOG, listen.host))

    def _worker(self, index: int) -> Worker:
        def withdraw() -> None:
            try:
                self._ports.withdraw(index, self._count)
            except OSError as error:
                log.critical("Its sockets stay open ({reason})", reason=error.strerror or str(error))

        return Worker(self._reactor, index + 1, self._launcher(index), withdraw)

    def _launcher(self, index: int) -> Callable[[Callable[[str], None], Callable[[Exit], None]], Child]:
        def launch(said: Callable[[str], None], ended: Callable[[Exit], None]) -> Child:
            environment = {name: value for name, value in self._environment.items() if name not in _NOT_FOR_WORKERS}
            environment[WORKER_VARIABLE] = str(index + 1)
            if self._metrics is not None:
                environment[DIRECTORY_VARIABLE] = str(self._metrics)
            sockets = share(self._ports.sockets(), index, self._count)
            command = without_workers(self._command)
            return start(self._reactor, command, environment, sockets, said=said, ended=ended, lent=True)

        return launch

    def _relieve(self, successor: int) -> None:
        self._is_relieved = True
        self._ports.let_go(successor)

    async def _stop(self) -> None:
        if self._succession is not None:
            await self._succession.stop()
        if not self._is_relieved and self._serves:
            log.info(
                "Stopping the workers: they may take {seconds:g} s, and what they need to write down what is left",
                seconds=self._config.stop_delay_seconds + self._config.drain_seconds,
            )
        self._serves = False
        leaving = [each.relieve() if self._is_relieved else each.stop() for each in self._workers]
        # From now on a door is open as long as a worker keeps it open.
        await self._ports.close()
        await gatherResults(leaving)
        doors, self._doors = self._doors, []
        for each in doors:
            await maybeDeferred(each.stopListening)
        if self._metrics is not None and not self._is_relieved:
            shutil.rmtree(self._metrics, ignore_errors=True)
        self._metrics = None


class Door(Factory):
    """
    What the supervisor lets listen: nobody comes in there, it only holds the socket.
    """

    noisy = False


def share(sockets: Sockets, index: int, count: int) -> dict[str, list[int]]:
    """
    The sockets of one of *count* workers: its part of those at a port that has one for each, and all others.
    """
    return {place: list(found[index::count] if len(found) >= count else found) for place, found in sockets.items()}


def without_workers(command: Sequence[str]) -> list[str]:
    """
    *command* without the option that asks for workers.
    """
    kept: list[str] = []
    words = iter(command)
    for each in words:
        if each == "--workers":
            next(words, None)
        elif not each.startswith("--workers="):
            kept.append(each)
    return kept


def _schemes(listen: Listen) -> Iterable[str]:
    if listen.endpoints:
        return ["https" if text.startswith(("ssl:", "tls:")) else "http" for text in listen.endpoints]
    return ["http" if listen.tls_certificate is None else "https"]


def _directory_of_metrics(environment: MutableMapping[str, str]) -> Path | None:
    """
    Where the workers count together, if the operator has not said it: a new directory, or that of the predecessor.
    """
    is_own = environment.pop(OWN_VARIABLE, "")
    named = environment.get(DIRECTORY_VARIABLE)
    if is_own and named:
        del environment[DIRECTORY_VARIABLE]
        with suppress(OSError):
            Path(named).mkdir(mode=0o700, exist_ok=True)
        return Path(named)
    if named is not None:
        return None
    # systemd tells several, if it makes several.
    runtime = environment.get("RUNTIME_DIRECTORY", "").split(":")[0] or None
    return Path(mkdtemp(prefix="dheera-metrics-", dir=runtime))
