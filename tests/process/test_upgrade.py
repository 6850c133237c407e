"""
A new process takes the place of the old one while it serves.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event, Thread
from typing import Any, ClassVar
from unittest import TestCase

from tests.process.daemon import PATIENCE_SECONDS, PROGRAM, Daemon, alive, eventually, in_front_of
from tests.process.peers import Upstream, connect, request
from tests.process.test_stops import CHAT, PATIENT, Story
from tests.process.workers import ended_with, lives

EVENTS = [b"data: %d\n\n" % number for number in range(1, 7)]


class Callers:
    """
    Some who call again and again.

    :param kept: each on one connection as long as it may, not each time on a new one.
    """

    def __init__(self, port: int, *, kept: bool = False) -> None:
        self.calls = 0
        self.problems: list[str] = []
        self._port = port
        self._way = self._call_on if kept else self._call
        self._enough = Event()

    @contextmanager
    def calling(self) -> Iterator[None]:
        """
        Meanwhile they call.
        """
        threads = [Thread(target=self._way, daemon=True) for _ in range(2)]
        for each in threads:
            each.start()
        try:
            yield
        finally:
            self._enough.set()
            for each in threads:
                each.join()

    def wait_for_more(self) -> None:
        """
        Wait until there were some more calls.
        """
        enough = self.calls + 50
        eventually(lambda: self.calls >= enough, "they go on calling")

    def _call(self) -> None:
        while not self._enough.is_set():
            try:
                with connect(self._port) as client:
                    client.send(request("GET", "/health/liveness", b"Connection: close"))
                    head = client.head()
                    if not head.startswith(b"HTTP/1.1 200 "):
                        self.problems.append(repr(head))
                    client.rest()
            except (OSError, EOFError) as error:
                self.problems.append(repr(error))
            self.calls += 1
            self._enough.wait(0.005)  # whoever starts meanwhile needs the processor too

    def _call_on(self) -> None:
        client = HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)  # connects anew if it was told to
        while not self._enough.is_set():
            try:
                client.request("POST", "/health/liveness", b"{}")
                with client.getresponse() as answer:
                    answer.read()
            except (OSError, HTTPException) as error:
                self.problems.append(repr(error))
                client.close()
            self.calls += 1
            self._enough.wait(0.005)
        client.close()


class UpgradeTests(TestCase):
    """
    One process after another.
    """

    arguments: ClassVar[tuple[str, ...]] = ()

    def test_upgrade(self) -> None:
        """
        A stream goes on over the change and comes to its end, byte for byte. Of those who call meanwhile nobody is
        refused or turned away, nor who was let in by the old process and asks only now. The old process ends with exit
        0 after the stream, and the new one serves at the same port.
        """
        story = Story(*EVENTS, b"")
        with (
            Upstream(story.tell) as upstream,
            in_front_of(upstream.url, *self.arguments, settings=PATIENT) as daemon,
            ended_with(daemon) as successors,
            connect(daemon.port) as client,
            connect(daemon.port) as early,
        ):
            callers = Callers(daemon.port)
            with callers.calling():
                client.send(CHAT)
                story.goes_on.release()
                client.head()
                heard = [client.chunk()]
                callers.wait_for_more()
                daemon.signal(signal.SIGUSR2)
                successors.append(_successor(daemon))
                early.send(request("GET", "/health/liveness", b"Connection: close"))
                self.assertTrue(early.head().startswith(b"HTTP/1.1 200 "))
                callers.wait_for_more()
                for _ in EVENTS[1:]:
                    story.goes_on.release()
                    heard.append(client.chunk())
                self.assertIsNone(daemon.process.poll())
                story.goes_on.release()
                heard += client.chunks()
                self.assertEqual(EVENTS, heard)
                self.assertEqual(0, daemon.process.wait(PATIENCE_SECONDS))
                callers.wait_for_more()
            self.assertEqual([], callers.problems)
            self.assertTrue(lives(successors[0]))
            self.assertTrue(alive(daemon.url))


class UpgradeOfWorkersTests(UpgradeTests):
    """
    One supervisor with its workers after another.
    """

    arguments = ("--workers", "2")

    def test_broken_successor(self) -> None:
        """
        A new process that cannot start is no successor: the log says why, and the old one serves on.
        """
        with in_front_of("http://127.0.0.1:9", *self.arguments, settings=PATIENT) as daemon:
            words: Any = daemon.process.args
            Path(words[-1]).write_text("drain_seconds = -1")
            daemon.signal(signal.SIGUSR2)
            daemon.wait_for_log(r"No upgrade: .* \(exit code 2\); this one goes on")
            self.assertIn("drain_seconds", daemon.log)
            self.assertTrue(alive(daemon.url))
            daemon.signal(signal.SIGTERM)
            self.assertEqual(0, daemon.ended())


# As systemd starts a service: the socket is the first descriptor after the standard streams (sd_listen_fds(3)).
_AS_SYSTEMD = """
import os, socket, sys
with socket.create_server(("127.0.0.1", 0)) as sock:
    if sock.fileno() == 3:
        os.set_inheritable(3, True)
    else:
        os.dup2(sock.fileno(), 3)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "dheera"}
    os.execv(sys.argv[1], sys.argv[1:])
"""


class SystemdTests(TestCase):
    """
    A socket that systemd has opened.
    """

    def test_upgrade(self) -> None:
        """
        The successor, and each of its workers, has it as the old one had it from systemd. Clients who keep their
        connections notice nothing.
        """
        program = (sys.executable, "-I", "-S", "-c", _AS_SYSTEMD, *PROGRAM)
        words = ("--demo", "--listen", "systemd:domain=INET:name=dheera", "--workers", "2")
        with Daemon(*words, program=program) as daemon, ended_with(daemon) as successors:
            callers = Callers(daemon.port, kept=True)
            with callers.calling():
                callers.wait_for_more()
                daemon.signal(signal.SIGUSR2)
                successors.append(_successor(daemon))
                self.assertEqual(0, daemon.process.wait(PATIENCE_SECONDS))
                callers.wait_for_more()
            self.assertEqual([], callers.problems)
            self.assertTrue(alive(daemon.url))


def _successor(daemon: Daemon) -> int:
    """
    Who serves now.
    """
    daemon.wait_for_log(r"process \d+ serves from now on")
    found = re.search(r"process (\d+) serves from now on", daemon.log)
    assert found is not None
    return int(found.group(1))
