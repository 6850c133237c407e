"""
Several processes, told of as one service.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from dheera.config import ConfigurationError
from dheera.crew import Crew
from dheera.daemon import FLUSH_SECONDS
from dheera.notify import STATUS_SECONDS, Notifier
from dheera.settings import Config
from tests.house import Overheard
from tests.test_notify import Manager


@define(eq=False)
class Supervision:
    """
    A supervisor that notes what is asked of it.
    """

    heard: list[str] = field(factory=list, init=False)
    starting: Deferred[None] = field(factory=Deferred, init=False)
    stopping: Deferred[None] = field(factory=Deferred, init=False)
    reloading: Deferred[None] = field(factory=Deferred, init=False)
    read: Config | None = field(default=None, init=False)
    serving: int = field(default=2, init=False)

    def startService(self) -> Deferred[None]:
        return self.starting

    def stopService(self) -> Deferred[None]:
        self.heard.append("stop")
        return self.stopping

    def hurry(self) -> None:
        self.heard.append("hurry")

    def reload(self, config: Config) -> Deferred[None]:
        self.read = config
        self.heard.append("reload")
        return self.reloading

    def upgrade(self) -> None:
        self.heard.append("upgrade")

    def status(self) -> str:
        return f"{self.serving} workers serve"


class CrewTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        folder = self.enterContext(TemporaryDirectory())
        self.systemd = Manager(self, str(Path(folder, "notify")))
        notifier = Notifier(self.clock, {"NOTIFY_SOCKET": self.systemd.address})
        self.addCleanup(notifier.end)
        self.supervision = Supervision()
        supervisor: Any = self.supervision
        self.wrong: list[str] = []
        self.written = Config()
        self.crew = Crew(Config(stop_delay_seconds=2, drain_seconds=3), self.read, supervisor, notifier)

    def read(self) -> Config:
        if self.wrong:
            raise ConfigurationError(self.wrong)
        return self.written

    def start(self) -> None:
        started = self.crew.startService()
        self.supervision.starting.callback(None)
        self.successResultOf(started)
        self.systemd.heard()

    def test_ready(self) -> None:
        """
        It is ready when the workers are, and not before; the status says how many there are, also later.
        """
        started = self.crew.startService()
        self.assertEqual([], self.systemd.heard())
        self.supervision.starting.callback(None)
        self.successResultOf(started)
        self.assertEqual(["READY=1\nSTATUS=2 workers serve\n"], self.systemd.heard())
        self.supervision.serving = 1
        self.clock.advance(STATUS_SECONDS)
        self.assertEqual(["STATUS=1 workers serve\n"], self.systemd.heard())

    def test_cannot_start(self) -> None:
        """
        If one worker cannot start nobody is told that all is ready.
        """
        started = self.crew.startService()
        self.supervision.starting.errback(ZeroDivisionError())
        self.failureResultOf(started, ZeroDivisionError)
        self.assertEqual([], self.systemd.heard())

    def test_reload(self) -> None:
        """
        A reading anew is passed on, between the words that systemd waits for; it is over when it is for all workers.
        """
        self.start()
        self.crew.reload()
        self.assertEqual((["reload"], ["RELOADING=1"]), (self.supervision.heard, self.told()))
        self.assertEqual(Config(), self.supervision.read)
        self.supervision.reloading.callback(None)
        self.assertEqual(["READY=1"], self.told())

    def test_too_early(self) -> None:
        """
        Before all serve systemd is told nothing of it: it waits for the start.
        """
        self.crew.startService()
        self.crew.reload()
        self.supervision.reloading.callback(None)
        self.assertEqual((["reload"], []), (self.supervision.heard, self.told()))

    def test_stop_follows(self) -> None:
        """
        How long a stop may take is told by what was read last.
        """
        self.start()
        self.written = Config(drain_seconds=100)
        self.crew.reload()
        self.told()
        self.crew.stopService()
        [said] = self.systemd.heard()
        self.assertIn(f"EXTEND_TIMEOUT_USEC={int((100 + FLUSH_SECONDS) * 1_000_000)}", said.split())

    def test_wrong(self) -> None:
        """
        What cannot be used no worker is bothered with: the log says each problem, once, and all is ready as before.
        """
        heard = Overheard.by(self)
        self.start()
        self.wrong = ["port: too many", "host: too few"]
        self.crew.reload()
        self.assertEqual(([], ["RELOADING=1", "READY=1"]), (self.supervision.heard, self.told()))
        told = "\n".join(heard.lines(LogLevel.warn))
        self.assertEqual([1, 1], [told.count(problem) for problem in self.wrong])

    def test_reload_ends_late(self) -> None:
        """
        Who stops meanwhile is not ready any more.
        """
        self.start()
        self.crew.reload()
        self.crew.stopService()
        self.supervision.reloading.callback(None)
        self.assertEqual(["RELOADING=1", "STOPPING=1"], self.told())

    def told(self) -> list[str]:
        """
        The first line of each datagram since this was asked last.
        """
        return [each.partition("\n")[0] for each in self.systemd.heard()]

    def test_stop(self) -> None:
        """
        Systemd is told first, and how long it may take; when no worker is left nothing more is said.
        """
        self.start()
        stopped = self.crew.stopService()
        [said] = self.systemd.heard()
        self.assertTrue(said.startswith("STOPPING=1\n"), said)
        self.assertIn(f"EXTEND_TIMEOUT_USEC={int((5 + FLUSH_SECONDS) * 1_000_000)}", said.split())
        self.assertNoResult(stopped)
        self.crew.hurry()
        self.supervision.stopping.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(["stop", "hurry"], self.supervision.heard)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stopping(self) -> None:
        """
        Who stops neither reads anew nor lets others take over.
        """
        self.start()
        self.crew.upgrade()
        self.crew.stopService()
        self.systemd.heard()
        self.crew.upgrade()
        self.crew.reload()
        self.assertEqual((["upgrade", "stop"], []), (self.supervision.heard, self.systemd.heard()))
