"""
Daemons that are killed while they serve, and what the ledger says of it. The test of each sort of database subclasses
`Deaths` (import this module, not the class, or the class itself would be run).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar
from unittest import TestCase

from dheera.money import NANO
from tests.process import ledgers
from tests.process.bearers import MASTER_KEY, Bearer, master
from tests.process.crowd import CUSTOMERS, TAG, Crowd, is_chunked
from tests.process.daemon import ANY_PORT, UPSTREAM_KEY, Daemon, eventually
from tests.process.databases import Database
from tests.process.peers import Upstream
from tests.process.till import PRICES, Till, nano_cost

ROUNDS = int(os.environ.get("DHEERA_TEST_DEATHS", "3"))
"""
How often a daemon is killed under load in each of two tests.
"""
LIVES_SECONDS = ((0.0, 0.3), (0.0, 0.3), (0.0, 0.3), (0.85, 1.15))
"""
How long daemons live, in turn. What has been read of the spool is written down once a second: some see that.
"""
PAGE = 1000

SUMS = {
    "key": "select sum(spend) from keys",
    "user": "select sum(spend) from users",
    "team": "select sum(spend) from teams",
    "customers": "select sum(spend) from customers",
    "days": "select sum(cost) from daily",
    "days of the tag": f"select sum(cost) from daily_tags where tag = '{TAG}'",  # noqa: S608 - our own word
}
COUNTS = {
    "days": "select sum(requests) from daily",
    "days of the tag": f"select sum(requests) from daily_tags where tag = '{TAG}'",  # noqa: S608 - our own word
}

_random = random.SystemRandom()


class Deaths(TestCase):
    """
    ``kill -9`` at random moments, again and again, on one state directory and one database.
    """

    database: ClassVar[Database]

    def setUp(self) -> None:
        self.url = self.enterContext(type(self).database())
        self.state = self.enterContext(TemporaryDirectory())
        self.till = Till()
        self.upstream = self.enterContext(Upstream(self.till.script))

    def daemon(self, *, serves: bool = True) -> Daemon:
        """
        The next daemon.

        :param serves: wait until it does.
        """
        said = {
            "MISTRAL_API_BASE": self.upstream.url,
            "MISTRAL_API_KEY": UPSTREAM_KEY,
            "DHEERA_AI_MASTER_KEY": MASTER_KEY,
            "DHEERA_AI_STATE_DIR": self.state,
            "DATABASE_URL": self.url,
        }
        return Daemon(*ANY_PORT, said=said, settings=PRICES, serves=serves)

    def crowd(self, daemon: Daemon) -> Crowd:
        """
        Callers with a new key, which belongs to a user and to a team.
        """
        chief = master(daemon)
        for customer in CUSTOMERS:
            chief.do("/customer/new", user_id=customer)
        chief.do("/user/new", user_id="ada", auto_create_key=False)
        return Crowd(chief.issue(user_id="ada", team_id=chief.do("/team/new")["team_id"]))

    def kill(self, daemon: Daemon) -> None:
        """
        End it without a warning.
        """
        daemon.signal(signal.SIGKILL)
        self.assertEqual(-signal.SIGKILL, daemon.ended())

    def killed_at_start(self, seconds: float) -> None:
        """
        A daemon is killed somewhere on its way: before it has looked at anything, while it reads what the last one has
        left, or while it brings that to the ledger.

        :param seconds: what the way takes, more or less.
        """
        with self.daemon(serves=False) as daemon:
            time.sleep(_random.uniform(0.2, 1.3) * seconds)
            self.kill(daemon)

    def test_under_load(self) -> None:
        """
        Each request that upstream saw is in the ledger exactly once. What was cut off is marked so, and there is no
        more of that than there were connections at each death. A call that ended has the cost of what upstream said;
        and the lines' costs together are the spend of the key, its user, its team and the customers, and the sums of
        the days, to the last nano-dollar.
        """
        self.live_and_die(start_every=ROUNDS + 1)

    def test_catching_up(self) -> None:
        """
        So it is when daemons are killed in between while they bring to the ledger what the last one has left.
        """
        self.live_and_die(start_every=2)

    def live_and_die(self, start_every: int) -> None:
        """
        Let daemons serve and be killed, and look at the books.

        :param start_every: before each round of which number one more is killed while it starts.
        """
        crowd, way = None, 0.0
        for number in range(1, ROUNDS + 1):
            if number % start_every == 0:
                self.killed_at_start(way)
            began = time.monotonic()
            with self.daemon() as daemon:
                way = time.monotonic() - began
                crowd = crowd or self.crowd(daemon)
                with crowd.calling(daemon) as over:
                    if number % 5 == 1:
                        crowd.wait_for(2 * crowd.size)
                    time.sleep(_random.uniform(*LIVES_SECONDS[number % len(LIVES_SECONDS)]))
                    over.set()
                    self.kill(daemon)
        assert crowd is not None
        with self.daemon() as daemon:
            self.settle(daemon)
            self.look(master(daemon))
            daemon.signal(signal.SIGTERM)
            self.assertEqual(0, daemon.ended())
        self.audit(crowd, deaths=ROUNDS)

    def test_two_at_once(self) -> None:
        """
        When two daemons on one state directory are killed, and one comes back, it brings what both have left to the
        ledger.
        """
        with self.daemon() as here, self.daemon() as there:
            crowd = self.crowd(here)
            with crowd.calling(here) as over, crowd.calling(there) as over_there:
                crowd.wait_for(6 * crowd.size)
                over.set()
                over_there.set()
                self.kill(here)
                self.kill(there)
        with self.daemon() as heir:
            awaited = len(self.till.seen)
            eventually(
                lambda: ledgers.total(self.url, "select count(*) from ledger") >= awaited,
                "all that upstream saw is in the ledger",
            )
            self.settle(heir)
            heir.signal(signal.SIGTERM)
            self.assertEqual(0, heir.ended())
        self.audit(crowd, deaths=2)

    def settle(self, daemon: Daemon) -> None:
        """
        Wait until the ledger has all that the spool has.
        """
        chief = master(daemon)
        eventually(
            lambda: chief.look("/health/services")["ledger"]["lag"]["waiting_bytes"] == 0, "the ledger is up to date"
        )

    def look(self, chief: Bearer) -> None:
        """
        The API tells what is in the database: the same calls, each once, and the same sum everywhere.
        """
        rows, after = [], ""
        while True:
            page = chief.look(f"/spend/logs/v2?page_size={PAGE}" + (f"&after={after}" if after else ""))
            rows += page["data"]
            after = page["next"]
            if after is None:
                break
        lines = ledgers.lines(self.url)
        self.assertCountEqual([line.call_id for line in lines], [row["request_id"] for row in rows])
        self.assertEqual(len(lines), page["total"])
        costs = {line.call_id: line.cost for line in lines}
        self.assertEqual(costs, {row["request_id"]: _nano(row["spend"]) for row in rows})
        spent = sum(cost or 0 for cost in costs.values())
        [key] = chief.look("/key/list?return_full_object=true")["keys"]
        report = chief.look("/spend/report?group_by=key")
        self.assertEqual(spent, _nano(key["spend"]))
        self.assertEqual(spent, _nano(report["totals"]["spend"]))
        self.assertEqual(len(lines), report["totals"]["requests"])
        self.assertEqual(spent, _nano(chief.look("/global/spend")["spend"]))

    def audit(self, crowd: Crowd, deaths: int) -> None:
        """
        Look at the books of a daemon that has ended.
        """
        seen, lines = self.till.seen, ledgers.lines(self.url)
        self.assertGreater(len(seen), deaths)
        self.assertEqual([], _repeated(seen))
        self.assertEqual([], _repeated(line.call_id for line in lines))
        of = {next(iter(line.tags - {TAG})): line for line in lines}
        self.assertEqual(len(lines), len(of), "a call is there twice")
        self.assertEqual(set(), {*seen} - {*of}, "upstream saw it, and it is not in the ledger")
        self.assertEqual(set(), {*of} - crowd.nonces)
        unseen = {nonce for nonce in of if nonce not in {*seen}}
        self.assertEqual({"interrupted"} if unseen else set(), {of[nonce].outcome for nonce in unseen})
        self.assertEqual({}, {nonce: id_ for nonce, id_ in crowd.call_ids.items() if of[nonce].call_id != id_})
        interrupted = {nonce for nonce, line in of.items() if line.outcome == "interrupted"}
        self.assertLessEqual(len(interrupted), deaths * crowd.size)
        self.assertEqual({"Interrupted"} if interrupted else set(), {of[nonce].error for nonce in interrupted})
        self.assertLessEqual(len(crowd.whole & interrupted), deaths * crowd.size)
        for nonce in crowd.whole - interrupted:
            self.assertEqual(("complete", False, nano_cost(nonce)), _told(of[nonce]), nonce)
        self.assertLessEqual({line.outcome for line in lines}, {"complete", "client_left", "interrupted"})
        self.assertEqual({*CUSTOMERS}, {line.end_user for line in lines})
        for nonce in interrupted:
            # It is estimated, unless nobody knew yet which model was meant, or how long the request would be.
            self.assertNotEqual(of[nonce].estimated, of[nonce].cost is None)
        self.assertTrue(all(of[nonce].cost is None for nonce in interrupted if is_chunked(nonce)))
        self.assertEqual(set(), {nonce for nonce, line in of.items() if line.cost is None} - interrupted)
        spent = sum(line.cost or 0 for line in lines)
        self.assertEqual(dict.fromkeys(SUMS, spent), {of: ledgers.total(self.url, each) for of, each in SUMS.items()})
        self.assertEqual(
            dict.fromkeys(COUNTS, len(lines)), {of: ledgers.total(self.url, each) for of, each in COUNTS.items()}
        )
        left = b"".join(each.read_bytes() for each in Path(self.state, "spool").rglob("*") if each.is_file())
        self.assertNotIn(crowd.key.encode(), left)
        if "DHEERA_TEST_DEATHS" in os.environ:
            print(  # noqa: T201 - the figures, for whoever asked for that many
                f"{type(self).__name__}: {deaths} deaths, {len(seen)} requests at upstream, {len(crowd.whole)} whole, "
                f"{len(lines)} lines, {len(interrupted)} interrupted, {len(unseen)} of them never at upstream, "
                f"{spent} nano-dollars"
            )


def _told(line: ledgers.Line) -> tuple[str, bool, int | None]:
    return line.outcome, line.estimated, line.cost


def _nano(dollars: float | None) -> int | None:
    return None if dollars is None else round(dollars * NANO)


def _repeated(names: object) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]  # type: ignore[call-overload]
