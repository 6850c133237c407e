"""
Processes that this one starts in its own image: they have its sockets, and tell it how they fare.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from dheera.notify import PIPE_VARIABLE
from dheera.ports import SOCKETS_VARIABLE, SYSTEMD, Bequest, Sockets

LEASH_VARIABLE = "DHEERA_AI_LEASH_FD"
"""
The number of the pipe whose other end its parent alone has: when that dies, the pipe ends.
"""
READY = "READY=1"

LAST_WORDS_SECONDS = 5.0
"""
How long a process that is told to end may take before it is ended.
"""

# systemd says which process is to have its sockets (sd_listen_fds(3)); none knows its number before it runs.
_AS_FROM_SYSTEMD = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execvp(sys.argv[1], sys.argv[1:])"


@frozen(str=False)
class Exit:
    """
    How a process ended.

    :param code: negative: by the signal of that number.
    """

    code: int

    def __str__(self) -> str:
        return f"exit code {self.code}" if self.code >= 0 else signal.Signals(-self.code).name


class Child(ProcessProtocol):
    """
    A process that was started here.

    :param said: told of each line that it says of itself, as sd_notify(3) has them.
    :param ended: told when it is no more.
    """

    def __init__(self, said: Callable[[str], None], ended: Callable[[Exit], None], leash: int | None) -> None:
        self._said = said
        self._ended = ended
        self._leash = leash
        self._heard = b""
        self._gone: list[Deferred[None]] | None = []
        self.pid = 0

    @property
    def _process(self) -> IProcessTransport:
        if self.transport is None:
            raise ProcessExitedAlready  # it was never there
        return self.transport

    def connectionMade(self) -> None:
        """
        It runs.
        """
        self.pid = self._process.pid or 0

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803 - Twisted's names
        """
        It says something.
        """
        del childFD
        *lines, self._heard = (self._heard + data).split(b"\n")
        for each in lines:
            self._said(each.decode(errors="replace"))

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 - Twisted's name
        """
        It is no more, and all that it said was heard.
        """
        ended: Any = reason.value
        gone, self._gone = self._gone or [], None
        self._ended(Exit(-ended.signal if ended.signal else ended.exitCode or 0))
        for each in gone:
            each.callback(None)

    def gone(self) -> Deferred[None]:
        """
        Wait until it is no more.
        """
        if self._gone is None:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._gone.append(waiting)
        return waiting

    def signal(self, number: int) -> None:
        """
        Send it a signal, if it is there.
        """
        with suppress(ProcessExitedAlready):
            self._process.signalProcess(number)

    def release(self, word: str) -> None:
        """
        Say *word* at its leash, and let that go.
        """
        if self._leash is not None:
            self._process.writeToChild(self._leash, f"{word}\n".encode())
            self._process.closeChildFD(self._leash)
            self._leash = None


def start(
    reactor: Any,
    command: Sequence[str],
    environment: Mapping[str, str],
    sockets: Sockets,
    *,
    said: Callable[[str], None],
    ended: Callable[[Exit], None],
    lent: bool = False,
) -> Child:
    """
    Start a process that has these sockets, and otherwise only the standard streams.

    :param lent: it is one of several that have them, and no heir: it is kept on a leash.
    :raises OSError: the command cannot be run.
    """
    descriptors: dict[int, int | str] = {0: 0, 1: 1, 2: 2}

    def give(descriptor: int | str) -> int:
        number = len(descriptors)
        descriptors[number] = descriptor
        return number

    by_systemd = [sockets[place][0] for place in sorted(sockets, key=_index) if place.startswith(SYSTEMD)]
    for each in by_systemd:
        give(each)
    others = {place: list(map(give, found)) for place, found in sockets.items() if not place.startswith(SYSTEMD)}
    given = {
        **environment,
        SOCKETS_VARIABLE: Bequest(sockets=others, lent=lent).text(),
        PIPE_VARIABLE: str(give("r")),
    }
    leash = None
    if lent:
        leash = give("w")
        given[LEASH_VARIABLE] = str(leash)
    if by_systemd:
        given["LISTEN_FDS"] = str(len(by_systemd))
        command = [sys.executable, "-I", "-S", "-c", _AS_FROM_SYSTEMD, *command]
    child = Child(said, ended, leash)
    reactor.spawnProcess(child, command[0], command, given, childFDs=descriptors)
    return child


def _index(place: str) -> int:
    return int(place.removeprefix(SYSTEMD)) if place.startswith(SYSTEMD) else -1


def end(reactor: Any, child: Child, patience_seconds: float = LAST_WORDS_SECONDS) -> Deferred[None]:
    """
    Ask *child* to end, and end it if it does not.

    :return: fires when it is no more.
    """
    child.signal(signal.SIGTERM)
    too_long = reactor.callLater(patience_seconds, child.signal, signal.SIGKILL)

    def gone(_: None) -> None:
        if too_long.active():
            too_long.cancel()

    return child.gone().addCallback(gone)
