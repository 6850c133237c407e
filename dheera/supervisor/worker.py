"""
One worker, as its supervisor sees it: started, watched, and started again when it dies.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from dheera.children import READY, Child, Exit
from dheera.errors import CannotStart
from dheera.succession import PATIENCE_SECONDS
from dheera.supervisor.leash import RELIEVED

log = Logger()

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 10.0
SOON_SECONDS = 0.2
"""
Who is tried again that soon keeps the connections that wait at its sockets.
"""
SETTLED_SECONDS = 60.0
"""
Who has lived that long did not die of what its predecessors died of.
"""
SILENT_SECONDS = 30.0
"""
Who serves and gives no sign of life for that long is stuck.
"""

Launch: TypeAlias = Callable[[Callable[[str], None], Callable[[Exit], None]], Child]


@define(eq=False)
class Worker:
    """
    One of several processes that serve.

    :param number: from 1.
    :param launch: starts a process, which tells what it says and how it ends.
    :param withdraw: lets others have the connections that would come to it.
    :ivar serves: whether it does now.
    """

    _reactor: Any
    _number: int
    _launch: Launch
    _withdraw: Callable[[], None]
    _child: Child | None = field(default=None, init=False)
    _starting: Deferred[None] | None = field(default=None, init=False)
    _again: IDelayedCall | None = field(default=None, init=False)
    _silence: IDelayedCall | None = field(default=None, init=False)
    _too_long: IDelayedCall | None = field(default=None, init=False)
    _reloading: list[Deferred[None]] = field(factory=list, init=False)
    _delay: float = field(default=FIRST_DELAY_SECONDS, init=False)
    _began: float = field(default=0.0, init=False)
    serves: bool = field(default=False, init=False)
    _leaves: bool = field(default=False, init=False)
    _is_outdated: bool = field(default=False, init=False)

    def start(self) -> Deferred[None]:
        """
        Start it.

        :return: fires when it serves; fails with `CannotStart` if it ends before.
        """
        starting: Deferred[None] = Deferred()
        self._starting = starting
        self._run()
        return starting

    def stop(self) -> Deferred[None]:
        """
        Tell it to stop in order, and start none again.

        :return: fires when it is no more.
        """
        return self._part(lambda child: child.signal(signal.SIGTERM))

    def relieve(self) -> Deferred[None]:
        """
        Tell it to finish what is under way, since others serve at the same places.

        :return: fires when it is no more.
        """
        return self._part(lambda child: child.release(RELIEVED.decode()))

    def hurry(self) -> None:
        """
        Tell it again to stop.
        """
        if self._child is not None:
            self._child.signal(signal.SIGTERM)

    def reload(self) -> Deferred[None]:
        """
        Tell it to read the configuration anew. One that does not serve yet is told when it does: before, the signal
        could end it.

        :return: fires when it has, or is no more; at once if it does not serve yet.
        """
        if self._child is None or not self.serves:
            self._is_outdated = True
            return succeed(None)
        reloaded: Deferred[None] = Deferred()
        self._reloading.append(reloaded)
        self._child.signal(signal.SIGHUP)
        return reloaded

    def _tell_reloaded(self) -> None:
        reloading, self._reloading = self._reloading, []
        for each in reloading:
            each.callback(None)

    def _part(self, tell: Callable[[Child], None]) -> Deferred[None]:
        self._leaves = True
        self._forget_timers()
        if self._child is None:
            return succeed(None)
        tell(self._child)
        return self._child.gone()

    def _run(self) -> None:
        self._again = None
        self._is_outdated = False
        self._began = self._reactor.seconds()
        if self._starting is None:  # else it is the first, which whoever has started us waits for
            self._too_long = self._reactor.callLater(PATIENCE_SECONDS, self._lose_patience)
        try:
            self._child = self._launch(self._hear, self._ended)
        except OSError as error:
            self._missed(error.strerror or str(error))

    def _hear(self, line: str) -> None:
        if line == READY and self.serves:
            self._tell_reloaded()
        elif line == READY:
            self.serves = True
            self._be_patient()
            self._tell_start()
        if not self.serves or self._leaves:
            return
        if self._silence is None:
            self._silence = self._reactor.callLater(SILENT_SECONDS, self._end_silence)
        else:
            self._silence.reset(SILENT_SECONDS)

    def _tell_start(self) -> None:
        log.info("Worker {number} serves, as process {pid}", number=self._number, pid=self._child and self._child.pid)
        if self._is_outdated:
            self.reload()
        if self._starting is not None:
            starting, self._starting = self._starting, None
            starting.callback(None)

    def _lose_patience(self) -> None:
        self._too_long = None
        log.error(
            "Worker {number} does not serve after {seconds:g} s: killing it",
            number=self._number,
            seconds=PATIENCE_SECONDS,
        )
        self._delay = LONGEST_DELAY_SECONDS
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    def _be_patient(self) -> None:
        if self._too_long is not None:
            self._too_long.cancel()
            self._too_long = None

    def _end_silence(self) -> None:
        self._silence = None
        log.error(
            "Worker {number} has given no sign of life for {seconds:g} s: killing it",
            number=self._number,
            seconds=SILENT_SECONDS,
        )
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    def _ended(self, how: Exit) -> None:
        self._child = None
        self._forget_timers()
        self._tell_reloaded()
        if not self._leaves:
            self._missed(str(how))
            return
        self.serves = False
        if how.code:
            log.warn("Worker {number} ended while it stopped ({how})", number=self._number, how=str(how))

    def _missed(self, reason: str) -> None:
        if self._starting is not None:
            starting, self._starting = self._starting, None
            starting.errback(CannotStart(f"worker {self._number} ended before it could serve ({reason})"))
            return
        has_served, self.serves = self.serves, False
        if has_served and self._reactor.seconds() - self._began >= SETTLED_SECONDS:
            self._delay = FIRST_DELAY_SECONDS
        log.critical(
            "Worker {number} {what} ({reason}); another one is started in {seconds:g} s",
            number=self._number,
            what="ended" if has_served else "ended before it could serve",
            reason=reason,
            seconds=self._delay,
        )
        if self._delay > SOON_SECONDS:
            log.warn("The other workers get new connections until worker {number} serves", number=self._number)
            self._withdraw()
        self._again = self._reactor.callLater(self._delay, self._run)
        self._delay = min(2 * self._delay, LONGEST_DELAY_SECONDS)

    def _forget_timers(self) -> None:
        self._be_patient()
        for each in self._again, self._silence:
            if each is not None and each.active():
                each.cancel()
        self._again = self._silence = None
