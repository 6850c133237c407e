"""
The spool as a room of the house: with its thread, and when things go wrong around it.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dheera.records import Alert, Begun, Record
from dheera.settings import SpoolSettings
from dheera.spool.spool import CLOSE_SECONDS, make_spool
from tests.spool.desk import NOW, PromptSpool, SpoolTests, begun, die, drain, interrupted, names, record
from tests.spool.test_writing import full_disk


class Threads(TestCase):
    """
    On a real reactor.
    """

    def setUp(self) -> None:
        self.directory = Path(mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)

    async def test_in_turn(self) -> None:
        """
        Files are made, synced, read over and deleted aside, and all is as it should be afterwards.
        """
        from twisted.internet import reactor

        settings = SpoolSettings(segment_bytes=2000, fsync_seconds=0.01)
        make = partial(make_spool, reactor, self.directory, settings, now=lambda: NOW, node="n")
        spool = make(interrupted=interrupted)
        ledger = spool.reader("ledger", essential=True)
        await spool.open()
        found = []
        for number in range(40):
            woken = ledger.wait()
            spool.begin(begun(str(number)))
            spool.end(record(str(number)))
            await woken
            found += drain(ledger)
        while spool._pen.is_dirty or len(list(self.directory.glob("0/*.jsonl"))) > 1:  # or trial gives up
            await deferLater(reactor, 0.01)
        spool.begin(begun("open"))
        await spool.close()
        again = make(interrupted=interrupted)
        ledger = again.reader("ledger", essential=True)
        await again.open()
        self.assertEqual([*map(str, range(40)), "open?"], [*found, *drain(ledger)])
        await again.close()


class Trouble(SpoolTests):
    """
    What must not do harm.
    """

    def test_hanging_disk(self) -> None:
        """
        A disk that does not answer delays no call, and the end only for so long.
        """
        spool, [ledger] = self.spool("ledger")
        self.aside.is_held = True
        for _ in range(5):
            spool.begin(begun("a"))
            spool.end(record("a"))
            self.assertEqual(["a"], drain(ledger))
            self.clock.advance(1)
        self.assertLess(len(self.aside.held), 4)
        closed = spool.close()
        self.assertNoResult(closed)
        self.clock.advance(CLOSE_SECONDS)
        self.assertIsNone(self.successResultOf(closed))

    def test_given_up(self) -> None:
        """
        If the start is given up half way, the lane is free.
        """
        self.aside.is_held = True
        spool = PromptSpool(self.clock, self.directory, SpoolSettings(), lambda: NOW, "n", interrupted, self.aside)
        opened = spool.open()
        self.aside.held.pop(0)()  # it is taken, and its cursors are being written
        opened.cancel()
        self.failureResultOf(opened, CancelledError)
        self.aside.is_held = False
        following, _ = self.spool()
        self.assertEqual(0, following.state().lane)

    def test_as_alert(self) -> None:
        """
        If nobody else takes what the spool has to tell, it writes that down as an alert.
        """
        spool = PromptSpool(self.clock, self.directory, SpoolSettings(), lambda: NOW, "n", interrupted, self.aside)
        ledger = spool.reader("ledger")
        self.successResultOf(spool.open())
        self.addCleanup(partial(die, spool))
        with full_disk(spool):
            spool.end(record("a"))
        self.clock.advance(1)
        found = [entry.value for entry in ledger.read(9)]
        alerts = [value for value in found if isinstance(value, Alert)]
        self.assertEqual(3, len(found))
        self.assertEqual(
            [("spool", "spool disk", "critical", "n"), ("spool", "spool disk", "resolved", "n")],
            [(each.about, each.subject, each.level, each.node) for each in alerts],
        )

    def test_cannot_be_ended(self) -> None:
        """
        If an exchange cannot be ended as interrupted, that is a bug, and nothing is lost by it: the next start, or the
        next look at the lanes, tries again.
        """
        spool, _ = self.spool("ledger")
        spool.begin(begun("a"))
        other, _ = self.spool("ledger")
        other.begin(begun("b"))
        die(spool)
        die(other)

        def fail(_: Begun) -> Record:
            raise ZeroDivisionError

        spool = PromptSpool(self.clock, self.directory, SpoolSettings(), lambda: NOW, "n", fail, self.aside)
        spool.reader("ledger")
        self.successResultOf(spool.open())
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))
        die(spool)
        _, [ledger] = self.spool("ledger")
        self.assertEqual({"a?", "b?"}, set(names(ledger.read(9))))

    def test_upkeep_goes_on(self) -> None:
        """
        What somebody else does wrong when told of trouble reaches no caller, and does not end the upkeep.
        """
        spool, [ledger] = self.spool("ledger")
        spool._alarms._send = lambda _: 1 / 0  # type: ignore[assignment] # a bug
        with full_disk(spool):
            spool.end(record("a"))
        self.clock.advance(1)
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))
        drain(ledger)
        self.clock.advance(1)
        cursors = spool._upkeep.lane.cursors()
        assert cursors is not None
        self.assertEqual({"ledger": spool.state().size_bytes}, cursors.readers)
