"""
What is written, and what becomes of it when it cannot be.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dheera.errors import Unavailable
from dheera.records import Content, parsed
from dheera.spool.journal import MOST_STRANGERS
from dheera.spool.spool import FileSpool
from tests.spool.desk import SpoolTests, alert, begun, drain, names, record


@contextmanager
def full_disk(spool: FileSpool) -> Iterator[None]:
    """
    Each write to the segment that is open now finds no space.
    """
    file = spool._pen._file
    kept, full = os.dup(file), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, file)
    try:
        yield
    finally:
        os.dup2(kept, file)
        os.close(kept)
        os.close(full)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """
    The system writes no file beyond *size* bytes; of a write that goes beyond, what fits.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Turns(SpoolTests):
    """
    What is in the file when the process dies within a turn of the reactor.
    """

    kind = FileSpool

    def written(self) -> list[Any]:
        return [
            parsed(line)
            for name in self.files()
            for line in (self.directory / "0" / name).read_bytes().split(b"\n")
            if line
        ]

    def test_begin(self) -> None:
        """
        That an exchange begins is in the file when the call returns, and what ended before it.
        """
        spool, _ = self.spool()
        for name in "ab":
            spool.begin(begun(name))
        happened = [begun("a"), begun("b")]
        self.assertEqual(happened, self.written())
        spool.end(record("a"))
        spool.alert(alert("c"))
        spool.begin(begun("d"))
        self.assertEqual([*happened, record("a"), alert("c"), begun("d")], self.written())

    def test_end(self) -> None:
        """
        What ends is in the file when the turn is over, in order.
        """
        spool, [reader] = self.spool("ledger")
        for name in "abc":
            spool.begin(begun(name))
        before = self.written()
        for name in "ca":
            spool.end(record(name))
        spool.alert(alert("d"))
        self.assertEqual(before, self.written())
        self.clock.advance(0)
        self.assertEqual([*before, record("c"), record("a"), alert("d")], self.written())
        self.assertEqual(["c", "a", "d"], drain(reader))

    def test_read(self) -> None:
        """
        Or when somebody reads within the turn: those who read for the last time, since dheera stops, miss nothing.
        """
        spool, [ledger, files] = self.spool("ledger", "files")
        spool.end(record("a"))
        self.assertEqual(["a"], drain(ledger))
        self.assertEqual([record("a")], self.written())
        spool.end(record("b"))
        self.assertEqual((["a", "b"], ["b"]), (drain(files), drain(ledger)))
        self.clock.advance(0)
        self.assertEqual([record("a"), record("b")], self.written())

    def test_closed(self) -> None:
        """
        Also when it is closed within the turn.
        """
        spool, _ = self.spool()
        spool.end(record("a"))
        self.successResultOf(spool.close())
        self.assertEqual([record("a")], self.written())

    def test_closing(self) -> None:
        """
        Or while it waits for the disk to be closed.
        """
        spool, _ = self.spool()
        spool.begin(begun("a"))
        self.aside.is_held = True
        closing = spool.close()
        spool.end(record("a"))
        spool.alert(alert("b"))
        self.assertNoResult(closing)
        self.assertEqual([begun("a"), record("a"), alert("b")], self.written())
        while self.aside.held:
            self.aside.held.pop(0)()
        self.successResultOf(closing)

    def test_full(self) -> None:
        """
        If all together cannot be written, nothing is begun, and the ends wait.
        """
        spool, [reader] = self.spool("ledger")
        spool.begin(begun("a"))
        spool.end(record("a"))
        with full_disk(spool):
            self.assertRaises(Unavailable, spool.begin, begun("b"))
        self.assertEqual((1, [begun("a")]), (spool.state().waiting, self.written()))
        self.clock.advance(1)
        self.assertEqual((0, [begun("a"), record("a")]), (spool.state().waiting, self.written()))
        self.assertEqual(["a"], drain(reader))


class Lines(SpoolTests):
    """
    On the disk.
    """

    def test_private(self) -> None:
        """
        Nobody else may read it.
        """
        self.spool()
        lane = self.directory / "0"
        self.assertEqual({0o600}, {path.stat().st_mode & 0o777 for path in lane.iterdir()})
        self.assertEqual(0o700, lane.stat().st_mode & 0o777)

    def test_segments(self) -> None:
        """
        A file that is full is followed by one that is named by how many bytes came before it.
        """
        spool, _ = self.spool("ledger", segment_bytes=500)
        for number in range(6):
            spool.end(record(str(number)))
        sizes = [(int(name[:-6]), (self.directory / "0" / name).stat().st_size) for name in self.files()]
        self.assertGreater(len(sizes), 2)
        self.assertEqual([start for start, _ in sizes], [sum(size for _, size in sizes[:n]) for n in range(len(sizes))])
        self.assertLessEqual(max(size for _, size in sizes), 500)

    def test_synced(self) -> None:
        """
        What was written is brought to the disk every so often, aside; when nothing was written, nothing is.
        """
        spool, _ = self.spool(fsync_seconds=0.2)
        self.clock.advance(0.2)
        self.assertFalse(spool._pen.is_dirty)
        self.aside.is_held = True
        spool.end(record("a"))
        self.assertEqual(0, len(self.aside.held))
        self.clock.advance(0.2)
        self.clock.advance(0.2)
        self.assertEqual(1, len(self.aside.held))
        self.aside.held.pop()()
        self.clock.advance(0.2)
        self.assertEqual([], self.aside.held)

    def test_unspeakable(self) -> None:
        """
        A record that JSON cannot hold is written without what the caller said, and the exchange is over.
        """
        spool, [ledger] = self.spool("ledger")
        spool.begin(begun("a"))
        spool.end(record("a", request=Content(body=object())))
        self.flushLoggedErrors(TypeError)
        self.assertEqual(["a"], drain(ledger))
        self.assertEqual(0, spool.state().open)

    def test_state(self) -> None:
        """
        Whoever asks is told how the spool is.
        """
        spool, _ = self.spool("ledger")
        spool.begin(begun("a"))
        spool.begin(begun("b"))
        spool.end(record("a"))
        state = spool.state()
        self.assertEqual((0, 3, 1, 0, 0), (state.lane, state.written, state.open, state.waiting, state.lost))
        self.assertEqual(sum((self.directory / "0" / name).stat().st_size for name in self.files()), state.size_bytes)
        self.assertEqual(["ledger"], list(state.readers))
        self.assertGreater(state.readers["ledger"].waiting_bytes, 0)


class BrokenDisks(SpoolTests):
    """
    The disk is full, or fails.
    """

    def test_nothing_begins(self) -> None:
        """
        While nothing can be written nothing is begun: the client is asked to come again, the operator is told why.
        """
        spool, _ = self.spool("ledger")
        with full_disk(spool):
            for _ in range(3):
                refusal = self.assertRaises(Unavailable, spool.begin, begun("a"))
                self.assertEqual((503, ((b"Retry-After", b"1"),)), (refusal.status, refusal.fields))
                self.assertIn("No space left", refusal.message)
        self.assertEqual("No space left on device", spool.state().failing)
        self.assertEqual([("spool disk", "critical")], [(each.subject, each.level) for each in self.alarms])

    def test_kept(self) -> None:
        """
        What ends meanwhile is kept, and written in its order when the disk is back; then calls may begin again.
        """
        spool, [ledger] = self.spool("ledger")
        for name in "abc":
            spool.begin(begun(name))
        with full_disk(spool):
            spool.end(record("b"))
            spool.alert(alert("x"))
            spool.end(record("a"))
            self.clock.advance(1)
            self.assertEqual((3, 3), (spool.state().waiting, spool.state().open))
            self.assertEqual([], ledger.read(9))
        self.clock.advance(1)
        spool.begin(begun("d"))
        spool.end(record("d"))
        self.assertEqual(["b", "x", "a", "d"], drain(ledger))
        self.assertIsNone(spool.state().failing)
        self.assertEqual(["critical", "resolved"], [each.level for each in self.alarms])

    def test_found_well(self) -> None:
        """
        That the disk is back is found though nobody calls.
        """
        spool, _ = self.spool("ledger")
        with full_disk(spool):
            self.assertRaises(Unavailable, spool.begin, begun("a"))
        self.clock.advance(1)
        self.assertIsNone(spool.state().failing)

    def test_bounded(self) -> None:
        """
        Of what never began, as it was refused, so much is kept and no more; the end of what is open always is.
        """
        spool, [ledger] = self.spool("ledger")
        spool.begin(begun("a"))
        with full_disk(spool):
            for number in range(MOST_STRANGERS + 5):
                spool.end(record(str(number), outcome="refused"))
            spool.end(record("a"))
            self.assertEqual((MOST_STRANGERS + 1, 5), (spool.state().waiting, spool.state().lost))
        self.clock.advance(1)
        self.assertEqual("a", drain(ledger)[-1])

    def test_short_write(self) -> None:
        """
        A write that was cut short leaves nothing behind: all lines are whole, now and after a restart.
        """
        spool, [ledger] = self.spool("ledger")
        spool.begin(begun("a"))
        spool.begin(begun("b"))
        size = spool.state().size_bytes
        with largest_file(size + 20):
            spool.end(record("a"))
            self.assertRaises(Unavailable, spool.begin, begun("c"))
        self.assertEqual(size, (self.directory / "0" / self.files()[0]).stat().st_size)
        self.clock.advance(1)
        spool.end(record("b"))
        self.assertEqual((["a", "b"], 0), (drain(ledger), ledger.lag().dropped))
        self.successResultOf(spool.close())
        _, [ledger] = self.spool("ledger")
        self.assertEqual(([], 0), (names(ledger.read(9)), ledger.lag().dropped))

    def test_torn(self) -> None:
        """
        What a failed write has left, and could not be cut away, is read by nobody.
        """
        spool, [ledger] = self.spool("ledger")
        for name in "abc":
            with (self.directory / "0" / self.files()[-1]).open("ab") as file:
                file.write(b'{"line":"en')
            spool._pen._is_torn = True  # as when the disk refuses to make the file shorter, too
            spool.end(record(name))
        self.assertEqual(3, len(self.files()))
        size = spool.state().size_bytes
        self.successResultOf(spool.close())
        spool, [ledger] = self.spool("ledger")
        self.assertEqual(size, spool.state().size_bytes)
        self.assertEqual((["a", "b", "c"], 0), (drain(ledger), ledger.lag().dropped))

    def test_sync_fails(self) -> None:
        """
        When what was written cannot be brought to the disk, nothing is begun until something can be written.
        """
        spool, _ = self.spool("ledger")
        spool.end(record("a"))
        pipe, file = os.pipe(), os.dup(spool._pen._file)
        os.dup2(pipe[1], spool._pen._file)  # a pipe cannot be synced
        self.clock.advance(0.9)
        self.successResultOf(spool._upkeep.sync())
        self.assertIsNotNone(spool.state().failing)
        self.assertRaises(Unavailable, spool.begin, begun("b"))
        os.dup2(file, spool._pen._file)
        for each in (*pipe, file):
            os.close(each)
        self.clock.advance(0.1)
        spool.begin(begun("b"))

    def test_last_chance(self) -> None:
        """
        What waits is written at the end, if that is possible by then.
        """
        spool, _ = self.spool("ledger")
        with full_disk(spool):
            spool.end(record("a"))
        self.successResultOf(spool.close())
        _, [ledger] = self.spool("ledger")
        self.assertEqual(["a"], drain(ledger))
