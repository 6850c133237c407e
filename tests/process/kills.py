"""
Daemons that share allowances and are killed under load. The test of each sort of database subclasses `Kills` (import
this module, not the class, or the class itself would be run).
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event

from attrs import define, field

from dheera.money import Usd
from tests.process import budgets, ledgers
from tests.process.bearers import Bearer, master
from tests.process.budgets import BODY, BOUND, DAEMONS, MAX_TOKENS
from tests.process.crowd import CUSTOMERS, Crowd
from tests.process.daemon import eventually
from tests.process.peers import Upstream
from tests.process.till import Till

KILLS = int(os.environ.get("DHEERA_TEST_KILLS", "2"))
"""
How often one of the daemons is killed under load.
"""
RICH, POOR = "rich", "poor"
CONNECTIONS = 3
"""
With the key that is rich, to each daemon.
"""
PLACES = 3 * DAEMONS * CONNECTIONS
"""
Those of the dead are taken until the deadline.
"""
LIMITS = {
    "max_budget": 10,
    "budget_duration": "30d",
    "rpm_limit": 10**6,
    "tpm_limit": 10**9,
    "max_parallel_requests": PLACES,
}
POCKET = 5 * BOUND
"""
By so many nano-dollars the other key's budget is raised.
"""
LATELY_US = 50_000_000
"""
What is so young counts as part of a minute, also if it took a while to look.
"""
MOST_TOKENS = 300
"""
Of one call of a crowd.
"""
SHARERS = ("key", "team", "customer")

TAKEN = """
    select sum(case when kind = 'usd' then used + held end), sum(case when kind = 'parallel' then held end)
    from allowances where subject in (select 'key/' || id from keys where alias = '{}')
"""
COUNTED = "select sum(used) from allowances where kind = '{}'"
LINES = f"select started_us, usage from ledger where key_alias = '{RICH}' and outcome <> 'refused'"  # noqa: S608 - our own words
INTERRUPTED = "select count(*) from ledger where outcome = 'interrupted'"

_random = random.SystemRandom()


@define
class Purse:
    """
    A budget that is looked at.

    :ivar cap: in nano-dollars, as it was last raised.
    :ivar seen: what was used and held, and the cap then.
    :ivar most_places: that its calls took at the same time.
    """

    cap: int = 0
    seen: list[tuple[int, int]] = field(factory=list)
    most_places: int = 0


class Kills(budgets.Fleet):
    """
    ``kill -9`` at random moments.
    """

    def test_kills(self) -> None:
        """
        One of four daemons is killed under load, and comes back, again and again: afterwards no allowance is short or
        over. What is used of the budgets is what the ledger says, nothing is held, no place among the parallel calls is
        lost, and all requests and tokens of the last minute count. A budget that is spent again and again, and raised a
        little for each death, is never passed.
        """
        till = Till()
        upstream = self.enterContext(Upstream(till.script))
        with self.daemons(upstream) as daemons:
            chief = master(daemons[0])
            for customer in CUSTOMERS:
                chief.do("/customer/new", user_id=customer, max_budget=5)
            team = chief.do("/team/new", max_budget=20)["team_id"]
            rich = Crowd(chief.issue(key_alias=RICH, team_id=team, **LIMITS), CONNECTIONS)
            poor = Crowd(
                chief.issue(key_alias=POOR, team_id=team, max_budget=0, max_parallel_requests=PLACES), 1, first=10**6
            )
            poor.may_be_refused = True
            rich.max_tokens = poor.max_tokens = MAX_TOKENS
            with self.watching() as purse:
                for number in range(KILLS):
                    purse.cap += POCKET
                    chief.do("/key/update", key=poor.key, max_budget=float(Usd(purse.cap).dollars()))
                    with ExitStack() as calling:
                        over = [
                            calling.enter_context(crowd.calling(each)) for each in daemons for crowd in (rich, poor)
                        ]
                        rich.wait_for(4 * CONNECTIONS)
                        poor.wait_until_refused()
                        time.sleep(_random.uniform(0.0, 0.3))
                        for each in over:
                            each.set()
                        place = 1 + number % (DAEMONS - 1)
                        daemons[place].signal(signal.SIGKILL)
                        daemons[place].ended()
                    daemons[place] = self.enterContext(self.daemon(upstream))
                eventually(lambda: self.held == 0, "nothing is held")
                eventually(lambda: {*till.seen} <= self.in_ledger, "the ledger has all")
                eventually(lambda: self.used == len(SHARERS) * self.spent(), "what never began has returned")
            self.audit(rich)
            chief.do("/key/update", key=rich.key, max_parallel_requests=1)
            self.assertEqual(200, Bearer(daemons[0], rich.key).chat_with(BODY).status, "a place is lost")
        self.assertEqual([], [each for each, times in Counter(till.seen).items() if times > 1])
        self.assertTrue(purse.seen)
        self.assertIn(purse.most_places, range(1, PLACES + 1))
        self.assertEqual([], [(taken, cap) for taken, cap in purse.seen if taken > cap])
        self.assertLessEqual(self.spent(POOR), purse.cap)
        if "DHEERA_TEST_KILLS" in os.environ:
            print(  # noqa: T201 - the figures, for whoever asked for that many
                f"{type(self).__name__}: {KILLS} kills, {len(till.seen)} requests at upstream, {poor.refused} refused, "
                f"{ledgers.total(self.url, INTERRUPTED)} interrupted, {len(purse.seen)} looks at the small budget"
            )

    def audit(self, rich: Crowd) -> None:
        """
        Look at the books when all is over.
        """
        spent = self.spent()
        self.assertEqual(dict.fromkeys(SHARERS, spent), {kind: sum(self.uses(kind)) for kind in SHARERS})
        self.assertEqual(spent, ledgers.total(self.url, "select sum(spend) from keys"))
        for alias in RICH, POOR:
            self.assertEqual((self.spent(alias), 0), self.taken(alias), alias)
        lines = [(started_us, _tokens(usage)) for started_us, usage in ledgers.query(self.url, LINES)]
        latest_us = max(started_us for started_us, _ in lines)
        lately = [tokens for started_us, tokens in lines if started_us > latest_us - LATELY_US]
        requests, tokens = (ledgers.total(self.url, COUNTED.format(kind)) for kind in ("requests", "tokens"))
        # A killed daemon had claimed for each connection what it may never have written down, or sent.
        lost = KILLS * rich.size
        self.assertIn(requests, range(len(lately), len(lines) + lost + 1))
        self.assertIn(tokens, range(sum(lately), sum(tokens for _, tokens in lines) + lost * MOST_TOKENS + 1))

    @contextmanager
    def watching(self) -> Iterator[Purse]:
        """
        Inside ``with`` somebody looks at the small budget again and again.
        """
        purse, over = Purse(), Event()

        def watch() -> None:
            while not over.wait(0.05):
                taken, places = self.taken(POOR)
                purse.seen.append((taken, purse.cap))
                purse.most_places = max(purse.most_places, places)

        with ThreadPoolExecutor(1) as pool:
            watching = pool.submit(watch)
            try:
                yield purse
            finally:
                over.set()
        watching.result()

    def taken(self, alias: str) -> tuple[int, int]:
        """
        What is used and held of that key's budget, and its places.
        """
        [(nano, places)] = ledgers.query(self.url, TAKEN.format(alias))
        return int(nano or 0), int(places or 0)

    @property
    def in_ledger(self) -> set[str]:
        return {tag for line in ledgers.lines(self.url) for tag in line.tags}

    def uses(self, kind: str) -> list[int]:
        """
        What is used of the budgets of that kind of subject.
        """
        text = f"select used from allowances where kind = 'usd' and subject like '{kind}/%'"  # noqa: S608 - our own words
        return [int(used) for (used,) in ledgers.query(self.url, text)]


def _tokens(usage: str | None) -> int:
    return 0 if usage is None else int(json.loads(usage)["total_tokens"])
