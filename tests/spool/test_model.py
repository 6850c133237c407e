"""
The spool as a whole, against a list and an index for each reader.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.settings import SpoolSettings
from dheera.spool import reading
from dheera.spool.reading import FileReader
from dheera.spool.spool import FileSpool
from tests.spool.desk import NOW, AtOnce, alert, begun, die, interrupted, names, record

READERS = ("ledger", "files", "hook")
TORN = (b"", b"{", b'{"line":"end","call_id":"', b"\0" * 50)


class Machine(RuleBasedStateMachine):
    """
    Writes, reads, ends in order, dies. What ends is held until something begins, somebody reads,
    or the turn of the reactor is over.
    """

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(mkdtemp())
        self.lines: list[str] = []
        self.open: list[str] = []
        self.held: list[str] = []
        self.held_ends: list[str] = []
        self.places = dict.fromkeys(READERS, 0)
        self.count = 0

    def teardown(self) -> None:
        die(self.spool)
        shutil.rmtree(self.directory)

    @initialize(segment_bytes=st.integers(200, 3000))
    def first(self, segment_bytes: int) -> None:
        self.settings = SpoolSettings(segment_bytes=segment_bytes)
        self.start()

    def start(self) -> None:
        self.clock = Clock()
        self.spool = FileSpool(
            self.clock, self.directory, self.settings, lambda: NOW, "n", interrupted, AtOnce(), self.fail
        )
        self.readers = {name: self.spool.reader(name, essential=name == "ledger") for name in READERS}
        failures: list[Any] = []
        self.spool.open().addErrback(failures.append)
        assert not failures, failures

    def fail(self, alarm: Any) -> None:
        raise AssertionError(alarm)

    def name(self) -> str:
        self.count += 1
        return f"{self.count}"

    @rule()
    def begin(self) -> None:
        self.open.append(self.name())
        self.spool.begin(begun(self.open[-1]))
        self.let_go()

    def let_go(self) -> None:
        """
        What was held is written.
        """
        self.lines += self.held
        self.held.clear()
        self.held_ends.clear()

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0))
    def end(self, which: int) -> None:
        name = self.open.pop(which % len(self.open))
        self.spool.end(record(name))
        self.held.append(name)
        self.held_ends.append(name)

    @rule(size=st.integers(0, 3000))
    def refuse(self, size: int) -> None:
        self.held.append(self.name())
        self.spool.end(record(self.held[-1], outcome="complete", message="x" * size))

    @rule()
    def alert(self) -> None:
        self.held.append(self.name())
        self.spool.alert(alert(self.held[-1]))

    @rule(seconds=st.floats(0, 2))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.let_go()

    @rule(name=st.sampled_from(READERS), most=st.integers(1, 20), done=st.integers(0, 20))
    def read(self, name: str, most: int, done: int) -> None:
        entries = self.readers[name].read(most)
        self.let_go()
        expected = self.lines[self.places[name] :][:most]
        assert names(entries) == expected
        if done and entries:
            done = min(done, len(entries))
            self.readers[name].advance(entries[done - 1].position)
            self.places[name] += done

    @invariant()
    def lag(self) -> None:
        for name, reader in self.readers.items():
            assert (reader.lag().oldest_at is None) == (self.places[name] == len(self.lines))
            assert reader.lag().dropped == 0

    @rule()
    def restart(self) -> None:
        closed: list[None] = []
        self.spool.close().addCallback(closed.append)
        assert closed
        self.let_go()
        self.start()
        self.find_interrupted(self.places)

    @rule(torn=st.sampled_from(TORN))
    def crash(self, torn: bytes) -> None:
        die(self.spool)
        self.open += self.held_ends
        self.held.clear()
        self.held_ends.clear()
        last = max((self.directory / "0").glob("*.jsonl"))
        with last.open("ab") as file:
            file.write(torn)
        self.start()
        before = dict(self.places)
        self.find_interrupted(None)
        # Some may come again; nothing is left out.
        assert all(self.places[name] <= before[name] for name in READERS)

    def find_interrupted(self, places: dict[str, int] | None) -> None:
        known = len(self.lines)
        found = {name: names(self.everything(reader)) for name, reader in self.readers.items()}
        ended = found["ledger"][len(found["ledger"]) - len(self.open) :]
        assert set(ended) == {f"{name}?" for name in self.open}
        self.lines += ended
        self.open.clear()
        for name, lines in found.items():
            place = len(self.lines) - len(lines)
            assert place <= known
            assert lines == self.lines[place:]
            assert places is None or places[name] == place
            self.places[name] = place

    def everything(self, reader: FileReader) -> Any:
        return reader.read(100_000)


class Model(SynchronousTestCase):
    def test_as_the_model(self) -> None:
        """
        Whatever is written, read, closed and killed: each line comes to each reader, in order; once, unless the process
        was killed; and what was open then, or ended in that very turn, and only that, is interrupted.
        """
        self.patch(reading, "AT_HAND_BYTES", 2000)
        self.patch(reading, "_BLOCK_BYTES", 600)
        self.patch(reading, "_PEEK_BYTES", 100)
        run_state_machine_as_test(
            Machine, settings=hypothesis_settings(max_examples=60, stateful_step_count=60, deadline=None)
        )
