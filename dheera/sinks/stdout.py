"""
Records as JSON lines on standard output, for systemd's journal and for containers.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater

from dheera.bookkeeping import Entry
from dheera.sinks import contract
from dheera.sinks.contract import Sink, SinkAway, SinkSettings, Tools
from dheera.sinks.lines import joined

STANDARD_OUTPUT = 1
PIECE_BYTES = 4096
"""
What a pipe takes at once whenever it says that it can be written to (PIPE_BUF of Linux; pipe(7)).
"""
LOOK_AGAIN_SECONDS = 0.05


class StdoutSettings(SinkSettings, frozen=True, kw_only=True):
    """
    ``[sinks.stdout]``: nothing of its own.
    """

    batch_seconds: float = 0.2


@define(eq=False)
class StdoutSink:
    """
    Writes whole lines, and never waits in a system call: somebody who does not read must not stop the daemon. The
    descriptor stays as it is, since others may share it.

    :ivar _rest: of a line that was begun and could not be ended; it goes first.
    """

    _reactor: Any
    _seconds: float
    _descriptor: int = STANDARD_OUTPUT
    _rest: bytes = field(default=b"", init=False, repr=False)

    def send(self, entries: Sequence[Entry]) -> Deferred[None]:
        """
        Write a batch.
        """
        return Deferred.fromCoroutine(self._send(joined(entries)))

    def close(self) -> Deferred[None]:
        """
        Leave it open: it is not ours.
        """
        return succeed(None)

    async def _send(self, content: bytes) -> None:
        until = self._reactor.seconds() + self._seconds
        content = self._rest + content
        written = 0
        try:
            while written < len(content):
                step = self._write(content[written : written + PIECE_BYTES])
                written += step
                if not step:
                    if self._reactor.seconds() >= until:
                        raise SinkAway(f"nobody has read standard output for {self._seconds:g} seconds.")
                    await deferLater(self._reactor, LOOK_AGAIN_SECONDS)
        except OSError as error:
            raise SinkAway(f"standard output cannot be written to: {error.strerror}.") from error
        finally:
            self._rest = _begun(content, written)

    def _write(self, piece: bytes) -> int:
        """
        Write as much as can be written now.
        """
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        if not poll.poll(0):
            return 0
        try:
            return os.write(self._descriptor, piece)
        except BlockingIOError:
            return 0


def _begun(content: bytes, written: int) -> bytes:
    """
    What is missing of the line that was begun last.
    """
    if written == 0 or content[written - 1 : written] == b"\n":
        return b""
    return content[written : content.index(b"\n", written) + 1]


class StdoutFactory:
    """
    Makes the sink ``stdout``.
    """

    kind: ClassVar[str] = "stdout"
    settings: ClassVar[type[SinkSettings]] = StdoutSettings
    takes: ClassVar[Literal["records", "alerts", "all"]] = "all"

    def make(self, settings: StdoutSettings, tools: Tools) -> Sink:
        """
        See `dheera.sinks.contract.SinkFactory`.
        """
        return StdoutSink(tools.reactor, settings.timeout_seconds)


FACTORY = StdoutFactory()

_: contract.SinkFactory = FACTORY
