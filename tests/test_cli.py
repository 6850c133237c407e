"""
The command line: help that helps, a check that tells the truth, and the real program.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from socket import AF_UNIX, create_server, socket
from unittest import TestCase

from click.testing import CliRunner, Result

from dheera import __version__
from dheera.cli import dheera_ai
from dheera.definitions import CONFIG_VARIABLE, ENVIRONMENT, OPTIONS

SECRET = "sk-planted-7f3a"
NOTHING_SET = dict.fromkeys([*ENVIRONMENT, CONFIG_VARIABLE])


def invoke(*arguments: str, environment: dict[str, str | None] | None = None) -> Result:
    """
    The program with these arguments, and of the variables that it reads only these.
    """
    return CliRunner().invoke(dheera_ai, arguments, env={**NOTHING_SET, **(environment or {})})


class HelpTests(TestCase):
    """
    What the program says of itself.
    """

    def test_help(self) -> None:
        """
        Help names every option and every variable, and shows how to begin.
        """
        for flag in "--help", "-h":
            result = invoke(flag)
            self.assertEqual(0, result.exit_code)
            for name in (*ENVIRONMENT, CONFIG_VARIABLE, *("--" + name.replace("_", "-") for name in OPTIONS)):
                self.assertIn(name, result.stdout)
            self.assertIn("dheera_ai --demo\n", result.stdout)
            self.assertIn("check", result.stdout)

    def test_help_of_check(self) -> None:
        """
        The check takes the options of the program.
        """
        result = invoke("check", "--help")
        self.assertEqual(0, result.exit_code)
        for name in ("config", *OPTIONS):
            self.assertIn("--" + name.replace("_", "-"), result.stdout)

    def test_version(self) -> None:
        """
        The version, and nothing else.
        """
        result = invoke("--version")
        self.assertEqual((0, f"dheera_ai {__version__}\n"), (result.exit_code, result.stdout))

    def test_unknown(self) -> None:
        """
        An option or word that does not exist is exit 2 with a hint.
        """
        for word in "--prot", "serve":
            result = invoke(word)
            self.assertEqual((2, ""), (result.exit_code, result.stdout))
            self.assertIn("--help", result.stderr)


class CheckTests(TestCase):
    """
    ``dheera_ai check``.
    """

    def test_says_what_would_be_served(self) -> None:
        """
        Where, for whom, and in front of what.
        """
        for arguments, environment, sentence in (
            (
                [],
                {},
                (
                    "Would serve https://api.mistral.ai on http://0.0.0.0:4000, in open mode, to this machine alone "
                    "(no master key). Requests would be answered 503: MISTRAL_API_KEY is not set."
                ),
            ),
            (
                ["--demo", "--host", "::1", "--port", "0"],
                {},
                (
                    "Would serve the built-in demo on http://[::1]:(any free port), in open mode, "
                    "to this machine alone (no master key)."
                ),
            ),
            (
                ["--listen", "tcp:4001", "--listen", "unix:/run/x", "--listen", "systemd:domain=INET:name=dheera"],
                {
                    "MISTRAL_API_KEY": SECRET,
                    "DHEERA_AI_MASTER_KEY": SECRET,
                    "DATABASE_URL": f"postgresql://u:{SECRET}@db/x",
                    "MISTRAL_API_BASE": "http://10.0.0.5/v1",
                },
                (
                    "Would serve http://10.0.0.5/v1 on tcp:4001 and unix:/run/x and systemd:domain=INET:name=dheera, "
                    "with a master key, and virtual keys in PostgreSQL."
                ),
            ),
        ):
            result = invoke("check", *arguments, environment=dict(environment))
            self.assertEqual((0, sentence + "\n", ""), (result.exit_code, result.stdout, result.stderr))

    def test_place_of_keys(self) -> None:
        """
        It says where keys would be kept, and refuses a database that it cannot use; nothing is made.
        """
        with tempfile.TemporaryDirectory() as folder:
            state = {"DHEERA_AI_MASTER_KEY": SECRET, "DHEERA_AI_STATE_DIR": f"{folder}/state"}
            for more, place in (
                ({}, f"{folder}/state/dheera.sqlite"),
                ({"DATABASE_URL": f"sqlite:///{folder}/keys.sqlite"}, f"{folder}/keys.sqlite"),
            ):
                self.assertIn(f"virtual keys in {place}.", invoke("check", environment={**state, **more}).stdout)
            self.assertEqual([], list(Path(folder).iterdir()))
            result = invoke("check", environment={**state, "DATABASE_URL": f"postgresql://u:{SECRET}@db:port/x"})
        self.assertEqual(2, result.exit_code)
        self.assertNotIn(SECRET, result.stderr)

    def test_open_to_network(self) -> None:
        """
        A dheera that serves anybody says so.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "conf.toml")
            file.write_text("[listen]\nopen_to_network = true\n")
            result = invoke("check", "--config", str(file))
        self.assertIn("in open mode, to the whole network (no master key; open_to_network is true)", result.stdout)

    def test_options_on_either_side(self) -> None:
        """
        Options may stand before the word too; those after it have the word.
        """
        self.assertIn("http://0.0.0.0:5000,", invoke("--port", "5000", "check").stdout)
        self.assertIn("http://0.0.0.0:5001,", invoke("--port", "5000", "check", "--port", "5001").stdout)
        self.assertIn("the built-in demo", invoke("--demo", "check").stdout)

    def test_problems(self) -> None:
        """
        All that is wrong goes to standard error, without a traceback and without a secret; exit 2.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "conf.toml")
            file.write_text(f'[listen]\nprot = 1\n[mistral]\napi_base = "https://u:{SECRET}@x"\n')
            arguments = ["--config", str(file), "--port", "x"]
            environment: dict[str, str | None] = {"MISTRAL_API_KEY": f"{SECRET} {SECRET}"}
            # Serving does not begin with a wrong configuration, so this returns as well.
            for result in (
                invoke("check", *arguments, environment=environment),
                invoke(*arguments, environment=environment),
            ):
                self.assertEqual((2, ""), (result.exit_code, result.stdout))
                self.assertEqual(5, len(result.stderr.splitlines()))
                for words in ("[listen] prot", "[mistral] api_base", "MISTRAL_API_KEY", "--port"):
                    self.assertIn(words, result.stderr)
                self.assertNotIn("Traceback", result.stderr)
                self.assertNotIn(SECRET, result.stderr)

    def test_sinks(self) -> None:
        """
        It says whom calls would be told to.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "conf.toml")
            file.write_text('[sinks.stdout]\n[sinks.ours]\nkind = "file"\npath = "/nowhere/calls.jsonl"\n')
            result = invoke("check", "--config", str(file))
        self.assertIn("(no master key). Calls would be told to stdout, ours.", result.stdout)

    def test_what_records_need(self) -> None:
        """
        Sinks, prices and redaction that cannot be used are told at once, in open mode too, and as a start tells them.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "conf.toml")
            file.write_text(
                '[records]\nredact_paths = ["[[["]\n'
                '[sinks.lost]\nkind = "fiel"\n'
                f'[sinks.hook]\nkind = "webhook"\nurl = "{SECRET}"\n'
                '[prices."my-model"]\ninput_per_milion = 1\n'
            )
            for master in None, SECRET:
                environment: dict[str, str | None] = {
                    "DHEERA_AI_STATE_DIR": folder,
                    "DHEERA_AI_MASTER_KEY": master,
                    "DATABASE_URL": f"postgresql://u:{SECRET}@db:port/x",
                    "PROMETHEUS_MULTIPROC_DIR": f"{file}/metrics",
                }
                checked = invoke("check", "--config", str(file), environment=environment)
                begun = invoke("--config", str(file), environment=environment)
                self.assertEqual((2, 2), (checked.exit_code, begun.exit_code))
                for words in (
                    *("redact_paths", "[sinks.lost]", "[sinks.hook] url", '[prices] "my-model"'),
                    *("DATABASE_URL", "PROMETHEUS_MULTIPROC_DIR"),
                ):
                    self.assertIn(words, checked.stderr)
                self.assertTrue(begun.stderr.endswith(checked.stderr), begun.stderr)
                self.assertNotIn(SECRET, checked.stderr)
            self.assertEqual([file], list(Path(folder).iterdir()))

    def test_directory_of_workers(self) -> None:
        """
        The directory in which workers count together need not be there, and is not made by a check.
        """
        with tempfile.TemporaryDirectory() as folder:
            result = invoke("check", environment={"PROMETHEUS_MULTIPROC_DIR": f"{folder}/a/b"})
            self.assertEqual((0, []), (result.exit_code, list(Path(folder).iterdir())))
        result = invoke("check", environment={"PROMETHEUS_MULTIPROC_DIR": ""})
        self.assertEqual(2, result.exit_code)
        self.assertIn("PROMETHEUS_MULTIPROC_DIR: found ''", result.stderr)

    def test_database_in_open_mode(self) -> None:
        """
        The ledger is kept without a master key too, so its database must be one.
        """
        result = invoke("check", environment={"DATABASE_URL": f"postgresql://u:{SECRET}@db:port/x"})
        self.assertEqual(2, result.exit_code)
        self.assertIn("DATABASE_URL", result.stderr)
        self.assertNotIn(SECRET, result.stderr)

    def test_config_from_environment(self) -> None:
        """
        The file that DHEERA_AI_CONFIG names is checked.
        """
        result = invoke("check", environment={CONFIG_VARIABLE: "/nowhere.toml"})
        self.assertEqual(2, result.exit_code)
        self.assertIn("/nowhere.toml: cannot be read (No such file or directory)", result.stderr)

    def test_endpoints(self) -> None:
        """
        An endpoint that Twisted cannot read is a problem of the configuration.
        """
        arguments = [
            word
            for each in ("tpc:4000", "tcp:port", "ssl:1:privateKey=/nowhere", "tcp:1")
            for word in ("--listen", each)
        ]
        for result in invoke("check", *arguments), invoke(*arguments):
            self.assertEqual((2, ""), (result.exit_code, result.stdout))
            _, unknown, number, file = result.stderr.splitlines()
            self.assertIn('found "tpc:4000" (a string), which cannot be used (ValueError: Unknown endpoint', unknown)
            self.assertIn('found "tcp:port"', number)
            self.assertIn("No such file or directory (/nowhere)", file)

    def test_sockets_of_systemd(self) -> None:
        """
        A check knows that systemd gives its sockets to the service alone; the service itself needs them.
        """
        endpoint = "systemd:domain=INET:name=none"
        self.assertEqual(0, invoke("check", "--listen", endpoint).exit_code)
        result = invoke("--listen", endpoint)
        self.assertEqual(2, result.exit_code)
        self.assertIn("systemd passed no such socket", result.stderr)


class ProcessTests(TestCase):
    """
    The real program.
    """

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """
        The program, serving the demo.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "dheera", "--demo", *arguments],
            env={name: value for name, value in os.environ.items() if name not in NOTHING_SET},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=few_files,  # noqa: PLW1509 - no threads run here
        )

        def end() -> None:
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def test_serves_and_stops(self) -> None:
        """
        It says where it serves, has lifted its own limit of open files, and ends well when told to.
        """
        for number in signal.SIGTERM, signal.SIGINT:
            process = self.start("--host", "127.0.0.1", "--port", "0")
            assert process.stdout is not None
            self.assertRegex(process.stdout.readline(), r"^RUNNING on http://127\.0\.0\.1:\d+\n$")
            [limits] = re.findall(
                r"^Max open files +(\d+) +(\d+)", Path(f"/proc/{process.pid}/limits").read_text(), re.MULTILINE
            )
            self.assertEqual(limits[1], limits[0])
            process.send_signal(number)
            _, log = process.communicate()
            self.assertEqual(0, process.returncode, log)
            self.assertNotIn("Traceback", log)

    def test_records_on_standard_output(self) -> None:
        """
        Where records are written to standard output, nothing else is: it says in its log where it serves.
        """
        file = Path(self.folder, "conf.toml")
        file.write_text("[sinks.stdout]\n")
        process = self.start("--host", "127.0.0.1", "--port", "0", "--config", str(file))
        assert process.stderr is not None
        self.assertTrue(any("RUNNING on http://127.0.0.1:" in line for line in process.stderr))
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate()
        self.assertEqual((0, ""), (process.returncode, said))

    def test_nobody_listens_to_it(self) -> None:
        """
        It serves even if its standard output is gone.
        """
        endpoint = f"{self.folder}/socket"
        process = self.start("--listen", f"unix:{endpoint}")
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        with socket(AF_UNIX) as client:
            while client.connect_ex(endpoint):
                self.assertIsNone(process.poll())
                time.sleep(0.01)
            client.sendall(b"GET /health/liveliness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 200 "))
        process.send_signal(signal.SIGTERM)
        self.assertEqual(0, process.wait())
        process.stderr.close()

    def test_port_taken(self) -> None:
        """
        Where another program listens it says so in a sentence and exits 1.
        """
        with create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            process = self.start("--host", "127.0.0.1", "--port", str(port))
            said, log = process.communicate()
        self.assertEqual((1, ""), (process.returncode, said))
        self.assertIn(f"dheera_ai: cannot listen on 127.0.0.1:{port}: another program listens there.", log)
        self.assertNotIn("Traceback", log)


def few_files() -> None:
    """
    The soft limit that most shells give.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
