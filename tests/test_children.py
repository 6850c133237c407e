"""
Processes that are started with our sockets.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dheera.children import Child, Exit, end, start
from dheera.ports import Sockets

SAY = """
import json, os, socket, sys
def say(*words):
    os.write(int(os.environ["DHEERA_AI_READY_FD"]), "".join(f"{each}\\n" for each in words).encode())
"""


def program(text: str) -> list[str]:
    """
    A Python program as a command.
    """
    return [sys.executable, "-I", "-S", "-c", SAY + text]


class ChildTests(TestCase):
    """
    Real processes, each a few lines of Python.
    """

    def setUp(self) -> None:
        self.lines: list[str] = []
        self.exits: list[Exit] = []
        self.is_lent = False
        self.sockets: Sockets = {}

    def start(self, text: str) -> Child:
        from twisted.internet import reactor

        return start(
            reactor,
            program(text),
            {"PATH": os.environ["PATH"]},
            self.sockets,
            said=self.lines.append,
            ended=self.exits.append,
            lent=self.is_lent,
        )

    async def test_says(self) -> None:
        """
        What it says is heard line by line, however it is cut, and then how it ended.
        """
        child = self.start("say('READY=1'); os.write(int(os.environ['DHEERA_AI_READY_FD']), b'WATCH'); say('DOG=1')")
        waiting: Deferred[None] = child.gone()
        await waiting
        self.assertEqual(["READY=1", "WATCHDOG=1"], self.lines)
        self.assertEqual([Exit(0)], self.exits)
        await child.gone()

    async def test_fails(self) -> None:
        """
        An exit code and a signal are told apart.
        """
        await self.start("sys.exit(2)").gone()
        await self.start("os.kill(os.getpid(), 9)").gone()
        self.assertEqual(["exit code 2", "SIGKILL"], [str(each) for each in self.exits])

    async def test_sockets(self) -> None:
        """
        It has the sockets under their places, and no other file but the standard streams and the pipe.
        """
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            self.sockets = {"here": [one.fileno()], "there": [other.fileno(), one.fileno()]}
            numbers = [one.getsockname()[1], other.getsockname()[1], one.getsockname()[1]]
            await self.start(
                "told = json.loads(os.environ['DHEERA_AI_SOCKETS'])\n"
                "say(told['lent'], sorted(map(int, os.listdir('/proc/self/fd')))[:-1] == list(range(7)))\n"
                "for place, found in told['sockets'].items():\n"
                "    say(place, *[socket.socket(fileno=each).getsockname()[1] for each in found])\n"
            ).gone()
        expected = [False, True, "here", numbers[0], "there", *numbers[1:]]
        self.assertEqual([str(each) for each in expected], self.lines)

    async def test_sockets_of_systemd(self) -> None:
        """
        Those that systemd opened it has as if it had them from systemd, in their order.
        """
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            self.sockets = {"systemd:1": [one.fileno()], "tcp:x": [one.fileno()], "systemd:0": [other.fileno()]}
            numbers = [other.getsockname()[1], one.getsockname()[1]]
            await self.start(
                "say(os.environ['LISTEN_FDS'], os.environ['LISTEN_PID'] == str(os.getpid()))\n"
                "say(*[socket.socket(fileno=each).getsockname()[1] for each in (3, 4)])\n"
                "say(*json.loads(os.environ['DHEERA_AI_SOCKETS'])['sockets'])\n"
            ).gone()
        self.assertEqual(["2", "True", *map(str, numbers), "tcp:x"], self.lines)

    async def test_leash(self) -> None:
        """
        One of several has a leash: it ends when its parent does, and carries a last word.
        """
        self.is_lent = True
        child = self.start("say(os.read(int(os.environ['DHEERA_AI_LEASH_FD']), 100).decode().strip())")
        child.release("GO")
        child.release("never heard")
        await child.gone()
        self.assertEqual(["GO"], self.lines)

    async def test_end(self) -> None:
        """
        One that does not end when it is told to is killed.
        """
        from twisted.internet import reactor

        child = self.start("import signal; signal.signal(15, signal.SIG_IGN); say('deaf'); signal.pause()")
        while not self.lines:
            await deferLater(reactor, 0.01)
        await end(reactor, child, 0.05)
        self.assertEqual([Exit(-signal.SIGKILL)], self.exits)
        child.signal(signal.SIGTERM)  # is nobody's problem
