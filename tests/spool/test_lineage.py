"""
Who has written in a lane before, and when nothing is left to do of what they wrote.
"""

from __future__ import annotations

from collections.abc import Sequence

from dheera.spool.lineage import MOST
from dheera.spool.memory import MemorySpool
from dheera.spool.spool import FileSpool
from tests.spool.desk import SpoolTests, begun, die, drain, names, record
from tests.spool.test_writing import full_disk, largest_file


class Lives(SpoolTests):
    """
    Processes on one lane, one after the other.
    """

    def life(self, *unread: str) -> FileSpool:
        """
        One that has died, and whose ledger has not read the calls of these names.
        """
        spool, _ = self.spool("ledger")
        for name in unread:
            spool.begin(begun(name))
            spool.end(record(name))
        die(spool)
        return spool

    def test_own(self) -> None:
        """
        Each has a name of its own, and is no orphan while it lives.
        """
        spools = [self.spool("ledger")[0] for _ in range(3)]
        self.assertEqual(3, len({each.lives.owner for each in spools}))
        self.clock.advance(120)
        self.assertEqual([()] * 3, [(*each.lives.orphans(),) for each in spools])

    def test_when_all_is_read(self) -> None:
        """
        One that died is an orphan once the ledger has all of it: also the end that was written in its place.
        """
        dead = self.life("a")
        late, _ = self.spool("ledger")
        late.begin(begun("b"))
        die(late)
        spool, [ledger, _] = self.spool("ledger", "files")
        for name in ("a", "b?"):
            self.assertEqual([], spool.lives.orphans())
            spool.end(record("c"))
            [entry] = ledger.read(1)
            self.assertEqual([name], names([entry]))
            ledger.advance(entry.position)
        self.assertEqual([dead.lives.owner, late.lives.owner], spool.lives.orphans())
        self.assertEqual(["c", "c"], drain(ledger))

    def test_remembered(self) -> None:
        """
        It is one for each that comes after, until it is forgotten; an end in order changes nothing in that.
        """
        first = self.life("a")
        second = self.life()
        third, [ledger] = self.spool("ledger")
        drain(ledger)
        self.successResultOf(third.close())
        fourth, _ = self.spool("ledger")
        expected = [each.lives.owner for each in (first, second, third)]
        self.assertEqual(expected, fourth.lives.orphans())
        fourth.lives.forgotten(expected[:2])
        self.assertEqual(expected[2:], fourth.lives.orphans())
        self.clock.advance(1)
        die(fourth)
        fifth, _ = self.spool("ledger")
        self.assertEqual([third.lives.owner, fourth.lives.owner], fifth.lives.orphans())

    def test_end_not_written(self) -> None:
        """
        As long as the end of one of its calls cannot be written it is none.
        """
        dead, _ = self.spool("ledger")
        dead.begin(begun("a"))
        die(dead)
        size = dead.state().size_bytes
        with largest_file(size):
            spool, [ledger] = self.spool("ledger")
            self.assertEqual((1, []), (spool.state().waiting, spool.lives.orphans()))
        self.clock.advance(1)
        self.assertEqual([], spool.lives.orphans())
        self.assertEqual(["a?"], drain(ledger))
        self.assertEqual([dead.lives.owner], spool.lives.orphans())

    def test_most(self) -> None:
        """
        Of very many the latest are remembered.
        """
        spool, _ = self.spool("ledger")
        spool.lives.inherit([str(number) for number in range(MOST + 5)])
        self.assertEqual([*map(str, range(5, MOST + 5))], spool.lives.orphans())

    def test_no_lane(self) -> None:
        """
        Where nothing is kept there is nobody but this process.
        """
        lives = MemorySpool().lives
        lives.forgotten(["a"])
        self.assertEqual(((), False), (lives.orphans(), lives.owner == MemorySpool().lives.owner))


class Heirs(SpoolTests):
    """
    Lanes that are taken over.
    """

    def dead(self, ours: FileSpool) -> Sequence[str]:
        """
        Two lives of another lane, of which there is something that nobody has read.
        """
        owners = []
        for _ in range(2):
            theirs, _ = self.spool("ledger")
            self.assertNotEqual(ours.state().lane, theirs.state().lane)
            theirs.end(record("a"))
            theirs.begin(begun("b"))
            die(theirs)
            owners.append(theirs.lives.owner)
        return owners

    def test_read_by_ours(self) -> None:
        """
        Who had such a lane is an orphan once our ledger has read what was in it, and is remembered before it is gone.
        """
        ours, [ledger] = self.spool("ledger")
        owners = self.dead(ours)
        self.assertEqual([], ours.lives.orphans())
        self.clock.advance(60)
        self.assertFalse((self.directory / "1").exists())
        cursors = ours._upkeep.lane.cursors()
        assert cursors is not None
        self.assertEqual([*owners, ours.lives.owner], cursors.owners)
        self.assertEqual([], ours.lives.orphans())
        drain(ledger)
        self.assertEqual(owners, ours.lives.orphans())

    def test_not_ours_yet(self) -> None:
        """
        As long as not all of its lines are ours nobody says so.
        """
        ours, [ledger] = self.spool("ledger")
        owners = self.dead(ours)
        with full_disk(ours):
            self.clock.pump([1] * 61)
            drain(ledger)
            self.assertEqual([], ours.lives.orphans())
        self.clock.pump([1] * 61)
        drain(ledger)
        self.assertEqual(owners, ours.lives.orphans())

    def test_not_remembered(self) -> None:
        """
        A lane is not given up before its lives are remembered elsewhere.
        """
        ours, _ = self.spool("ledger")
        self.dead(ours)
        (self.directory / "0" / "cursors.json.new").mkdir()
        self.clock.advance(60)
        self.assertTrue((self.directory / "1").exists())
        (self.directory / "0" / "cursors.json.new").rmdir()
        self.clock.advance(60)
        self.assertFalse((self.directory / "1").exists())
