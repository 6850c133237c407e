"""
``dheera_ai sinks``: what people and scripts see. Each in a process of its own, since it turns a reactor.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import TestCase

from dheera.records import Record, parsed

COMMAND = [sys.executable, "-c", "from dheera.commands.sinks import sinks; sinks()"]
ROOT = Path(__file__).parent.parent.parent


class SinksCase(TestCase):
    """
    A configuration with one sink that works and one that does not.
    """

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name, "calls.jsonl")
        self.settings = Path(folder.name, "dheera.toml")
        self.nobody = socket.create_server(("127.0.0.1", 0))
        port = self.nobody.getsockname()[1]
        self.nobody.close()
        self.settings.write_text(
            f'[records]\nnode = "north-1"\n[sinks.files]\nkind = "file"\npath = "{self.file}"\n'
            f'[sinks.hook]\nkind = "webhook"\nurl = "http://127.0.0.1:{port}/canary-url"\ntimeout_seconds = 5\n'
        )

    def say(self, *words: str, config: bool = True) -> subprocess.CompletedProcess[str]:
        """
        What comes of ``dheera_ai sinks`` and *words*.
        """
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DHEERA_AI_", "GENERIC_"))}
        return subprocess.run(
            [*COMMAND, *words, *(["--config", str(self.settings)] if config else [])],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=ROOT,
            env=kept,
        )


class Listed(SinksCase):
    """
    ``sinks list``
    """

    def test_list(self) -> None:
        """
        Each sink, in order, with what it is sent; and which kinds there are.
        """
        done = self.say("list")
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        lines = done.stdout.splitlines()
        self.assertEqual(["files", "file", "meta", "all", "all", "1000", "0.2"], lines[1].split())
        self.assertEqual(["hook", "webhook"], lines[2].split()[:2])
        self.assertIn("datadog, elasticsearch, file", lines[3])

    def test_json(self) -> None:
        """
        The same for scripts.
        """
        rows = json.loads(self.say("list", "--json").stdout)
        self.assertEqual(["files", "hook"], [each["name"] for each in rows])

    def test_none(self) -> None:
        """
        Without any, it says what to write.
        """
        self.assertIn("[sinks.NAME]", self.say("list", config=False).stdout)

    def test_wrong(self) -> None:
        """
        What cannot be used is told with all that is wrong; exit 2.
        """
        self.settings.write_text("[sinks.file]\nkeep = true\n")
        done = self.say("list")
        self.assertEqual(2, done.returncode)
        self.assertIn("[sinks.file] keep: found true", done.stderr)
        self.assertIn("[sinks.file] path: is not said", done.stderr)
        self.settings.write_text("port = 1\n")
        self.assertEqual(2, self.say("list").returncode)


class Tested(SinksCase):
    """
    ``sinks test``
    """

    def test_arrives(self) -> None:
        """
        A record arrives, and it is said which.
        """
        done = self.say("test", "files")
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        record = parsed(self.file.read_bytes().strip())
        assert isinstance(record, Record)
        self.assertRegex(done.stdout, rf"^files \(file\): arrived in [0-9.]+ s\. Look there for {record.call_id}\.\n$")
        self.assertEqual((["test: true"], "north-1"), (record.tags, record.node))

    def test_all(self) -> None:
        """
        One that does not arrive is told with the reason, and without its secrets; exit 1. Others are tried all the
        same.
        """
        done = self.say("test", "--all")
        self.assertEqual(1, done.returncode)
        self.assertIn("files (file): arrived", done.stdout)
        self.assertRegex(done.stdout, r"hook \(webhook\): did not arrive: 127\.0\.0\.1:\d+ cannot be reached: ")
        self.assertNotIn("canary", done.stdout + done.stderr)
        self.assertEqual(1, len(self.file.read_bytes().splitlines()))

    def test_json(self) -> None:
        """
        The same for scripts.
        """
        done = self.say("test", "--all", "--json")
        self.assertEqual(1, done.returncode)
        found = json.loads(done.stdout)
        self.assertEqual([("files", True), ("hook", False)], [(each["name"], each["arrived"]) for each in found])

    def test_words(self) -> None:
        """
        Names, or all; names that there are.
        """
        for words in ([], ["files", "--all"]):
            done = self.say("test", *words)
            self.assertEqual(2, done.returncode)
            self.assertIn("--all", done.stderr)
        done = self.say("test", "file")
        self.assertEqual(2, done.returncode)
        self.assertIn("there is no sink file in the configuration; there is files, hook.", done.stderr)
        self.assertFalse(self.file.exists())
