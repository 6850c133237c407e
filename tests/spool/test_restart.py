"""
What a new owner of a lane makes of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dheera.errors import CannotStart
from dheera.settings import SpoolSettings
from dheera.spool.lanes import Lane
from dheera.spool.replay import Replay
from dheera.spool.segments import Segments
from tests.spool.desk import NOW, PromptSpool, SpoolTests, alert, begun, die, drain, interrupted, names, record


class Interrupted(SpoolTests):
    """
    Exchanges that dheera did not live to see the end of.
    """

    def test_ended(self) -> None:
        """
        What had begun and not ended, and only that, ends as interrupted: once.
        """
        spool, _ = self.spool("ledger")
        for name in "abc":
            spool.begin(begun(name, model="m"))
        spool.end(record("b"))
        die(spool)
        spool, [ledger] = self.spool("ledger")
        self.assertEqual(["b", "a?", "c?"], names(ledger.read(9)))
        self.assertEqual(interrupted(begun("a", model="m")), ledger.read(9)[1].value)
        self.assertEqual(0, spool.state().open)
        die(spool)
        _, [ledger] = self.spool("ledger")
        self.assertEqual(["b", "a?", "c?"], drain(ledger))

    def test_closed(self) -> None:
        """
        After an end in order nothing is interrupted, and nothing is read twice.
        """
        spool, [ledger] = self.spool("ledger")
        spool.begin(begun("a"))
        spool.end(record("a"))
        drain(ledger)
        self.successResultOf(spool.close())
        _, [ledger] = self.spool("ledger")
        self.assertEqual([], drain(ledger))

    def test_long(self) -> None:
        """
        An exchange that goes on for long holds no files, and is interrupted all the same.
        """
        spool, [ledger] = self.spool("ledger", segment_bytes=1000)
        spool.begin(begun("long"))
        for number in range(100):
            spool.begin(begun(str(number)))
            spool.end(record(str(number)))
            drain(ledger)
        self.assertEqual(1, len(self.files()))
        die(spool)
        _, [ledger] = self.spool("ledger")
        self.assertEqual("long?", drain(ledger)[-1])

    def test_long_while_behind(self) -> None:
        """
        Nor does it make a restart read all that a reader has left.
        """
        spool, _ = self.spool("ledger", segment_bytes=1000)
        spool.begin(begun("long"))
        for number in range(100):
            spool.end(record(str(number)))
        self.clock.advance(1)
        cursors = spool._upkeep.lane.cursors()
        assert cursors is not None
        self.assertGreater(cursors.open_since, spool.state().size_bytes - 6000)
        die(spool)
        _, [ledger] = self.spool("ledger")
        self.assertEqual([*map(str, range(100)), "long?"], drain(ledger))

    def test_beginning_damaged(self) -> None:
        """
        A beginning that cannot be read any more cannot be ended; all else is.
        """
        spool, _ = self.spool("ledger")
        spool.begin(begun("a"))
        spool.begin(begun("b"))
        die(spool)
        file = self.directory / "0" / self.files()[0]
        file.write_bytes(file.read_bytes().replace(b'"node":"n"', b'"node":5  ', 1))
        _, [ledger] = self.spool("ledger")
        self.assertEqual(["b?"], drain(ledger))

    def test_written_anew(self) -> None:
        """
        An exchange whose beginning stands there twice began, as far as files are concerned, where it stands last.
        """
        spool, _ = self.spool()
        for name in "aba":
            spool.begin(begun(name))
        segments = Segments.found_in(self.directory / "0")
        replay = Replay(segments, 0)
        self.assertEqual([[]], list(replay.lines(segments.end)))
        third = segments.end * 2 // 3
        self.assertEqual(
            [(third // 2, begun("b")), (third, begun("a"))], [(place, value) for place, _, value in replay.open()]
        )

    def test_not_remembered_too_early(self) -> None:
        """
        A process that dies while it starts leaves what was open as open as it was.
        """
        spool, _ = self.spool("ledger")
        spool.begin(begun("a"))
        die(spool)
        late = PromptSpool(self.clock, self.directory, SpoolSettings(), lambda: NOW, "n", interrupted, self.aside)
        late.reader("ledger")
        self.aside.is_held = True
        late.open()
        self.aside.held.pop(0)()
        self.aside.held.pop(0)()  # its cursors are written
        late._pen.close()  # and here it dies: nothing else is
        die(late)
        self.aside.is_held = False
        _, [ledger] = self.spool("ledger")
        self.assertEqual(["a?"], drain(ledger))


class Cursors(SpoolTests):
    """
    Where readers go on.
    """

    def test_kept(self) -> None:
        """
        What was done with a second before the process died is not read again.
        """
        spool, [ledger] = self.spool("ledger")
        for name in "abc":
            spool.end(record(name))
        ledger.advance(ledger.read(2)[1].position)
        self.clock.advance(1)
        ledger.advance(ledger.read(2)[0].position)
        die(spool)
        _, [ledger] = self.spool("ledger")
        self.assertEqual(["c"], drain(ledger))

    def test_not_for_nothing(self) -> None:
        """
        While nothing happens, nothing is written.
        """
        self.spool("ledger")
        before = (self.directory / "0" / "cursors.json").stat().st_mtime_ns
        self.clock.pump([1] * 5)
        self.assertEqual(before, (self.directory / "0" / "cursors.json").stat().st_mtime_ns)

    def test_damaged(self) -> None:
        """
        If it is not known what was read, all that is there is read again: nothing may be lost.
        """
        for content in (b"", b"{", b'{"readers": {"ledger": "x"}, "open_since": 0}', None):
            spool, [ledger] = self.spool("ledger")
            spool.end(record("a"))
            drain(ledger)
            self.successResultOf(spool.close())
            file = self.directory / "0" / "cursors.json"
            file.unlink() if content is None else file.write_bytes(content)
            spool, [ledger, files] = self.spool("ledger", "files")
            self.assertEqual("a", drain(ledger)[-1])
            self.assertEqual("a", drain(files)[-1])
            self.successResultOf(spool.close())

    def test_beyond(self) -> None:
        """
        A cursor behind what the machine has lost does not make its reader miss what is written anew.
        """
        spool, [ledger] = self.spool("ledger")
        for name in "abc":
            spool.end(record(name))
        drain(ledger)
        self.successResultOf(spool.close())
        file = self.directory / "0" / self.files()[0]
        os.truncate(file, file.stat().st_size // 2)
        spool, [ledger] = self.spool("ledger")
        spool.end(record("d"))
        self.assertEqual(["d"], drain(ledger))

    def test_no_longer_configured(self) -> None:
        """
        Who is not a reader any more holds no files; if it comes back, it is new.
        """
        spool, [ledger, _] = self.spool("ledger", "files", segment_bytes=400)
        for number in range(9):
            spool.end(record(str(number)))
        drain(ledger)
        self.assertGreater(len(self.files()), 2)
        self.successResultOf(spool.close())
        spool, [ledger] = self.spool("ledger", segment_bytes=400)
        spool.end(record("a"))
        self.assertEqual((["a"], 1), (drain(ledger), len(self.files())))
        self.successResultOf(spool.close())
        _, [_, files] = self.spool("ledger", "files")
        self.assertEqual([], drain(files))


class Tails(SpoolTests):
    """
    What a loss of power leaves at the end.
    """

    def test_torn(self) -> None:
        """
        Half a line is cut away, and does no harm to what follows.
        """
        spool, _ = self.spool("ledger")
        spool.end(record("a"))
        die(spool)
        for torn in (b'{"line":"end","call_', b"x" * 200_000, b"\0" * 70_000):
            with (self.directory / "0" / self.files()[0]).open("ab") as file:
                file.write(torn)
            spool, [ledger] = self.spool("ledger")
            spool.alert(alert("b"))
            self.assertEqual(("a", "b", 0), (*names(ledger.read(9))[:: len(ledger.read(9)) - 1], ledger.lag().dropped))
            die(spool)

    def test_only_torn(self) -> None:
        """
        Nor if there is nothing else.
        """
        spool, _ = self.spool("ledger")
        die(spool)
        (self.directory / "0" / self.files()[0]).write_bytes(b"{")
        spool, [ledger] = self.spool("ledger")
        spool.end(record("a"))
        self.assertEqual(["a"], drain(ledger))

    def test_gap(self) -> None:
        """
        If the end of a file is gone though there is another after it, the reading goes on there.
        """
        spool, _ = self.spool("ledger", segment_bytes=700)
        for number in range(9):
            spool.end(record(str(number)))
        die(spool)
        first = self.directory / "0" / self.files()[0]
        os.truncate(first, len(first.read_bytes().splitlines()[0]) + 1)
        spool, [ledger] = self.spool("ledger", segment_bytes=700)
        found = drain(ledger)
        self.assertEqual(("0", "8"), (found[0], found[-1]))
        self.assertEqual(0, ledger.lag().waiting_bytes)


class Starts(SpoolTests):
    """
    Directories that cannot be used.
    """

    def refused(self, directory: Path) -> str:
        settings = SpoolSettings()
        spool = PromptSpool(self.clock, directory, settings, lambda: NOW, "n", interrupted, self.aside)
        return str(self.failureResultOf(spool.open(), CannotStart).value)

    def test_no_directory(self) -> None:
        """
        The operator is told which, why, and what to set.
        """
        file = self.directory / "file"
        file.touch()
        said = self.refused(file / "spool")
        self.assertIn(str(file / "spool"), said)
        self.assertIn("Not a directory", said)
        self.assertIn("DHEERA_AI_STATE_DIR", said)

    def test_no_file(self) -> None:
        """
        So they are if the files in it cannot be used; and the lane is not held.
        """
        lane = self.directory / "0"
        (lane / f"{0:020}.jsonl").mkdir(parents=True)
        self.assertIn("Is a directory", self.refused(self.directory))
        (lane / f"{0:020}.jsonl").rmdir()
        spool, _ = self.spool()
        self.assertEqual(0, spool.state().lane)

    def test_cursors_not_written(self) -> None:
        """
        That cursors cannot be written, as on a full disk, does not keep it from starting: only then can it make room.
        """
        (self.directory / "0" / "cursors.json.new").mkdir(parents=True)
        spool, [ledger] = self.spool("ledger")
        spool.end(record("a"))
        self.clock.advance(1)
        self.assertEqual(["a"], drain(ledger))
        (self.directory / "0" / "cursors.json.new").rmdir()
        self.clock.advance(1)
        cursors: Any = Lane(0, self.directory / "0", -1).cursors()
        self.assertEqual({"ledger": spool.state().size_bytes}, cursors.readers)
