"""
A new process takes the place of the old one, or does not.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogLevel
from twisted.trial.unittest import TestCase

from dheera.succession import Succession
from tests.house import Overheard
from tests.test_children import program


class SuccessionTests(TestCase):
    """
    The old one is this process; the new ones are a few lines of Python.
    """

    timeout = 30

    def setUp(self) -> None:
        self.diary: list[tuple[str, int]] = []
        self.left: Deferred[None] = Deferred()
        self.door = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.door.close)
        self.heard = Overheard.by(self)

    def succession(self, text: str, *, patience_seconds: float = 60.0) -> Succession:
        return self.by(program(text), patience_seconds)

    def by(self, command: Sequence[str], patience_seconds: float = 60.0) -> Succession:
        from twisted.internet import reactor

        return Succession(
            reactor,
            command,
            lambda: {"door": [self.door.fileno()]},
            lambda pid: self.diary.append(("let go", pid)),
            lambda pid: self.diary.append(("main pid", pid)),
            lambda: self.left.callback(None),
            {**os.environ, "WORD": "said"},
            patience_seconds,
        )

    async def ended(self, succession: Succession) -> None:
        """
        Wait until the new one is no more.
        """
        while succession.is_under_way:
            await self.pause()

    async def failure(self, succession: Succession) -> str:
        """
        What is logged when that fails.
        """
        await self.ended(succession)
        self.assertEqual([], self.diary)
        return "\n".join(self.heard.lines(LogLevel.error) + self.heard.lines(LogLevel.critical))

    async def test_succeeds(self) -> None:
        """
        When the new one serves, systemd is told of it, then the old one lets go, and leaves. The new one has the
        sockets and what its environment is to hold.
        """
        succession = self.succession(
            "ok = os.environ['WORD'] == 'said' and 'door' in json.loads(os.environ['DHEERA_AI_SOCKETS'])['sockets']\n"
            "say(f'READY={int(ok)}')\n"
        )
        succession.begin()
        await self.left
        [(first, pid), (second, same)] = self.diary
        self.assertEqual(("main pid", "let go", pid), (first, second, same))
        self.assertNotIn(pid, (0, os.getpid()))
        succession.begin()  # too late to matter
        self.assertEqual(2, len(self.diary))
        await succession.stop()
        await self.ended(succession)

    async def test_outdated(self) -> None:
        """
        One that may have read an old configuration reads it anew when it serves, as often as it changes, and takes
        over when it has.
        """
        marks = self.enterContext(TemporaryDirectory()) + "/"
        succession = self.succession(
            "import signal, time\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])\n"
            "say('READY=1')\n"
            "signal.sigwait([signal.SIGHUP])\n"
            f"while not os.path.exists({marks + 'first'!r}): time.sleep(0.01)\n"
            "say('RELOADING=1', 'READY=1')\n"
            "signal.sigwait([signal.SIGHUP])\n"
            f"open({marks + 'second'!r}, 'x').close()\n"
            "say('READY=1')\n"
        )
        succession.outdated()  # there is none yet
        succession.begin()
        succession.outdated()
        while not any("reads the configuration anew" in line for line in self.heard.lines()):
            await self.pause()
        succession.outdated()
        self.allowed(marks)
        await self.left
        self.assertTrue(self.is_done(marks))
        self.assertEqual(["main pid", "let go"], [first for first, _ in self.diary])
        await self.ended(succession)

    def allowed(self, marks: str) -> None:
        Path(marks + "first").touch()

    def is_done(self, marks: str) -> bool:
        return Path(marks + "second").exists()

    async def pause(self) -> None:
        """
        Let others do something.
        """
        from twisted.internet import reactor

        await deferLater(reactor, 0.01)

    async def test_fails(self) -> None:
        """
        One that ends before it serves is no successor: the log says why, all goes on, and another may be tried.
        """
        succession = self.succession("say('STATUS=dying'); sys.exit(2)")
        for tries in 1, 2:
            succession.begin()
            succession.begin()  # one at a time
            said = await self.failure(succession)
            self.assertEqual(tries, said.count("ended before it could serve (exit code 2); this one goes on"))

    async def test_silent(self) -> None:
        """
        One that does not serve in time is ended.
        """
        succession = self.succession("import signal; signal.pause()", patience_seconds=0.3)
        succession.begin()
        said = await self.failure(succession)
        self.assertIn("does not serve after 0.3 s", said)
        self.assertIn("ended before it could serve (SIGTERM)", said)

    async def test_no_program(self) -> None:
        """
        A program that is not there is told, and all goes on.
        """
        succession = self.by(["/nowhere/dheera_ai"])
        succession.begin()
        self.assertIn("/nowhere/dheera_ai cannot be run", await self.failure(succession))

    async def test_stop(self) -> None:
        """
        When the old one is stopped, one that does not serve yet is ended with it.
        """
        succession = self.succession("import signal; signal.pause()")
        await succession.stop()
        succession.begin()
        await succession.stop()
        self.assertEqual(False, succession.is_under_way)
        self.assertEqual([], self.diary)
