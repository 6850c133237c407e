"""
What callers are told of what is left.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dheera.allowances.standings import fields_of
from dheera.holding import Allowance, Kind, Share, Standing
from dheera.limits import UNCAPPED

SECOND = 1_000_000


def share(kind: Kind, cap: int, *, ends_us: int = 0) -> Share:
    return Share(allowance=Allowance(subject="key/1", kind=kind), cap=cap, amount=1, ends_us=ends_us)


class FieldTests(SynchronousTestCase):
    def test_all(self) -> None:
        """
        Each kind has its lines; times are whole seconds from now, rounded up; parallel requests have none.
        """
        self.assertEqual(
            [
                (b"x-dheera-remaining-budget", b"0.25"),
                (b"x-dheera-reset-budget", b"91"),
                (b"x-dheera-remaining-requests", b"7"),
                (b"x-dheera-reset-requests", b"12"),
                (b"x-ratelimit-limit-requests", b"10"),
                (b"x-ratelimit-remaining-requests", b"7"),
                (b"x-ratelimit-reset-requests", b"12s"),
                (b"x-dheera-remaining-tokens", b"900"),
                (b"x-dheera-reset-tokens", b"65"),
                (b"x-ratelimit-limit-tokens", b"1000"),
                (b"x-ratelimit-remaining-tokens", b"900"),
                (b"x-ratelimit-reset-tokens", b"1m5s"),
            ],
            fields_of(
                [
                    share("usd", 10**9, ends_us=100 * SECOND),
                    share("requests", 10),
                    share("tokens", 1000),
                    share("parallel", 2),
                ],
                [
                    Standing(taken=75 * 10**7, resets_us=100 * SECOND),
                    Standing(taken=3, resets_us=21 * SECOND),
                    Standing(taken=100, resets_us=74 * SECOND),
                    Standing(taken=1),
                ],
                9 * SECOND + 500_000,
            ),
        )

    def test_tightest(self) -> None:
        """
        Of several of a kind, the one of which least is left, whatever their caps.
        """
        fields = dict(
            fields_of(
                [share("requests", 10), share("requests", 100), share("requests", 50)],
                [Standing(taken=6), Standing(taken=97), Standing(taken=1)],
                0,
            )
        )
        self.assertEqual(
            (b"3", b"100"), (fields[b"x-dheera-remaining-requests"], fields[b"x-ratelimit-limit-requests"])
        )

    def test_for_ever(self) -> None:
        """
        A budget that never begins anew says nothing of when it does.
        """
        self.assertEqual(
            [(b"x-dheera-remaining-budget", b"0.00000007")], fields_of([share("usd", 100)], [Standing(taken=30)], 5)
        )

    def test_nothing_resets(self) -> None:
        """
        Where time frees nothing, there is no line that says when it does: of a limit of none, and of what is not used.
        """
        ends = 9 * SECOND
        shares = [share("usd", 0, ends_us=ends), share("requests", 0), share("tokens", 5)]
        standings = [Standing(taken=0, resets_us=ends), Standing(taken=0, resets_us=ends), Standing(taken=0)]
        self.assertEqual(
            [
                (b"x-dheera-remaining-budget", b"0"),
                (b"x-dheera-remaining-requests", b"0"),
                (b"x-ratelimit-limit-requests", b"0"),
                (b"x-ratelimit-remaining-requests", b"0"),
                (b"x-dheera-remaining-tokens", b"5"),
                (b"x-ratelimit-limit-tokens", b"5"),
                (b"x-ratelimit-remaining-tokens", b"5"),
            ],
            fields_of(shares, standings, 5),
        )

    def test_no_cap(self) -> None:
        """
        A budget that only tells somebody when so much is spent says nothing: nothing is refused for it.
        """
        self.assertEqual([], fields_of([share("usd", UNCAPPED)], [Standing(taken=30)], 5))

    def test_never_negative(self) -> None:
        """
        Neither what is left, if a call has cost more than expected, nor the seconds, if time has gone by.
        """
        standings = [Standing(taken=30), Standing(taken=30, resets_us=1)]
        fields = fields_of([share("usd", 10, ends_us=1), share("tokens", 10)], standings, 5 * SECOND)
        self.assertEqual({b"0", b"0s", b"10"}, {value for _, value in fields})
