"""
Standard output.
"""

from __future__ import annotations

import fcntl
import os
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.sinks.contract import SinkAway
from dheera.sinks.stdout import FACTORY, StdoutSettings, StdoutSink
from tests.sinks.records import an_alert, bare, entries, full


class StdoutTests(SynchronousTestCase):
    """
    A pipe stands in its place.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.end, self.start = os.pipe()
        self.is_open = True
        self.addCleanup(os.close, self.end)
        self.addCleanup(self.shut)
        os.set_blocking(self.end, False)
        self.sink = StdoutSink(self.clock, 10.0, self.start)

    def shut(self) -> None:
        if self.is_open:
            os.close(self.start)
            self.is_open = False

    def read(self) -> bytes:
        found = b""
        while True:
            try:
                piece = os.read(self.end, 1 << 20)
            except BlockingIOError:
                return found
            if not piece:
                return found
            found += piece

    def fill(self) -> int:
        """
        Leave no room in the pipe.
        """
        os.set_blocking(self.start, False)
        size = 0
        try:
            while True:
                size += os.write(self.start, b"\n" * 4096)
        except BlockingIOError:
            os.set_blocking(self.start, True)
        return size

    def test_lines(self) -> None:
        """
        A record is a line, an alert too, each as the spool has it.
        """
        batch = entries(full(), an_alert(), bare())
        self.successResultOf(self.sink.send(batch))
        self.assertEqual(b"".join(each.line + b"\n" for each in batch), self.read())

    def test_nobody_reads(self) -> None:
        """
        Somebody who does not read stops nobody: it is waited for him, then the sink is away, and nothing is lost when
        he reads again; no line is torn.
        """
        fcntl.fcntl(self.start, fcntl.F_SETPIPE_SZ, 65536)
        self.fill()
        batch = entries(*(full(message="x" * 10_000) for _ in range(3)))
        sending = self.sink.send(batch)
        self.clock.advance(9)
        self.assertNoResult(sending)
        os.read(self.end, 20_000)  # room for one line and a half
        for _ in range(10):
            self.clock.advance(0.2)
        error = self.failureResultOf(sending, SinkAway).value
        self.assertEqual("nobody has read standard output for 10 seconds.", str(error))
        found = self.read()
        again = self.sink.send(batch)
        self.successResultOf(again)
        lines = (found + self.read()).strip(b"\n").split(b"\n")
        written = [each.line for each in batch]
        self.assertEqual([*written[: len(lines) - 3], *written], lines)
        self.assertGreater(len(lines), 3)

    def test_waits(self) -> None:
        """
        What there is no room for now goes when there is.
        """
        self.fill()
        batch = entries(bare())
        sending = self.sink.send(batch)
        self.clock.advance(5)
        self.read()
        self.clock.advance(1)
        self.successResultOf(sending)
        self.assertEqual(batch[0].line + b"\n", self.read())

    def test_descriptor(self) -> None:
        """
        The descriptor stays as it was, since others may share it; it is not closed with the sink.
        """
        before = fcntl.fcntl(self.start, fcntl.F_GETFL)
        self.successResultOf(self.sink.send(entries(bare())))
        self.successResultOf(self.sink.close())
        self.assertEqual(before, fcntl.fcntl(self.start, fcntl.F_GETFL))

    def test_closed(self) -> None:
        """
        When nobody can read any more, or there is no output, the sink is away.
        """
        lonely, end = os.pipe()
        os.close(lonely)
        self.addCleanup(os.close, end)
        error = self.failureResultOf(StdoutSink(self.clock, 10.0, end).send(entries(bare())), SinkAway).value
        self.assertEqual("standard output cannot be written to: Broken pipe.", str(error))
        self.shut()
        error = self.failureResultOf(self.sink.send(entries(bare())), SinkAway).value
        self.assertEqual("standard output cannot be written to: Bad file descriptor.", str(error))

    def test_factory(self) -> None:
        """
        It is the first descriptor that is written to.
        """
        tools: Any = type("Tools", (), {"reactor": self.clock})
        sink: Any = FACTORY.make(StdoutSettings(), tools)
        self.assertEqual(1, sink._descriptor)
