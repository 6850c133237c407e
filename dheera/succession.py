"""
Another process, perhaps of a newer version, takes the place of this one, and no connection is lost.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from dheera.children import READY, Child, Exit, end, start
from dheera.ports import Sockets

log = Logger()

_INITS = frozenset({"catatonit", "docker-init", "dumb-init", "tini"})
PATIENCE_SECONDS = 60.0
"""
How long a successor may take until it serves.
"""


@define(eq=False)
class Succession:
    """
    Puts a new process in the place of this one, without a moment in which nobody serves.

    :param command: of the new one.
    :param sockets: which it gets.
    :param let_go: told its number: accept no more from now on.
    :param main_pid: told its number before that.
    :param leave: finish what is under way, and end.
    :param environment: of the new one, beside what it is told of the sockets.
    """

    _reactor: Any
    _command: Sequence[str]
    _sockets: Callable[[], Sockets]
    _let_go: Callable[[int], None]
    _main_pid: Callable[[int], None]
    _leave: Callable[[], None]
    _environment: Mapping[str, str] = field(factory=lambda: os.environ)
    _patience_seconds: float = PATIENCE_SECONDS
    _child: Child | None = field(default=None, init=False)
    _too_long: IDelayedCall | None = field(default=None, init=False)
    _is_outdated: bool = field(default=False, init=False)
    _is_over: bool = field(default=False, init=False)

    @property
    def is_under_way(self) -> bool:
        """
        Whether there is a new process.
        """
        return self._child is not None

    def begin(self) -> None:
        """
        Start the new process, and leave when it serves. One that does not come to serve is ended; all then goes on as
        before, and the log says why.
        """
        if self._is_over or self.is_under_way:
            log.info("An upgrade is under way already")
            return
        if _ends_container():
            log.error("No upgrade: this container would end with this process. Start a new one.")
            return
        log.info("Upgrading: starting a new process")
        self._is_outdated = False
        try:
            self._child = start(
                self._reactor, self._command, self._environment, self._sockets(), said=self._hear, ended=self._ended
            )
        except OSError as error:
            reason = error.strerror or str(error)
            log.critical("No upgrade: {command} cannot be run ({reason})", command=self._command[0], reason=reason)
            return
        self._wait()

    def outdated(self) -> None:
        """
        The configuration is read anew here: a new process that may have read the one before reads it anew too, before
        it takes over.
        """
        self._is_outdated = self.is_under_way and not self._is_over

    def stop(self) -> Deferred[None]:
        """
        End a new process that does not serve yet.
        """
        if self._child is None or self._is_over:
            return succeed(None)
        return self._end(self._child)

    def _hear(self, line: str) -> None:
        if line != READY or self._is_over or self._child is None:
            return
        self._be_patient()
        if self._is_outdated:
            self._is_outdated = False
            log.info("The new process serves, and reads the configuration anew before it takes over")
            self._child.signal(signal.SIGHUP)  # when that is done it says once more that it is ready
            self._wait()
            return
        self._is_over = True
        pid = self._child.pid
        log.info("Upgraded: process {pid} serves from now on, this one finishes what is under way", pid=pid)
        self._main_pid(pid)
        self._let_go(pid)
        self._leave()

    def _ended(self, how: Exit) -> None:
        self._be_patient()
        self._child = None
        if not self._is_over:
            log.error("No upgrade: the new process ended before it could serve ({how}); this one goes on", how=str(how))

    def _lose_patience(self) -> None:
        self._too_long = None
        log.error("The new process does not serve after {seconds:g} s: ending it", seconds=self._patience_seconds)
        if self._child is not None:
            self._end(self._child)

    def _wait(self) -> None:
        self._too_long = self._reactor.callLater(self._patience_seconds, self._lose_patience)

    def _be_patient(self) -> None:
        if self._too_long is not None:
            self._too_long.cancel()
            self._too_long = None

    def _end(self, child: Child) -> Deferred[None]:
        self._be_patient()
        return end(self._reactor, child)


def _ends_container() -> bool:
    """
    Whether this process is the first of a container, or the child of an init that ends with it.
    """
    if os.getpid() == 1:
        return True
    with suppress(OSError):
        return os.getppid() == 1 and Path("/proc/1/comm").read_text(encoding="utf-8").strip() in _INITS
    return False
