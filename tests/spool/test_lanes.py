"""
Several processes on one directory, and what becomes of those that die.
"""

from __future__ import annotations

from tests.spool.desk import SpoolTests, begun, die, drain, record
from tests.spool.test_writing import full_disk


class Lanes(SpoolTests):
    """
    Who lives has one of its own.
    """

    def test_first_free(self) -> None:
        """
        Each process takes the first that nobody owns.
        """
        first, _ = self.spool()
        second, _ = self.spool()
        third, _ = self.spool()
        self.assertEqual([0, 1, 2], [each.state().lane for each in (first, second, third)])
        self.successResultOf(second.close())
        fourth, _ = self.spool()
        self.assertEqual(1, fourth.state().lane)

    def test_apart(self) -> None:
        """
        Nobody reads, or ends, what others do.
        """
        first, [one] = self.spool("ledger")
        first.begin(begun("a"))
        second, [two] = self.spool("ledger")
        second.end(record("b"))
        self.clock.advance(120)
        self.assertEqual(["b"], drain(two))
        first.end(record("a"))
        self.assertEqual(["a"], drain(one))


class Adopted(SpoolTests):
    """
    What the dead have left.
    """

    def test_taken_over(self) -> None:
        """
        A minute after its owner has died, what a lane's readers had not read is read by ours, what had begun ends as
        interrupted, and the lane is gone.
        """
        ours, [ledger, files] = self.spool("ledger", "files")
        theirs, [their_ledger, their_files] = self.spool("ledger", "files", segment_bytes=700)
        for name in "abcde":
            theirs.begin(begun(name))
        for name in "abcd":
            theirs.end(record(name))
        their_ledger.advance(their_ledger.read(9)[2].position)
        their_files.advance(their_files.read(9)[1].position)
        self.clock.advance(1)
        die(theirs)
        woken = ledger.wait()
        ours.end(record("own"))
        self.clock.advance(60)
        self.successResultOf(woken)
        self.assertEqual(["own", "c", "d", "e?"], drain(ledger))
        self.assertEqual(["own", "c", "d", "e?"], drain(files))
        self.assertFalse((self.directory / "1").exists())

    def test_at_start(self) -> None:
        """
        A process that starts does the same at once, with all that there are.
        """
        spools = [self.spool("ledger")[0] for _ in range(3)]
        for number, each in enumerate(spools):
            each.begin(begun(str(number)))
        for each in spools:
            die(each)
        ours, [ledger] = self.spool("ledger")
        self.assertEqual({"0?", "1?", "2?"}, set(drain(ledger)))
        self.assertEqual(["0"], sorted(path.name for path in self.directory.iterdir() if path.is_dir()))
        ours.end(record("a"))
        self.assertEqual(["a"], drain(ledger))

    def test_left_in_order(self) -> None:
        """
        Of one who had left in order, and whose lines were read, nothing comes.
        """
        _, [ledger] = self.spool("ledger")
        theirs, [their_ledger] = self.spool("ledger")
        theirs.end(record("a"))
        drain(their_ledger)
        self.successResultOf(theirs.close())
        self.clock.advance(60)
        self.assertEqual([], drain(ledger))
        self.assertFalse((self.directory / "1").exists())

    def test_cursors_lost(self) -> None:
        """
        If it is not known what was read of it, all is read again.
        """
        _, [ledger] = self.spool("ledger")
        theirs, [their_ledger] = self.spool("ledger")
        theirs.end(record("a"))
        drain(their_ledger)
        self.successResultOf(theirs.close())
        (self.directory / "1" / "cursors.json").unlink()
        self.clock.advance(60)
        self.assertEqual(["a"], drain(ledger))

    def test_damaged(self) -> None:
        """
        Damaged and torn lines are left behind, the others are not.
        """
        _, [ledger] = self.spool("ledger")
        theirs, _ = self.spool("ledger")
        for name in "abc":
            theirs.end(record(name))
        die(theirs)
        [name] = self.files(1)
        file = self.directory / "1" / name
        file.write_bytes(file.read_bytes().replace(b'"call_id":"b"', b'"call_id":\xff"') + b"{")
        self.clock.advance(60)
        self.assertEqual(["a", "c"], drain(ledger))

    def test_no_disk(self) -> None:
        """
        While nothing can be written a lane stays as it is; it is taken over when the disk is back.
        """
        ours, [ledger] = self.spool("ledger")
        theirs, _ = self.spool("ledger")
        theirs.begin(begun("a"))
        theirs.end(record("b"))
        die(theirs)
        with full_disk(ours):
            self.clock.pump([1] * 61)
            self.assertTrue((self.directory / "1").exists())
        self.clock.pump([1] * 61)
        self.assertEqual(["b", "a?"], drain(ledger))
        self.assertFalse((self.directory / "1").exists())

    def test_no_room(self) -> None:
        """
        A lane that holds more than we may keep waits until our readers have made room.
        """
        ours, [ledger] = self.spool("ledger", max_bytes=4000)
        theirs, _ = self.spool("ledger", max_bytes=4000)
        for number in range(15):
            ours.end(record(f"our {number}"))
            theirs.end(record(f"their {number}"))
        die(theirs)
        self.clock.advance(60)
        self.assertTrue((self.directory / "1").exists())
        self.assertEqual([f"our {number}" for number in range(15)], drain(ledger))
        self.clock.advance(60)
        self.assertEqual([f"their {number}" for number in range(15)], drain(ledger))

    def test_closing(self) -> None:
        """
        Who ends while taking over leaves what it has not finished to the next.
        """
        theirs, _ = self.spool("ledger")
        theirs.end(record("a"))
        other, _ = self.spool("ledger")
        die(theirs)
        self.aside.is_held = True
        self.clock.advance(60)
        closed = other.close()
        while self.aside.held:
            self.aside.held.pop(0)()
        self.assertIsNone(self.successResultOf(closed))
        self.aside.is_held = False
        _, [ledger] = self.spool("ledger")
        self.assertEqual(["a"], drain(ledger))
