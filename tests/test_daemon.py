"""
The daemon as a whole, in memory: what reading anew, taking over and stopping do, and what is said of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from dheera.config import ConfigurationError
from dheera.daemon import FLUSH_SECONDS, Daemon
from dheera.gate import KeyGate
from dheera.keys import Secret
from dheera.lifecycle import InOrder
from dheera.service import build
from dheera.settings import Config, Listen
from dheera.stores.memory import MemoryStore
from tests.house import Overheard
from tests.network import Network
from tests.test_notify import Manager

BASE = Config(demo=True, stop_delay_seconds=1, drain_seconds=20)


class Reactor(Network):
    """
    One that can be stopped.
    """

    stops = 0

    def stop(self) -> None:
        self.stops += 1


@define(eq=False)
class Slow:
    """
    A room that closes when it is told to; it opens at once, if the test does not want it otherwise.
    """

    opening: Deferred[None] = field(factory=lambda: succeed(None), init=False)
    closing: Deferred[None] = field(factory=Deferred, init=False)

    async def open(self) -> None:
        await self.opening

    async def close(self) -> None:
        await self.closing


@define(eq=False)
class Takeover:
    """
    A succession that notes what is asked of it.
    """

    heard: list[str] = field(factory=list, init=False)

    def begin(self) -> None:
        self.heard.append("begin")

    def outdated(self) -> None:
        self.heard.append("outdated")

    def stop(self) -> None:
        self.heard.append("stop")


class DaemonCase(SynchronousTestCase):
    """
    A daemon without doors. Its configuration is read from ``written``.
    """

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.written: Callable[[], Config] = lambda: BASE
        self.reads = 0
        folder = self.enterContext(TemporaryDirectory())
        self.systemd = Manager(self, str(Path(folder, "notify")))
        self.daemon = self.built(self.read)
        self.slow = Slow()
        self.daemon._rooms = InOrder([self.slow])
        self.heard = Overheard.by(self)

    def built(self, read: Callable[[], Config] | None, **environment: str) -> Daemon:
        said = {"NOTIFY_SOCKET": self.systemd.address, **environment}
        daemon = build(self.reactor, BASE, lambda _: None, read=read, environment=said)
        self.addCleanup(daemon._notifier.end)
        return daemon

    def start(self) -> None:
        self.successResultOf(self.daemon.startService())

    def read(self) -> Config:
        self.reads += 1
        return self.written()

    def write(self, **fields: Any) -> None:
        config = evolve(BASE, **fields)
        self.written = lambda: config

    def told(self) -> list[str]:
        """
        The first word of each datagram since this was asked last.
        """
        return [each.partition("=")[0] for each in self.systemd.heard()]

    def warned(self) -> list[str]:
        return [line.partition("] ")[2] for line in self.heard.lines(LogLevel.warn)]

    def hold_sinks(self) -> Deferred[None]:
        """
        Let the next reading anew wait in its last step until that fires.
        """
        waiting: Deferred[None] = Deferred()

        async def change(*_: object) -> None:
            await waiting

        self.patch(type(self.daemon._walls.accounts), "change_sinks", change)
        return waiting


class ReloadTests(DaemonCase):
    """
    Reading anew.
    """

    def test_done(self) -> None:
        """
        What is read is in force when systemd is told that it is, and the log names what has changed, never a value.
        """
        self.start()
        self.write(drain_seconds=77, master_key=Secret("sk-canary-0123456789abcdef"))
        self.daemon.reload()
        self.assertEqual(77, self.daemon.settings.drain_seconds)
        reloading, ready = self.systemd.heard()
        self.assertTrue(reloading.startswith("RELOADING=1\nMONOTONIC_USEC="), reloading)
        self.assertTrue(ready.startswith("READY=1\n"), ready)
        [line] = [each for each in self.heard.lines(LogLevel.info) if "Changed" in each]
        self.assertTrue(line.endswith("Changed: drain_seconds, master_key"), line)
        self.assertNotIn("canary", self.heard.everything())

    def test_nothing(self) -> None:
        """
        Where nothing has changed the log says so.
        """
        self.start()
        self.daemon.reload()
        self.assertTrue(any(line.endswith("Changed: nothing") for line in self.heard.lines()))
        self.assertEqual([], [each for each in self.warned() if "start" in each])

    def test_wrong(self) -> None:
        """
        What cannot be used changes nothing: the log says each problem, and systemd is told that all is ready.
        """
        self.start()
        before = self.daemon.furniture

        def wrong() -> Config:
            raise ConfigurationError(["port: too many", "host: too few"])

        self.written = wrong
        self.daemon.reload()
        self.assertIs(before, self.daemon.furniture)
        self.assertEqual(
            [
                "Configuration: port: too many",
                "Configuration: host: too few",
                "The configuration cannot be used; the one before stays in force",
            ],
            self.warned(),
        )
        self.assertEqual(["RELOADING", "READY"], self.told())
        self.write(drain_seconds=3)
        self.daemon.reload()
        self.assertEqual(3, self.daemon.settings.drain_seconds)

    def test_bug(self) -> None:
        """
        What nobody thought of changes nothing either; systemd is told, the log has it, and the next one is done.
        """
        self.start()
        before = self.daemon.furniture
        self.written = lambda: 1 // 0  # type: ignore[assignment, return-value]  # that is the bug
        self.daemon.reload()
        self.assertIs(before, self.daemon.furniture)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual(["RELOADING", "READY"], self.told())
        self.write(drain_seconds=3)
        self.daemon.reload()
        self.assertEqual(3, self.daemon.settings.drain_seconds)

    def test_postponed(self) -> None:
        """
        What wants a new start is named and stays as it was; all else is in force.
        """
        self.start()
        self.write(drain_seconds=3, listen=Listen(port=4711), log_format="json")
        self.daemon.reload()
        settings = self.daemon.settings
        self.assertEqual((3, 4000, "text"), (settings.drain_seconds, settings.listen.port, settings.log_format))
        [told] = [each for each in self.warned() if "new start" in each]
        self.assertEqual({"log_format", "[listen] port"}, set(told.partition(": ")[2].split(", ")))

    def test_one_at_a_time(self) -> None:
        """
        Whatever is asked while one is under way is done once more after it, with what is read then.
        """
        self.start()
        waiting = self.hold_sinks()
        for number in 1, 2, 3:
            self.write(drain_seconds=number)
            self.daemon.reload()
        self.assertEqual((1, ["RELOADING"]), (self.reads, self.told()))
        waiting.callback(None)
        self.assertEqual((2, 3), (self.reads, self.daemon.settings.drain_seconds))
        self.assertEqual(["READY", "RELOADING", "READY"], self.told())
        self.daemon.reload()
        self.assertEqual(3, self.reads)

    def test_too_early(self) -> None:
        """
        What is asked before it has started is done when it has.
        """
        opening = self.slow.opening = Deferred()
        started = self.daemon.startService()
        self.write(drain_seconds=3)
        self.daemon.reload()
        self.daemon.upgrade()
        self.assertEqual((0, []), (self.reads, self.told()))
        opening.callback(None)
        self.successResultOf(started)
        self.assertEqual((1, 3), (self.reads, self.daemon.settings.drain_seconds))

    def test_nowhere(self) -> None:
        """
        Where there is nothing to read from it says so.
        """
        self.daemon = self.built(None)
        self.daemon._rooms = InOrder([])
        self.start()
        self.daemon.reload()
        self.assertEqual(([], ["The configuration cannot be read anew here"]), (self.told(), self.warned()))

    def test_open_by_mistake(self) -> None:
        """
        A master key that is there no more wants a new start: nobody is let in by a line that was lost.
        """
        self.start()
        self.write(master_key=Secret("sk-canary-0123456789abcdef"))
        self.daemon.reload()
        self.write()
        self.daemon.reload()
        self.assertIsInstance(self.daemon.furniture.gate, KeyGate)
        self.assertEqual(["These want a new start to change: master_key"], self.warned())

    def test_stopping(self) -> None:
        """
        Who stops reads nothing anew.
        """
        self.start()
        self.daemon.stopService()
        self.daemon.reload()
        self.assertEqual((0, [], ["STOPPING"]), (self.reads, self.warned(), self.told()))


class StopTests(DaemonCase):
    """
    Stopping.
    """

    def test_time(self) -> None:
        """
        Systemd is told first, and how long it may take by the settings in force; when all is closed nothing more is
        said.
        """
        self.start()
        self.write(drain_seconds=40)
        self.daemon.reload()
        self.systemd.heard()
        stopped = self.daemon.stopService()
        [said] = self.systemd.heard()
        self.assertTrue(said.startswith("STOPPING=1\n"), said)
        self.assertIn(f"EXTEND_TIMEOUT_USEC={int((1 + 40 + FLUSH_SECONDS) * 1_000_000)}", said.split())
        self.assertNoResult(stopped)
        self.slow.closing.callback(None)
        self.successResultOf(stopped)
        self.daemon._notifier.ready("again")
        self.assertEqual([], self.systemd.heard())

    def test_while_reading(self) -> None:
        """
        A reading anew that is under way ends quietly: nobody is told any more that all is ready.
        """
        self.start()
        waiting = self.hold_sinks()
        self.daemon.reload()
        self.daemon.reload()
        stopped = self.daemon.stopService()
        waiting.callback(None)
        self.slow.closing.callback(None)
        self.successResultOf(stopped)
        self.assertEqual((["RELOADING", "STOPPING"], 1), (self.told(), self.reads))

    def test_hurry(self) -> None:
        """
        Who is told a second time hurries all who wait.
        """
        waiting = self.daemon._hurry.wait()
        self.start()
        self.daemon.stopService()
        self.assertNoResult(waiting)
        self.daemon.hurry()
        self.successResultOf(waiting)

    def test_status(self) -> None:
        """
        The status says where it serves, and how many calls are under way.
        """
        self.daemon._front.addresses.append("http://127.0.0.1:4000")
        self.start()
        self.daemon.reload()
        self.assertIn(
            "STATUS=Serving on http://127.0.0.1:4000: 0 calls under way", self.systemd.heard()[-1].split("\n")
        )


class UpgradeTests(DaemonCase):
    """
    Others who take over.
    """

    def test_nobody(self) -> None:
        """
        Where nobody can take over it says so, and serves on.
        """
        self.start()
        self.daemon.upgrade()
        self.assertEqual((1, 0), (len(self.warned()), self.reactor.stops))
        self.assertIn("Nobody can take over", self.warned()[0])

    def test_too_early(self) -> None:
        """
        One that does not serve yet has nothing to hand on.
        """
        takeover: Any = Takeover()
        self.daemon._succession = takeover
        self.daemon.upgrade()
        self.assertEqual(([], ["No upgrade: this one does not serve yet"]), (takeover.heard, self.warned()))

    def test_somebody(self) -> None:
        """
        The successor is started while it serves, not when it stops; one that does not serve yet is ended then.
        """
        takeover: Any = Takeover()
        self.daemon._succession = takeover
        self.start()
        self.daemon.upgrade()
        self.assertEqual(["begin"], takeover.heard)
        self.daemon.stopService()
        self.daemon.upgrade()
        self.assertEqual(["begin", "stop"], takeover.heard)

    def test_reload(self) -> None:
        """
        A successor that may have read what was there before is told, even while another reading anew is under way.
        """
        takeover: Any = Takeover()
        self.daemon._succession = takeover
        self.start()
        self.hold_sinks()
        self.daemon.reload()
        self.daemon.reload()
        self.assertEqual(["outdated", "outdated"], takeover.heard)
        self.daemon.stopService()
        self.daemon.reload()
        self.assertEqual(["outdated", "outdated", "stop"], takeover.heard)

    def test_command(self) -> None:
        """
        Whoever knows how it was started can be taken over, and a successor hears of the same systemd.
        """
        daemon = build(
            self.reactor,
            BASE,
            lambda _: None,
            environment={"NOTIFY_SOCKET": self.systemd.address, "A": "b"},
            command=["dheera_ai"],
        )
        self.addCleanup(daemon._notifier.end)
        assert daemon._succession is not None
        self.assertEqual({"NOTIFY_SOCKET": self.systemd.address, "A": "b"}, daemon._succession._environment)

    def test_give_way(self) -> None:
        """
        Where others serve at the same doors it leaves, without the delay in which others learn that it does.
        """
        self.daemon.give_way()
        self.assertEqual((True, 1), (self.daemon._front.is_succeeded, self.reactor.stops))


class WallTests(DaemonCase):
    """
    What lives as long as the process.
    """

    def test_store_stays(self) -> None:
        """
        All that lives long is the same after a reading anew: the store, its books, and the site that has the clients.
        """
        self.start()
        walls, store = self.daemon._walls, self.daemon._walls.stores.directory
        self.write(master_key=Secret("sk-another-0123456789abcdef"))
        self.daemon.reload()
        self.assertIs(walls, self.daemon._walls)
        self.assertIs(store, self.daemon._walls.stores.directory)
        self.assertIsInstance(store, MemoryStore)
        self.assertIs(self.daemon.furniture.root, walls.site.resource)

    def test_environment_is_its_own(self) -> None:
        """
        What its environment says to it alone no child of it hears.
        """
        environment = {"NOTIFY_SOCKET": self.systemd.address, "WATCHDOG_USEC": "9", "WATCHDOG_PID": str(os.getpid())}
        daemon = build(self.reactor, BASE, lambda _: None, environment=environment)
        self.addCleanup(daemon._notifier.end)
        self.assertEqual({}, environment)
