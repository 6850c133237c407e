"""
What is said to whoever has started this process: to systemd by its datagrams (sd_notify(3)), and to a predecessor or a
supervisor of ours by the same lines in a pipe. Where there is neither, nothing is said.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

log = Logger()

SOCKET_VARIABLE = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE = "WATCHDOG_USEC"
WATCHED_VARIABLE = "WATCHDOG_PID"
PIPE_VARIABLE = "DHEERA_AI_READY_FD"
"""
The number of the pipe that a process has from a predecessor or a supervisor of ours.
"""

PING_SECONDS = 5.0
"""
How often a sign of life goes into the pipe.
"""
STATUS_SECONDS = 5.0
STATUS_BYTES = 1000
"""
Of a status, at most: with all else that is said at once it is below what a pipe takes whole (PIPE_BUF, pipe(7)).
"""


class _Line(Protocol):
    def send(self, words: bytes) -> None: ...

    def close(self) -> None: ...


class Notifier:
    """
    Says how this process fares. Nothing here waits or raises: whoever does not listen misses what is said.

    As a room it is the last, so that it opens when all others serve and is the first that is closed. It goes on giving
    signs of life while they close: whoever hears none would end us. These end with the process, or with `end`.

    :param environment: says who listens. That is taken out, so that no child believes that it is meant.
    :param monotonic_ns: CLOCK_MONOTONIC, by which systemd tells a new reload from an old one.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        environment: MutableMapping[str, str],
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._reactor = reactor
        self._monotonic_ns = monotonic_ns
        address = environment.pop(SOCKET_VARIABLE, "")
        watched = _microseconds(environment.pop(WATCHDOG_VARIABLE, ""), environment.pop(WATCHED_VARIABLE, ""))
        pipe = environment.pop(PIPE_VARIABLE, "")
        self._manager = _datagrams(address)
        self._parent = _pipe(pipe)
        self._environment = {SOCKET_VARIABLE: address} if self._manager else {}
        if self._manager and watched:
            self._environment[WATCHDOG_VARIABLE] = str(watched)
        self._watched_seconds = watched / 1_000_000 if self._manager else 0.0
        self._loops: list[LoopingCall] = []
        self._status: Callable[[], str] = str
        self._last_status = ""
        self._stops = False

    def environment(self) -> Mapping[str, str]:
        """
        What a successor needs to speak to the same systemd.
        """
        return dict(self._environment)

    def watch(self, status: Callable[[], str]) -> None:
        """
        Once it serves, say what *status* tells, and again when that has changed, at most every `STATUS_SECONDS`; until
        it stops.
        """
        self._status = status

    def ready(self, status: str = "") -> None:
        """
        It serves: after a start, or after a reload.
        """
        self._say("READY=1", *self._status_line(status))

    def reloading(self) -> None:
        """
        The configuration is read anew; `ready` says when that is over, however it went.
        """
        self._say("RELOADING=1", f"MONOTONIC_USEC={self._monotonic_ns() // 1000}")

    def status(self, text: str) -> None:
        """
        How it fares, for people.
        """
        lines = self._status_line(text)
        if lines:
            self._say(*lines)

    def stopping(self, status: str, seconds: float) -> None:
        """
        It stops, which takes no longer than *seconds*: nobody shall end it before.
        """
        self._stops = True
        self._say("STOPPING=1", *self._status_line(status), f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def main_pid(self, pid: int) -> None:
        """
        Another process is the service from now on. Nothing more is said to systemd: it would take our stop for that of
        the service.
        """
        self._say(f"MAINPID={pid}")
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    async def open(self) -> None:
        """
        All that comes before serves: say so, and begin with the signs of life.
        """
        self.ready(self._status())
        self._loop(STATUS_SECONDS, self._look)
        if self._parent is not None:
            self._loop(PING_SECONDS, lambda: _send(self._parent, "WATCHDOG=1"))
        if self._watched_seconds:
            self._loop(self._watched_seconds / 2, lambda: _send(self._manager, "WATCHDOG=1"))

    async def close(self) -> None:
        """
        It stops, if nobody has said so yet.
        """
        if not self._stops:
            self._stops = True
            self._say("STOPPING=1")

    def end(self) -> None:
        """
        Say nothing more.
        """
        for loop in self._loops:
            if loop.running:
                loop.stop()
        for line in self._manager, self._parent:
            if line is not None:
                line.close()
        self._manager = self._parent = None

    def _look(self) -> None:
        if not self._stops:
            self.status(self._status())

    def _loop(self, seconds: float, work: Callable[[], None]) -> None:
        loop = LoopingCall(work)
        loop.clock = self._reactor
        self._loops.append(loop)
        loop.start(seconds, now=False).addErrback(lambda failure: log.failure("Bug: nothing is told", failure))

    def _status_line(self, text: str) -> list[str]:
        if text in ("", self._last_status):
            return []
        self._last_status = text
        one_line = " ".join(text.split())
        return ["STATUS=" + one_line.encode("utf-8", "replace")[:STATUS_BYTES].decode("utf-8", "ignore")]

    def _say(self, *lines: str) -> None:
        for each in self._manager, self._parent:
            _send(each, *lines)


def _send(line: _Line | None, *words: str) -> None:
    if line is not None:
        line.send("".join(f"{each}\n" for each in words).encode())


def _microseconds(text: str, pid: str) -> int:
    """
    How long systemd waits for a sign of life; 0 if it waits for none of ours.
    """
    is_ours = pid in ("", str(os.getpid()))
    return int(text) if is_ours and text.isascii() and text.isdecimal() else 0


def _datagrams(address: str) -> _Datagrams | None:
    if not address.startswith(("/", "@")):
        if address:
            log.debug("{name} is no address that can be written to", name=SOCKET_VARIABLE)
        return None
    # An abstract address begins with a zero byte, which no variable can hold.
    return _Datagrams("\0" + address[1:] if address.startswith("@") else address)


@define(eq=False)
class _Datagrams:
    _address: str
    _socket: socket.socket = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)

    def send(self, words: bytes) -> None:
        try:
            # Not connected, for systemd may make its socket anew.
            self._socket.sendto(words, self._address)
        except OSError as error:
            log.debug("systemd does not hear: {reason}", reason=error.strerror or str(error))

    def close(self) -> None:
        self._socket.close()


def _pipe(number: str) -> _Pipe | None:
    if not (number.isascii() and number.isdecimal()):
        return None
    try:
        os.set_inheritable(int(number), False)  # noqa: FBT003 - its only parameter
        os.set_blocking(int(number), False)
    except (OSError, OverflowError):
        log.debug("{name} is no open file", name=PIPE_VARIABLE)
        return None
    return _Pipe(int(number))


@define(eq=False)
class _Pipe:
    _number: int
    _is_open: bool = True

    def send(self, words: bytes) -> None:
        if not self._is_open:
            return
        try:
            os.write(self._number, words)
        except BlockingIOError:
            log.debug("Nobody reads the pipe; it is full")
        except OSError as error:
            log.debug("Nobody reads the pipe any more: {reason}", reason=error.strerror)
            self.close()

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            os.close(self._number)
