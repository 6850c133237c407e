"""
The daemon as a process: started, watched, stopped. Nothing is waited for longer than ``PATIENCE_SECONDS``.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Condition, Thread
from types import TracebackType
from typing import IO, Self

from dheera.config import CONFIG_VARIABLE, ENVIRONMENT

SCRIPTS = Path(sysconfig.get_path("scripts"))
PROGRAM = (str(SCRIPTS / "dheera_ai"),)
MODULE = (sys.executable, "-m", "dheera")
TWISTD = (str(SCRIPTS / "twistd"),)

PATIENCE_SECONDS = 30.0
"""
A test that waits longer than this for something fails: it bounds, and measures nothing.
"""

POLL_SECONDS = 0.02

ANY_PORT = ("--host", "127.0.0.1", "--port", "0")

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
    unwanted = {*ENVIRONMENT, CONFIG_VARIABLE, "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}
    kept = {name: value for name, value in os.environ.items() if name.upper() not in unwanted}
    return {**kept, "PATH": f"{SCRIPTS}{os.pathsep}{kept.get('PATH', '')}", **(said or {})}


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

    def wait_for(self, pattern: re.Pattern[str]) -> bool:
        """
        Wait until *pattern* is found, or nothing more can come.
        """
        with self._changed:
            self._changed.wait_for(lambda: pattern.search(self._said.decode()) or self._ended, PATIENCE_SECONDS)
            return pattern.search(self._said.decode()) is not None

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
    :param said: variables that configure it; all others that could are taken away.
    :param folder: where it is started.
    :param serves: wait until it says where it serves.
    """

    def __init__(
        self,
        *arguments: str,
        program: Sequence[str] = PROGRAM,
        said: Mapping[str, str] | None = None,
        folder: Path | None = None,
        serves: bool = True,
    ) -> None:
        self._command = [*program, *arguments]
        self._said = said
        self._folder = folder
        self._serves = serves

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._folder,
            env=environment(self._said),
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._output, self._errors = _Heard(self.process.stdout), _Heard(self.process.stderr)
        if self._serves and not self._says_where():
            self.__exit__(None, None, None)
            raise AssertionError(f"It does not serve:\n{self.output}\n{self.log}")
        return self

    def _says_where(self) -> bool:
        # Under twistd the log is standard output.
        return self._output.wait_for(_RUNNING)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_SECONDS / 10)
            except subprocess.TimeoutExpired:  # a test that failed may have left its connections open
                self.process.kill()
                self.process.wait()
        self._output.to_the_end()
        self._errors.to_the_end()
        if "Traceback" in self.output + self.log:
            raise AssertionError(f"Something failed inside the daemon:\n{self.output}\n{self.log}")

    @property
    def addresses(self) -> list[str]:
        """
        Where it says that it serves.
        """
        return _RUNNING.findall(self.output)

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
        assert self._errors.wait_for(re.compile(pattern)), f"The log never said {pattern}:\n{self.log}"

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


class Memory:
    """
    The resident memory of a process.
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

    def _kilobytes(self, name: str) -> int:
        [line] = [line for line in (self._folder / "status").read_text().splitlines() if line.startswith(name + ":")]
        return int(line.split()[1])
