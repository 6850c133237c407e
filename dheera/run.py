"""
One life of the daemon in this process: it starts, serves until a signal comes, stops, and leaves an exit code. Under
twistd it is another life, since the reactor is not ours to run there.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import click
from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, FirstError
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IReactorCore
from twisted.logger import Logger
from twisted.python.failure import Failure

from dheera.errors import CannotStart
from dheera.kinds import shown

log = Logger()


class Served(Protocol):
    """
    What can be run: both Deferreds fire when it is done, and stopping what has not, or not fully, started is fine.
    """

    def startService(self) -> Deferred[None]:
        """
        Begin to serve; fails when that is not possible.
        """
        ...

    def stopService(self) -> Deferred[None]:
        """
        End what is under way, and serve no more.
        """
        ...

    def hurry(self) -> None:
        """
        While it stops: wait for nobody any more.
        """
        ...

    def reload(self) -> None:
        """
        Read the configuration anew.
        """
        ...

    def upgrade(self) -> None:
        """
        Let a new process take over, and stop when it serves.
        """
        ...


def ignore_early() -> None:
    """
    Until a service heeds them, let the signals that ask for something other than an end not be one.
    """
    for each in signal.SIGHUP, signal.SIGUSR2:
        signal.signal(each, signal.SIG_IGN)


def leave(reactor: Any) -> None:
    """
    Stop *reactor*, if it does not stop already.
    """
    with contextlib.suppress(ReactorNotRunning):
        reactor.stop()


class Signals:
    """
    What signals ask of a service, beside that it stops: SIGHUP, that it reads its configuration anew; SIGUSR2, that a
    new process takes over; and whoever sends SIGTERM or SIGINT again while it stops does not want to wait.
    """

    def __init__(self, reactor: Any, service: Served) -> None:
        self._reactor = reactor
        self._service = service

    def heed(self) -> None:
        """
        From now on. To be called in the main thread, as `signal.signal` is.
        """
        self._on(signal.SIGHUP, self._service.reload)
        self._on(signal.SIGUSR2, self._service.upgrade)

    def heed_while_stopping(self) -> None:
        """
        From now on, until the process ends. A third SIGINT ends it at once.
        """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        self._on(signal.SIGTERM, self._service.hurry)
        self._on(signal.SIGINT, self._service.hurry, once=True)

    def _on(self, number: int, act: Callable[[], None], *, once: bool = False) -> None:
        def heard(*_: object) -> None:
            if once:
                signal.signal(number, signal.SIG_DFL)
            self._reactor.callFromThread(act)  # a signal handler may have interrupted anything

        signal.signal(number, heard)


@define(eq=False)
class Run:
    """
    One life of a service in this process, from the start of the reactor to its stop.
    """

    _reactor: IReactorCore
    _service: Served
    _signals: Signals = field(init=False)
    _stopping: bool = False
    _exit_code: int = 0

    def __attrs_post_init__(self) -> None:
        self._signals = Signals(self._reactor, self._service)

    def to_the_end(self) -> int:
        """
        Run it until it fails to start, or a signal stops it.

        :return: the exit code.
        """
        self._signals.heed()
        self._reactor.addSystemEventTrigger("before", "shutdown", self._stop)
        self._reactor.callWhenRunning(self._start)
        self._reactor.run()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # all is done, and the exit code is to say so
        return self._exit_code

    def _start(self) -> None:
        starting = Deferred.fromCoroutine(self._started())
        starting.addErrback(lambda failure: log.failure("Starting broke off", failure=failure))

    async def _started(self) -> None:
        try:
            await self._service.startService()
            settle_heap()
        except Exception as error:  # noqa: BLE001 - whatever it is, the operator is told and the process ends
            if self._stopping:
                return  # interrupted, which is no failure
            self._exit_code = 1
            if not _is_expected(error):
                log.failure("Starting failed")
            click.echo(f"dheera_ai: {start_problem(error)}", err=True)
            leave(self._reactor)

    def _stop(self) -> Deferred[None]:
        self._stopping = True
        self._signals.heed_while_stopping()
        return self._service.stopService()


def leave_with(code: int) -> None:
    """
    Let this be the exit code when the process comes to its end by itself. Twistd knows none but 0, or a signal's.
    """
    atexit.register(_end, code)


def _end(code: int) -> None:
    for stream in sys.stdout, sys.stderr:
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)  # what is raised here would change nothing


class RunByTwistd(Service):
    """
    The same under twistd, which by itself calls a start good that has only begun, and goes on after one that failed.

    :param options: twistd's own. If it goes into the background, these hold a pipe, at whose other end waits whoever
        started it: for "0", or for "1" and a reason.
    :param leave: told of an exit code that is not 0.
    """

    def __init__(
        self,
        reactor: IReactorCore,
        service: Served,
        options: MutableMapping[str, Any],
        leave: Callable[[int], None] = leave_with,
    ) -> None:
        self._reactor = reactor
        self._service = service
        self._options = options
        self._leave = leave
        self._signals = Signals(reactor, service)
        self._pipe: int | None = None

    def startService(self) -> None:
        """
        Begin to start. Whoever waits at the pipe is told how that ended.
        """
        Service.startService(self)
        self._signals.heed()
        # Twistd does not write to what it does not find.
        self._pipe = self._options.pop("statusPipe", None)
        self._service.startService().addCallbacks(self._succeed, self._fail)

    def stopService(self) -> Deferred[None]:
        """
        As `Served.stopService`.
        """
        Service.stopService(self)
        self._signals.heed_while_stopping()
        return self._service.stopService()

    def _succeed(self, _: None) -> None:
        settle_heap()
        self._tell("0")

    def _fail(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            self._tell("1 stopped before it could serve")
            return
        error = failure.value or RuntimeError()
        if not _is_expected(error):
            log.failure("Starting failed", failure)
        log.critical("dheera {problem}", problem=start_problem(error))
        self._tell(f"1 dheera {start_problem(error)}")
        self._leave(1)
        self._reactor.callWhenRunning(leave, self._reactor)

    def _tell(self, words: str) -> None:
        if self._pipe is not None:
            pipe, self._pipe = self._pipe, None
            with contextlib.suppress(OSError):  # nobody waits any more
                os.write(pipe, words.encode("ascii", "backslashreplace")[:_PIPE_BYTES])
            os.close(pipe)


_PIPE_BYTES = 100
"""
Of what is told there, so many are read.
"""


def _is_expected(error: BaseException) -> bool:
    return isinstance(_cause(error), CannotStart | CannotListenError | OSError)


def _cause(error: BaseException) -> BaseException:
    while isinstance(error, FirstError) and error.subFailure.value is not None:
        error = error.subFailure.value
    return error


def start_problem(error: BaseException) -> str:
    """
    Why the daemon cannot start, for an operator.
    """
    error = _cause(error)
    if isinstance(error, CannotStart):
        return f"cannot start: {error}"
    if not isinstance(error, CannotListenError):
        return f"cannot start: {in_words(error)}"
    path_or_port = error.port.decode(errors="replace") if isinstance(error.port, bytes) else str(error.port)
    host = f"[{error.interface}]" if ":" in (error.interface or "") else error.interface or "0.0.0.0"
    # Of a Unix socket Twisted tells the path in place of the port.
    where = f"{host}:{path_or_port}" if path_or_port.isdecimal() else path_or_port
    match error.socketError:
        case OSError(errno=errno.EADDRINUSE) | "Cannot acquire lock":
            reason = (
                "another program listens there. Stop it, or choose another place "
                "with --port or DHEERA_AI_PORT (0 takes any free port), or with --listen"
            )
        case OSError(errno=errno.EADDRNOTAVAIL):
            reason = "this machine has no such address. Choose one with --host or DHEERA_AI_HOST"
        case OSError(errno=errno.EACCES):
            reason = "this user may not. Ports below 1024 need CAP_NET_BIND_SERVICE, or a socket from systemd"
        case other:
            reason = in_words(other) if isinstance(other, BaseException) else str(other)
    return f"cannot listen on {where}: {reason}."


def announce(line: str) -> None:
    """
    Say a line on standard output at once. That nobody listens there is no reason to stop.
    """
    try:
        click.echo(line)
    except OSError:
        # What could not be written must not be tried again at the end: that would be another exit code.
        with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def raise_file_limit() -> None:
    """
    Allow as many open files as the system lets us. The usual soft limit of 1024 is for programs that call select().
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # some systems promise "unlimited" and refuse it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def settle_heap() -> None:
    """
    Take what was made at start out of the garbage collector's rounds, and let it make fewer: an exchange leaves no
    cycles behind, so there is little to find, and looking took six parts in a hundred of the processor's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def endpoint_problems(reactor: object, endpoints: Sequence[str]) -> list[str]:
    """
    What is wrong with endpoint strings, a sentence each: their parsers are only known to Twisted.
    """
    from twisted.internet.endpoints import serverFromString  # noqa: PLC0415 - see `dheera.sparing`

    problems = []
    for each in endpoints:
        try:
            serverFromString(reactor, each)
        except Exception as error:  # noqa: BLE001 - each parser, and any plugin, has its own ways to fail
            reason = "systemd passed no such socket" if each.startswith("systemd:") else in_words(error)
            problems.append(f"[listen] endpoints or --listen: found {shown(each)}, which cannot be used ({reason})")
    return problems


def in_words(error: BaseException) -> str:
    """
    What went wrong, for an operator.
    """
    if isinstance(error, OSError) and error.strerror:
        # Of two files the second is the one that was asked for: the lock of a Unix socket is a link to a process id.
        file = error.filename2 or error.filename
        return f"{error.strerror} ({os.fsdecode(file)})" if file else error.strerror
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
