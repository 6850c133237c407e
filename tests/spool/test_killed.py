"""
A real process that is killed.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.settings import SpoolSettings
from dheera.spool.spool import FileSpool
from tests.spool.desk import NOW, AtOnce, drain, interrupted

ROUNDS = 6
ROOT = Path(__file__).parent.parent.parent


class Killed(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(mkdtemp())
        self.addCleanup(partial(shutil.rmtree, self.directory))

    def run_and_kill(self, after: int) -> list[list[str]]:
        """
        What a process has said until it was killed, *after* so many lines.
        """
        with subprocess.Popen(
            [sys.executable, "-m", "tests.spool.writer", str(self.directory)], stdout=subprocess.PIPE, cwd=ROOT
        ) as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(after)]
            process.kill()
            said += process.stdout.readlines()
        return [line.decode().split() for line in said if line.endswith(b"\n")]

    def test_nothing_is_lost(self) -> None:
        """
        A process that is killed at any moment loses nothing that it was told is written: what has ended is read, once
        at least, and what had only begun is interrupted.
        """
        chance = random.Random(5)  # noqa: S311 - when to kill
        said = [pair for _ in range(ROUNDS) for pair in self.run_and_kill(chance.randrange(1, 2000))]
        told = {word: [name for each, name in said if each == word] for word in ("begun", "ended", "read")}
        spool = FileSpool(Clock(), self.directory, SpoolSettings(), lambda: NOW, "n", interrupted, AtOnce())
        reader = spool.reader("ledger", essential=True)
        self.successResultOf(spool.open())
        found = set(drain(reader)) | set(told["read"])
        self.successResultOf(spool.close())
        self.assertGreater(len(told["ended"]), 1000)
        ended, open_ = set(told["ended"]), set(told["begun"]) - set(told["ended"])
        self.assertEqual(set(), ended - found)
        # Of the last of each, nobody was told how far it came.
        self.assertEqual(set(), {name for name in open_ if name not in found and f"{name}?" not in found})
        self.assertEqual(set(), {name for name in ended if f"{name}?" in found})
