"""
How much disk the spool takes, and what it does when that is used up.
"""

from __future__ import annotations

from dheera.errors import Unavailable
from dheera.settings import SpoolSettings
from dheera.spool import reading
from dheera.spool.reading import FileReader
from dheera.spool.spool import FileSpool
from tests.spool.desk import NOW, PromptSpool, SpoolTests, begun, die, drain, interrupted, record
from tests.spool.test_writing import full_disk


class RoomTests(SpoolTests):
    settings = SpoolSettings(max_bytes=8000, segment_bytes=1000)

    def taken(self) -> int:
        """
        Bytes on the disk.
        """
        return sum(map(self.size_of, self.files()))

    def size_of(self, name: str) -> int:
        return (self.directory / "0" / name).stat().st_size

    def call(self, spool: FileSpool, numbers: range, *readers: FileReader) -> list[str]:
        """
        Let exchanges begin and end, and these readers read each at once.
        """
        for number in numbers:
            spool.begin(begun(str(number)))
            spool.end(record(str(number)))
            for reader in readers:
                drain(reader)
        return [str(number) for number in numbers]


class Read(RoomTests):
    """
    What all have read.
    """

    def test_deleted(self) -> None:
        """
        It takes no disk; what one of them has not read stays.
        """
        spool, [ledger, files] = self.spool("ledger", "files")
        called = self.call(spool, range(12))
        drain(ledger)
        self.assertGreater(len(self.files()), 2)
        self.assertEqual(called, drain(files))
        self.assertEqual(1, len(self.files()))
        self.assertEqual(self.taken(), spool.state().size_bytes)

    def test_dismissed(self) -> None:
        """
        For one that is dismissed nothing is kept: what only it had not read is deleted at once.
        """
        spool, [ledger, _] = self.spool("ledger", "gone")
        self.call(spool, range(12), ledger)
        self.assertGreater(len(self.files()), 2)
        spool.dismiss("gone")
        self.assertEqual((1, self.taken()), (len(self.files()), spool.state().size_bytes))

    def test_dismissed_before(self) -> None:
        """
        That is so too if it is dismissed before the spool is open.
        """
        spool = PromptSpool(self.clock, self.directory, self.settings, lambda: NOW, "n", interrupted, self.aside)
        spool.reader("gone")
        spool.dismiss("gone")
        self.successResultOf(spool.open())
        self.addCleanup(spool.close)
        self.assertEqual({}, spool.state().readers)

    def test_dismissed_meanwhile(self) -> None:
        """
        One that is dismissed while it is counted what it has lost is told of nothing.
        """
        spool, [ledger, gone] = self.spool("ledger", "gone")
        self.aside.is_held = True
        self.call(spool, range(60), ledger)
        spool.dismiss("gone")
        while self.aside.held:
            self.aside.held.pop(0)()
        self.assertEqual((0, []), (gone.dropped, self.alarms))

    def test_no_readers(self) -> None:
        """
        If nobody reads, nothing is kept for long.
        """
        spool, _ = self.spool()
        self.call(spool, range(50))
        self.assertLess(self.taken(), 2000)


class Full(RoomTests):
    """
    The space is used up.
    """

    def test_sink_behind(self) -> None:
        """
        A sink that is too far behind loses the oldest lines, which are counted, and told of once a minute; calls go on,
        and the ledger loses nothing.
        """
        spool, [ledger, files] = self.spool("ledger", "files")
        called = []
        for round_ in range(10):
            called += self.call(spool, range(round_ * 10, round_ * 10 + 10))
            self.assertEqual(called[-10:], drain(ledger))
            self.assertLess(self.taken(), 9000)
        found = drain(files)
        self.assertEqual(called[-len(found) :], found)
        self.assertEqual(100, len(found) + files.lag().dropped)
        self.assertGreater(files.lag().dropped, 50)
        self.assertEqual(0, ledger.lag().dropped)
        self.assertEqual([("sink files", "warning")], [(each.subject, each.level) for each in self.alarms])
        self.clock.advance(1)
        self.assertEqual("resolved", self.alarms[-1].level)

    def test_sink_far_behind(self) -> None:
        """
        So does one that has to read the files; each line it loses is counted once.
        """
        self.patch(reading, "AT_HAND_BYTES", 500)
        spool, [ledger, files] = self.spool("ledger", "files")
        called = self.call(spool, range(100), ledger)
        self.assertLessEqual(files.lag().waiting_bytes, spool.state().size_bytes)
        found = drain(files)
        self.assertEqual(called[-len(found) :], found)
        self.assertEqual(100, len(found) + files.lag().dropped)

    def test_told_again(self) -> None:
        """
        What still goes on after a minute is told again.
        """
        spool, [ledger, _] = self.spool("ledger", "files")
        for _ in range(3):
            self.call(spool, range(40), ledger)
            self.clock.advance(30)
        self.assertEqual(["warning"] * 2, [each.level for each in self.alarms])

    def test_in_hand(self) -> None:
        """
        That a sink was given what was thrown away meanwhile does no harm.
        """
        spool, [ledger, files] = self.spool("ledger", "files")
        self.call(spool, range(5))
        sent = files.read(9)
        called = self.call(spool, range(5, 40), ledger)
        files.advance(sent[-1].position)
        found = drain(files)
        self.assertEqual(called[-len(found) :], found)

    def test_ledger_behind(self) -> None:
        """
        What the ledger has not read is never thrown away: nothing is begun until it has read some; what is open ends.
        """
        spool, [ledger, _] = self.spool("ledger", "files")
        spool.begin(begun("open"))
        count = 0
        while not spool.state().is_full:
            self.call(spool, range(count, count + 1))
            count += 1
        refusal = self.assertRaises(Unavailable, spool.begin, begun("x"))
        self.assertEqual((503, ((b"Retry-After", b"5"),)), (refusal.status, refusal.fields))
        spool.end(record("open"))
        self.clock.advance(1)
        self.assertEqual([("spool", "critical")], [(each.subject, each.level) for each in self.alarms])
        self.assertEqual([*map(str, range(count)), "open"], drain(ledger))
        self.call(spool, range(1))
        self.clock.advance(1)
        self.assertEqual(("spool", "resolved"), (self.alarms[-1].subject, self.alarms[-1].level))

    def test_looked_at(self) -> None:
        """
        A look at it throws nothing away, whether or not there is something that may go.
        """
        spool, [ledger, files] = self.spool("ledger", "files")
        while spool.state().size_bytes < self.settings.max_bytes:
            spool.end(record("x", outcome="refused"))
        kept, taken = self.files(), self.taken()
        self.assertTrue(spool.state().is_full)
        drain(ledger)
        self.assertFalse(spool.state().is_full)
        self.assertEqual((kept, taken, 0), (self.files(), self.taken(), files.lag().dropped))
        self.call(spool, range(1))
        self.assertLess(self.taken(), taken)

    def test_refusals(self) -> None:
        """
        While it is so, refusals alone cannot fill the disk: so many are written, the others counted.
        """
        spool, [ledger] = self.spool("ledger")
        spool.begin(begun("open"))
        for number in range(100):
            spool.end(record(str(number), outcome="refused"))
        self.assertLess(self.taken(), 9500)
        self.assertGreater(spool.state().lost, 0)
        spool.end(record("open"))
        found = drain(ledger)
        self.assertEqual(("open", 101), (found[-1], len(found) + spool.state().lost))

    def test_disk_full(self) -> None:
        """
        When the disk itself is full before that, what sinks have not read is given up as well.
        """
        spool, [ledger, files] = self.spool("ledger", "files")
        self.call(spool, range(9))
        while self.size_of(self.files()[-1]) > 500:  # so that all goes to this file
            spool.end(record("b"))
        drain(ledger)
        self.successResultOf(spool._upkeep.sync())
        before = self.taken()
        with full_disk(spool):
            spool.end(record("a"))
            self.clock.advance(1)
            self.assertLess(self.taken(), before)
        self.clock.advance(1)
        self.assertEqual(["a"], drain(ledger))
        self.assertGreater(files.lag().dropped, 0)
        self.assertEqual("a", drain(files)[-1])

    def test_disk_full_and_open(self) -> None:
        """
        But not if the beginning of an exchange would go with it that cannot be written anew.
        """
        spool, [ledger, _] = self.spool("ledger", "files")
        spool.begin(begun("open"))
        self.call(spool, range(9))
        while self.size_of(self.files()[-1]) > 500:
            spool.end(record("b"))
        drain(ledger)
        self.successResultOf(spool._upkeep.sync())
        with full_disk(spool):
            spool.end(record("a"))
            self.clock.advance(1)
            die(spool)
        _, [ledger] = self.spool("ledger")
        self.assertEqual("open?", drain(ledger)[-1])

    def test_small(self) -> None:
        """
        Segments are never so large that throwing one away throws all away.
        """
        spool, [ledger, files] = self.spool("ledger", "files", segment_bytes=10_000_000)
        self.call(spool, range(60), ledger)
        self.assertGreater(len(drain(files)), 8)

    def test_open_first(self) -> None:
        """
        What is thrown away takes no exchange with it that is open.
        """
        spool, [ledger, files] = self.spool("ledger", "files")
        spool.begin(begun("open"))
        self.call(spool, range(60), ledger)
        self.successResultOf(spool.close())
        _, [ledger, files] = self.spool("ledger", "files")
        self.assertEqual(["open?"], drain(ledger))
        self.assertEqual("open?", drain(files)[-1])
