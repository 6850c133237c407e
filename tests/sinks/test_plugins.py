"""
A third party's sink, as a Twisted plugin: the example that we ship.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import TestCase

from dheera.records import Record, parsed
from tests.process.daemon import ANY_PORT, Daemon, Memory

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "plugin" / "twisted"
COMMAND = [sys.executable, "-c", "from dheera.commands.sinks import sinks; sinks()"]


class PluginTests(TestCase):
    """
    In a process of its own, on whose path the plugin is.
    """

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        shutil.copytree(EXAMPLE, self.folder / "twisted")

    def run_sinks(self, settings: str, *words: str) -> subprocess.CompletedProcess[str]:
        """
        ``dheera_ai sinks`` with that configuration.
        """
        file = self.folder / "dheera.toml"
        file.write_text(settings)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DHEERA_AI_")}
        root = str(Path(__file__).parent.parent.parent)
        return subprocess.run(
            [*COMMAND, *words, "--config", str(file)],
            env={**kept, "PYTHONPATH": os.pathsep.join([str(self.folder), root])},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_sent(self) -> None:
        """
        A record arrives by it.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
            listening.bind(("127.0.0.1", 0))
            listening.settimeout(30)
            port = listening.getsockname()[1]
            done = self.run_sinks(
                f'[sinks.beacon]\nkind = "udp"\nhost = "127.0.0.1"\nport = {port}\n', "test", "beacon"
            )
            self.assertEqual(0, done.returncode, done.stderr)
            record = parsed(listening.recv(65536))
        assert isinstance(record, Record)
        self.assertEqual(["test: true"], record.tags)
        self.assertIn(record.call_id, done.stdout)

    def test_listed(self) -> None:
        """
        Its kind is among those that there are, its settings are checked as ours are.
        """
        done = self.run_sinks('[sinks.udp]\nhost = "127.0.0.1"\n', "list", "--json")
        self.assertEqual([("udp", "udp")], [(each["name"], each["kind"]) for each in json.loads(done.stdout)])
        self.assertIn(" udp,", self.run_sinks("", "list").stdout)
        done = self.run_sinks('[sinks.udp]\nhoste = "127.0.0.1"\n', "list")
        self.assertEqual(2, done.returncode)
        self.assertIn("[sinks.udp] hoste: found no such setting, did you mean host?", done.stderr)
        self.assertIn("[sinks.udp] host: is not said, wanted a text", done.stderr)

    def test_finds_all_of_twisted(self) -> None:
        """
        A daemon with such a sink has Twisted's TLS, which it does without otherwise: the sink may want it.
        """
        path = {"PYTHONPATH": os.pathsep.join([str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])])}
        with Daemon("--demo", *ANY_PORT, said=path, settings='[sinks.udp]\nhost = "127.0.0.1"\nport = 9\n') as daemon:
            self.assertTrue(Memory(daemon).has_loaded("cryptography"))

    def test_nearly(self) -> None:
        """
        A kind that nobody has is told with the nearest that there is.
        """
        done = self.run_sinks('[sinks.beacon]\nkind = "upd"\n', "list")
        self.assertEqual(2, done.returncode)
        self.assertIn('[sinks.beacon] kind: there is no "upd", did you mean "udp"?', done.stderr)
