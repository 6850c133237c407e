"""
What is said to systemd, and to a predecessor or supervisor of ours.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from dheera.lifecycle import Room
from dheera.notify import PING_SECONDS, STATUS_BYTES, STATUS_SECONDS, Notifier
from tests.house import Overheard

_: type[Room] = Notifier


class Manager:
    """
    The socket of a systemd.

    :param address: a path, or a name that begins with ``@``.
    """

    def __init__(self, test: SynchronousTestCase, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        test.addCleanup(self.socket.close)
        self.socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self.socket.setblocking(False)  # noqa: FBT003 - its only parameter

    def heard(self) -> list[str]:
        """
        The datagrams since this was asked last.
        """
        said = []
        while True:
            try:
                said.append(self.socket.recv(65536).decode())
            except BlockingIOError:
                return said


class Parent:
    """
    Whoever reads at the other end of the pipe.
    """

    def __init__(self, test: SynchronousTestCase) -> None:
        self.read, self.number = os.pipe()
        os.set_blocking(self.read, False)
        test.addCleanup(self.leave)

    def heard(self) -> list[str]:
        """
        The lines since this was asked last.
        """
        try:
            return os.read(self.read, 1 << 20).decode().splitlines()
        except BlockingIOError:
            return []

    def leave(self) -> None:
        """
        Read no more.
        """
        if self.read >= 0:
            os.close(self.read)
            self.read = -1


class NotifyTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.clock = Clock()
        self.manager = Manager(self, str(self.folder / "notify"))

    def notifier(self, **environment: str) -> Notifier:
        """
        One that has been told *environment*.
        """
        notifier = Notifier(self.clock, environment, lambda: 7_000_999)
        self.addCleanup(notifier.end)
        return notifier

    def to_systemd(self, **more: str) -> Notifier:
        """
        One that speaks to `manager`.
        """
        return self.notifier(NOTIFY_SOCKET=self.manager.address, **more)

    def open(self, notifier: Notifier) -> None:
        """
        As a house does.
        """
        self.successResultOf(Deferred.fromCoroutine(notifier.open()))

    def close(self, notifier: Notifier) -> None:
        """
        As a house does.
        """
        self.successResultOf(Deferred.fromCoroutine(notifier.close()))


class WordsTests(NotifyTestCase):
    """
    Each datagram is one of sd_notify(3).
    """

    def test_states(self) -> None:
        """
        Serving, reloading, stopping and handing over are said as systemd wants to hear them.
        """
        notifier = self.to_systemd()
        notifier.ready("Serving")
        notifier.reloading()
        notifier.ready("Serving anew")
        notifier.status("Busy")
        notifier.stopping("Stopping", 37.5)
        self.assertEqual(
            [
                "READY=1\nSTATUS=Serving\n",
                "RELOADING=1\nMONOTONIC_USEC=7000\n",
                "READY=1\nSTATUS=Serving anew\n",
                "STATUS=Busy\n",
                "STOPPING=1\nSTATUS=Stopping\nEXTEND_TIMEOUT_USEC=37500000\n",
            ],
            self.manager.heard(),
        )

    def test_abstract_address(self) -> None:
        """
        An address that begins with @ is in the abstract namespace.
        """
        manager = Manager(self, f"@dheera-{os.getpid()}-{self.folder.name}")
        self.notifier(NOTIFY_SOCKET=manager.address).ready()
        self.assertEqual(["READY=1\n"], manager.heard())

    def test_status_is_said_once(self) -> None:
        """
        A status that has not changed is not said again.
        """
        notifier = self.to_systemd()
        for each in "one", "one", "", "two":
            notifier.status(each)
        self.assertEqual(["STATUS=one\n", "STATUS=two\n"], self.manager.heard())

    @given(st.text(st.characters(codec=None), min_size=1))
    def test_status_is_one_line(self, text: str) -> None:
        """
        Whatever a status holds, it says nothing else: no line of its own, and no more than a pipe takes whole.
        """
        notifier = self.to_systemd()
        try:
            notifier.status("\n" + text)
            [said] = self.manager.heard()
        finally:
            notifier.end()
        self.assertTrue(said.startswith("STATUS="))
        self.assertEqual(len(said) - 1, said.index("\n"))
        self.assertLessEqual(len(said.encode()), STATUS_BYTES + len("STATUS=\n"))

    def test_systemd_hears_nothing_of_who_has_handed_over(self) -> None:
        """
        Who has named another main process says no more: its stop is not that of the service.
        """
        notifier = self.to_systemd(WATCHDOG_USEC="2000000")
        self.open(notifier)
        self.manager.heard()
        notifier.main_pid(4711)
        notifier.stopping("Stopping", 1)
        notifier.ready("Never")
        self.close(notifier)
        self.clock.pump([1] * 10)
        self.assertEqual(["MAINPID=4711\n"], self.manager.heard())


class EnvironmentTests(NotifyTestCase):
    """
    Who listens is told by the environment.
    """

    def test_taken_out(self) -> None:
        """
        What says who listens is taken out of the environment, so that no child speaks in our name; a successor gets
        what it needs, without the number of our process.
        """
        parent = Parent(self)
        environment = {
            "NOTIFY_SOCKET": self.manager.address,
            "WATCHDOG_USEC": "2000000",
            "WATCHDOG_PID": str(os.getpid()),
            "DHEERA_AI_READY_FD": str(parent.number),
            "HOME": "/root",
        }
        notifier = Notifier(self.clock, environment)
        self.addCleanup(notifier.end)
        self.assertEqual({"HOME": "/root"}, environment)
        self.assertEqual(
            {"NOTIFY_SOCKET": self.manager.address, "WATCHDOG_USEC": "2000000"}, dict(notifier.environment())
        )
        self.assertFalse(os.get_inheritable(parent.number))

    def test_nobody_listens(self) -> None:
        """
        Without a listener nothing is said, and nothing fails.
        """
        notifier = self.notifier()
        self.open(notifier)
        notifier.reloading()
        self.close(notifier)
        self.clock.pump([STATUS_SECONDS] * 3)
        self.assertEqual({}, dict(notifier.environment()))

    def test_nonsense(self) -> None:
        """
        What cannot be a listener is none.
        """
        for name, value in (
            ("NOTIFY_SOCKET", "vsock:2:1234"),
            ("NOTIFY_SOCKET", "/" + "x" * 200),
            ("NOTIFY_SOCKET", str(self.folder / "nobody")),
            ("DHEERA_AI_READY_FD", "-1"),
            ("DHEERA_AI_READY_FD", "stdout"),
            ("DHEERA_AI_READY_FD", "99999"),
            ("DHEERA_AI_READY_FD", "9" * 40),
            ("WATCHDOG_USEC", "soon"),
        ):
            with self.subTest(name=name, value=value):
                notifier = self.notifier(**{name: value})
                self.open(notifier)
                self.clock.pump([STATUS_SECONDS] * 3)
                self.close(notifier)


class WatchdogTests(NotifyTestCase):
    """
    Signs of life.
    """

    def test_twice_as_often_as_systemd_wants(self) -> None:
        """
        From the time that it serves systemd hears one each half of what it waits for, until the end; while the house
        is closed too.
        """
        notifier = self.to_systemd(WATCHDOG_USEC="3000000", WATCHDOG_PID=str(os.getpid()))
        self.clock.advance(10)
        self.assertEqual([], self.manager.heard())
        self.open(notifier)
        self.manager.heard()
        self.clock.pump([0.5] * 6)
        self.assertEqual(["WATCHDOG=1\n"] * 2, self.manager.heard())
        self.close(notifier)
        self.clock.pump([0.5] * 6)
        self.assertEqual(["STOPPING=1\n", *["WATCHDOG=1\n"] * 2], self.manager.heard())
        notifier.end()
        self.clock.pump([0.5] * 6)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_of_another_process(self) -> None:
        """
        A watchdog of another process is none of ours.
        """
        notifier = self.to_systemd(WATCHDOG_USEC="3000000", WATCHDOG_PID=str(os.getpid() + 1))
        self.open(notifier)
        self.clock.pump([1] * 9)
        self.assertEqual(["READY=1\n"], self.manager.heard())
        self.assertNotIn("WATCHDOG_USEC", notifier.environment())

    def test_supervisor(self) -> None:
        """
        A supervisor hears one every few seconds, whatever systemd wants.
        """
        parent = Parent(self)
        notifier = self.to_systemd(DHEERA_AI_READY_FD=str(parent.number))
        self.open(notifier)
        self.clock.pump([PING_SECONDS] * 3)
        self.assertEqual(["READY=1", *["WATCHDOG=1"] * 3], parent.heard())
        self.assertEqual(["READY=1\n"], self.manager.heard())


class PipeTests(NotifyTestCase):
    """
    The pipe to a predecessor or a supervisor.
    """

    def setUp(self) -> None:
        super().setUp()
        self.parent = Parent(self)
        self.speaker = self.notifier(DHEERA_AI_READY_FD=str(self.parent.number))

    def test_same_lines(self) -> None:
        """
        In the pipe are the lines that systemd would hear.
        """
        self.speaker.watch(lambda: "Serving on http://127.0.0.1:4000")
        self.open(self.speaker)
        self.speaker.stopping("Stopping", 1)
        self.assertEqual(
            "READY=1\nSTATUS=Serving on http://127.0.0.1:4000\n"
            "STOPPING=1\nSTATUS=Stopping\nEXTEND_TIMEOUT_USEC=1000000".splitlines(),
            self.parent.heard(),
        )

    def test_full(self) -> None:
        """
        A pipe that nobody reads holds nothing up, and holds whole lines.
        """
        for number in range(2000):
            self.speaker.status(f"{number} " + "x" * STATUS_BYTES)
        heard = self.parent.heard()
        self.assertEqual({STATUS_BYTES + len("STATUS=")}, {len(each) for each in heard})
        self.assertLess(len(heard), 2000)
        self.speaker.ready()
        self.assertEqual(["READY=1"], self.parent.heard())

    def test_reader_has_gone(self) -> None:
        """
        A reader that has gone is forgotten: the pipe is closed, and no log line troubles anybody.
        """
        overheard = Overheard.by(self)
        self.parent.leave()
        self.speaker.ready()
        self.speaker.ready()
        self.assertRaises(OSError, os.fstat, self.parent.number)
        self.assertEqual({LogLevel.debug}, {each["log_level"] for each in overheard.events})


class StatusTests(NotifyTestCase):
    """
    How it fares, told by itself.
    """

    def test_watched(self) -> None:
        """
        The status comes with the word that it serves; then when it has changed, at most every few seconds.
        """
        calls: list[int] = []
        notifier = self.to_systemd()
        notifier.watch(lambda: f"{len(calls)} calls under way")
        self.assertEqual([], self.manager.heard())
        self.open(notifier)
        self.assertEqual(["READY=1\nSTATUS=0 calls under way\n"], self.manager.heard())
        for number in range(10):
            calls.append(number)
            self.clock.advance(STATUS_SECONDS / 5)
        self.assertEqual(["STATUS=5 calls under way\n", "STATUS=10 calls under way\n"], self.manager.heard())
        self.clock.pump([STATUS_SECONDS] * 3)
        self.assertEqual([], self.manager.heard())
        calls.append(11)
        notifier.stopping("Stopping", 1)
        self.clock.pump([STATUS_SECONDS] * 3)
        self.assertEqual(["STOPPING=1\nSTATUS=Stopping\nEXTEND_TIMEOUT_USEC=1000000\n"], self.manager.heard())

    def test_socket_made_anew(self) -> None:
        """
        A systemd that has made its socket anew hears what is said next; meanwhile nothing fails.
        """
        notifier = self.to_systemd()
        self.manager.socket.close()
        Path(self.manager.address).unlink()
        notifier.status("lost")
        fresh = Manager(self, self.manager.address)
        notifier.status("found")
        self.assertEqual(["STATUS=found\n"], fresh.heard())
