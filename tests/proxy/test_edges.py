"""
How a call that has a hold can end, and what counts then: docs/allowances.md, "What counts in the end".
"""

from __future__ import annotations

from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dheera.money import Usd
from dheera.settings import AllowanceSettings
from dheera.stores.sheet import machine_clock
from tests.house import LAST_CHUNK, in_chunks
from tests.network import Peer
from tests.proxy import test_affording
from tests.proxy.test_accounting import ANSWER, COST, EVENT, LAST_EVENT
from tests.proxy.test_affording import A_LOT, BOUND, CHAT
from tests.wire.caller import OK

DAY_US = 86_400_000_000
KINDS = ("usd", "tokens", "requests", "parallel")
PROMPT = -(-len(CHAT) // 4)
"""
What its tokens are taken to be if nobody says.
"""
CEILING = 500


class Ending(test_affording.Affording):
    """
    A house whose key has limits of all kinds, far from what some calls take.
    """

    def setUp(self) -> None:
        super().setUp()
        self.limit_all()

    def limit_all(self) -> None:
        self.limited(max_budget=A_LOT, rpm_limit=100, tpm_limit=100_000, max_parallel_requests=10)

    def keep_books(self) -> None:
        """
        The ledger writes down what has ended.
        """
        self.successResultOf(self.house.books.keep(self.house.records()))

    def stands(self) -> tuple[int, int]:
        """
        What is used of the budget, and what is held.
        """
        looked = self.successResultOf(self.house.counts.look(["key/k1"]))
        [budget] = [each for each in looked if each.allowance.kind == "usd"]
        return budget.used, budget.held

    def assert_counts(self, cost: int, *, tokens: int, requests: int = 1) -> None:
        """
        Assert that so much of each kind counts; of the budget it is used when the ledger has the calls.
        """
        self.assertEqual([cost, tokens, requests, 0], [self.taken(kind) for kind in KINDS])
        self.assertEqual((0, cost), self.stands())
        self.keep_books()
        self.assertEqual((cost, 0), self.stands())


class EndTests(Ending):
    """
    Who breaks off, and when.
    """

    def test_left_before_the_first_byte(self) -> None:
        """
        A client that leaves before the head of its answer pays for its prompt, as that is estimated.
        """
        self.ask().reset()
        self.assertEqual("reset", self.house.script.last.ended)
        self.assert_counts(1000 * PROMPT, tokens=PROMPT)

    def test_left_in_mid_stream(self) -> None:
        """
        One that leaves later pays for each event that came besides.
        """
        client = self.ask()
        self.stream(EVENT, EVENT)
        client.reset()
        self.assert_counts(1000 * PROMPT + 2 * 2000, tokens=PROMPT + 2)

    def test_left_at_the_last_byte(self) -> None:
        """
        When the usage was told nothing is estimated, though the end of the body never came.
        """
        client = self.ask()
        self.stream(EVENT, LAST_EVENT)
        client.reset()
        self.assertEqual("reset", self.house.script.last.ended)
        self.assert_counts(COST, tokens=110)

    def test_cut(self) -> None:
        """
        Where upstream breaks off it is as if the client had left.
        """
        for events, end in (0, "close"), (0, "reset"), (2, "close"), (2, "reset"):
            self.build()
            self.limit_all()
            self.ask()
            if events:
                self.stream(*[EVENT] * events)
            getattr(self.house.script.last, end)()
            self.assert_counts(1000 * PROMPT + 2000 * events, tokens=PROMPT + events)

    def test_cut_at_the_last_byte(self) -> None:
        """
        Also if the usage was told before.
        """
        self.ask()
        self.stream(EVENT, LAST_EVENT)
        self.house.script.last.reset()
        self.assert_counts(COST, tokens=110)

    def test_refused_by_upstream(self) -> None:
        """
        What upstream refuses costs nothing, and was a request.
        """
        for status in b"302 Found", b"400 Bad Request", b"429 Too Many Requests", b"500 Oh", b"503 Away":
            self.build()
            self.limit_all()
            self.ask()
            self.answer(b'{"message":"no"}', status=status)
            self.assert_counts(0, tokens=0)

    def test_sent_again(self) -> None:
        """
        A call that is sent a second time, since the connection was dead, has one hold, and one cost.
        """
        self.build(allowances=AllowanceSettings(ceilings={"other": Usd(CEILING)}))
        self.limit_all()
        self.ask(b"/mistral/v1/models", method=b"GET", body=None)
        self.answer(b"{}")
        self.keep_books()
        self.ask(b"/mistral/v1/unheard/of", method=b"PUT", body=b"{}")
        first = self.house.script.last
        self.assertEqual([CEILING, 2, 1], [self.taken(kind) for kind in ("usd", "requests", "parallel")])
        first.reset()
        self.assertIsNot(first, self.house.script.last)
        self.assertIn(b"PUT", self.house.script.last.received)
        self.assertEqual([CEILING, 2, 1], [self.taken(kind) for kind in ("usd", "requests", "parallel")])
        self.answer(b"{}")
        self.assert_counts(CEILING, tokens=self.taken("tokens"), requests=2)

    def test_tried_again(self) -> None:
        """
        A client that tries again makes a call of its own.
        """
        self.ask()
        self.stream(EVENT)
        self.house.script.last.close()
        self.ask(b"/mistral/v1/chat/completions", (b"x-stainless-retry-count", b"1"))
        self.assertEqual(1000 * PROMPT + 2000 + BOUND, self.taken("usd"))
        self.answer()
        self.assert_counts(1000 * PROMPT + 2000 + COST, tokens=PROMPT + 1 + 110, requests=2)


class ChangeTests(Ending):
    """
    A budget that changes while calls are under way.
    """

    ENDS = ("answered", "left", "cut")

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.one_of(st.just("asked"), st.sampled_from(ENDS), st.integers(0, 4)), max_size=20))
    def test_any_order(self, doings: list[str | int]) -> None:
        """
        However it is raised, lowered and taken away: a call is let through if, and only if, what it may cost fits into
        the budget of that time, beside what others hold and have cost; and what all have cost is used in the end.
        """
        self.build()
        self.under_way: list[tuple[Peer, Peer, int]] = []
        self.cap: int | None = BOUND
        self.spent = 0
        self.limited(max_budget=Usd(self.cap))
        self.call()
        versions = count(1)
        for doing in [*doings, *["answered"] * (len(doings) + 1)]:
            if doing == "asked":
                self.call()
            elif not isinstance(doing, int):
                self.end_first(doing)
            else:  # half a call more than so many calls, or no budget at all
                self.cap = None if doing == 4 else doing * BOUND + BOUND // 2
                self.change(version=next(versions), max_budget=None if self.cap is None else Usd(self.cap))
            self.house.network.advance(1)
            self.keep_books()
            self.assertEqual((self.spent, self.held), self.stands())
        self.assertEqual(0, self.held)

    @property
    def held(self) -> int:
        """
        For the calls that are under way.
        """
        return sum(held for _, _, held in self.under_way)

    def call(self) -> None:
        """
        Make one, and look whether it is let through if it may.
        """
        seen = len(self.house.script.connections)
        client = self.ask()
        if self.cap is None or self.spent + self.held + BOUND <= self.cap:
            self.assertEqual(seen + 1, len(self.house.script.connections))
            self.under_way.append((client, self.house.script.last, 0 if self.cap is None else BOUND))
        else:
            self.assertEqual((429, "budget_exceeded"), self.refused(client))
            self.assertEqual(seen, len(self.house.script.connections))

    def end_first(self, how: str) -> None:
        """
        Whatever of them has been under way for longest is over.
        """
        if not self.under_way:
            return
        client, upstream, _ = self.under_way.pop(0)
        if how == "answered":
            head = b"Connection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            upstream.send(OK + head % len(ANSWER) + ANSWER)
            self.spent += COST
        else:
            (client.reset if how == "left" else upstream.close)()
            self.spent += 1000 * PROMPT


class WindowTests(Ending):
    """
    A window that ends while a stream runs.
    """

    def setUp(self) -> None:
        self.midnight_us = (machine_clock() // DAY_US + 1) * DAY_US
        self.at_us = self.midnight_us - 1
        super().setUp()

    def build(self, **said: Any) -> None:
        super().build(clock=lambda: self.at_us, **said)

    def limit_all(self) -> None:
        self.limited(max_budget=A_LOT, budget_duration="1d")

    def left(self, client: Peer) -> list[bytes]:
        """
        What *client* is told to be left of the budget.
        """
        return self.heard(client).values(b"x-dheera-remaining-budget")

    def test_turned(self) -> None:
        """
        What a call costs counts in the window in which it began; the new one is whole from its first instant on.
        """
        self.ask()
        self.stream(EVENT)
        streaming = self.house.script.last
        self.at_us = self.midnight_us
        later = self.ask()
        self.stream(EVENT)
        whole = [str(Usd(A_LOT.nano - BOUND)).encode()]
        self.assertEqual((whole, BOUND), (self.left(later), self.taken("usd")))
        streaming.send(in_chunks(LAST_EVENT) + LAST_CHUNK)
        streaming.close()
        self.assertEqual(COST, self.record().cost_nano_usd)
        self.assertEqual((0, BOUND), self.stands())
        self.at_us = self.midnight_us - 1
        earlier = self.ask()
        self.stream(EVENT)
        self.assertEqual([str(Usd(A_LOT.nano - COST - BOUND)).encode()], self.left(earlier))

    def test_settled(self) -> None:
        """
        So it is also if the new window has begun when the ledger writes down what the call has cost.
        """
        self.ask()
        self.at_us = self.midnight_us
        self.answer()
        self.house.network.advance(1)
        self.ask()
        self.keep_books()
        self.assertEqual((0, BOUND), self.stands())
        self.at_us = self.midnight_us - 1
        earlier = self.ask()
        self.answer()
        self.assertEqual([str(Usd(A_LOT.nano - 2 * COST)).encode()], self.left(earlier))
