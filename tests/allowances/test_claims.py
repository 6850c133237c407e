"""
From limits to claims, and back.
"""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.allowances.claims import WINDOWS_KNOWN, Windows, released, shares_of
from dheera.allowances.clock import microseconds
from dheera.holding import Allowance, Claim, Rated, Release, Share
from dheera.limits import Limit
from dheera.windows import window_at
from tests.allowances.limits import limit

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
AT_US = microseconds(NOON)


def shares(*limits: Limit, nano: int = 7, tokens: int = 50, at_us: int = AT_US) -> list[Share]:
    return [share for _, share in shares_of(limits, Windows(), nano=nano, tokens=tokens, at_us=at_us)]


class WindowTests(SynchronousTestCase):
    """
    What is remembered of windows.
    """

    def test_as_reckoned(self) -> None:
        """
        Whatever was asked before, and however the clock goes, the answer is that of `window_at`.
        """
        windows = Windows()
        for at_us in (AT_US, AT_US + 1, AT_US + 86_400_000_000, AT_US, 0):
            for span in ("1mo", "1d", "2s", ""):
                for anchor in (None, NOON):
                    self.assertEqual(window_at(span, anchor, at_us), windows.at(span, anchor, at_us))

    def test_remembered(self) -> None:
        """
        What lasts is not reckoned again, until there are too many.
        """
        windows = Windows()
        first = windows.at("1mo", NOON, AT_US)
        self.assertIs(first, windows.at("1mo", NOON, AT_US + 1))
        for count in range(WINDOWS_KNOWN):
            windows.at(f"{count + 1}s", None, AT_US)
        again = windows.at("1mo", NOON, AT_US)
        self.assertEqual(first, again)
        self.assertIsNot(first, again)


class ShareTests(SynchronousTestCase):
    """
    What a call takes.
    """

    def test_kinds(self) -> None:
        """
        Of each kind what it is counted in; a budget has its window, the others have none.
        """
        found = shares(
            limit("usd", 100, span="1d", soft=80, model="m*"),
            limit("usd", 200),
            limit("requests", 9),
            limit("tokens", 99),
            limit("parallel", 3, subject="team/2"),
        )
        day_us = 86_400_000_000
        midnight_us = AT_US - day_us // 2
        self.assertEqual(
            [
                Share(
                    allowance=Allowance(subject="key/1", kind="usd", span="1d", model="m*"),
                    cap=100,
                    amount=7,
                    soft=80,
                    starts_us=midnight_us,
                    ends_us=midnight_us + day_us,
                ),
                Share(allowance=Allowance(subject="key/1", kind="usd"), cap=200, amount=7),
                Share(allowance=Allowance(subject="key/1", kind="requests"), cap=9, amount=1),
                Share(allowance=Allowance(subject="key/1", kind="tokens"), cap=99, amount=50),
                Share(allowance=Allowance(subject="team/2", kind="parallel"), cap=3, amount=1),
            ],
            found,
        )

    def test_tokens(self) -> None:
        """
        A call that may take more than a minute has takes the whole minute; where there is nothing it still takes
        something, so that it does not fit.
        """
        amounts = [share.amount for cap in (99, 50, 49, 0) for share in shares(limit("tokens", cap))]
        self.assertEqual([50, 50, 49, 1], amounts)

    def test_nothing_to_take(self) -> None:
        """
        A call that is free takes nothing of budgets, and one without tokens nothing of those.
        """
        limits = limit("usd", 0), limit("tokens", 0), limit("requests", 1)
        self.assertEqual(["requests"], [share.allowance.kind for share in shares(*limits, nano=0, tokens=0)])

    def test_raised(self) -> None:
        """
        What a cap is raised by counts before the time, and not at it.
        """
        raised = limit("usd", 100, raised_by=20, raised_until=NOON)
        self.assertEqual([120], [share.cap for share in shares(raised, at_us=AT_US - 1)])
        self.assertEqual([100], [share.cap for share in shares(raised)])
        self.assertEqual([100], [share.cap for share in shares(limit("usd", 100, raised_by=20))])


class ReleaseTests(SynchronousTestCase):
    """
    What a call gives back.
    """

    def claim(self, *limits: Limit) -> Claim:
        return Claim(call_id="c", shares=shares(*limits))

    def test_reached(self) -> None:
        """
        The request stays, of the tokens the rest returns, each from the slice of the claim.
        """
        claim = self.claim(limit("usd", 100), limit("requests", 9), limit("tokens", 99), limit("tokens", 20, model="m"))
        small = Allowance(subject="key/1", kind="tokens", model="m")
        self.assertEqual(
            Release(
                call_id="c",
                usd=4,
                rates=[
                    Rated(allowance=Allowance(subject="key/1", kind="tokens"), at_us=5, change=-20),
                    Rated(allowance=small, at_us=5, change=10),
                ],
            ),
            released(claim, 5, usd=4, tokens=30, reached=True),
        )

    def test_not_reached(self) -> None:
        """
        All returns, whatever is said of its cost.
        """
        claim = self.claim(limit("requests", 9), limit("tokens", 99), limit("parallel", 2))
        release = released(claim, 5, usd=4, tokens=30, reached=False)
        assert release is not None
        self.assertEqual((0, [-1, -50]), (release.usd, [rated.change for rated in release.rates]))

    def test_nothing_to_say(self) -> None:
        """
        Where only requests are counted, or the tokens are right, the store need not be told; a budget and a parallel
        request end in any case.
        """
        rates = self.claim(limit("requests", 9), limit("tokens", 99))
        self.assertIsNone(released(rates, 5, usd=4, tokens=50, reached=True))
        for kind in "usd", "parallel":
            self.assertIsNotNone(released(self.claim(limit(kind, 99)), 5, usd=0, tokens=0, reached=True))

    @given(st.integers(0, 1000), st.integers(1, 1000), st.integers(0, 1000), st.booleans())
    def test_balance(self, cap: int, bound: int, tokens: int, reached: bool) -> None:  # noqa: FBT001 - drawn
        """
        What was taken and what is corrected make what the call had.
        """
        [share] = shares(limit("tokens", cap), tokens=bound)
        release = released(Claim(call_id="c", shares=[share]), 5, usd=0, tokens=tokens, reached=reached)
        change = release.rates[0].change if release else 0
        self.assertEqual(tokens if reached else 0, share.amount + change)
