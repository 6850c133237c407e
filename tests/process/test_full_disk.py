"""
A disk that is full for the spool and for the database alike, while calls are under way and a crowd goes on calling.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from time import sleep
from unittest import TestCase

from tests.process import callers, ledgers
from tests.process.bearers import MASTER_KEY, Bearer, master
from tests.process.daemon import ANY_PORT, PATIENCE_SECONDS, UPSTREAM_KEY, Daemon, Memory, eventually
from tests.process.disks import SmallDisk
from tests.process.peers import Peer, Upstream, connect
from tests.process.till import MODEL, PRICES, Till

MEBIBYTE = 1 << 20
UNDER_WAY = 5
REFUSED = 1200
"""
Calls, twice, each of which is refused.
"""


class SlowTill(Till):
    """
    A till that lets all wait until it is told to go on.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self.busy, self.go_on = Semaphore(0), Semaphore(0)

    def script(self, peer: Peer) -> None:
        """
        One connection.
        """
        self.busy.release()
        assert self.go_on.acquire(timeout=PATIENCE_SECONDS)
        super().script(peer)


class FullDiskTests(TestCase):
    """
    No room for anything.
    """

    def setUp(self) -> None:
        self.till = SlowTill()
        self.disk = self.enterContext(SmallDisk())
        self.database = f"sqlite:///{self.disk.path}/dheera.sqlite"
        upstream = self.enterContext(Upstream(self.till.script))
        said = {
            "MISTRAL_API_BASE": upstream.url,
            "MISTRAL_API_KEY": UPSTREAM_KEY,
            "DHEERA_AI_MASTER_KEY": MASTER_KEY,
            "DHEERA_AI_STATE_DIR": str(self.disk.path / "state"),
            "DATABASE_URL": self.database,
        }
        self.daemon = self.enterContext(Daemon(*ANY_PORT, said=said, settings=PRICES))

    def refuse_many(self, key: str) -> Counter[int]:
        """
        Call often, on one connection.

        :return: how often which status was heard.
        """
        heard: Counter[int] = Counter()
        with connect(self.daemon.port) as client:
            for _ in range(REFUSED):
                client.send(callers.chat(key))
                heard[callers.heard(client).status] += 1
        return heard

    def test_full_and_empty(self) -> None:
        """
        Calls are refused with 503, which says why, and the daemon is alive but not ready. However many are refused, it
        does not grow. Those that were under way are answered to their end. When there is room again all goes on by
        itself, and the ledger has each call that was answered, once.
        """
        bearer = Bearer(self.daemon, master(self.daemon).issue())
        with ThreadPoolExecutor(UNDER_WAY) as pool:
            under_way = [pool.submit(bearer.chat, MODEL) for _ in range(UNDER_WAY)]
            for _ in under_way:
                self.assertTrue(self.till.busy.acquire(timeout=PATIENCE_SECONDS))
            self.disk.fill(self.daemon)
            # From now on upstream would answer; a call whose line was still in memory gets there.
            for _ in range(100):
                self.till.go_on.release()
            let_through = [bearer.chat(MODEL).status == 200]
            while let_through[-1]:
                sleep(0.01)
                let_through.append(bearer.chat(MODEL).status == 200)
            self.assertEqual([200] * UNDER_WAY, [each.result().status for each in under_way])
        answered = UNDER_WAY + sum(let_through)
        told = bearer.chat(MODEL)
        self.assertEqual(503, told.status)
        self.assertIn(self.disk.reason, told.document["message"])
        self.assertIn("retry-after", told.fields)
        self.assertEqual({503: REFUSED}, self.refuse_many(bearer.key))
        memory = Memory(self.daemon)
        before = memory.bytes
        self.assertEqual({503: REFUSED}, self.refuse_many(bearer.key))
        self.assertLess(memory.bytes - before, MEBIBYTE)
        ready = bearer.ask("GET", "/health/readiness")
        self.assertEqual((503, self.disk.reason), (ready.status, ready.document["spool"]))
        self.assertEqual(200, bearer.ask("GET", "/health/liveliness").status)
        self.disk.clear(self.daemon)
        eventually(lambda: bearer.chat(MODEL).status == 200, "calls are let through again")
        eventually(lambda: bearer.ask("GET", "/health/readiness").status == 200, "it is ready")
        done = "select count(*) from ledger where outcome = 'complete'"
        eventually(lambda: ledgers.total(self.database, done) == answered + 1, "the ledger has all")
        lines = ledgers.lines(self.database)
        self.assertEqual(len(lines), len({line.call_id for line in lines}))
        self.assertLessEqual({line.outcome for line in lines}, {"complete", "refused"})
        self.assertEqual(answered + 1, len(self.till.seen))
