"""
The ways in: each starts the same daemon, says where it serves, and ends when it is told to.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from unittest import TestCase

from tests.process.daemon import ANY_PORT, MODULE, PROGRAM, TWISTD, Daemon, alive, environment, eventually
from tests.process.peers import connect


class StartTests(TestCase):
    """
    What is seen when it starts and when it ends.
    """

    def test_foreground(self) -> None:
        """
        The program and the module say the real address as the first thing on standard output, serve there, and exit 0
        on SIGTERM and on SIGINT.
        """
        for program, number in (PROGRAM, signal.SIGTERM), (MODULE, signal.SIGINT):
            with self.subTest(program=program), Daemon("--demo", "--port", "0", program=program) as daemon:
                first, _, _ = daemon.output.partition("\n")
                self.assertRegex(first, r"^RUNNING on http://0\.0\.0\.0:[1-9][0-9]*$")
                self.assertTrue(alive(daemon.url))
                daemon.signal(number)
                self.assertEqual(0, daemon.ended())

    def test_says_nothing_else(self) -> None:
        """
        Without the demo, standard output holds the address alone; the mode and the missing key are in the log.
        """
        with Daemon(*ANY_PORT) as daemon:
            daemon.wait_for_log("Open to this machine only: no master key is set")
            daemon.wait_for_log("set MISTRAL_API_KEY")
            self.assertEqual(f"RUNNING on {daemon.url}\n", daemon.output)

    def test_demo_lines_work(self) -> None:
        """
        The three lines which the demo prints can be pasted into a shell.
        """
        with Daemon("--demo", "--port", "0") as daemon:
            eventually(lambda: daemon.output.count("curl") == 3, "the demo prints three lines")
            lines = daemon.output[daemon.output.index("  curl") :].replace("\\\n", "")
            for line in lines.strip().split("\n"):
                done = subprocess.run(
                    ["bash", "-c", f"{line.strip()} --fail --silent --show-error"],
                    env=environment(),
                    capture_output=True,
                    check=False,
                )
                self.assertEqual((0, b""), (done.returncode, done.stderr), line)
                self.assertIn(b"mistral", done.stdout)

    def test_log_in_json(self) -> None:
        """
        With ``--log-format json``, each line on standard error is one JSON object, to the very last.
        """
        with Daemon("--demo", *ANY_PORT, "--log-format", "json") as daemon:
            alive(daemon.url)
            daemon.signal(signal.SIGTERM)
            daemon.ended()
            events = [json.loads(line) for line in daemon.log.splitlines()]
        self.assertTrue(any("no master key" in event["message"] for event in events))
        self.assertTrue(all({"time", "level", "namespace", "message"} <= event.keys() for event in events))

    def test_standard_output_closed(self) -> None:
        """
        A daemon whose standard output nobody reads, or that has none, serves all the same.
        """
        for redirection in ">&-", "| true":
            with self.subTest(redirection=redirection), tempfile.TemporaryDirectory() as folder:
                place = Path(folder, "socket")
                shell = ("bash", "-c", f'"$@" {redirection}', "bash", *PROGRAM)
                with Daemon("--demo", "--listen", f"unix:{place}", program=shell, serves=False) as daemon:
                    eventually(place.exists, "it listens")
                    done = subprocess.run(
                        ["curl", "-sS", "--unix-socket", str(place), "http://localhost/health/liveness"],
                        capture_output=True,
                        check=True,
                    )
                    self.assertEqual(b'"I\'m alive!"', done.stdout)
                    for child in children(daemon.process.pid):
                        os.kill(child, signal.SIGTERM)


def children(pid: int) -> list[int]:
    """
    The processes that *pid* has started.
    """
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class TwistdTests(TestCase):
    """
    The plugin.
    """

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_foreground(self) -> None:
        """
        ``twistd --nodaemon dheera`` serves, says where in its log, and ends in order on SIGTERM (then, as every twistd
        does, it lets the signal itself be its exit status).
        """
        with Daemon("-n", "--pidfile=", "dheera", "--demo", *ANY_PORT, program=TWISTD, folder=self.folder) as daemon:
            self.assertTrue(alive(daemon.url))
            daemon.signal(signal.SIGTERM)
            self.assertEqual(-signal.SIGTERM, daemon.ended())
            self.assertIn("Server Shut Down", daemon.output)

    def test_daemon(self) -> None:
        """
        ``twistd dheera`` goes into the background from any folder, finds files that are named relative to the folder
        where it was started, and keeps its process id and its log; SIGTERM ends it and takes the process id away.
        """
        (self.folder / "dheera.toml").write_text('demo = true\n[listen]\nhost = "127.0.0.1"\nport = 0\n')
        pidfile, logfile = self.folder / "dheera.pid", self.folder / "dheera.log"
        subprocess.run(
            [*TWISTD, "--pidfile=dheera.pid", "--logfile=dheera.log", "dheera", "--config", "dheera.toml"],
            cwd=self.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        eventually(lambda: logfile.exists() and "RUNNING on" in logfile.read_text(), "the log tells where it serves")
        pid = int(pidfile.read_text())
        try:
            self.assertTrue(alive(logfile.read_text().partition("RUNNING on ")[2].split()[0]))
        finally:
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: "Server Shut Down" in logfile.read_text(), "it says that it has ended")
        eventually(lambda: not pidfile.exists(), "the process id is gone")
        self.assertNotIn("Traceback", logfile.read_text())

    def test_wrong_configuration(self) -> None:
        """
        What is wrong with the configuration is told as a wrong option is: a sentence, and not a traceback.
        """
        with Daemon("-n", "--pidfile=", "dheera", "--port", "many", program=TWISTD, serves=False) as daemon:
            self.assertNotEqual(0, daemon.ended())
            said = daemon.output + daemon.log
        self.assertIn('option --port: found "many"', said)
        self.assertIn("wanted a whole number from 0 to 65535", said)

    def test_port_in_use(self) -> None:
        """
        A daemon that cannot listen does not go into the background: whoever started it is told why, and it is exit 1.
        """
        with Daemon("--demo", *ANY_PORT) as first:
            done = subprocess.run(
                [*TWISTD, "--logfile=log", "dheera", "--host", "127.0.0.1", "--port", str(first.port)],
                cwd=self.folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual(1, done.returncode)
            self.assertIn(f"dheera cannot listen on 127.0.0.1:{first.port}", done.stdout + done.stderr)
            eventually(lambda: not (self.folder / "twistd.pid").exists(), "no process id stays behind")
            self.assertIn("another program listens there", (self.folder / "log").read_text())
            self.assertTrue(alive(first.url))

    def test_port_in_use_in_the_foreground(self) -> None:
        """
        So it is in the foreground: the log says why, it is exit 1, and no process id stays behind.
        """
        with Daemon("--demo", *ANY_PORT) as first:
            arguments = ("-n", "dheera", "--host", "127.0.0.1", "--port", str(first.port))
            with Daemon(*arguments, program=TWISTD, folder=self.folder, serves=False) as second:
                self.assertEqual(1, second.ended())
                self.assertIn(f"dheera cannot listen on 127.0.0.1:{first.port}", second.output)
                self.assertNotIn("Traceback", second.output + second.log)
        self.assertFalse((self.folder / "twistd.pid").exists())

    def test_no_place_for_keys(self) -> None:
        """
        What fails in a thread is told as well to whoever started it, and is exit 1.
        """
        (self.folder / "file").touch()
        done = subprocess.run(
            [*TWISTD, "--logfile=log", "dheera", "--host", "127.0.0.1", "--port", "0"],
            cwd=self.folder,
            env=environment({"DHEERA_AI_STATE_DIR": str(self.folder / "file" / "state")}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(1, done.returncode)
        self.assertIn("dheera cannot start: ", done.stdout + done.stderr)
        self.assertIn("is not a directory): set DHEERA_AI_STATE_DIR", (self.folder / "log").read_text())

    def test_listed(self) -> None:
        """
        ``twistd --help`` lists the plugin, wherever it is run.
        """
        done = subprocess.run([*TWISTD, "--help"], cwd=self.folder, capture_output=True, text=True, check=True)
        self.assertRegex(done.stdout, r"(?m)^ +dheera +A gateway in front of the Mistral API")


class RefusalTests(TestCase):
    """
    Starts that cannot be.
    """

    def refused(self, *arguments: str, **said: str) -> tuple[int, str]:
        """
        The exit code and what was said, of a daemon that does not serve.
        """
        with Daemon(*arguments, said=said, serves=False) as daemon:
            code = daemon.ended()
            self.assertEqual("", daemon.output)
            return code, daemon.log

    def test_port_in_use(self) -> None:
        """
        A port that is taken is exit 1 and one sentence that names it and says what to do; whoever has it is not
        disturbed.
        """
        with Daemon("--demo", *ANY_PORT) as first:
            code, log = self.refused("--demo", "--host", "127.0.0.1", "--port", str(first.port))
            self.assertEqual(1, code)
            [sentence] = [line for line in log.splitlines() if "cannot listen" in line]
            self.assertIn(f"127.0.0.1:{first.port}", sentence)
            self.assertIn("--port", sentence)
            self.assertTrue(alive(first.url))

    def test_second_door_in_use(self) -> None:
        """
        A daemon that cannot have all of its places takes none: the first is free again.
        """
        with Daemon("--demo", *ANY_PORT) as first, tempfile.TemporaryDirectory() as folder:
            place = Path(folder, "socket")
            code, _ = self.refused("--demo", "--listen", f"unix:{place}", "--listen", f"tcp:{first.port}")
            self.assertEqual(1, code)
            self.assertFalse(place.exists())

    def test_wrong_configuration(self) -> None:
        """
        A wrong setting, from wherever, is exit 2; all that is wrong is told at once, and no secret is.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "dheera.toml")
            file.write_text('[limits]\nconnections = "ten"\n[listen]\nprot = 1\n')
            code, log = self.refused("--config", str(file), DHEERA_AI_PORT="70000", MISTRAL_API_KEY="sk with spaces")
        self.assertEqual(2, code)
        for told in str(file), "[limits] connections", "did you mean [listen] port", "70000", "MISTRAL_API_KEY":
            self.assertIn(told, log)
        self.assertNotIn("sk with", log)

    def test_wrong_endpoint(self) -> None:
        """
        An endpoint that Twisted does not know is exit 2.
        """
        code, log = self.refused("--listen", "carrier-pigeon:4000")
        self.assertEqual(2, code)
        self.assertIn("carrier-pigeon:4000", log)


class EmptyVariablesTests(TestCase):
    """
    Variables that are set to nothing.
    """

    def test_count_as_not_set(self) -> None:
        """
        With every variable exported as ``""`` the daemon is as without them: open mode, Mistral's own address, no key.
        """
        nothing = dict.fromkeys(
            (
                *("DATABASE_URL", "DHEERA_AI_MASTER_KEY", "MISTRAL_API_BASE", "MISTRAL_API_KEY"),
                *("DHEERA_AI_CONFIG", "DHEERA_AI_HOST", "DHEERA_AI_PORT"),
            ),
            "",
        )
        with Daemon(*ANY_PORT, said=nothing) as daemon, connect(daemon.port) as client:
            daemon.wait_for_log("no master key is set")
            client.send(b"GET /mistral/v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            self.assertTrue(client.head().startswith(b"HTTP/1.1 503 "))
            self.assertIn(b"MISTRAL_API_KEY", client.rest())
