"""
The rules of counting, on rows that no database has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.holding import RATE_US, SLICE_US, Allowance, Claim, Kind, Paid, Rated, Release, Share, Turn, Verdict
from dheera.stores import reckoning
from dheera.stores.reckoning import UNKEPT_US, WINDOWS_US
from dheera.stores.sheet import COUNTED_US, Count, Hold, Sheet, machine_clock

NOW = 1_000 * SLICE_US + 1
KINDS: Sequence[Kind] = ("usd", "requests", "tokens", "parallel")
ALLOWANCES = [Allowance(subject=subject, kind=kind) for subject in ("key/k", "proxy") for kind in KINDS]
BUDGET = ALLOWANCES[0]
CAPS = dict(zip(ALLOWANCES, (100, 5, 70, 3, 150, 8, 90, 4), strict=True))

shares = st.builds(
    lambda allowance, amount: Share(allowance=allowance, cap=CAPS[allowance], amount=amount),
    st.sampled_from(ALLOWANCES),
    st.integers(0, 40),
)


def sheet(*counts: Count, holds: Sequence[Hold] = (), spent: int = 0) -> Sheet:
    """
    Rows.
    """
    made = Sheet({}, {}, lambda _: spent)
    for count in counts:
        made.counts.setdefault(count.allowance, {})[count.starts_us] = count
    for hold in holds:
        made.holds.setdefault(hold.call_id, {})[hold.allowance] = hold
    return made


def a_hold(**fields: Any) -> Hold:
    """
    What a call has of a budget: 30.
    """
    told = {"call_id": "a", "allowance": BUDGET, "starts_us": 0, "amount": 30, "owner": "me", "deadline_us": NOW}
    return Hold(**{**told, **fields})


def claimed(rows: Sheet, *claims: Sequence[Share], at_us: int = NOW) -> list[Verdict]:
    """
    What becomes of claims in one turn.
    """
    made = [Claim(call_id=f"{at_us} {number}", shares=list(each)) for number, each in enumerate(claims)]
    return reckoning.take_turn(rows, Turn(owner="me", claims=made), at_us).verdicts


def taken(rows: Sheet, allowance: Allowance) -> int:
    """
    What is used and held.
    """
    return sum(count.used + count.held for count in rows.counts.get(allowance, {}).values())


class Turns(SynchronousTestCase):
    @given(st.lists(st.lists(st.lists(shares, min_size=1, max_size=5), max_size=6), max_size=6))
    def test_never_beyond(self, turns: list[list[list[Share]]]) -> None:
        """
        However claims come, together or after each other: what is taken is what those took that were let through,
        each allowance once, it is never more than the cap, and who is refused did not fit.
        """
        rows = sheet()
        expected = dict.fromkeys(ALLOWANCES, 0)
        for number, claims in enumerate(turns):
            verdicts = claimed(rows, *claims, at_us=NOW + number)
            for asked, verdict in zip(claims, verdicts, strict=True):
                if verdict.refused is not None:
                    short = asked[verdict.refused]
                    self.assertGreater(expected[short.allowance] + short.amount, short.cap)
                    continue
                held: set[Allowance] = set()
                for share in asked:
                    if share.allowance not in held:
                        expected[share.allowance] += share.amount
                    if share.allowance.kind in ("usd", "parallel"):
                        held.add(share.allowance)
                self.assertEqual([expected[share.allowance] for share in asked], [s.taken for s in verdict.standings])
        for allowance, amount in expected.items():
            self.assertEqual(amount, taken(rows, allowance))

    def test_nothing_changes(self) -> None:
        """
        A claim that is refused leaves no row to be written, but for the first that is refused by a budget.
        """
        rows = sheet(Count(allowance=BUDGET, starts_us=0, ends_us=0, used=90, cap=100, told=True))
        [verdict] = claimed(rows, [Share(allowance=each, cap=100, amount=20) for each in reversed(ALLOWANCES)])
        self.assertEqual(len(ALLOWANCES) - 1, verdict.refused)
        written = [count.allowance for count, _ in rows.changed.values()]
        self.assertEqual([Allowance(subject="proxy", kind="usd")], written)
        self.assertEqual(({}, {}), (rows.held, rows.ended))

    def test_seeded_once(self) -> None:
        """
        What was spent before is asked for once, when a budget is new.
        """
        rows = sheet(spent=60)
        share = Share(allowance=BUDGET, cap=100, amount=30)
        self.assertEqual([None, 0], [each.refused for each in claimed(rows, [share], [share])])
        rows.seed = self.fail
        claimed(rows, [share], at_us=NOW + 1)
        self.assertEqual(90, taken(rows, BUDGET))


class Amounts(SynchronousTestCase):
    @given(st.integers(-(10**15), 10**15), st.integers(0, 10**6), st.integers(0, 10**6))
    def test_never_negative(self, change: int, used: int, held: int) -> None:
        """
        Whatever is corrected, nothing is below 0.
        """
        rate = Allowance(subject="key/k", kind="tokens")
        slice_ = Count(allowance=rate, starts_us=NOW - NOW % SLICE_US, ends_us=NOW + COUNTED_US, used=used)
        budget = Count(allowance=BUDGET, starts_us=0, ends_us=0, used=used, held=held)
        rows = sheet(slice_, budget, holds=[a_hold(amount=10**7), a_hold(call_id="b", amount=10**7, expired=True)])
        releases = [Release(call_id="a", rates=[Rated(allowance=rate, at_us=NOW, change=change)]), Release(call_id="b")]
        reckoning.take_turn(rows, Turn(owner="me", releases=releases), NOW - 1)
        self.assertEqual((max(0, used + change), 0, 0), (slice_.used, budget.used, budget.held))

    @given(
        st.sampled_from([[], ["expire"], ["release"], ["expire", "release"], ["release", "expire"]]),
        st.integers(0, 10**6),
        st.sampled_from([0, 7, 40]),
        st.integers(0, 10**6),
    )
    def test_whatever_comes_before(self, steps: list[str], cost: int, released: int, others: int) -> None:
        """
        Whether a call is released, its hold expires, both or neither, and in which order: in the end it has used what
        its record says, and holds nothing.
        """
        budget = Count(allowance=BUDGET, starts_us=0, ends_us=0, used=others, held=30)
        rows = sheet(budget, holds=[a_hold()])
        for step in steps:
            if step == "expire":
                reckoning.end_due(rows, NOW + UNKEPT_US)
            else:
                turn = Turn(owner="me", releases=[Release(call_id="a", usd=released)])
                reckoning.take_turn(rows, turn, NOW - 1)
        paid = Paid(call_id="a", usd=cost, subjects=["key/k", "proxy"], models=[], started_us=NOW)
        grown = reckoning.settle(
            sheet(budget, holds=[each for of in rows.holds.values() for each in of.values()]), [paid]
        )
        self.assertEqual((others + cost, 0), (budget.used, budget.held))
        self.assertEqual(others + cost, grown[0].after if grown else others + cost)

    def test_grown(self) -> None:
        """
        What several records add is told as one growth, with the cap and the bound that somebody is told of.
        """
        budget = Count(allowance=BUDGET, starts_us=0, ends_us=0, used=7, held=30, cap=100, soft=50)
        rows = sheet(budget, holds=[a_hold()])
        paid = [
            Paid(call_id=call_id, usd=usd, subjects=["key/k"], models=[], started_us=NOW)
            for call_id, usd in (("a", 20), ("b", 3), ("c", 0))
        ]
        [grown] = reckoning.settle(rows, paid)
        self.assertEqual((BUDGET, 7, 30, 100, 50), (grown.allowance, grown.before, grown.after, grown.cap, grown.soft))

    def test_row_is_gone(self) -> None:
        """
        A hold on a window that was forgotten is ended, and counts nowhere.
        """
        rows = sheet(holds=[a_hold()])
        paid = Paid(call_id="a", usd=5, subjects=["key/k"], models=[], started_us=NOW)
        self.assertEqual([], reckoning.settle(rows, [paid]))
        self.assertEqual({}, rows.holds)


class Times(SynchronousTestCase):
    def test_over(self) -> None:
        """
        Slices are kept a minute longer than they count, windows of budgets for two days.
        """
        for allowance, kept in zip(ALLOWANCES, (WINDOWS_US, RATE_US, RATE_US), strict=False):
            count = Count(allowance=allowance, starts_us=0, ends_us=NOW, used=1)
            self.assertFalse(reckoning.is_idle(count, NOW + kept - 1))
            self.assertTrue(reckoning.is_idle(count, NOW + kept))

    def test_endless(self) -> None:
        """
        What never ends is kept for ever; but not where nobody is under way, and not of end users who have never paid.
        """
        for subject, kind, used, held, is_idle in (
            ("key/k", "parallel", 0, 1, False),
            ("key/k", "parallel", 0, 0, True),
            ("key/k", "usd", 0, 0, False),
            ("customer/e", "usd", 1, 0, False),
            ("customer/e", "usd", 0, 1, False),
            ("customer/e", "usd", 0, 0, True),
        ):
            allowance = Allowance(subject=subject, kind=kind)  # type: ignore[arg-type]  # one of them
            count = Count(allowance=allowance, starts_us=0, ends_us=0, used=used, held=held)
            self.assertEqual(is_idle, reckoning.is_idle(count, NOW), (subject, kind, used, held))

    def test_clock(self) -> None:
        """
        The machine's clock tells microseconds, and goes on.
        """
        first = machine_clock()
        self.assertGreater(first, 1_700_000_000_000_000)
        self.assertLess(first, 10_000_000_000_000_000)
        self.assertGreaterEqual(machine_clock(), first)


class Patterns(SynchronousTestCase):
    def test_fits(self) -> None:
        """
        An allowance is for a call if any of its models fits; one without a pattern always is, and one with a pattern
        never without a model.
        """
        for expected, pattern, models in (
            (True, "", []), (True, "", ["m"]), (False, "*", []), (True, "a*", ["m", "ab"]), (False, "a*", ["m", "ba"]),
            (True, "mistral/m", ["m"]), (False, "m", ["mm"]),
        ):  # fmt: skip
            self.assertEqual(expected, reckoning.fits(pattern, models), pattern)
