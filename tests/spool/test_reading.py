"""
What readers are given, when they are woken, and what they are told of themselves.
"""

from __future__ import annotations

from datetime import timedelta

from twisted.internet.defer import CancelledError

from dheera.bookkeeping import Lag
from dheera.records import Begun
from dheera.spool import reading
from dheera.spool.spool import FileSpool
from tests.spool.desk import NOW, SpoolTests, alert, begun, die, drain, names, record


class Reading(SpoolTests):
    """
    Who keeps up, and who is behind.
    """

    def test_the_same(self) -> None:
        """
        Who keeps up is given the very record that was written, with its line; the beginnings of exchanges never.
        """
        spool, [ledger] = self.spool("ledger")
        spool.begin(begun("a"))
        ended = record("a")
        spool.end(ended)
        [entry] = ledger.read(9)
        self.assertIs(ended, entry.value)
        content = (self.directory / "0" / self.files()[0]).read_bytes()
        self.assertEqual(entry.line + b"\n", content[entry.position - len(entry.line) - 1 : entry.position])

    def test_behind(self) -> None:
        """
        Who is behind is given the same from the files, however much there is, and then what is new.
        """
        self.patch(reading, "AT_HAND_BYTES", 1000)
        self.patch(reading, "_BLOCK_BYTES", 300)
        spool, [ledger, files] = self.spool("ledger", "files", segment_bytes=2000)
        for number in range(60):
            spool.begin(begun(str(number)))
            spool.end(record(str(number)))
            drain(files)
        self.assertLess(ledger._at_hand_bytes, 2000)
        self.assertEqual([str(number) for number in range(60)], drain(ledger, 7))
        later = record("later")
        spool.end(later)
        self.assertIs(later, ledger.read(1)[0].value)

    def test_again(self) -> None:
        """
        What is read comes again until it is done with, and then no more.
        """
        spool, [ledger] = self.spool("ledger")
        for name in "abc":
            spool.end(record(name))
        self.assertEqual(["a", "b"], names(ledger.read(2)))
        first, second = ledger.read(2)
        ledger.advance(first.position)
        self.assertEqual(["b", "c"], names(ledger.read(2)))
        ledger.advance(second.position)
        ledger.advance(first.position)
        self.assertEqual(["c"], names(ledger.read(2)))

    def test_own_pace(self) -> None:
        """
        Readers do not wait for each other.
        """
        spool, [ledger, files] = self.spool("ledger", "files")
        spool.end(record("a"))
        spool.alert(alert("b"))
        self.assertEqual(["a", "b"], drain(ledger))
        self.assertEqual(["a", "b"], drain(files))

    def test_mebibyte(self) -> None:
        """
        About a mebibyte is given at once; an entry that is larger, alone.
        """
        for at_hand in (reading.AT_HAND_BYTES, 0):
            self.patch(reading, "AT_HAND_BYTES", at_hand)
            spool, [ledger] = self.spool("ledger")
            sizes = {"a": 1_500_000, "b": 400_000, "c": 400_000, "d": 400_000}
            for name, size in sizes.items():
                spool.end(record(name, message="x" * size))
            self.assertEqual(["a"], names(ledger.read(9)))
            ledger.advance(ledger.read(9)[0].position)
            self.assertEqual(["b", "c"], names(ledger.read(9)))

    def test_new(self) -> None:
        """
        A reader that is new begins with what comes next.
        """
        spool, _ = self.spool("ledger")
        spool.end(record("a"))
        self.successResultOf(spool.close())
        spool, [ledger, files] = self.spool("ledger", "files")
        spool.end(record("b"))
        self.assertEqual(["a", "b"], drain(ledger))
        self.assertEqual(["b"], drain(files))

    def test_late(self) -> None:
        """
        One that comes when the spool is open begins with what comes next, also where that is in the middle of a file.
        """
        spool, [ledger] = self.spool("ledger")
        spool.begin(begun("a"))
        spool.end(record("a"))
        late = spool.reader("late")
        self.assertIs(late, spool.reader("late"))
        self.assertEqual((Lag(), []), (late.lag(), late.read(9)))
        woken = late.wait()
        ended = record("b")
        spool.end(ended)
        self.clock.advance(0)
        self.successResultOf(woken)
        self.assertIs(ended, late.read(9)[0].value)
        self.assertEqual((["b"], ["a", "b"]), (drain(late), drain(ledger)))

    def test_late_after_a_restart(self) -> None:
        """
        After a restart, in order or not, it goes on where it was.
        """
        for dies in False, True:
            spool, _ = self.spool("ledger")
            late = spool.reader(f"late {dies}")
            spool.end(record("a"))
            drain(late)
            spool.end(record("b"))
            if dies:
                self.clock.advance(1)
                die(spool)
            else:
                self.successResultOf(spool.close())
            spool, [_, again] = self.spool("ledger", f"late {dies}")
            self.assertEqual(["b"], drain(again))
            self.successResultOf(spool.close())

    def test_dismissed(self) -> None:
        """
        One that is dismissed is not known any more, here and after a restart; one of its name is new.
        """
        spool, [ledger, gone] = self.spool("ledger", "gone")
        spool.end(record("a"))
        spool.dismiss("gone")
        spool.dismiss("never was")
        self.assertEqual({"ledger"}, {*spool.state().readers})
        again = spool.reader("gone")
        self.assertIsNot(gone, again)
        spool.end(record("b"))
        self.assertEqual((["b"], ["a", "b"]), (drain(again), drain(ledger)))
        spool.dismiss("gone")
        self.successResultOf(spool.close())
        spool, _ = self.spool("ledger")
        spool.end(record("c"))
        self.successResultOf(spool.close())
        spool, [_, again] = self.spool("ledger", "gone")
        self.assertEqual([], drain(again))

    def test_damaged(self) -> None:
        """
        Lines that somebody has damaged are passed over and counted; those around them are read.
        """
        spool, _ = self.spool("ledger")
        for name in ("good", "bad", "torn", "fine"):
            spool.end(record(name))
        self.successResultOf(spool.close())
        [name] = self.files()
        file = self.directory / "0" / name
        content = file.read_bytes().replace(b'"call_id":"bad"', b'"call_id":\x00\xffd"')
        file.write_bytes(content.replace(b'"call_id":"torn"', b'"call_id":"tor\xff"'))
        spool, [ledger] = self.spool("ledger")
        self.assertEqual(["good", "fine"], drain(ledger))
        self.assertEqual(2, ledger.lag().dropped)

    def test_file_gone(self) -> None:
        """
        If somebody has deleted a file, the reading goes on behind it.
        """
        spool, _ = self.spool("ledger", segment_bytes=400)
        for number in range(6):
            spool.end(record(str(number)))
        self.successResultOf(spool.close())
        (self.directory / "0" / self.files()[1]).unlink()
        spool, [ledger] = self.spool("ledger")
        found = drain(ledger)
        self.assertEqual(["0", "5"], [found[0], found[-1]])
        self.assertLess(len(found), 6)
        spool.end(record("6"))
        self.assertEqual(["6"], drain(ledger))

    def test_unreadable(self) -> None:
        """
        A file that cannot be read now is tried again, once a second; who waits for it is not woken in vain.
        """
        spool, _ = self.spool("ledger")
        spool.end(record("a"))
        self.successResultOf(spool.close())
        spool, [ledger] = self.spool("ledger")
        file = self.directory / "0" / self.files()[0]
        aside = file.rename(file.with_suffix(".aside"))
        file.mkdir()  # even root cannot read a directory as a file
        self.assertEqual([], ledger.read(9))
        woken = ledger.wait()
        self.clock.advance(1)
        self.assertNoResult(woken)
        file.rmdir()
        aside.rename(file)
        self.clock.advance(1)
        self.assertEqual((None, ["a"]), (self.successResultOf(woken), drain(ledger)))


class Waiting(SpoolTests):
    """
    Being told that there is something.
    """

    def test_at_once(self) -> None:
        """
        If there is something already, nobody waits.
        """
        spool, [ledger] = self.spool("ledger")
        spool.end(record("a"))
        self.assertIsNone(self.successResultOf(ledger.wait()))

    def test_left(self) -> None:
        """
        Who does not want to wait any longer is not woken, and may wait again.
        """
        spool, [ledger] = self.spool("ledger")
        woken = ledger.wait()
        woken.cancel()
        self.failureResultOf(woken, CancelledError)
        spool.end(record("a"))
        self.clock.advance(0)
        self.assertIsNone(self.successResultOf(ledger.wait()))


class Lags(SpoolTests):
    """
    How far a reader is behind.
    """

    def test_none(self) -> None:
        """
        Who has read all is not behind, whatever has begun.
        """
        spool, [ledger] = self.spool("ledger")
        spool.begin(begun("a"))
        self.assertEqual(Lag(), ledger.lag())

    def test_some(self) -> None:
        """
        Else it is told how many bytes there are, and when the first of them was written: here and after a restart.
        """
        spool, [ledger] = self.spool("ledger")
        spool.end(record("a", duration_us=5_000_000))
        size = ledger.read(1)[0].position
        spool.end(record("b", duration_us=9_000_000))
        expected = Lag(waiting_bytes=spool.state().size_bytes, oldest_at=NOW + timedelta(seconds=5))
        self.assertEqual(expected, ledger.lag())
        self.successResultOf(spool.close())
        spool, [ledger] = self.spool("ledger")
        self.assertEqual(expected, ledger.lag())
        ledger.advance(ledger.read(1)[0].position)
        self.assertEqual(
            Lag(waiting_bytes=spool.state().size_bytes - size, oldest_at=NOW + timedelta(seconds=9)), ledger.lag()
        )


class Values(SpoolTests):
    """
    What reading relies on.
    """

    def test_beginnings(self) -> None:
        """
        The line of a beginning, and no other, starts as readers know it.
        """
        spool, _ = self.spool()
        spool.begin(begun("a"))
        spool.end(record("b"))
        spool.alert(alert("c"))
        lines = (self.directory / "0" / self.files()[0]).read_bytes().splitlines()
        self.assertEqual([False, True, True], [reading.is_for_readers(line) for line in lines])
        self.assertTrue(issubclass(type(record("b")), Begun))


class Turns(SpoolTests):
    """
    Of the reactor, with several events in each.
    """

    kind = FileSpool

    def test_woken(self) -> None:
        """
        Who waits is woken after the turn in which something was written, once for many lines; not by a beginning.
        """
        spool, [ledger, files] = self.spool("ledger", "files")
        woken = ledger.wait()
        spool.begin(begun("a"))
        self.clock.advance(0)
        self.assertNoResult(woken)
        calls = len(self.clock.getDelayedCalls())
        for name in "abc":
            spool.end(record(name))
        self.assertNoResult(woken)
        self.assertEqual(calls + 1, len(self.clock.getDelayedCalls()))
        self.clock.advance(0)
        self.assertIsNone(self.successResultOf(woken))
        self.assertEqual(3, len(files.read(9)))
