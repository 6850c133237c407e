"""
Programs that we start, keep to their cores, and end: only these, by their own ids.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import define

ROOT = Path(__file__).parent.parent
_STOP_SECONDS = 10.0
_SAID_CHARACTERS = 1000


class NotStarted(Exception):
    """
    A program ended, or did not answer in time, when it should have begun to serve.
    """


@define(eq=False)
class Program:
    """
    A process of ours with its children. It is ended by its own id, and nothing else ever is.
    """

    _process: subprocess.Popen[bytes]
    _log: Path

    @property
    def pid(self) -> int:
        """The process that was started, not its children."""
        return self._process.pid

    def read_line(self) -> str:
        """The next line of its output, where that was asked for."""
        stdout = self._process.stdout
        return "" if stdout is None else stdout.readline().decode().strip()

    def signal(self, number: signal.Signals) -> None:
        """Tell it something that it understands."""
        self._process.send_signal(number)

    def ended(self) -> bool:
        """Whether it is over."""
        return self._process.poll() is not None

    def said(self) -> str:
        """The end of what it logged, for a message about its failure."""
        return self._log.read_text(errors="replace")[-_SAID_CHARACTERS:]

    def stop(self) -> None:
        """Ask it to end, wait, and kill what is left of its process group."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with suppress(ProcessLookupError):  # the usual case: no child outlived it
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def program(
    arguments: Sequence[str],
    *,
    cores: frozenset[int],
    log: Path,
    environment: Mapping[str, str] | None = None,
    piped: bool = False,
) -> Iterator[Program]:
    """
    Run a program on these cores while the block lasts.

    :param environment: what it gets beside PATH and HOME: nothing else of ours reaches it, so a
        key or a base URL in the caller's shell cannot change what is measured.
    :param piped: whether `read_line` is wanted; else its output goes to the log too.
    """
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ours = os.sched_getaffinity(0)
    with log.open("wb") as sink:
        # A child inherits the affinity of the moment: so no thread of it ever ran elsewhere.
        os.sched_setaffinity(0, cores)
        try:
            process = subprocess.Popen(
                arguments,
                cwd=ROOT,
                env={**inherited, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else sink,
                stderr=sink,
                start_new_session=True,  # Ctrl-C is for us, and we end it
            )
        finally:
            os.sched_setaffinity(0, ours)
    running = Program(process, log)
    try:
        yield running
    finally:
        running.stop()
