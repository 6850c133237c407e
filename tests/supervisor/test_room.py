"""
A supervisor with workers that are a few lines of Python.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, FirstError, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dheera.errors import CannotStart
from dheera.settings import Config, Listen
from dheera.supervisor.room import OWN_VARIABLE, Supervisor, count, share, without_workers
from dheera.workers import DIRECTORY_VARIABLE
from tests.house import Overheard
from tests.test_children import SAY
from tests.test_ports import LOOPBACK, call

SERVES = (
    SAY
    + """
import signal
diary = open(sys.argv[1], "a", buffering=1)
name = os.environ["DHEERA_AI_WORKER"]
print(name, "starts", *sys.argv[2:], file=diary)
if os.path.exists(f"{sys.argv[1]}.broken.{name}"):
    sys.exit(2)
def stop(number, frame):
    print(name, "stops", file=diary)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGHUP, lambda number, frame: print(name, "reloads", file=diary))
places = json.loads(os.environ["DHEERA_AI_SOCKETS"])["sockets"]
[[door]] = places.values()
listening = socket.socket(fileno=door)
listening.setblocking(True)
listening.listen()
say("READY=1")
while True:
    connection, _ = listening.accept()
    connection.sendall(f"{name} {os.getpid()}".encode())
    connection.close()
"""
)


@define(eq=False)
class Takeover:
    """
    A succession that notes what is asked of it.
    """

    heard: list[str] = field(factory=list, init=False)

    def outdated(self) -> None:
        self.heard.append("outdated")

    def stop(self) -> Deferred[None]:
        return succeed(None)


class SupervisorTests(TestCase):
    """
    Real processes and real sockets.
    """

    timeout = 60

    def setUp(self) -> None:
        folder = Path(self.enterContext(TemporaryDirectory()))
        self.diary = folder / "diary"
        self.said: list[str] = []
        self.folder = folder / "run"
        self.folder.mkdir()
        self.environment = {"RUNTIME_DIRECTORY": str(self.folder), "NOTIFY_SOCKET": "/nowhere"}
        self.heard = Overheard.by(self)

    def supervisor(self, workers: int = 2, listen: Listen | None = None, *more: str) -> Supervisor:
        from twisted.internet import reactor

        command = [sys.executable, "-I", "-S", "-c", SERVES, str(self.diary), *more]
        config = Config(listen=listen or Listen(host=LOOPBACK, port=0))
        return Supervisor(reactor, config, workers, command, self.environment, self.said.append)

    async def serving(self, *arguments: Any) -> Supervisor:
        supervisor = self.supervisor(*arguments)
        self.addCleanup(supervisor.stopService)
        await supervisor.startService()
        return supervisor

    def break_worker(self, number: int, *, is_broken: bool = True) -> None:
        """
        Let it end before it serves, or let it serve again.
        """
        mark = Path(f"{self.diary}.broken.{number}")
        if is_broken:
            mark.touch()
        else:
            mark.unlink()

    @property
    def port(self) -> int:
        [line] = self.said
        return int(line.rpartition(":")[2])

    async def callees(self, calls: int = 40) -> dict[str, int]:
        """
        Who answers, and as which process.
        """
        answers = [await deferToThread(call, (LOOPBACK, self.port)) for _ in range(calls)]
        return {name: int(pid) for name, pid in (each.decode().split() for each in answers)}

    def lines(self, word: str) -> list[str]:
        """
        Who has written that in the diary.
        """
        return sorted(line.split()[0] for line in self.diary.read_text().splitlines() if line.split()[1] == word)

    async def until(self, word: str, names: Sequence[str]) -> None:
        """
        Wait until these have written that.
        """
        while self.lines(word) != names:
            await self.pause()

    async def kill(self, pid: int) -> None:
        """
        Kill it, and wait until it is no more: until then it might let somebody in.
        """
        os.kill(pid, signal.SIGKILL)
        while not any("ended (SIGKILL)" in line for line in self.heard.lines(LogLevel.critical)):
            await self.pause()

    async def pause(self) -> None:
        """
        Let others do something.
        """
        from twisted.internet import reactor

        await deferLater(reactor, 0.01)

    async def test_serves(self) -> None:
        """
        All workers serve at one port, it is told where, and none of them takes itself for the service of systemd.
        """
        await self.serving()
        self.assertRegex(self.said[0], r"^RUNNING on http://127\.0\.0\.1:\d+$")
        self.assertEqual(["1", "2"], sorted(await self.callees()))

    async def test_stops(self) -> None:
        """
        Stopped, it tells all workers, waits for them, and leaves nothing open and no file behind.
        """
        supervisor = await self.serving()
        self.assertEqual(1, len(list(self.folder.iterdir())))
        await supervisor.stopService()
        self.assertEqual(["1", "2"], self.lines("stops"))
        self.assertEqual([], list(self.folder.iterdir()))
        with self.assertRaises(ConnectionRefusedError):
            await deferToThread(call, (LOOPBACK, self.port))

    async def test_dies(self) -> None:
        """
        When a worker dies, the other serves on, nobody who connects is turned away, and another takes its place.
        """
        await self.serving()
        before = await self.callees()
        await self.kill(before["1"])
        after = await self.callees()
        self.assertEqual(["1", "1", "2"], self.lines("starts"))
        self.assertNotEqual(before["1"], after["1"])
        self.assertEqual(before["2"], after["2"])

    async def test_does_not_come_back(self) -> None:
        """
        When a worker that dies cannot start again the other serves all who connect, until it can.
        """
        await self.serving()
        before = await self.callees()
        self.break_worker(1)
        await self.kill(before["1"])
        await self.until("starts", ["1", "1", "1", "2"])
        while not any("until worker 1 serves" in line for line in self.heard.lines(LogLevel.warn)):
            await self.pause()
        await self.pause()  # its socket is closed in the turn behind that line
        self.assertEqual({"2": before["2"]}, await self.callees())
        self.break_worker(1, is_broken=False)
        while "1" not in await self.callees(5):
            await self.pause()
        self.assertEqual(["1", "2"], sorted(await self.callees()))

    async def test_reload(self) -> None:
        """
        All workers are told to reload, and so is a successor that may have read what was there before.
        """
        supervisor = await self.serving()
        takeover: Any = Takeover()
        supervisor._succession = takeover
        supervisor.reload(Config())
        await self.until("reloads", ["1", "2"])
        self.assertEqual(["outdated"], takeover.heard)

    async def test_first_cannot_start(self) -> None:
        """
        If the first worker cannot start, that is the reason, no other is tried, and nothing stays behind.
        """
        self.break_worker(1)
        with self.assertRaisesRegex(CannotStart, r"worker 1 .* \(exit code 2\)"):
            await self.supervisor().startService()
        self.assertEqual(["1"], self.lines("starts"))
        self.assertEqual(([], []), (self.said, list(self.folder.iterdir())))

    async def test_second_cannot_start(self) -> None:
        """
        If another cannot, those that could are stopped.
        """
        self.break_worker(2)
        with self.assertRaises(FirstError) as caught:
            await self.supervisor(3).startService()
        self.assertEqual(CannotStart, caught.exception.subFailure.type)
        self.assertIn("1", self.lines("stops"))
        self.assertEqual([], self.said)

    async def test_stopped_while_it_starts(self) -> None:
        """
        Stopped before it serves, it starts no more workers.
        """
        supervisor = self.supervisor()
        starting = supervisor.startService()
        await supervisor.stopService()
        with self.assertRaises(CancelledError):
            await starting
        self.assertEqual([], self.said)

    async def test_taken(self) -> None:
        """
        A port that another supervisor serves is taken.
        """
        await self.serving()
        with self.assertRaises(CannotListenError):
            await self.supervisor(2, Listen(host=LOOPBACK, port=self.port)).startService()

    async def test_unix(self) -> None:
        """
        Workers share a Unix socket. The death of one leaves it where it is; it is removed at the end.
        """
        path = self.folder / "door"
        # Its path is too long for a socket's, so the folder stands for it.
        here = f"/proc/self/fd/{os.open(self.folder, os.O_RDONLY)}"
        self.addCleanup(os.close, int(here.rpartition("/")[2]))
        supervisor = await self.serving(2, Listen(endpoints=(f"unix:{here}/door",)))
        self.assertEqual([f"RUNNING on unix:{here}/door"], self.said)

        def called() -> bytes:
            return call(f"{here}/door", socket.AF_UNIX)

        dead = (await deferToThread(called)).split()[1]
        await self.kill(int(dead))
        self.assertNotEqual(dead, (await deferToThread(called)).split()[1])
        self.assertTrue(path.is_socket())
        await supervisor.stopService()
        self.assertEqual([], list(self.folder.iterdir()))

    async def test_operators_directory(self) -> None:
        """
        A directory for the metrics that the operator names is used as it is.
        """
        self.environment[DIRECTORY_VARIABLE] = "/nowhere"
        supervisor = await self.serving()
        await supervisor.stopService()
        self.assertEqual("/nowhere", self.environment[DIRECTORY_VARIABLE])
        self.assertEqual([], list(self.folder.iterdir()))

    async def test_predecessors_directory(self) -> None:
        """
        That of a predecessor is used on, with what was counted there, and removed by whoever goes last.
        """
        kept = self.folder / "kept"
        kept.mkdir()
        (kept / "counter_1.db").touch()
        self.environment |= {DIRECTORY_VARIABLE: str(kept), OWN_VARIABLE: "1"}
        supervisor = await self.serving()
        self.assertEqual([kept], list(self.folder.iterdir()))
        self.assertEqual(["counter_1.db"], [each.name for each in kept.iterdir()])
        await supervisor.stopService()
        self.assertEqual([], list(self.folder.iterdir()))

    def test_too_early(self) -> None:
        """
        Before all workers serve there is nothing to upgrade.
        """
        self.supervisor().upgrade()
        [line] = self.heard.lines(LogLevel.warn)
        self.assertIn("No upgrade: not all workers serve yet", line)


class ShareTests(SynchronousTestCase):
    def test_share(self) -> None:
        """
        Every socket that is one of many at a port has one worker, and no more; what is one for all, all have.
        """
        sockets = {"spread": [5, 6, 7], "one": [8]}
        shares = [share(sockets, index, 2) for index in range(2)]
        self.assertEqual([{"spread": [5, 7], "one": [8]}, {"spread": [6], "one": [8]}], shares)

    def test_command(self) -> None:
        """
        A worker is started without the option that asks for workers.
        """
        for words in (["--workers", "4"], ["--workers=auto"]):
            self.assertEqual(["a", "--demo", "b"], without_workers(["a", *words, "--demo", "b"]))

    def test_count(self) -> None:
        """
        "auto" is one for each processor that we may use.
        """
        self.assertEqual([3, len(os.sched_getaffinity(0))], [count(3), count("auto")])
