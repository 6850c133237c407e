"""
Clients that leave before their answer is complete, and what they pay.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any
from unittest import TestCase

from tests.process import callers, databases, ledgers
from tests.process.bearers import MASTER_KEY, master
from tests.process.daemon import ANY_PORT, UPSTREAM_KEY, Daemon, eventually
from tests.process.peers import STREAM_HEAD, Peer, Upstream, chunk, connect
from tests.process.till import COMPLETION_NANO, MODEL, NONCE, PRICES, PROMPT_NANO, Till, nano_cost, used

COUNTED = "n71"
MOST = 13
ASKED: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": MOST,
    "stream": True,
    "messages": [
        {"role": "user", "content": "Count to eleven, and to twelve, and to thirteen, and be quick about it."}
    ],
}
BODY = json.dumps(ASKED).encode()
BOUND = PROMPT_NANO * len(BODY) + COMPLETION_NANO * MOST


class Pausing(Till):
    """
    A till whose streams stop after a word until they may go on, or nobody listens any more.
    """

    def __init__(self) -> None:
        super().__init__(0.0)
        self.goes_on, self.was_left = Event(), Event()

    def _stream(self, peer: Peer, nonce: str, pause: float) -> None:  # noqa: ARG002 - as the till has it
        peer.send(STREAM_HEAD + _event(nonce, {"content": "word "}))
        peer.socket.settimeout(0.02)
        while not self.goes_on.is_set():
            with suppress(TimeoutError):
                peer.gone()
                self.was_left.set()
                raise EOFError
        peer.send(_event(nonce, {"content": "word"}, usage=used(nonce)) + chunk(b"data: [DONE]\n\n") + chunk(b""))


class LeavingTests(TestCase):
    """
    ``on_client_left``. Each client hears the first word of a stream, and leaves.
    """

    def setUp(self) -> None:
        self.url = self.enterContext(databases.sqlite())
        self.till = Pausing()
        self.upstream = self.enterContext(Upstream(self.till.script))

    @contextmanager
    def left(self, said: str, *, drain: str = "") -> Iterator[Daemon]:
        """
        Inside ``with`` the client has left, and upstream has not gone on.

        :param said: of the setting.
        """
        settings = f'{drain}\n{PRICES}\n[allowances]\non_client_left = "{said}"\n'
        variables = {
            "MISTRAL_API_BASE": self.upstream.url,
            "MISTRAL_API_KEY": UPSTREAM_KEY,
            "DATABASE_URL": self.url,
            "DHEERA_AI_MASTER_KEY": MASTER_KEY,
        }
        with Daemon(*ANY_PORT, said=variables, settings=settings) as daemon:
            key = master(daemon).issue(max_budget=1, tpm_limit=10_000, max_parallel_requests=1)
            with connect(daemon.port) as client:
                client.send(callers.chat(key, f"{NONCE}: {COUNTED}".encode(), body=BODY))
                self.assertIn(b" 200 ", client.head())
                client.chunk()
                self.assertEqual([(0, BOUND)], self.counts("usd"))
                client.reset()
            yield daemon

    def counts(self, kind: str) -> list[tuple[int, int]]:
        """
        What is used, and what is held.
        """
        rows = ledgers.query(self.url, f"select used, held from allowances where kind = '{kind}'")  # noqa: S608 - our own word
        return [(int(taken), int(held)) for taken, held in rows]

    def settled(self) -> ledgers.Line:
        """
        Wait for the one line of the ledger: what it cost is used, and nothing is held.
        """
        eventually(lambda: bool(ledgers.lines(self.url)), "the call is in the ledger")
        [line] = ledgers.lines(self.url)
        self.assertEqual([(line.cost, 0)], self.counts("usd"))
        eventually(lambda: self.counts("parallel") == [(0, 0)], "the place is free")
        eventually(lambda: not ledgers.total(self.url, "select count(*) from holds"), "nothing is held")
        return line

    def test_abort(self) -> None:
        """
        ``abort`` ends the call: upstream sees it at once, and the cost is estimated, from what had come: no more than
        was held, and no nothing.
        """
        with self.left("abort"):
            self.assertTrue(self.till.was_left.wait(10))
            line = self.settled()
        self.assertEqual(("client_left", True), (line.outcome, line.estimated))
        assert line.cost is not None
        self.assertLess(0, line.cost)
        self.assertLess(line.cost, BOUND)

    def test_finish(self) -> None:
        """
        ``finish`` reads on for nobody: the cost is what upstream says in the end, and what is held stays so until then.
        """
        with self.left("finish"):
            self.assertFalse(self.till.was_left.wait(0.2))
            self.assertEqual([[(0, BOUND)], [(0, 1)]], [self.counts("usd"), self.counts("parallel")])
            self.till.goes_on.set()
            line = self.settled()
        self.assertEqual(("client_left", False, nano_cost(COUNTED)), (line.outcome, line.estimated, line.cost))
        [(tokens,)] = ledgers.query(self.url, "select sum(used) from allowances where kind = 'tokens'")
        self.assertEqual(used(COUNTED)["total_tokens"], tokens)

    def test_stop(self) -> None:
        """
        A stop waits for what is read for nobody, and the exact cost is in the ledger.
        """
        with self.left("finish") as daemon:
            daemon.signal(signal.SIGTERM)
            daemon.wait_for_log("SIGTERM")
            self.assertFalse(self.till.was_left.wait(0.3))
            self.till.goes_on.set()
            self.assertEqual(0, daemon.ended())
            line = self.settled()
        self.assertEqual((False, nano_cost(COUNTED)), (line.estimated, line.cost))

    def test_stop_in_time(self) -> None:
        """
        But no longer than ``drain_seconds``: then the call is ended, and its cost estimated.
        """
        with self.left("finish", drain="drain_seconds = 0.3") as daemon:
            daemon.signal(signal.SIGTERM)
            self.assertEqual(0, daemon.ended())
            self.assertTrue(self.till.was_left.wait(10))
            line = self.settled()
        self.assertTrue(line.estimated)
        self.assertIn(line.outcome, ("interrupted", "client_left"))
        assert line.cost is not None
        self.assertLess(0, line.cost)


def _event(nonce: str, delta: dict[str, str], **more: Any) -> bytes:
    said = {"id": nonce, "model": MODEL, "choices": [{"index": 0, "delta": delta}], **more}
    return chunk(b"data: %b\n\n" % json.dumps(said).encode())
