"""
Allowances when the database is away or hangs, when a daemon hangs, and when its clock is wrong.
"""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any, ClassVar
from unittest import TestCase

import psycopg2  # type: ignore[import-untyped]  # it has no types

from dheera.money import Usd
from tests.process import databases, ledgers
from tests.process.bearers import MASTER_KEY, Bearer, master
from tests.process.daemon import ANY_PORT, PATIENCE_SECONDS, UPSTREAM_KEY, Daemon, eventually
from tests.process.databases import Database
from tests.process.peers import Peer, Upstream
from tests.process.test_store_away import stopped
from tests.process.till import COMPLETION_NANO, MODEL, PRICES, PROMPT_NANO, Till, nano_cost

ROUNDS, CALLERS, DEADLINE_SECONDS = 2, 4, 0.4
AWAY_SECONDS = 30
"""
In which twice so many are refused: they would not be if each waited for ``[store] patience_seconds``.
"""
BODY = json.dumps({"model": MODEL, "max_tokens": 13, "messages": [{"role": "user", "content": "Count!"}]})
BOUND = PROMPT_NANO * len(BODY) + COMPLETION_NANO * 13
LIMITS = {
    "max_budget": 10,
    "budget_duration": "1mo",
    "rpm_limit": 10**6,
    "tpm_limit": 10**9,
    "max_parallel_requests": 99,
}
SETTINGS = f"""
[store]
patience_seconds = 1
[allowances]
deadline_seconds = {DEADLINE_SECONDS}
"""
HELD = "select coalesce(sum(held), 0) from allowances"
USED = "select subject, sum(used) from allowances where kind = 'usd' group by subject"
LINES = "select count(*) from ledger where outcome <> 'refused'"
SPENT = "select key_id, sum(cost) from ledger where cost > 0 group by key_id"

_random = random.SystemRandom()


class Gated(Till):
    """
    A till that answers nobody while it is shut.
    """

    def __init__(self) -> None:
        super().__init__(0.0)
        self.open = Event()
        self.open.set()

    def _answer(self, peer: Peer, nonce: str, pause: float) -> None:
        assert self.open.wait(PATIENCE_SECONDS)
        super()._answer(peer, nonce, pause)


class Faults(TestCase):
    """
    Two daemons on one database, in front of a till, whose holds end soon when they do not live. One refuses calls while
    the database is away, one allows them.
    """

    database: ClassVar[Database]
    url: ClassVar[str]
    till: ClassVar[Gated]
    here: ClassVar[Daemon]
    there: ClassVar[Daemon]

    @classmethod
    def setUpClass(cls) -> None:
        cls.till = Gated()
        cls.url = cls.enterClassContext(cls.database())
        variables = {
            "MISTRAL_API_BASE": cls.enterClassContext(Upstream(cls.till.script)).url,
            "MISTRAL_API_KEY": UPSTREAM_KEY,
            "DATABASE_URL": cls.url,
            "DHEERA_AI_MASTER_KEY": MASTER_KEY,
        }
        with ThreadPoolExecutor() as at_once:
            cls.here, cls.there = at_once.map(
                cls.enterClassContext,
                [
                    Daemon(
                        *ANY_PORT, said={**variables, **more}, settings=f'{SETTINGS}when_store_down = "{rule}"{PRICES}'
                    )
                    for rule, more in (("refuse", cls.environment_here()), ("allow", {}))
                ],
            )

    @classmethod
    def environment_here(cls) -> dict[str, str]:
        """
        Further variables of the one that refuses.
        """
        return {}

    def setUp(self) -> None:
        self.till.open.set()
        self.chief = master(self.here)

    def limited(self, **more: Any) -> Bearer:
        """
        Somebody with limits.
        """
        return Bearer(self.here, self.chief.issue(**{**LIMITS, **more}))

    def assert_away_many_times(self, bearer: Bearer) -> None:
        """
        Assert that the caller is told to come again, again and again; most without waiting for the database.
        """
        latest = time.monotonic() + AWAY_SECONDS
        for _ in range(2 * AWAY_SECONDS):
            answer = bearer.chat_with(BODY)
            told = answer.status, answer.refusal, answer.fields["retry-after"]
            self.assertEqual((503, "no_db_connection", "1"), told)
        self.assertLess(time.monotonic(), latest)

    def assert_books_right(self) -> None:
        """
        Assert that nothing stays held, and what is used is what the ledger has, which has all that upstream saw.
        """
        eventually(lambda: ledgers.total(self.url, LINES) >= len(self.till.seen), "all is written")
        eventually(lambda: not ledgers.total(self.url, HELD), "nothing is held")
        eventually(lambda: not ledgers.total(self.url, "select count(*) from holds"), "there are no holds")
        self.assertEqual(len(self.till.seen), ledgers.total(self.url, LINES))
        spent = {f"key/{key}": int(cost) for key, cost in ledgers.query(self.url, SPENT)}
        used = {subject: int(used) for subject, used in ledgers.query(self.url, USED)}
        self.assertTrue(used)
        self.assertEqual({subject: spent[subject] for subject in used}, used)

    def wait_until_both_count(self, limited: Bearer) -> None:
        """
        Wait until both daemons have found that the database is there: their answers tell what is left.
        """

        def both_count() -> bool:
            answers = [Bearer(each, limited.key).chat_with(BODY) for each in (self.here, self.there)]
            return all("x-dheera-remaining-requests" in each.fields for each in answers)

        eventually(both_count, "both count")

    def refuse_while(self, locked: AbstractContextManager[object]) -> None:
        """
        Somebody holds what turns need inside *locked*, as a process would that was stopped in the middle of one: calls
        that have limits are refused with 503 in time, others go on; and all do as soon as it is free.
        """
        limited, free = self.limited(), Bearer(self.here, self.chief.issue())
        self.assertEqual([200, 200], [each.chat_with(BODY).status for each in (limited, free)])
        self.assert_books_right()
        with locked:
            self.assert_away_many_times(limited)
            self.assertEqual(200, free.chat_with(BODY).status)
        self.wait_until_both_count(limited)
        self.assert_books_right()

    def stop_and_continue(self) -> None:
        """
        One daemon is stopped under load, for longer than its holds last, wherever it is, again and again; the other is
        asked meanwhile. Afterwards the books are right.
        """
        bearer = self.limited()
        with self.calling(Bearer(self.there, bearer.key)) as statuses:
            for _ in range(ROUNDS):
                self.wait_for(2 * CALLERS)
                time.sleep(_random.uniform(0.0, 0.05))
                self.there.signal(signal.SIGSTOP)
                try:
                    latest = time.monotonic() + 1.5 * DEADLINE_SECONDS
                    while time.monotonic() < latest:
                        statuses.add(bearer.chat_with(BODY).status)
                finally:
                    self.there.signal(signal.SIGCONT)
                eventually(lambda: bearer.chat_with(BODY).status == 200, "all is well")
        self.assertLessEqual(statuses, {200, 503})
        self.wait_until_both_count(bearer)
        self.assert_books_right()

    def wait_for(self, more: int) -> None:
        """
        Wait until *more* calls are at upstream.
        """
        enough = len(self.till.seen) + more
        eventually(lambda: len(self.till.seen) >= enough, f"{more} calls are made")

    @contextmanager
    def calling(self, bearer: Bearer) -> Iterator[set[int]]:
        """
        Inside ``with`` some call again and again.

        :return: the statuses that they hear.
        """
        statuses: set[int] = set()
        over = Event()

        def call_on() -> None:
            while not over.is_set():
                statuses.add(bearer.chat_with(BODY).status)

        with ThreadPoolExecutor(CALLERS) as pool:
            calling = [pool.submit(call_on) for _ in range(CALLERS)]
            try:
                yield statuses
            finally:
                over.set()
        for each in calling:
            each.result()


class SqliteTests(Faults):
    """
    On one file.
    """

    database = staticmethod(databases.sqlite)

    def test_lock(self) -> None:
        """
        The write lock of the file is taken.
        """

        @contextmanager
        def locked() -> Iterator[None]:
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None)) as other:
                other.execute("begin immediate")
                yield

        self.refuse_while(locked())

    def test_stop(self) -> None:
        """
        ``kill -STOP`` and ``kill -CONT``.
        """
        self.stop_and_continue()


class PostgresTests(Faults):
    """
    On one PostgreSQL. The clock of the daemon that refuses is wrong by far.
    """

    database = staticmethod(databases.postgres)

    @classmethod
    def environment_here(cls) -> dict[str, str]:
        folder = cls.enterClassContext(TemporaryDirectory())
        Path(folder, "sitecustomize.py").write_text(WRONG_CLOCK)
        return {"PYTHONPATH": folder}

    def test_lock(self) -> None:
        """
        The rows of the allowances are taken.
        """

        @contextmanager
        def locked() -> Iterator[None]:
            with closing(psycopg2.connect(self.url)) as other, other.cursor() as cursor:
                cursor.execute("select from allowances for update")
                yield

        self.refuse_while(locked())

    def test_stop(self) -> None:
        """
        ``kill -STOP`` and ``kill -CONT``.
        """
        self.stop_and_continue()

    def test_away(self) -> None:
        """
        PostgreSQL stops. Keys with limits are refused, many of them in the time in which a few would be if each waited
        for it, or allowed, as each daemon is told; others go on. A call that has its hold already is answered. What all
        of them cost is used when PostgreSQL is back.
        """
        limited, free = self.limited(budget_duration=None), Bearer(self.here, self.chief.issue())
        allowed = Bearer(self.there, limited.key)
        self.assertEqual([200] * 3, [each.chat_with(BODY).status for each in (limited, allowed, free)])
        self.till.open.clear()
        seen = len(self.till.seen)
        with ThreadPoolExecutor() as pool:
            under_way = pool.submit(limited.chat_with, BODY)
            eventually(lambda: len(self.till.seen) > seen, "a call is at upstream")
            with stopped("immediate"):
                self.assert_away_many_times(limited)
                self.till.open.set()
                self.assertEqual(200, under_way.result().status)
                self.assertEqual(200, free.chat_with(BODY).status)
                self.assertEqual([200] * 3, [allowed.chat_with(BODY).status for _ in range(3)])
                self.assertEqual(seen + 5, len(self.till.seen))
        self.wait_until_both_count(limited)
        self.assert_books_right()

    def test_clock(self) -> None:
        """
        Both share windows, of a minute and of a month: only PostgreSQL's clock counts.
        """
        budget = Usd(2 * nano_cost("n0") + BOUND - 1)
        here = self.limited(max_budget=float(budget.dollars()))
        there = Bearer(self.there, here.key)
        answers = []
        for each in here, there:
            answers.append(each.chat_with(BODY))
            self.assert_books_right()  # what it did not cost is there for the next
        self.assertEqual([200, 200], [each.status for each in answers])
        dates = [parsedate_to_datetime(each.fields["date"]) for each in answers]
        self.assertGreater(dates[0] - dates[1], timedelta(days=39), "its clock is not wrong")
        resets = [int(each.fields["x-dheera-reset-budget"]) for each in answers]
        self.assertLess(abs(resets[1] - resets[0]), PATIENCE_SECONDS)
        self.assertEqual([429, 429], [each.chat_with(BODY).status for each in (there, here)])
        windows = f"select count(*) from allowances where kind = 'usd' and cap = {budget.nano}"  # noqa: S608 - a number
        self.assertEqual(1, ledgers.total(self.url, windows))
        here = self.limited(rpm_limit=3)
        there = Bearer(self.there, here.key)
        statuses = [each.chat_with(BODY).status for each in (there, here, there, here, there)]
        self.assertEqual([200, 200, 200, 429, 429], statuses)


WRONG_CLOCK = """
import time
from datetime import timedelta

from dheera import entities

_now, _time, _time_ns = entities.now, time.time, time.time_ns
entities.now = lambda: _now() + timedelta(days=40)
time.time = lambda: _time() + 40 * 86_400
time.time_ns = lambda: _time_ns() + 40 * 86_400 * 10**9
"""
