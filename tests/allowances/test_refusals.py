"""
What is said to those whose call does not fit.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dheera.allowances.refusals import LONGEST_NAME, alert_of, refusal_of
from dheera.errors import BudgetExceeded, RateLimited, Refusal
from dheera.holding import Allowance, Share, Standing
from dheera.limits import Limit
from dheera.money import NANO
from dheera.records import Alert
from tests.allowances.counter import START_US
from tests.allowances.limits import limit

SECOND = 1_000_000
ENDS_US = START_US + 90 * SECOND - 1


def share_of(limit: Limit, amount: int, *, ends_us: int = 0) -> Share:
    allowance = Allowance(subject=limit.subject, kind=limit.kind, span=limit.span, model=limit.model)
    return Share(allowance=allowance, cap=limit.cap, amount=amount, ends_us=ends_us)


class BudgetTests(SynchronousTestCase):
    """
    Whose budget, what is left of it, what can be done.
    """

    def refused(
        self, amount: int, taken: int, held: int = 0, *, cap: int = NANO // 2, ends_us: int = 0, **said: Any
    ) -> tuple[str, dict[bytes, bytes]]:
        """
        Message and header lines.
        """
        budget = limit("usd", cap, **said)
        refusal = refusal_of(
            budget, share_of(budget, amount, ends_us=ends_us), Standing(taken=taken, held=held), START_US
        )
        self.assertIsInstance(refusal, BudgetExceeded)
        self.assertEqual((429, "budget_exceeded"), (refusal.status, refusal.type))
        return refusal.message, dict(refusal.fields)

    def test_window(self) -> None:
        """
        A budget that begins anew says when, in words, and in seconds that are never too few. Nobody should wait for so
        long without asking a person.
        """
        message, fields = self.refused(10**8, 42 * 10**7, ends_us=ENDS_US, span="1d")
        self.assertEqual(
            "Budget has been exceeded! Current cost: 0.42, Max budget: 0.5. That is the budget of this API key per 1d. "
            "This call may cost up to 0.1, less if it is made smaller (max_tokens, fewer pages). "
            "The budget begins anew at 2026-01-31 12:01:30 UTC.",
            message,
        )
        self.assertEqual(
            {
                b"Retry-After": b"90",
                b"x-should-retry": b"false",
                b"x-dheera-remaining-budget": b"0.08",
                b"x-dheera-reset-budget": b"90",
            },
            fields,
        )

    def test_soon(self) -> None:
        """
        Who has to wait for less than a minute may try again without a person.
        """
        _, fields = self.refused(10**8, 42 * 10**7, ends_us=START_US + 1, span="30s")
        self.assertEqual(b"1", fields[b"Retry-After"])
        self.assertNotIn(b"x-should-retry", fields)

    def test_for_ever(self) -> None:
        """
        One that never begins anew: to try again is in vain.
        """
        message, fields = self.refused(10**8, 42 * 10**7)
        self.assertIn("does not begin anew: ask for a larger one", message)
        self.assertEqual((b"86400", b"false"), (fields[b"Retry-After"], fields[b"x-should-retry"]))
        self.assertNotIn(b"x-dheera-reset-budget", fields)

    def test_held(self) -> None:
        """
        If only calls under way are in the way, a moment is enough, however long the window.
        """
        message, fields = self.refused(10**8, 45 * 10**7, 5 * 10**7, ends_us=ENDS_US, span="1d")
        self.assertIn("Current cost: 0.4,", message)
        self.assertIn("0.05 held by calls that are under way or not yet in the ledger", message)
        self.assertIn("try again in a moment", message)
        self.assertEqual(b"1", fields[b"Retry-After"])
        self.assertNotIn(b"x-should-retry", fields)

    def test_never(self) -> None:
        """
        What is more than the whole budget is said to be that.
        """
        message, fields = self.refused(10**9, 0, ends_us=ENDS_US, span="1d")
        self.assertIn("up to 1, more than the whole budget: make it smaller", message)
        self.assertEqual((b"86400", b"false"), (fields[b"Retry-After"], fields[b"x-should-retry"]))

    def test_overspent(self) -> None:
        """
        Nothing is left, and not less: no call is small enough.
        """
        message, fields = self.refused(1, 10**9)
        self.assertEqual(b"0", fields[b"x-dheera-remaining-budget"])
        self.assertNotIn("smaller", message)

    def test_none_at_all(self) -> None:
        """
        A budget of nothing cannot be waited for, nor does a smaller call help.
        """
        message, fields = self.refused(1, 0, cap=0, ends_us=ENDS_US, span="1d")
        self.assertIn("lets nothing through that costs anything: ask whoever runs this dheera to raise it", message)
        self.assertNotIn("smaller", message)
        self.assertEqual((b"86400", b"false"), (fields[b"Retry-After"], fields[b"x-should-retry"]))
        self.assertNotIn(b"x-dheera-reset-budget", fields)

    def test_whose(self) -> None:
        """
        The caller learns whose budget it is, and for which model.
        """
        for whose, words in {
            "key": "this API key for the model m*",
            "user": "the user ada",
            "team": "the team ada",
            "team_member": "the team member ada",
            "end_user": "the end user ada",
            "proxy": "this whole proxy",
        }.items():
            self.assertIn(f"the budget of {words}", self.refused(1, 10**9, whose=whose, model="m*")[0])

    def test_strange_names(self) -> None:
        """
        A name from outside is shown in one line, and cut.
        """
        message, _ = self.refused(1, 10**9, whose="end_user", name="a\nb\x00" + "x" * 500)
        self.assertIn("the end user a?b?" + "x" * (LONGEST_NAME - 4) + "...", message)
        self.assertNotIn("x" * LONGEST_NAME, message)


class RateTests(SynchronousTestCase):
    """
    Which limit, and when there is room again.
    """

    def refused(self, limit: Limit, amount: int, standing: Standing) -> Refusal:
        refusal = refusal_of(limit, share_of(limit, amount), standing, START_US)
        self.assertIsInstance(refusal, RateLimited)
        self.assertEqual((429, "rate_limit_error"), (refusal.status, refusal.type))
        return refusal

    def test_requests(self) -> None:
        """
        As LiteLLM's users know it.
        """
        refusal = self.refused(limit("requests", 60), 1, Standing(taken=60, resets_us=START_US + 4_000_001))
        self.assertEqual(
            "Rate limit exceeded for key: ada. Limit type: requests. Current limit: 60, Remaining: 0. "
            "Limit resets at: 2026-01-31 12:00:05 UTC. Try again then.",
            refusal.message,
        )
        self.assertEqual(
            (
                (b"Retry-After", b"5"),
                (b"rate_limit_type", b"requests"),
                (b"reset_at", b"2026-01-31 12:00:05 UTC"),
                (b"x-dheera-remaining-requests", b"0"),
                (b"x-dheera-reset-requests", b"5"),
                (b"x-ratelimit-limit-requests", b"60"),
                (b"x-ratelimit-remaining-requests", b"0"),
                (b"x-ratelimit-reset-requests", b"5s"),
            ),
            refusal.fields,
        )

    def test_tokens(self) -> None:
        """
        What the call may take is said: it can be made smaller.
        """
        limited = limit("tokens", 1000, whose="team", name="search", model="m")
        refusal = self.refused(limited, 300, Standing(taken=800, resets_us=START_US + 62 * SECOND))
        self.assertIn(
            "for team: search for the model m. Limit type: tokens. Current limit: 1000, Remaining: 200", str(refusal)
        )
        self.assertIn("up to 300 tokens; a smaller max_tokens", str(refusal))

    def test_longest_wait(self) -> None:
        """
        Nobody is told to wait for more than a minute, for which SDKs do not wait: who comes too early is told again.
        When there is room, and when all of it is free, is said as it is.
        """
        for kind in "requests", "tokens":
            refusal = self.refused(limit(kind, 60), 1, Standing(taken=60, resets_us=START_US + 62 * SECOND))
            fields = dict(refusal.fields)
            self.assertEqual(b"60", fields[b"Retry-After"])
            self.assertNotIn(b"x-should-retry", fields)
            self.assertEqual(b"2026-01-31 12:01:02 UTC", fields[b"reset_at"])
            self.assertEqual(b"62", fields[b"x-dheera-reset-" + kind.encode()])

    def test_parallel(self) -> None:
        """
        Nobody knows when there is room again: soon, it is hoped.
        """
        refusal = self.refused(limit("parallel", 2), 1, Standing(taken=2, held=2))
        self.assertIn("Limit type: max_parallel_requests. Current limit: 2, Remaining: 0. Try again when", str(refusal))
        self.assertEqual(((b"Retry-After", b"1"), (b"rate_limit_type", b"max_parallel_requests")), refusal.fields)

    def test_none_at_all(self) -> None:
        """
        A limit of none does not ask anybody to try again.
        """
        for kind in "requests", "tokens", "parallel":
            refusal = self.refused(limit(kind, 0), 1, Standing(taken=0, resets_us=START_US + SECOND))
            self.assertIn("lets no call through: ask", str(refusal))
            self.assertIn((b"x-should-retry", b"false"), refusal.fields)
            self.assertNotIn("smaller", str(refusal))
            self.assertEqual([], [name for name, _ in refusal.fields if b"reset" in name])

    def test_no_time(self) -> None:
        """
        A store that does not know when says nothing, and a minute is enough.
        """
        refusal = self.refused(limit("requests", 60), 1, Standing(taken=60))
        self.assertEqual((b"Retry-After", b"60"), refusal.fields[0])
        self.assertNotIn(b"x-dheera-reset-requests", dict(refusal.fields))


class AlertTests(SynchronousTestCase):
    """
    What whoever runs this dheera is told, once in a window, of a budget that is spent.
    """

    def told(self, amount: int, standing: Standing, *, ends_us: int = 0, **said: Any) -> Alert:
        budget = limit("usd", NANO // 2, **said)
        return alert_of(budget, share_of(budget, amount, ends_us=ends_us), standing, at_us=START_US, node="n1")

    def test_spent(self) -> None:
        """
        Critical, once nothing is left; until when is said.
        """
        alert = self.told(1, Standing(taken=NANO // 2), ends_us=ENDS_US, whose="team", name="search", span="1d")
        self.assertEqual(
            "The team search has spent 100 % of its budget of 0.5 US dollars per 1d: "
            "calls are refused until 2026-01-31 12:01:30 UTC, unless they cost less than what is left.",
            alert.text,
        )
        self.assertEqual(
            ("critical", "budget", "team search", "n1"), (alert.level, alert.about, alert.subject, alert.node)
        )
        self.assertEqual("2026-01-31T12:00:00+00:00", alert.at.isoformat())

    def test_nearly_spent(self) -> None:
        """
        No more than what is true is said; one that never begins anew is refused until somebody does something.
        """
        alert = self.told(10**8, Standing(taken=45 * 10**7), whose="proxy", name="proxy")
        self.assertIn(
            "The whole proxy has spent 0.45 of its budget of 0.5 US dollars: calls are refused until it is", alert.text
        )

    def test_held_beside(self) -> None:
        """
        What calls under way hold is not spent.
        """
        alert = self.told(10**8, Standing(taken=49 * 10**7, held=4 * 10**7), whose="team_member", name="bob")
        self.assertIn("The team member bob has spent 0.45 of its budget of 0.5 US dollars: calls are", alert.text)
