"""
One life of a service: what it leaves as exit code, and what it says when it cannot start.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import redirect_stderr
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL
from io import StringIO

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from dheera.run import Run, RunByTwistd


@define(eq=False)
class Room:
    """
    A service that starts as it is told, and stops at once.
    """

    _starting: Deferred[None]
    stops: int = field(default=0, init=False)

    heard: list[str] = field(factory=list, init=False)

    def startService(self) -> Deferred[None]:
        return self._starting

    def stopService(self) -> Deferred[None]:
        self.stops += 1
        return succeed(None)

    def hurry(self) -> None:
        self.heard.append("hurry")

    def reload(self) -> None:
        self.heard.append("reload")

    def upgrade(self) -> None:
        self.heard.append("upgrade")


class Reactor(MemoryReactor):
    """
    One whose thread is this one.
    """

    def callFromThread(self, work: Callable[[], None]) -> None:
        work()


def raise_here(number: int) -> None:
    """
    What the system does when such a signal comes.
    """
    handler = signal.getsignal(number)
    assert callable(handler), handler
    handler(number, None)


class RunTests(SynchronousTestCase):
    """
    One life of a service, in memory.
    """

    def setUp(self) -> None:
        self.reactor = Reactor()
        for each in signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2:
            self.addCleanup(signal.signal, each, signal.getsignal(each))

    def failing(self, error: Exception) -> str:
        """
        What is said when the start fails so.
        """
        with redirect_stderr(StringIO()) as said:
            self.assertEqual(1, Run(self.reactor, Room(fail(error))).to_the_end())
        assert self.reactor.hasStopped
        return said.getvalue()

    def test_serves(self) -> None:
        """
        A service that starts, runs until the reactor is stopped, and is then stopped itself.
        """
        room = Room(succeed(None))
        self.assertEqual(0, Run(self.reactor, room).to_the_end())
        [(stop, _, _)] = self.reactor.triggers["before"]["shutdown"]
        assert room.stops == 0
        stop()
        assert room.stops == 1

    def test_second_signal(self) -> None:
        """
        While it stops, whoever sends SIGTERM or Ctrl-C again is in a hurry; a third Ctrl-C ends the process.
        """
        room = Room(succeed(None))
        Run(self.reactor, room).to_the_end()
        [(stop, _, _)] = self.reactor.triggers["before"]["shutdown"]
        stop()
        raise_here(signal.SIGTERM)
        raise_here(signal.SIGTERM)
        raise_here(signal.SIGINT)
        self.assertEqual(["hurry"] * 3, room.heard)
        self.assertEqual(signal.SIG_DFL, signal.getsignal(signal.SIGINT))

    def test_signals(self) -> None:
        """
        SIGHUP is for reading anew, SIGUSR2 for a new process; a service that stops does neither.
        """
        room = Room(succeed(None))
        Run(self.reactor, room).to_the_end()
        raise_here(signal.SIGHUP)
        raise_here(signal.SIGUSR2)
        self.assertEqual(["reload", "upgrade"], room.heard)
        [(stop, _, _)] = self.reactor.triggers["before"]["shutdown"]
        stop()
        for each in signal.SIGHUP, signal.SIGUSR2:
            self.assertEqual(signal.SIG_IGN, signal.getsignal(each))

    def test_interrupted_start(self) -> None:
        """
        A start that is cancelled because the process stops is no failure.
        """
        starting: Deferred[None] = Deferred()
        run = Run(self.reactor, Room(starting))
        with redirect_stderr(StringIO()) as said:
            self.assertEqual(0, run.to_the_end())
            [(stop, _, _)] = self.reactor.triggers["before"]["shutdown"]
            stop()
            starting.cancel()
        self.assertEqual(("", 0), (said.getvalue(), run._exit_code))

    def test_cannot_listen(self) -> None:
        """
        The address, the reason, and what to do.
        """
        for error, sentence in (
            (
                CannotListenError("0.0.0.0", 4000, OSError(EADDRINUSE, "Address already in use")),
                (
                    "dheera_ai: cannot listen on 0.0.0.0:4000: another program listens there. "
                    "Stop it, or choose another place with --port or DHEERA_AI_PORT (0 takes any free port), "
                    "or with --listen.\n"
                ),
            ),
            (
                CannotListenError("::1", 80, OSError(EACCES, "Permission denied")),
                (
                    "dheera_ai: cannot listen on [::1]:80: this user may not. "
                    "Ports below 1024 need CAP_NET_BIND_SERVICE, or a socket from systemd.\n"
                ),
            ),
            (
                CannotListenError("10.9.9.9", 1, OSError(EADDRNOTAVAIL, "Cannot assign requested address")),
                (
                    "dheera_ai: cannot listen on 10.9.9.9:1: this machine has no such address. "
                    "Choose one with --host or DHEERA_AI_HOST.\n"
                ),
            ),
            (
                CannotListenError("", 1, OSError(-2, "Name or service not known")),
                "dheera_ai: cannot listen on 0.0.0.0:1: Name or service not known.\n",
            ),
            (
                CannotListenError(None, b"/run/x", "something else"),
                "dheera_ai: cannot listen on /run/x: something else.\n",
            ),
        ):
            self.reactor = Reactor()
            assert self.failing(error) == sentence

    def test_one_of_many(self) -> None:
        """
        What is told is the failure itself, not that one of several things failed.
        """
        both = gatherResults([fail(FileNotFoundError(2, "No such file or directory", "/x"))], consumeErrors=True)
        with redirect_stderr(StringIO()) as said:
            Run(self.reactor, Room(both.addCallback(lambda _: None))).to_the_end()
        assert said.getvalue() == "dheera_ai: cannot start: No such file or directory (/x)\n"

    def test_bug(self) -> None:
        """
        A failure that nobody thought of ends the process too; the log has the traceback.
        """
        self.assertEqual(
            "dheera_ai: cannot start: ZeroDivisionError: none left\n", self.failing(ZeroDivisionError("none left"))
        )
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1


class RunByTwistdTests(SynchronousTestCase):
    """
    One life under a twistd that goes into the background.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.codes: list[int] = []
        self.reading, writing = os.pipe()
        self.addCleanup(os.close, self.reading)
        self.options = {"statusPipe": writing}

    def begin(self, starting: Deferred[None]) -> RunByTwistd:
        """
        What twistd does.
        """
        run = RunByTwistd(self.reactor, Room(starting), self.options, self.codes.append)
        run.startService()
        self.assertEqual({}, self.options)  # so that twistd tells nothing
        return run

    def told(self) -> bytes:
        """
        All that whoever started it hears.
        """
        return os.read(self.reading, 1000) + os.read(self.reading, 1)

    def test_serves(self) -> None:
        """
        That it has started is told when it has, and not before.
        """
        starting: Deferred[None] = Deferred()
        self.begin(starting)
        os.set_blocking(self.reading, False)
        self.assertRaises(BlockingIOError, os.read, self.reading, 1)
        starting.callback(None)
        self.assertEqual((b"0", [], False), (self.told(), self.codes, self.reactor.hasStopped))

    def test_cannot_start(self) -> None:
        """
        Why it cannot is told, at once or later, as far as twistd reads; the reactor stops, and it is exit 1.
        """
        starting: Deferred[None] = Deferred()
        self.begin(starting)
        starting.errback(CannotListenError("127.0.0.1", 4000, OSError(EADDRINUSE, "in use")))
        told = self.told()
        self.assertTrue(told.startswith(b"1 dheera cannot listen on 127.0.0.1:4000: another program"), told)
        self.assertEqual(100, len(told))
        self.reactor.run()
        self.assertEqual(([1], True), (self.codes, self.reactor.hasStopped))

    def test_bug(self) -> None:
        """
        What nobody has thought of is in the log with its traceback.
        """
        self.begin(fail(KeyError("x")))
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))
        self.assertEqual((b"1 dheera cannot start: KeyError: 'x'", [1]), (self.told(), self.codes))

    def test_stopped_meanwhile(self) -> None:
        """
        One that is told to stop before it serves has not failed; but whoever waits for it waits no longer.
        """
        self.begin(fail(CancelledError()))
        self.assertEqual((b"1 stopped before it could serve", []), (self.told(), self.codes))

    def test_nobody_waits(self) -> None:
        """
        Nobody need wait: in the foreground there is no pipe, and whoever waited may be gone.
        """
        os.close(self.options.pop("statusPipe"))
        self.begin(succeed(None))
        reading, self.options["statusPipe"] = os.pipe()
        os.close(reading)
        self.begin(succeed(None))
        self.assertEqual([], self.codes)
