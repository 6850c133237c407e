"""
Four daemons on one database, and allowances that they share. The test of each sort of database subclasses `Budgets`
(import this module, not the class, or the class itself would be run).
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory
from threading import Event
from typing import ClassVar
from unittest import TestCase

from dheera.money import Usd
from tests.process import ledgers
from tests.process.bearers import MASTER_KEY, Bearer, master
from tests.process.daemon import ANY_PORT, PATIENCE_SECONDS, UPSTREAM_KEY, Daemon, eventually
from tests.process.databases import Database
from tests.process.peers import Peer, Upstream
from tests.process.till import COMPLETION_NANO, MODEL, NONCE, PRICES, PROMPT_NANO, Till

DAEMONS = 4
CALLS = 1000
AFFORDED = 100
MAX_TOKENS = 13
DEADLINE_SECONDS = 2
SETTINGS = f"""{PRICES}
[allowances]
deadline_seconds = {DEADLINE_SECONDS}
"""
BODY = json.dumps({"model": MODEL, "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": "Count!"}]})
BOUND = PROMPT_NANO * len(BODY) + COMPLETION_NANO * MAX_TOKENS
"""
What such a call may cost at most, in nano-dollars: each byte may be a token.
"""


class Lock(Till):
    """
    A till that answers nobody until it is told to.
    """

    def __init__(self) -> None:
        super().__init__(0.0)
        self.opened = Event()

    def _answer(self, peer: Peer, nonce: str, pause: float) -> None:
        assert self.opened.wait(2 * PATIENCE_SECONDS)
        super()._answer(peer, nonce, pause)


class Fleet(TestCase):
    """
    Four daemons, each with a spool of its own in one state directory.
    """

    database: ClassVar[Database]

    def setUp(self) -> None:
        self.url = self.enterContext(type(self).database())
        self.state = self.enterContext(TemporaryDirectory())

    def daemon(self, upstream: Upstream) -> Daemon:
        """
        One more.
        """
        said = {
            "MISTRAL_API_BASE": upstream.url,
            "MISTRAL_API_KEY": UPSTREAM_KEY,
            "DHEERA_AI_MASTER_KEY": MASTER_KEY,
            "DHEERA_AI_STATE_DIR": self.state,
            "DATABASE_URL": self.url,
        }
        return Daemon(*ANY_PORT, said=said, settings=SETTINGS)

    @contextmanager
    def daemons(self, upstream: Upstream) -> Iterator[list[Daemon]]:
        """
        All four.
        """
        with ExitStack() as stack:
            with ThreadPoolExecutor() as at_once:
                started = list(at_once.map(stack.enter_context, [self.daemon(upstream) for _ in range(DAEMONS)]))
            yield started

    @property
    def held(self) -> int:
        return ledgers.total(self.url, "select sum(held) from allowances") + ledgers.total(
            self.url, "select count(*) from holds where not expired"
        )

    @property
    def used(self) -> int:
        return ledgers.total(self.url, "select sum(used) from allowances where kind = 'usd'")

    def spent(self, alias: str = "%") -> int:
        """
        What the ledger says, of the key that is called so, or of all.
        """
        return ledgers.total(self.url, f"select sum(cost) from ledger where key_alias like '{alias}'")  # noqa: S608 - our own words


class Budgets(Fleet):
    """
    Many calls at once, and places.
    """

    def test_rush(self) -> None:
        """
        A thousand calls at once against a budget that affords a hundred, over four daemons: upstream sees a hundred,
        the others are told 429 and when to come back, the ledger's sum does not pass the cap, and nothing stays held.
        """
        till = Lock()
        upstream = self.enterContext(Upstream(till.script))
        cap = Usd(AFFORDED * BOUND)
        with self.daemons(upstream) as daemons:
            key = master(daemons[0]).issue(max_budget=float(cap.dollars()))
            statuses = asyncio.run(rush(key, daemons, till))
            self.assertEqual({200: AFFORDED, 429: CALLS - AFFORDED}, dict(statuses))
            self.assertEqual(AFFORDED, len(till.seen))
            self.assertEqual(AFFORDED, len({*till.seen}))
            eventually(lambda: self.held == 0, "nothing is held")
            self.assertEqual(self.spent(), self.used)
            self.assertLessEqual(self.used, cap.nano)
            self.assertEqual(200, Bearer(daemons[1], key).chat_with(BODY).status)

    def test_places(self) -> None:
        """
        The place of a parallel call returns with it: when it was answered, when the client has left, and, at the latest
        at the deadline, when the daemon was killed.
        """
        till = Lock()
        upstream = self.enterContext(Upstream(till.script))
        with self.daemons(upstream) as daemons:
            here, there = daemons[:2]
            bearer = Bearer(there, master(here).issue(max_parallel_requests=1))
            with self.waiting(here, bearer.key, till) as peer:
                till.opened.set()
                self.assertIn(b" 200 ", peer.head())
                eventually(lambda: bearer.chat_with(BODY).status == 200, "the place of who was answered is free")
                till.opened.clear()
            with self.waiting_until_let_in(here, bearer.key, till):
                refused = bearer.chat_with(BODY)
                self.assertEqual(429, refused.status)
                self.assertEqual("max_parallel_requests", refused.fields["rate_limit_type"])
                self.assertIn("retry-after", refused.fields)
            with self.waiting_until_let_in(there, bearer.key, till):
                here_again = Bearer(here, bearer.key)
                self.assertEqual(429, here_again.chat_with(BODY).status)
                there.signal(signal.SIGKILL)
                there.ended()
            till.opened.set()
            eventually(lambda: here_again.chat_with(BODY).status == 200, "the place is free again")

    @contextmanager
    def waiting(self, daemon: Daemon, key: str, till: Till) -> Iterator[Peer]:
        """
        Inside ``with`` a call is at upstream, which does not answer; then its client leaves.
        """
        seen = len(till.seen)
        with daemon_peer(daemon) as peer:
            peer.send(request(key, f"n{seen}"))
            eventually(lambda: len(till.seen) > seen, "the call is at upstream")
            yield peer

    @contextmanager
    def waiting_until_let_in(self, daemon: Daemon, key: str, till: Till) -> Iterator[Peer]:
        """
        As `waiting`, as soon as there is a place.
        """
        seen, latest = len(till.seen), time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < latest:
            with daemon_peer(daemon) as peer:
                peer.send(request(key, f"n{seen}"))
                peer.socket.settimeout(0.5)
                try:
                    assert b" 429 " in peer.head()
                except TimeoutError:
                    eventually(lambda: len(till.seen) > seen, "the call is at upstream")
                    yield peer
                    return
        raise AssertionError("The place was never free again")


def daemon_peer(daemon: Daemon) -> Peer:
    """
    A connection to *daemon*.
    """
    return Peer(socket.create_connection(("127.0.0.1", daemon.port)))


def request(key: str, nonce: str) -> bytes:
    """
    A chat with `BODY`.
    """
    return (
        f"POST /mistral/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\n{NONCE}: {nonce}\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}"
    ).encode()


async def rush(key: str, daemons: list[Daemon], till: Lock) -> Counter[int]:
    """
    All calls at once. Upstream answers as soon as all others have been refused.

    :return: how many were answered with which status.
    """
    statuses: Counter[int] = Counter()

    async def call(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", daemons[number % DAEMONS].port)
        writer.write(request(key, f"n{number}"))
        status = int((await reader.readline()).split()[1])
        fields = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert status == 200 or ("retry-after: " in fields and "x-dheera-remaining-budget: " in fields), fields
        statuses[status] += 1
        if statuses[429] == CALLS - AFFORDED:
            till.opened.set()
        writer.close()

    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        await asyncio.gather(*(call(number) for number in range(CALLS)))
    return statuses
