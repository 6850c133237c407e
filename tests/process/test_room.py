"""
A spool that is full, and a disk that takes nothing more.
"""

from __future__ import annotations

import resource
import sqlite3
from contextlib import closing

from tests.process import ledgers, sinks
from tests.process.bearers import Answer, Bearer, master
from tests.process.daemon import eventually
from tests.process.till import MODEL

SMALL_SPOOL = """
[spool]
max_bytes = 32768
segment_bytes = 8192
"""
MUCH = 120
"""
Calls whose records do not fit into it.
"""
FEW = 6
"""
Calls whose records do, many times over.
"""


class RoomTests(sinks.SinkCase):
    """
    A spool that is full, and a disk that takes nothing.
    """

    def setUp(self) -> None:
        super().setUp()
        self.complete = 0

    def chat(self, bearer: Bearer) -> Answer:
        """
        Make a call, and count it if it is answered by upstream.
        """
        told = bearer.chat(MODEL)
        self.complete += told.status == 200
        return told

    def assert_told(self, answer: Answer, words: str) -> None:
        """
        Assert that *answer* is how a client hears that calls cannot be recorded.
        """
        self.assertEqual(503, answer.status, answer)
        self.assertIn("retry-after", answer.fields)
        self.assertEqual("dheera", answer.fields["x-dheera-error-source"])
        self.assertIn(words, answer.document["error"]["message"])

    def books_agree(self) -> None:
        """
        Wait until the ledger has each call that was answered by upstream; upstream saw no other.
        """
        done = "select count(*) from ledger where outcome = 'complete'"
        eventually(lambda: ledgers.total(self.database, done) == self.complete, "the ledger has all")
        self.assertEqual(self.complete, len(self.till.seen))

    def test_sink_loses(self) -> None:
        """
        When the spool is full since a sink is away, that sink loses the oldest records, which are counted, and told to
        the other sinks as an alert. Calls, the ledger, and the other sinks lose nothing.
        """
        self.settings += SMALL_SPOOL
        with self.daemon() as daemon:
            bearer = Bearer(daemon, master(daemon).issue())
            for number in range(MUCH):
                self.assertEqual(200, self.chat(bearer).status)
                if number % FEW == 0:  # or else it is the ledger that is behind, on a slow machine
                    self.books_agree()
            eventually(lambda: self.sink(daemon)["lag"]["dropped"] > 0, "what was lost is counted")
            self.books_agree()
            call_ids = self.in_ledger
            eventually(lambda: self.file_has(call_ids), "the file has all")
            eventually(lambda: [each for each in self.in_file if each["line"] == "alert"] != [], "there is an alert")
            [alert] = [each for each in self.in_file if each["line"] == "alert"]
            self.assertEqual("spool", alert["about"])
            self.assertRegex(alert["subject"], r"hook\Z")
            with self.receiver.on():
                eventually(lambda: self.sink(daemon)["lag"]["waiting_bytes"] == 0, "the rest has arrived")
            lost = call_ids - {*self.receiver.call_ids}
            # The batch that it had in hand when these lines were thrown away has arrived all the same.
            self.assertLessEqual(len(lost), self.sink(daemon)["lag"]["dropped"])
            self.assertTrue(0 < len(lost) < MUCH, len(lost))

    def test_ledger_behind(self) -> None:
        """
        When the database takes no lines, and the spool is full of what the ledger has not read, nothing is let through
        any more: 503, and the daemon is not ready. When it does, all goes on by itself, and the ledger has all.
        """
        self.settings += SMALL_SPOOL
        with self.daemon() as daemon:
            bearer = Bearer(daemon, master(daemon).issue())
            self.assertEqual(200, self.chat(bearer).status)
            with closing(sqlite3.connect(self.database.removeprefix("sqlite:///"), isolation_level=None)) as other:
                other.execute("begin immediate")
                for _ in range(MUCH):
                    told = self.chat(bearer)
                    if told.status != 200:
                        break
                self.assert_told(told, "the ledger is too far behind")
                ready = bearer.ask("GET", "/health/readiness")
                self.assertEqual(503, ready.status)
                self.assertIn("ledger is too far behind", ready.document["spool"])
                self.assertEqual(200, bearer.ask("GET", "/health/liveliness").status)
                other.execute("rollback")
            eventually(lambda: self.chat(bearer).status == 200, "calls are let through again")
            self.books_agree()
            eventually(lambda: bearer.ask("GET", "/health/readiness").status == 200, "it is ready")

    def test_broken_disk(self) -> None:
        """
        When the disk takes no more, nothing is let through: 503, which says why. When it does again, all goes on by
        itself, and nothing that was let through is lost.
        """
        with self.daemon() as daemon:
            bearer = Bearer(daemon, master(daemon).issue())
            for _ in range(5):
                self.assertEqual(200, self.chat(bearer).status)
            self.books_agree()
            pid, whole = daemon.process.pid, resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, whole[1]))
            for _ in range(3):
                self.assert_told(self.chat(bearer), "File too large")
            ready = bearer.ask("GET", "/health/readiness")
            self.assertEqual(503, ready.status)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, whole)
            eventually(lambda: self.chat(bearer).status == 200, "calls are let through again")
            self.books_agree()
            eventually(lambda: bearer.ask("GET", "/health/readiness").status == 200, "it is ready")
            call_ids = self.in_ledger
            eventually(lambda: self.file_has(call_ids), "the file has all")
