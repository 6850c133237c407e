"""
The daemon as a process: started, watched, stopped. Nothing is waited for longer than ``PATIENCE_SECONDS``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Condition, Thread
from types import TracebackType
from typing import IO, Self

from dheera.definitions import CONFIG_VARIABLE, ENVIRONMENT

SCRIPTS = Path(sysconfig.get_path("scripts"))
PROGRAM = (str(SCRIPTS / "dheera_ai"),)
MODULE = (sys.executable, "-m", "dheera")
TWISTD = (str(SCRIPTS / "twistd"),)

PATIENCE_SECONDS = 60.0
"""
A test that waits longer than this for something fails: it bounds, and measures nothing.
"""

POLL_SECONDS = 0.02

ANY_PORT = ("--host", "127.0.0.1", "--port", "0")

UPSTREAM_KEY = "sk-upstream-canary-5c1d"

_RUNNING = re.compile(r"RUNNING on (\S+)")


def eventually(condition: Callable[[], bool], what: str) -> None:
    """
    Wait until *condition* holds.

    :raises AssertionError: it does not.
    """
    latest = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > latest:
            raise AssertionError(f"This never happened: {what}")
        time.sleep(POLL_SECONDS)


def environment(said: Mapping[str, str] | None = None) -> dict[str, str]:
    """
    The environment of this process with nothing that configures dheera, and no proxies, but what is *said*.
    """
    unwanted = {*ENVIRONMENT, CONFIG_VARIABLE, "STATE_DIRECTORY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}
    kept = {name: value for name, value in os.environ.items() if name.upper() not in unwanted}
    return {**kept, "PATH": f"{SCRIPTS}{os.pathsep}{kept.get('PATH', '')}", **(said or {})}


def alive(url: str) -> bool:
    """
    Whether a daemon answers there.
    """
    connection = HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/health/liveliness")
        with connection.getresponse() as answer:
            return answer.status == HTTPStatus.OK and json.load(answer) == "I'm alive!"
    finally:
        connection.close()


class _Heard:
    """
    What a process has said on one of its outputs so far.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._said = b""
        self._ended = False
        self._changed = Condition()
        self._listening = Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        with self._pipe:
            for line in self._pipe:
                with self._changed:
                    self._said += line
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def text(self) -> str:
        """
        All of it.
        """
        with self._changed:
            return self._said.decode()

    def wait_for(self, enough: Callable[[str], bool]) -> bool:
        """
        Wait until what was said is *enough*, or nothing more can come.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or enough(self._said.decode()), PATIENCE_SECONDS)
            return enough(self._said.decode())

    def to_the_end(self) -> None:
        """
        Wait until nothing more comes.
        """
        self._listening.join(PATIENCE_SECONDS)


class Daemon:
    """
    A daemon that serves inside ``with``. On leaving it is ended, and its log is looked at: a traceback is an error.

    :param arguments: the words behind the program's name.
    :param program: the way in: ``PROGRAM``, ``MODULE`` or ``TWISTD``.
    :param said: variables that configure it; all others that could are taken away. Its state directory is a new one,
        unless this names another.
    :param folder: where it is started.
    :param settings: its configuration file.
    :param serves: wait until it says where it serves.
    """

    def __init__(
        self,
        *arguments: str,
        program: Sequence[str] = PROGRAM,
        said: Mapping[str, str] | None = None,
        folder: Path | None = None,
        settings: str = "",
        serves: bool = True,
    ) -> None:
        self._command = [*program, *arguments]
        self._said = said
        self._folder = folder
        self._settings = settings
        self._doors = max(1, arguments.count("--listen")) if serves else 0

    def __enter__(self) -> Self:
        self._kept = TemporaryDirectory()
        if self._settings:
            file = Path(self._kept.name, "dheera.toml")
            file.write_text(self._settings)
            self._command += ["--config", str(file)]
        own = {"DHEERA_AI_STATE_DIR": str(Path(self._kept.name, "state"))}
        self.process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._folder,
            env=environment({**own, **(self._said or {})}),
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._output, self._errors = _Heard(self.process.stdout), _Heard(self.process.stderr)
        # Under twistd the log is standard output; where records are, the log is the place.
        self._announced = self._errors if "[sinks.stdout]" in self._settings else self._output
        if not self._announced.wait_for(lambda said: len(_RUNNING.findall(said)) >= self._doors):
            self.__exit__(None, None, None)
            raise AssertionError(f"It does not serve:\n{self.output}\n{self.log}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_SECONDS / 20)
            except subprocess.TimeoutExpired:  # a test that failed may have left its connections open
                self.process.kill()
                self.process.wait()
        self._output.to_the_end()
        self._errors.to_the_end()
        self._kept.cleanup()
        if "Traceback" in self.output + self.log:
            raise AssertionError(f"Something failed inside the daemon:\n{self.output}\n{self.log}")

    @property
    def addresses(self) -> list[str]:
        """
        Where it says that it serves.
        """
        return _RUNNING.findall(self._announced.text)

    @property
    def url(self) -> str:
        """
        The first address.
        """
        return self.addresses[0]

    @property
    def mistral(self) -> str:
        """
        The base URL for Mistral's own SDK.
        """
        return self.url + "/mistral"

    @property
    def port(self) -> int:
        """
        The port of the first address.
        """
        return int(self.url.rpartition(":")[2])

    @property
    def output(self) -> str:
        """
        What has come on standard output so far.
        """
        return self._output.text

    @property
    def log(self) -> str:
        """
        What has come on standard error so far.
        """
        return self._errors.text

    def wait_for_log(self, pattern: str) -> None:
        """
        Wait until the log holds *pattern*.
        """
        found = self._errors.wait_for(lambda said: re.search(pattern, said) is not None)
        assert found, f"The log never said {pattern}:\n{self.log}"

    def signal(self, number: signal.Signals) -> None:
        """
        Send a signal.
        """
        self.process.send_signal(number)

    def ended(self) -> int:
        """
        Wait for its end.

        :return: the exit code; minus the signal if one killed it.
        """
        code = self.process.wait(PATIENCE_SECONDS)
        self._output.to_the_end()
        self._errors.to_the_end()
        return code


def in_front_of(upstream: str, *arguments: str, settings: str = "", **said: str) -> Daemon:
    """
    A daemon in front of the upstream at this base URL.

    :param said: variables beside those that name the upstream and its key.
    """
    named = {"MISTRAL_API_BASE": upstream, "MISTRAL_API_KEY": UPSTREAM_KEY}
    return Daemon(*ANY_PORT, *arguments, said={**named, **said}, settings=settings)


class Memory:
    """
    What a daemon takes: resident memory, and open files.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._folder = Path("/proc") / str(daemon.process.pid)

    def forget_peak(self) -> None:
        """
        Count the peak from now on (see proc(5), clear_refs).
        """
        (self._folder / "clear_refs").write_text("5")

    @property
    def peak_bytes(self) -> int:
        """
        The most that it has been.
        """
        return self._kilobytes("VmHWM") * 1024

    @property
    def bytes(self) -> int:
        """
        What it is now.
        """
        return self._kilobytes("VmRSS") * 1024

    @property
    def open_files(self) -> int:
        """
        Files and sockets that it has open.
        """
        return len(list((self._folder / "fd").iterdir()))

    @property
    def sockets(self) -> int:
        """
        Sockets that it has open. Files of its database may be opened at any time.
        """
        count = 0
        for each in (self._folder / "fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                count += str(each.readlink()).startswith("socket:")
        return count

    def has_loaded(self, package: str) -> bool:
        """
        Whether it has a library of this package.
        """
        return f"/{package}/" in (self._folder / "maps").read_text()

    def _kilobytes(self, name: str) -> int:
        [line] = [line for line in (self._folder / "status").read_text().splitlines() if line.startswith(name + ":")]
        return int(line.split()[1])
