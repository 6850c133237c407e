"""
The units that are shipped, and the daemon with what systemd does for a service: sockets, credentials, and a place where
it hears how the service fares. Real tools, no running systemd.
"""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import TestCase

from dheera.cli import dheera_ai
from dheera.definitions import kind_of
from tests.process.bearers import MASTER_KEY, master
from tests.process.daemon import (
    ANY_PORT,
    PATIENCE_SECONDS,
    PROGRAM,
    UPSTREAM_KEY,
    Daemon,
    alive,
    environment,
    eventually,
)
from tests.process.peers import Upstream, always, answer, connect, request
from tests.process.programs import program

ROOT = Path(__file__).parent.parent.parent
UNITS = ROOT / "systemd"
SERVICES = ("dheera.service", "dheera@.service")
INSTALLED = "/opt/dheera/bin/dheera_ai"
KNOWS_NOTIFY_RELOAD = 253
MOST_EXPOSED = 20
"""
Tenths of what ``systemd-analyze security`` gives at most.
"""


def text_of(unit: str) -> str:
    """
    What a unit says.
    """
    return (UNITS / unit).read_text(encoding="utf-8")


def said(text: str, setting: str) -> list[str]:
    """
    What a unit says of *setting*, in order.
    """
    return re.findall(rf"^{setting}=(.*)$", text, re.MULTILINE)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """
    A run of systemd-analyze.
    """
    return subprocess.run(
        [program("systemd-analyze", "systemd"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )


def version() -> int:
    """
    Of systemd.
    """
    return int(analyze("--version").stdout.split()[1])


class UnitTests(TestCase):
    """
    ``systemd/``, as systemd reads it.
    """

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(TemporaryDirectory()))

    def verified(self, *, older: bool) -> str:
        """
        What systemd says against our units, with the program where it is.

        :param older: with the type that the drop-ins for older ones give.
        """
        for unit in (*SERVICES, "dheera.socket"):
            text = text_of(unit).replace(INSTALLED, PROGRAM[0])
            if older and unit in SERVICES:
                dropped = text_of(f"{unit}.d/older-systemd.conf")
                text = re.sub(r"^Type=.*$", dropped.partition("[Service]\n")[2], text, flags=re.MULTILINE)
            (self.folder / unit).write_text(text)
        units = [str(self.folder / unit) for unit in (*SERVICES, "dheera.socket")]
        done = analyze("verify", "--man=no", "--recursive-errors=no", *units)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        return done.stdout

    def test_clean(self) -> None:
        """
        ``systemd-analyze verify`` has nothing to say: of the units as they are, or, where systemd does not know their
        type yet, with what the drop-in for it says.
        """
        program("kill", "procps")
        self.assertEqual("", self.verified(older=True))
        if version() >= KNOWS_NOTIFY_RELOAD:
            self.assertEqual("", self.verified(older=False))

    def test_walls(self) -> None:
        """
        ``systemd-analyze security`` gives each service 2.0 or less.
        """
        for unit in SERVICES:
            with self.subTest(unit=unit):
                done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(UNITS / unit))
                self.assertEqual(0, done.returncode, done.stdout)
                self.assertIn("Overall exposure level", done.stdout)

    def test_one_and_several_are_alike(self) -> None:
        """
        One of several has the walls, the times and the secrets of the only one, and so do the drop-ins.
        """
        one, several = ({*text_of(unit).partition("[Service]")[2].splitlines()} for unit in SERVICES)
        settings = {line for line in one ^ several if line and not line.startswith("#")}
        self.assertEqual(
            {"ExecStart", "Sockets", "Environment", "RuntimeDirectoryPreserve"},
            {line.partition("=")[0] for line in settings},
        )
        self.assertEqual(*(text_of(f"{unit}.d/older-systemd.conf") for unit in SERVICES))

    def test_credentials_are_settings(self) -> None:
        """
        Each secret that is loaded goes to a setting that is one, and a file that is not there stops nothing: it is
        searched for by its name alone.
        """
        loaded = said(text_of("dheera.service"), "LoadCredential")
        self.assertIn("mistral.api_key:dheera.mistral.api_key", loaded)
        for each in loaded:
            name, _, file = each.partition(":")
            table, _, key = name.rpartition(".")
            kind = kind_of((table, key))
            assert kind is not None, name
            self.assertTrue(kind.hidden, name)
            self.assertEqual(f"dheera.{name}", file)

    def test_several_serve_the_socket(self) -> None:
        """
        The template listens at the socket of ``dheera.socket``, under its name and family.
        """
        template, unit = text_of("dheera@.service"), text_of("dheera.socket")
        [command] = said(template, "ExecStart")
        _, *arguments = shlex.split(command)
        with dheera_ai.make_context("dheera_ai", arguments) as context:
            [name], [address] = said(unit, "FileDescriptorName"), said(unit, "ListenStream")
            self.assertEqual((f"systemd:domain=INET:name={name}",), tuple(context.params["listen"]))
            self.assertTrue(address.startswith("0.0.0.0:"))
        self.assertEqual(["dheera.socket"], said(template, "Sockets"))


@contextmanager
def bound() -> Iterator[socket.socket]:
    """
    A place to listen at that nobody else has.
    """
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", 0))
        yield place


ENDPOINT = ("--listen", "systemd:domain=INET:name=dheera")


@contextmanager
def serving(place: socket.socket, state: str) -> Iterator[subprocess.Popen[str]]:
    """
    One of several daemons on a socket, started as systemd does: the socket is the third file, and the variables are for
    the process that reads them.
    """
    words = 'exec 3<&"$0"; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=dheera exec "$@"'
    with subprocess.Popen(
        ["bash", "-c", words, str(place.fileno()), *PROGRAM, "--demo", *ENDPOINT],
        stdout=subprocess.PIPE,
        env=environment({"DHEERA_AI_STATE_DIR": state}),
        pass_fds=[place.fileno()],
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            while "RUNNING on" not in (line := process.stdout.readline()):
                assert line, "It does not serve"
            yield process
        finally:
            process.terminate()


class SocketTests(TestCase):
    """
    Sockets that are opened by systemd.
    """

    def test_activation(self) -> None:
        """
        The first client starts it, and is served.
        """
        with bound() as place:
            port: int = place.getsockname()[1]
        state = self.enterContext(TemporaryDirectory())
        activate = program("systemd-socket-activate", "systemd")
        listen = (activate, "-l", f"127.0.0.1:{port}", "--fdname=dheera", "-E", f"DHEERA_AI_STATE_DIR={state}")
        with Daemon("--demo", *ENDPOINT, program=(*listen, *PROGRAM), serves=False) as daemon:
            daemon.wait_for_log("Listening on")
            self.assertTrue(alive(f"http://127.0.0.1:{port}"))
            self.assertEqual([f"http://127.0.0.1:{port}"], daemon.addresses)
            daemon.signal(signal.SIGTERM)
            self.assertEqual(0, daemon.ended())

    def test_restart_refuses_nobody(self) -> None:
        """
        Several serve one socket. When one of them goes nobody is refused, and even when all have gone: who comes then
        waits until one is there.
        """
        state = self.enterContext(TemporaryDirectory())
        with bound() as place:
            place.listen(100)
            port: int = place.getsockname()[1]
            with serving(place, state) as one, serving(place, state) as other:
                one.terminate()
                self.assertEqual(0, one.wait(PATIENCE_SECONDS))
                for _ in range(10):
                    self.assertTrue(alive(f"http://127.0.0.1:{port}"))
            self.assertEqual(0, other.returncode)
            with connect(port) as early:
                early.send(request("GET", "/health/liveness"))
                with serving(place, state):
                    self.assertTrue(early.head().startswith(b"HTTP/1.1 200 "))


class Manager:
    """
    Hears what a service says to systemd.
    """

    def __init__(self, folder: str) -> None:
        self.address = str(Path(folder, "notify"))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(PATIENCE_SECONDS)

    def wait_for(self, word: str) -> list[str]:
        """
        The lines of the next datagram that says *word*.
        """
        while word not in (lines := self._socket.recv(65536).decode().splitlines()):
            pass
        return lines

    def heard(self) -> list[str]:
        """
        All that has been said and not been waited for.
        """
        self._socket.settimeout(0)
        said = []
        with suppress(BlockingIOError):
            while True:
                said.append(self._socket.recv(65536).decode())
        self._socket.settimeout(PATIENCE_SECONDS)
        return said

    def close(self) -> None:
        """
        Hear no more.
        """
        self._socket.close()


class NotifyTests(TestCase):
    """
    What systemd hears.
    """

    def setUp(self) -> None:
        self.manager = Manager(self.enterContext(TemporaryDirectory()))
        self.addCleanup(self.manager.close)

    def daemon(self, *arguments: str, settings: str = "", **said: str) -> Daemon:
        """
        One that speaks to `manager`.
        """
        told = {"NOTIFY_SOCKET": self.manager.address, **said}
        return Daemon("--demo", *(arguments or ANY_PORT), settings=settings, said=told)

    def test_life(self) -> None:
        """
        It is ready when it serves, reloads and is ready again, and tells that it stops, for how long at most, before it
        ends.
        """
        with self.daemon(settings="drain_seconds = 17") as daemon:
            ready = self.manager.wait_for("READY=1")
            self.assertTrue(alive(daemon.url))
            self.assertIn(daemon.url, "".join(ready))
            before = time.monotonic_ns() // 1000
            daemon.signal(signal.SIGHUP)
            reloading = self.manager.wait_for("RELOADING=1")
            [moment] = [int(each.partition("=")[2]) for each in reloading if each.startswith("MONOTONIC_USEC=")]
            self.assertLessEqual(before, moment)
            self.assertLessEqual(moment, time.monotonic_ns() // 1000)
            self.manager.wait_for("READY=1")
            daemon.signal(signal.SIGTERM)
            stopping = self.manager.wait_for("STOPPING=1")
            [microseconds] = [int(each.partition("=")[2]) for each in stopping if each.startswith("EXTEND_TIMEOUT_")]
            self.assertGreaterEqual(microseconds, 17_000_000)
            self.assertEqual(0, daemon.ended())

    def test_watchdog(self) -> None:
        """
        It gives signs of life as often as it is asked to, none while it is stuck, and again when it goes on.
        """
        with self.daemon(WATCHDOG_USEC="200000") as daemon:
            self.manager.wait_for("WATCHDOG=1")
            daemon.signal(signal.SIGSTOP)
            stat = Path("/proc", str(daemon.process.pid), "stat")
            eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the process is stopped")
            self.manager.heard()
            time.sleep(0.5)
            self.assertEqual([], self.manager.heard())
            daemon.signal(signal.SIGCONT)
            self.manager.wait_for("WATCHDOG=1")

    def test_not_ready(self) -> None:
        """
        One that cannot serve never says that it does.
        """
        with bound() as taken:
            taken.listen()
            port = str(taken.getsockname()[1])
            with self.assertRaises(AssertionError), self.daemon("--host", "127.0.0.1", "--port", port):
                pass
        self.assertNotIn("READY=1", "".join(self.manager.heard()))


class CredentialTests(TestCase):
    """
    Secrets that systemd hands over.
    """

    def test_nothing_in_the_environment(self) -> None:
        """
        With its secrets in files it serves, to nobody without a key, and neither its environment nor its command line
        holds one of them.
        """
        folder = Path(self.enterContext(TemporaryDirectory()))
        credentials = folder / "credentials"
        credentials.mkdir()
        place = f"sqlite:///{folder}/keys-canary.db"
        secrets = {"mistral.api_key": UPSTREAM_KEY, "master_key": MASTER_KEY, "store.url": place}
        for name, secret in secrets.items():
            (credentials / name).write_text(secret + "\n")
        upstream = self.enterContext(Upstream(always(answer(b'{"data": []}'))))
        told = {"CREDENTIALS_DIRECTORY": str(credentials), "MISTRAL_API_BASE": upstream.url}
        with Daemon(*ANY_PORT, said=told) as daemon:
            self.assertEqual(200, master(daemon).ask("GET", "/mistral/v1/models").status)
            self.assertTrue((folder / "keys-canary.db").exists())
            process = Path("/proc", str(daemon.process.pid))
            shown = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            self.assertIn(b"CREDENTIALS_DIRECTORY", shown)
            for secret in secrets.values():
                self.assertNotIn(secret.encode(), shown)
                self.assertNotIn(secret, daemon.output + daemon.log)
