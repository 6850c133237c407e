"""
What the load and the stand-in for Mistral agree on, and what is installed for both.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from unittest import TestCase

from bench.answers import directives_in, told
from bench.installing import NotInstalled, Tools, on_path
from bench.pacing import Pacemaker


class DirectiveTests(TestCase):
    def test_what_is_told_is_understood(self) -> None:
        words = told(interval_ms=20.0, phase=0.25) + "and what a user says"
        self.assertEqual({b"interval_ms": 20.0, b"phase": 0.25}, directives_in(words.encode()))
        self.assertEqual({b"answer_bytes": 1048577}, directives_in(told(answer_bytes=1048577).encode()))

    def test_usual_words_tell_nothing(self) -> None:
        self.assertEqual({}, directives_in(b'{"messages":[{"role":"user","content":"a [b] c"}]}'))
        self.assertEqual("", told())


class PacemakerTests(TestCase):
    def test_every_beat_comes_with_the_moment_when_it_was_due(self) -> None:
        """
        Also those that came due while the loop was busy: they would hide just the waits that are to be seen.
        """
        beats: list[int] = []

        def beat(due_ns: int) -> None:
            if not beats:
                time.sleep(0.01)  # a hundred beats long
            beats.append(due_ns)

        async def run() -> None:
            with Pacemaker(per_second=10_000, total=200, beat=beat) as pacemaker:
                async with asyncio.timeout(30):
                    await pacemaker.done.wait()

        asyncio.run(run())
        self.assertEqual(200, len(beats))
        self.assertEqual({100_000}, {after - before for before, after in pairwise(beats)})


class ToolsTests(TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tools = Tools(Path(folder.name) / "deep" / "down")
        self.home = self.tools.folder / "thing"
        self.installed = 0

    def install(self) -> None:
        self.installed += 1
        self.home.mkdir()

    def test_what_is_there_is_not_installed_again(self) -> None:
        for _ in range(2):
            self.tools._once(self.home, "thing==1", self.install)
        self.assertEqual(1, self.installed)

    def test_another_version_is(self) -> None:
        for wanted in ("thing==1", "thing==2"):
            self.tools._once(self.home, wanted, self.install)
        self.assertEqual(2, self.installed)

    def test_what_broke_off_is_made_anew(self) -> None:
        def break_off() -> None:
            self.install()
            raise NotInstalled("the network is gone")

        with self.assertRaises(NotInstalled):
            self.tools._once(self.home, "thing==1", break_off)
        self.tools._once(self.home, "thing==1", self.install)
        self.assertEqual(2, self.installed)

    def test_a_program_that_is_missing_is_told_with_its_package(self) -> None:
        with self.assertRaisesRegex(NotInstalled, "apt install a-package"):
            on_path("no-such-program-here", "a-package")

    def test_a_command_that_fails_says_why(self) -> None:
        with self.assertRaisesRegex(NotInstalled, "thing could not be installed: .*no-such-file"):
            self.tools._run(["ls", "/no-such-file"], "thing")
