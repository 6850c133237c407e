"""
What every `AllowanceStore` promises, as properties. A test of an adapter subclasses `AllowancesContract` (import this
module, not the class, or the class itself would be run) and says how stores are made, broken and mended, and how their
clock is set.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from hypothesis import strategies as st
from msgspec import structs
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from dheera.boundaries import Add, Remove
from dheera.entities import Customer, Team, User, kind_of
from dheera.errors import Outdated, StoreAway
from dheera.holding import (
    RATE_US,
    SLICE_US,
    Allowance,
    Claim,
    Kind,
    Rated,
    Release,
    Share,
    Standing,
    Turn,
    Turned,
    Used,
    Verdict,
    member_subject,
    subject_of,
)
from dheera.money import Usd
from dheera.stores import Stores
from dheera.stores.ledger_rows import microseconds
from tests.stores.books import OnBooks, a_customer, a_record
from tests.stores.contract import a_key, a_team, a_user
from tests.stores.strategies import drawn

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US
NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
NOON_US = microseconds(NOON)
MIDNIGHT_US = NOON_US - 12 * HOUR_US
COUNTED_US = RATE_US + SLICE_US

KEY = Allowance(subject="key/k", kind="usd")
TEAM = Allowance(subject="team/t", kind="usd")
REQUESTS = Allowance(subject="key/k", kind="requests")
TOKENS = Allowance(subject="key/k", kind="tokens")
PARALLEL = Allowance(subject="key/k", kind="parallel")


def share(allowance: Allowance = KEY, amount: int = 30, cap: int = 100, **fields: Any) -> Share:
    """
    What a call may take.
    """
    return Share(allowance=allowance, amount=amount, cap=cap, **fields)


def daily(amount: int = 30, day_us: int = MIDNIGHT_US, **fields: Any) -> Share:
    """
    What a call may take of a key's budget of a day.
    """
    allowance = Allowance(subject="key/k", kind="usd", span="1d")
    return share(fields.pop("allowance", allowance), amount, starts_us=day_us, ends_us=day_us + DAY_US, **fields)


def passed(*standings: Standing) -> Verdict:
    """
    It is let through.
    """
    return Verdict(standings=list(standings))


class OnAllowances(OnBooks):
    """
    A database for each test, whose clock the test sets.
    """

    async def set_clock(self, at_us: int) -> None:
        """
        The clock of this test's database says *at_us*, and stands.
        """
        raise NotImplementedError

    async def opened(self, at_us: int = NOON_US) -> Stores:
        """
        Stores, at noon.
        """
        stores = await self.open_stores()
        await self.set_clock(at_us)
        return stores

    async def turn(self, stores: Stores, *calls: Claim | Release, **fields: Any) -> Turned:
        """
        What comes of it.
        """
        claims = [each for each in calls if isinstance(each, Claim)]
        releases = [each for each in calls if isinstance(each, Release)]
        return await stores.allowances.turn(Turn(claims=claims, releases=releases, **{"owner": "me", **fields}))

    async def claim(self, stores: Stores, call_id: str, *shares: Share, **fields: Any) -> Verdict:
        """
        What becomes of a claim.
        """
        [verdict] = (await self.turn(stores, Claim(call_id=call_id, shares=list(shares)), **fields)).verdicts
        return verdict

    async def release(self, stores: Stores, call_id: str, usd: int = 0, *rates: Rated) -> None:
        """
        The call is over.
        """
        await self.turn(stores, Release(call_id=call_id, usd=usd, rates=list(rates)))

    async def keep(self, stores: Stores, call_id: str, usd: int, **fields: Any) -> None:
        """
        Its record is in the ledger.
        """
        told = {"key_id": "k", "started_at": NOON, "held_nano_usd": 0, **fields}
        await stores.books.keep([a_record(call_id, cost_nano_usd=usd, **told)])

    async def stand(self, stores: Stores, allowance: Allowance = KEY) -> tuple[int, int] | None:
        """
        What is used and held; ``None`` if nobody counts it.
        """
        found = {each.allowance: each for each in await stores.allowances.look([allowance.subject])}
        used = found.get(allowance)
        return None if used is None else (used.used, used.held)


class Claims(OnAllowances):
    async def test_clock(self) -> None:
        """
        Each turn tells the time, by the store's clock; also one that asks for nothing.
        """
        stores = await self.opened()
        self.assertEqual(Turned(at_us=NOON_US), await self.turn(stores))
        await self.set_clock(NOON_US + 1)
        self.assertEqual(NOON_US + 1, (await self.turn(stores, Claim(call_id="a", shares=[share()]))).at_us)

    async def test_to_the_cap(self) -> None:
        """
        All can be taken, and no more: a claim that fits exactly is let through, and one nano-dollar more is not.
        """
        stores = await self.opened()
        self.assertEqual(passed(Standing(taken=99, held=99)), await self.claim(stores, "a", share(amount=99)))
        self.assertEqual(0, (await self.claim(stores, "b", share(amount=2))).refused)
        self.assertEqual(passed(Standing(taken=100, held=100)), await self.claim(stores, "c", share(amount=1)))
        self.assertEqual(passed(Standing(taken=100, held=100)), await self.claim(stores, "d", share(amount=0)))
        self.assertEqual((0, 100), await self.stand(stores))

    async def test_all_or_none(self) -> None:
        """
        A claim of which one share does not fit takes nothing of any; the first that does not is named, and how all of
        them stand is told.
        """
        stores = await self.opened()
        await self.claim(stores, "a", share(TEAM, 90), share(TOKENS, 95), share(PARALLEL, 1))
        shares = [share(), share(REQUESTS, 1), share(PARALLEL, 1, cap=2), share(TEAM, 11), share(TOKENS, 6)]
        verdict = await self.claim(stores, "b", *shares)
        expected = [
            Standing(taken=0),
            Standing(taken=0),
            Standing(taken=1, held=1),
            Standing(taken=90, held=90),
            Standing(taken=95, resets_us=NOON_US + COUNTED_US),
        ]
        self.assertEqual(Verdict(refused=3, standings=expected), verdict)
        self.assertEqual((0, 0), await self.stand(stores))
        self.assertEqual((0, 90), await self.stand(stores, TEAM))
        self.assertEqual((95, 0), await self.stand(stores, TOKENS))
        self.assertIsNone(await self.stand(stores, REQUESTS))
        self.assertEqual((0, 1), await self.stand(stores, PARALLEL))
        self.assertIsNone((await self.claim(stores, "b", *shares[:3], share(TEAM, 10), share(TOKENS, 5))).refused)

    async def test_each_sees_those_before(self) -> None:
        """
        Of claims in one turn each finds taken what those before it took; those that are refused take nothing.
        """
        stores = await self.opened()
        amounts = [40, 50, 60, 10, 1]
        claims = [Claim(call_id=f"{each}", shares=[share(amount=each)]) for each in amounts]
        verdicts = (await self.turn(stores, *claims)).verdicts
        self.assertEqual([None, None, 0, None, 0], [each.refused for each in verdicts])
        self.assertEqual([40, 90, 90, 100, 100], [each.standings[0].taken for each in verdicts])
        self.assertEqual((0, 100), await self.stand(stores))

    async def test_releases_first(self) -> None:
        """
        What is released in a turn can be claimed in the same.
        """
        stores = await self.opened()
        await self.claim(stores, "a", share(amount=100), share(PARALLEL, 1, cap=1))
        again = Claim(call_id="b", shares=[share(amount=60), share(PARALLEL, 1, cap=1)])
        [verdict] = (await self.turn(stores, again, Release(call_id="a", usd=40))).verdicts
        self.assertEqual(passed(Standing(taken=100, held=100), Standing(taken=1, held=1)), verdict)

    async def test_again(self) -> None:
        """
        A claim that was let through may be asked for again, in the same turn and later: it is let through, and takes
        no more.
        """
        stores = await self.opened()
        shares = [share(amount=70), share(PARALLEL, 1, cap=1), share(REQUESTS, 1)]
        claim = Claim(call_id="a", shares=shares)
        expected = passed(
            Standing(taken=70, held=70),
            Standing(taken=1, held=1),
            Standing(taken=1, resets_us=NOON_US + COUNTED_US),
        )
        self.assertEqual([expected, expected], (await self.turn(stores, claim, claim)).verdicts)
        self.assertEqual(expected, await self.claim(stores, "a", *shares))
        self.assertEqual((0, 70), await self.stand(stores))
        await self.release(stores, "a")
        self.assertEqual((0, 0), await self.stand(stores))

    async def test_same_allowance_twice(self) -> None:
        """
        A claim that names an allowance of holds twice takes it once, under the narrower cap.
        """
        stores = await self.opened()
        twice = [share(), share(cap=40), share(PARALLEL, 1), share(PARALLEL, 1)]
        await self.claim(stores, "a", *twice)
        self.assertEqual((0, 30), await self.stand(stores))
        self.assertEqual((0, 1), await self.stand(stores, PARALLEL))
        self.assertEqual(1, (await self.claim(stores, "b", *twice)).refused)
        await self.release(stores, "a")
        self.assertEqual((0, 0), await self.stand(stores))

    async def test_told_apart(self) -> None:
        """
        Allowances that differ in whatever, be it in case or a blank, have nothing to do with each other.
        """
        stores = await self.opened()
        some = [
            KEY,
            Allowance(subject="key/K", kind="usd"),
            Allowance(subject="key/k ", kind="usd"),
            Allowance(subject="key/ḱ'\"\\ %s :a", kind="usd"),
            Allowance(subject="key/k", kind="usd", span="5h"),
            Allowance(subject="key/k", kind="usd", model="m"),
            Allowance(subject="key/k", kind="usd", model="m*"),
            REQUESTS,
            TOKENS,
            Allowance(subject="key/k", kind="tokens", model="m"),
            PARALLEL,
            Allowance(subject="proxy", kind="parallel"),
        ]
        for number, allowance in enumerate(some):
            verdict = await self.claim(stores, f"{number}", share(allowance, 100))
            self.assertEqual((None, 100), (verdict.refused, verdict.standings[0].taken), allowance)
        subjects = sorted({each.subject for each in some})
        self.assertEqual(set(some), {each.allowance for each in await stores.allowances.look(subjects)})

    async def test_cap_changes(self) -> None:
        """
        The cap is what the claim says: raised it lets more through, lowered below what is taken it lets nothing
        through, and takes nothing away; how it stood at the last claim can be seen.
        """
        stores = await self.opened()
        await self.claim(stores, "a", share(amount=80))
        self.assertEqual(0, (await self.claim(stores, "b", share())).refused)
        self.assertIsNone((await self.claim(stores, "b", share(cap=110))).refused)
        verdict = await self.claim(stores, "c", share(amount=1, cap=50))
        self.assertEqual((0, [Standing(taken=110, held=110)]), (verdict.refused, verdict.standings))
        await self.release(stores, "a", 5)
        [used] = await stores.allowances.look(["key/k"])
        self.assertEqual(Used(allowance=KEY, used=0, held=35, cap=50, starts_us=0, ends_us=0), used)
        self.assertIsNone((await self.claim(stores, "c", share(amount=15, cap=50))).refused)

    async def test_told_once(self) -> None:
        """
        That a budget is spent is told as new once in each window, and of other kinds never.
        """
        stores = await self.opened()
        for day_us in (MIDNIGHT_US, MIDNIGHT_US + DAY_US):
            await self.set_clock(day_us)
            taking = [daily(60, day_us), share(REQUESTS, 60), share(PARALLEL, 60)]
            await self.claim(stores, f"{day_us}", share(amount=60, cap=1000), *taking)
            await self.keep(stores, f"{day_us}", 60)
            for expected in (True, False):
                for each in (share(amount=50), *taking[:2], share(PARALLEL, 61, cap=60)):
                    verdict = await self.claim(stores, "a", each)
                    new = each.allowance.span == "1d" or (each.allowance == KEY and day_us == MIDNIGHT_US)
                    self.assertEqual((0, expected and new), (verdict.refused, verdict.first), each)

    async def test_told_when_spent(self) -> None:
        """
        What calls under way hold may return, and a call may be too large for the whole budget: of neither is it told,
        nor does it count as told.
        """
        stores = await self.opened()
        await self.claim(stores, "a", share(amount=60))
        for amount in (41, 100, 101, 1000):
            verdict = await self.claim(stores, "b", share(amount=amount))
            self.assertEqual((0, False), (verdict.refused, verdict.first), amount)
        await self.keep(stores, "a", 60)
        for amount, first in ((101, False), (41, True), (41, False), (100, False)):
            verdict = await self.claim(stores, "b", share(amount=amount))
            self.assertEqual((0, first), (verdict.refused, verdict.first), amount)

    async def test_two_at_once(self) -> None:
        """
        Two processes that claim at the same time never have more than the cap between them, of whatever kind.
        """
        first, second = await self.opened(), await self.open_stores()
        for allowance in (KEY, REQUESTS, PARALLEL):
            shares = [share(TEAM, 1, cap=1000), share(allowance, 10)]
            turns = [
                stores.allowances.turn(Turn(owner=owner, claims=[Claim(call_id=f"{owner} {number}", shares=shares)]))
                for number in range(20)
                for owner, stores in ((f"{allowance.kind} 1", first), (f"{allowance.kind} 2", second))
            ]
            refused = [each.verdicts[0].refused for each in await gatherResults(turns, consumeErrors=True)]
            self.assertEqual([1] * 30 + [None] * 10, sorted(refused, key=lambda each: each is None))
            self.assertEqual(100, sum(await self.stand(second, allowance) or ()), allowance)
        self.assertEqual((0, 30), await self.stand(first, TEAM))


class Rates(OnAllowances):
    async def test_reset(self) -> None:
        """
        It is told when all is free again; of what was refused, when it would fit; and 0 if it never will.
        """
        stores = await self.opened(NOON_US + 1)
        await self.claim(stores, "a", share(TOKENS, 50))
        await self.set_clock(NOON_US + 7 * SECOND_US)
        later = NOON_US + SLICE_US + COUNTED_US
        self.assertEqual(passed(Standing(taken=90, resets_us=later)), await self.claim(stores, "b", share(TOKENS, 40)))
        for amount, resets_us in ((11, NOON_US + COUNTED_US), (60, NOON_US + COUNTED_US), (61, later), (101, 0)):
            verdict = await self.claim(stores, "c", share(TOKENS, amount))
            expected = Verdict(refused=0, standings=[Standing(taken=90, resets_us=resets_us)])
            self.assertEqual(expected, verdict, amount)
        await self.set_clock(NOON_US + COUNTED_US - 1)
        self.assertEqual(0, (await self.claim(stores, "c", share(TOKENS, 60))).refused)
        await self.set_clock(NOON_US + COUNTED_US)
        self.assertIsNone((await self.claim(stores, "c", share(TOKENS, 60))).refused)

    async def test_any_minute(self) -> None:
        """
        Whenever claims come, any sixty seconds hold no more than the cap, wherever they begin; and a claim that fits
        with all of the 65 seconds before it is let through.
        """
        stores = await self.opened()
        gaps = st.one_of(st.integers(0, 2 * SECOND_US), st.integers(0, 70 * SECOND_US), st.just(SLICE_US))
        now = NOON_US
        for number, history in enumerate(drawn(st.lists(st.tuples(gaps, st.integers(1, 60)), max_size=25), 12)):
            allowance = Allowance(subject=f"key/{number}", kind="tokens")
            let: list[tuple[int, int]] = []
            for gap, amount in history:
                now += gap
                await self.set_clock(now)
                verdict = await self.claim(stores, f"{now}", share(allowance, amount))
                if verdict.refused is None:
                    let.append((now, amount))
                else:
                    before = sum(each for at, each in let if now - COUNTED_US < at)
                    self.assertGreater(before + amount, 100)
            for end, _ in let:
                self.assertLessEqual(sum(each for at, each in let if end - RATE_US < at <= end), 100)

    async def test_seam(self) -> None:
        """
        What was taken at the end of one minute leaves no room at the beginning of the next.
        """
        stores = await self.opened(NOON_US + 59_999_999)
        await self.claim(stores, "a", share(REQUESTS, 100))
        await self.set_clock(NOON_US + 60_000_000)
        self.assertEqual(0, (await self.claim(stores, "b", share(REQUESTS, 1))).refused)

    async def test_correction(self) -> None:
        """
        A release puts right what was taken, in the slice in which it was; never below 0; and nothing else: not what is
        counted no longer, and not what nobody counts.
        """
        stores = await self.opened()
        await self.claim(stores, "a", share(TOKENS, 50), share(REQUESTS, 1))
        await self.set_clock(NOON_US + SLICE_US)
        await self.claim(stores, "b", share(TOKENS, 20))
        await self.release(stores, "a", 0, rated(TOKENS, -40), rated(REQUESTS, -1))
        self.assertEqual((30, 0), await self.stand(stores, TOKENS))
        self.assertIsNone(await self.stand(stores, REQUESTS))
        await self.release(stores, "b", 0, rated(TOKENS, 65, NOON_US + SLICE_US + 1))
        verdict = await self.claim(stores, "c", share(TOKENS, 6))
        self.assertEqual([Standing(taken=95, resets_us=NOON_US + COUNTED_US)], verdict.standings)
        self.assertEqual(0, verdict.refused)
        await self.release(stores, "a", 0, rated(TOKENS, -1000))
        self.assertEqual((85, 0), await self.stand(stores, TOKENS))
        other = Allowance(subject="key/k", kind="tokens", model="m")
        await self.release(stores, "a", 0, rated(TOKENS, 5, NOON_US - HOUR_US), rated(other, 5))
        self.assertEqual((85, 0), await self.stand(stores, TOKENS))
        self.assertIsNone(await self.stand(stores, other))

    async def test_clock_set_back(self) -> None:
        """
        When the clock is set back, what was taken at times that are yet to come does not count; and does when they
        come.
        """
        stores = await self.opened()
        await self.claim(stores, "a", share(REQUESTS, 90))
        await self.set_clock(NOON_US - HOUR_US)
        self.assertEqual(90, (await self.claim(stores, "b", share(REQUESTS, 90))).standings[0].taken)
        self.assertEqual((90, 0), await self.stand(stores, REQUESTS))
        await self.set_clock(NOON_US)
        self.assertEqual(0, (await self.claim(stores, "c", share(REQUESTS, 11))).refused)


def rated(allowance: Allowance, change: int, at_us: int = NOON_US) -> Rated:
    """
    A correction.
    """
    return Rated(allowance=allowance, at_us=at_us, change=change)


class Windows(OnAllowances):
    async def test_turned(self) -> None:
        """
        A claim on a window that is over, or yet to come, takes nothing, of nothing: also before it is looked whether
        others fit.
        """
        stores = await self.opened()
        for day_us in (MIDNIGHT_US - DAY_US, MIDNIGHT_US + DAY_US):
            shares = [share(), share(REQUESTS, 1), share(TEAM, 101), daily(30, day_us)]
            verdict = await self.claim(stores, "a", *shares)
            self.assertEqual((True, None), (verdict.turned, verdict.refused))
        self.assertEqual(0, sum(await self.stand(stores) or ()))
        self.assertIsNone(await self.stand(stores, REQUESTS))
        await self.set_clock(MIDNIGHT_US)
        self.assertFalse((await self.claim(stores, "a", daily())).turned)
        await self.set_clock(MIDNIGHT_US + DAY_US - 1)
        self.assertFalse((await self.claim(stores, "b", daily())).turned)
        await self.set_clock(MIDNIGHT_US + DAY_US)
        self.assertTrue((await self.claim(stores, "c", daily())).turned)

    async def test_begins_anew(self) -> None:
        """
        In a new window all may be taken again, at once; when it ends is told. What calls of the one before hold, and
        cost, changes that one.
        """
        stores = await self.opened()
        ends_us = MIDNIGHT_US + DAY_US
        expected = passed(Standing(taken=100, held=100, resets_us=ends_us))
        self.assertEqual(expected, await self.claim(stores, "a", daily(100)))
        refused = await self.claim(stores, "b", daily(1))
        self.assertEqual([Standing(taken=100, held=100, resets_us=ends_us)], refused.standings)
        self.assertEqual(0, (await self.claim(stores, "b", daily(101))).standings[0].resets_us)
        await self.set_clock(ends_us)
        self.assertEqual(30, (await self.claim(stores, "b", daily(30, ends_us))).standings[0].taken)
        await self.release(stores, "a", 90)
        await self.keep(stores, "a", 80)
        [used] = await stores.allowances.look(["key/k"])
        self.assertEqual((0, 30, ends_us), (used.used, used.held, used.starts_us))
        await self.set_clock(NOON_US)
        self.assertEqual(100, (await self.claim(stores, "c", daily(20))).standings[0].taken)

    async def test_parallel_and_rates_have_none(self) -> None:
        """
        What other kinds say of windows decides nothing.
        """
        stores = await self.opened()
        for number, allowance in enumerate((REQUESTS, PARALLEL)):
            verdict = await self.claim(stores, f"{number}", share(allowance, 1, starts_us=5, ends_us=6))
            self.assertEqual((None, False), (verdict.refused, verdict.turned))


class Releases(OnAllowances):
    async def test_cost(self) -> None:
        """
        After a release what a call cost stays held until the ledger has it, and the rest is free at once; also where
        it cost more. Then it is used.
        """
        stores = await self.opened()
        for call_id, cost, before in (("a", 5, 0), ("b", 45, 5)):
            await self.claim(stores, call_id, share())
            await self.release(stores, call_id, cost)
            self.assertEqual((before, cost), await self.stand(stores))
            await self.keep(stores, call_id, cost)
            self.assertEqual((before + cost, 0), await self.stand(stores))

    async def test_twice(self) -> None:
        """
        To release again, with whatever cost, changes nothing, be it before the record or after.
        """
        stores = await self.opened()
        await self.claim(stores, "a", share(), share(PARALLEL, 1))
        await self.turn(stores, Release(call_id="a", usd=20), Release(call_id="a", usd=25))
        for cost in (10, 0):
            await self.release(stores, "a", cost)
            self.assertEqual((0, 20), await self.stand(stores))
        await self.keep(stores, "a", 20)
        await self.release(stores, "a", 10)
        self.assertEqual((20, 0), await self.stand(stores))

    async def test_costs_nothing(self) -> None:
        """
        A call that cost nothing holds nothing any more, and its record changes nothing.
        """
        stores = await self.opened()
        await self.claim(stores, "a", share(), share(TEAM), share(PARALLEL, 1))
        await self.release(stores, "a")
        for allowance in (KEY, TEAM):
            self.assertEqual((0, 0), await self.stand(stores, allowance))
        self.assertIsNone(await self.stand(stores, PARALLEL))
        await self.keep(stores, "a", 0)
        self.assertEqual((0, 0), await self.stand(stores))
        await self.claim(stores, "b", share(), share(PARALLEL, 1))
        await self.release(stores, "b")
        await self.set_clock(NOON_US + 2 * DAY_US)
        self.assertEqual(0, await stores.allowances.sweep())

    async def test_unknown(self) -> None:
        """
        To release a call that holds nothing changes nothing.
        """
        stores = await self.opened()
        await self.claim(stores, "a", share())
        await self.release(stores, "b", 10)
        self.assertEqual((0, 30), await self.stand(stores))

    async def test_record_before_release(self) -> None:
        """
        A record ends all that its call holds; a release that comes later changes nothing.
        """
        stores = await self.opened()
        await self.claim(stores, "a", share(), share(TEAM, 40), share(PARALLEL, 1))
        await self.keep(stores, "a", 10)
        await self.release(stores, "a", 10)
        for allowance in (KEY, TEAM):
            self.assertEqual((10, 0), await self.stand(stores, allowance), allowance)
        self.assertIsNone(await self.stand(stores, PARALLEL))


class Deadlines(OnAllowances):
    async def test_parallel_returns(self) -> None:
        """
        What a dead process held of requests at the same time is free at the deadline, with nobody's help.
        """
        stores = await self.opened()
        one = share(PARALLEL, 1, cap=1)
        await self.claim(stores, "a", one, lasts_us=10)
        await self.set_clock(NOON_US + 9)
        self.assertEqual(0, (await self.claim(stores, "b", one)).refused)
        await self.set_clock(NOON_US + 10)
        self.assertEqual(passed(Standing(taken=1, held=1)), await self.claim(stores, "b", one))

    async def test_extended(self) -> None:
        """
        An owner that lives keeps its holds, and only those; also what is past its deadline, if nobody has ended it yet.
        """
        stores = await self.opened()
        for owner in ("me", "other"):
            await self.claim(stores, owner, share(PARALLEL, 1), share(amount=10), owner=owner, lasts_us=10)
        await self.claim(stores, "late", share(PARALLEL, 1), lasts_us=5)
        await self.set_clock(NOON_US + 5)
        await self.turn(stores, extends=True, lasts_us=10)
        self.assertEqual(0, await stores.allowances.sweep())
        self.assertEqual((0, 3), await self.stand(stores, PARALLEL))
        await self.set_clock(NOON_US + 14)
        self.assertEqual(2, await stores.allowances.sweep())
        self.assertEqual((10, 10), await self.stand(stores))
        self.assertEqual((0, 2), await self.stand(stores, PARALLEL))
        await self.set_clock(NOON_US + 15)
        self.assertEqual(3, await stores.allowances.sweep())
        self.assertEqual(0, await stores.allowances.sweep())
        self.assertEqual((20, 0), await self.stand(stores))
        self.assertIsNone(await self.stand(stores, PARALLEL))

    async def test_extended_late(self) -> None:
        """
        After an outage that was longer than the deadline, an owner that extends before others claim has lost nothing;
        what others have ended by then does not come back.
        """
        stores = await self.opened()
        one, two = share(PARALLEL, 1, cap=2), share(PARALLEL, 1, cap=2)
        await self.claim(stores, "a", one, share(), lasts_us=10)
        await self.set_clock(NOON_US + HOUR_US)
        verdict = await self.claim(stores, "b", two, share(), extends=True, lasts_us=10)
        expected = passed(Standing(taken=2, held=2), Standing(taken=60, held=60))
        self.assertEqual(expected, verdict)
        await self.set_clock(NOON_US + 2 * HOUR_US)
        verdict = await self.claim(stores, "c", one, share(), owner="other")
        self.assertEqual(passed(Standing(taken=1, held=1), Standing(taken=90, held=30)), verdict)
        await self.turn(stores, extends=True)
        self.assertEqual((60, 30), await self.stand(stores))
        self.assertEqual((0, 1), await self.stand(stores, PARALLEL))

    async def test_extended_with_the_claim(self) -> None:
        """
        A turn extends what was held before, and holds what it claims as long.
        """
        stores = await self.opened()
        await self.claim(stores, "a", share(), lasts_us=10)
        await self.set_clock(NOON_US + 9)
        await self.claim(stores, "b", share(), extends=True, lasts_us=10)
        await self.set_clock(NOON_US + 18)
        self.assertEqual(0, await stores.allowances.sweep())
        await self.set_clock(NOON_US + 19)
        self.assertEqual(2, await stores.allowances.sweep())

    async def test_late_record(self) -> None:
        """
        What is past its deadline is used as a whole, and no longer held; its record puts it right.
        """
        stores = await self.opened()
        for call_id, cost in (("a", 5), ("b", 70), ("c", 0)):
            await self.claim(stores, call_id, share(cap=1000), lasts_us=0)
            self.assertEqual(1, await stores.allowances.sweep())
            before = {"a": 0, "b": 5, "c": 75}[call_id]
            self.assertEqual((before + 30, 0), await self.stand(stores))
            await self.keep(stores, call_id, cost)
            self.assertEqual((before + cost, 0), await self.stand(stores))

    async def test_late_release(self) -> None:
        """
        A release puts right what is past its deadline, as its record would, which then changes nothing.
        """
        stores = await self.opened()
        for call_id, cost, before in (("a", 5, 0), ("b", 0, 5)):
            await self.claim(stores, call_id, share(), lasts_us=0)
            await stores.allowances.sweep()
            for _ in range(2):
                await self.release(stores, call_id, cost)
                self.assertEqual((before + cost, 0), await self.stand(stores))
            await self.keep(stores, call_id, cost)
            self.assertEqual((before + cost, 0), await self.stand(stores))

    async def test_no_record(self) -> None:
        """
        If no record comes for a day, what a released call cost is used; and not twice, if it comes after all.
        """
        stores = await self.opened()
        await self.claim(stores, "a", share())
        await self.release(stores, "a", 10)
        await self.set_clock(NOON_US + DAY_US - 1)
        await self.turn(stores, extends=True)
        self.assertEqual(0, await stores.allowances.sweep())
        await self.set_clock(NOON_US + DAY_US)
        self.assertEqual(1, await stores.allowances.sweep())
        self.assertEqual((10, 0), await self.stand(stores))
        await self.keep(stores, "a", 10)
        self.assertEqual((10, 0), await self.stand(stores))

    async def test_forgotten(self) -> None:
        """
        After more than a month nothing is left of windows that are over, of slices, and of holds for which no record
        came; budgets without windows stay.
        """
        stores = await self.opened()
        await self.claim(stores, "a", share(), daily(), share(REQUESTS, 1), share(TOKENS, 5), lasts_us=0)
        await stores.allowances.sweep()
        await self.set_clock(NOON_US + 10 * DAY_US)
        await stores.allowances.sweep()
        await self.set_clock(NOON_US + 40 * DAY_US)
        self.assertEqual(0, await stores.allowances.sweep())
        [left] = await stores.allowances.look(["key/k"])
        self.assertEqual((KEY, 30), (left.allowance, left.used))
        await self.claim(stores, "a", share())
        self.assertEqual((30, 30), await self.stand(stores))


class Removals(OnAllowances):
    DAILY: ClassVar[dict[str, Any]] = {"starts_us": MIDNIGHT_US, "ends_us": MIDNIGHT_US + DAY_US}
    OTHERS = ("key/t", "proxy", "team/t2", "user/t%2F2", "member/t2/v", "member/t0/t", "customer/t/u", "member/v/t/t")

    async def began(self, entity: Team | User | Customer, *gone: str) -> Stores:
        """
        Stores in which *entity* was, and all of *gone* have used 10 of each of their budgets, and hold 30, of which 5
        are past their deadline.
        """
        stores = await self.opened()
        await stores.directory.apply([Add(entity)], [])
        for subject in [*gone, *self.OTHERS]:
            shares = self.shares(subject)
            for call_id, amount, lasts_us in (("a", 10, HOUR_US), ("b", 25, HOUR_US), ("c", 5, 0)):
                wanted = [structs.replace(each, amount=amount) for each in shares]
                await self.claim(stores, f"{subject} {call_id}", *wanted, lasts_us=lasts_us)
            await stores.books.keep([a_record(f"{subject} a", cost_nano_usd=10, started_at=NOON, held_nano_usd=10)])
            await stores.allowances.sweep()
        return stores

    def shares(self, subject: str) -> list[Share]:
        """
        Of a budget that never ends, and of one of a day.
        """
        names = [Allowance(subject=subject, kind="usd"), Allowance(subject=subject, kind="usd", span="1d")]
        return [share(names[0], cap=1000), share(names[1], cap=1000, **self.DAILY)]

    async def begins_anew(self, entity: Team | User | Customer, *gone: str) -> None:
        """
        When *entity* is removed, nothing is left of *gone*; made again it begins with nothing, in whatever window; and
        what was under way has no part in it.
        """
        stores = await self.began(entity, *gone)
        before = {subject: await self.stands(stores, subject) for subject in self.OTHERS}
        self.assertEqual([(15, 25)] * 2, await self.stands(stores, gone[-1]))
        await stores.directory.apply([Remove(kind_of(entity), entity.id)], [])
        for subject in gone:
            self.assertEqual([None, None], await self.stands(stores, subject), subject)
        self.assertEqual(before, {subject: await self.stands(stores, subject) for subject in self.OTHERS})
        await stores.directory.apply([Add(entity)], [])
        for subject in gone:
            verdict = await self.claim(stores, f"{subject} d", *self.shares(subject))
            self.assertEqual([30, 30], [each.taken for each in verdict.standings], subject)
            await self.release(stores, f"{subject} b", 0)
            for call_id in "bc":
                record = a_record(f"{subject} {call_id}", cost_nano_usd=0, started_at=NOON, held_nano_usd=10)
                await stores.books.keep([record])
            self.assertEqual([(0, 30), (0, 30)], await self.stands(stores, subject))

    async def stands(self, stores: Stores, subject: str) -> list[tuple[int, int] | None]:
        """
        What is used and held of each.
        """
        return [await self.stand(stores, each.allowance) for each in self.shares(subject)]

    async def test_team(self) -> None:
        """
        A team, and all of its members.
        """
        await self.begins_anew(a_team("t"), "team/t", "member/t/u", "member/t/", "member/t/u/v")

    async def test_odd_team(self) -> None:
        """
        Also one whose id looks like several.
        """
        odd = member_subject("t/%2F", "u"), member_subject("t/%2F", "")
        await self.begins_anew(a_team("t/%2F"), "team/t/%2F", *odd)

    async def test_user(self) -> None:
        """
        A user, and wherever they were a member.
        """
        await self.begins_anew(a_user("u"), "user/u", "member/t/u", "member/t2/u", member_subject("t/x", "u"))

    async def test_customer(self) -> None:
        """
        An end user.
        """
        await self.begins_anew(a_customer("t"), "customer/t")

    async def test_days_of_another(self) -> None:
        """
        A budget that is claimed for the first time begins with no more than its owner has spent, though the days have
        more: it was spent by somebody who had the id before. Members begin with no more than their team, and than
        themselves.
        """
        stores = await self.opened()
        await self.keep(stores, "before", 50, user_id="u", team_id="t", end_user="e")
        entities = [a_user(spend=Usd(1)), a_team(spend=Usd(3)), a_customer(spend=Usd(4)), a_team("s", spend=Usd(9))]
        await stores.directory.apply([Add(each) for each in entities], [])
        for subject, spent in (("team/t", 3), ("customer/e", 4), ("member/t/u", 1), ("member/t/v", 0), ("key/k", 50)):
            verdict = await self.claim(stores, subject, *self.shares(subject))
            self.assertEqual(30 + spent, verdict.standings[1].taken, subject)

    async def test_undone(self) -> None:
        """
        Nothing is forgotten where the removal is undone.
        """
        stores = await self.opened()
        await stores.directory.apply([Add(a_team("t"))], [])
        await self.claim(stores, "a", share(TEAM))
        await self.fails(Outdated, stores.directory.apply([Remove("team", "t"), Remove("user", "never")], []))
        self.assertEqual((0, 30), await self.stand(stores, TEAM))

    async def test_long_name(self) -> None:
        """
        However long a name is, it is counted, and charged by the ledger.
        """
        stores = await self.opened()
        for name in "e" * 5000, "é/%" * 300:
            allowance = Allowance(subject=subject_of("customer", name), kind="usd")
            self.assertIsNone((await self.claim(stores, name, share(allowance))).refused)
            await self.keep(stores, f"{name} b", 5, end_user=name)
            self.assertEqual((5, 30), await self.stand(stores, allowance))

    async def test_slashes(self) -> None:
        """
        What members of teams with odd names cost counts for them, and for nobody else.
        """
        stores = await self.opened()
        pairs = [("a", "b/c"), ("a/b", "c"), ("a%2Fb", "c"), ("a/b/c", "")]
        allowances = [Allowance(subject=member_subject(team, user), kind="usd") for team, user in pairs]
        await self.claim(stores, "x", *map(share, allowances))
        for cost, (team, user) in enumerate(pairs[:3], 1):
            await self.keep(stores, f"{cost}", cost, team_id=team, user_id=user)
        self.assertEqual([(1, 30), (2, 30), (3, 30), (0, 30)], [await self.stand(stores, each) for each in allowances])
        later = [Allowance(subject=each.subject, kind="usd", span="1d") for each in allowances]
        verdict = await self.claim(stores, "y", *(share(each, **self.DAILY) for each in later))
        self.assertEqual([31, 32, 33, 30], [each.taken for each in verdict.standings])

    async def test_idle(self) -> None:
        """
        Of end users of whom nothing was ever paid nothing is left after an hour; of others all is.
        """
        stores = await self.opened()
        names = ["customer/a", "customer/b", "customer/c", "key/k"]
        for subject in names:
            await self.claim(stores, subject, share(Allowance(subject=subject, kind="usd")), lasts_us=2 * HOUR_US)
        for subject, cost in (("customer/a", 0), ("customer/b", 1), ("key/k", 0)):
            await self.release(stores, subject, cost)
        await self.set_clock(NOON_US + HOUR_US)
        await stores.allowances.sweep()
        left = await stores.allowances.look(names)
        self.assertEqual(["customer/b", "customer/c", "key/k"], sorted(each.allowance.subject for each in left))


class Deaths(OnAllowances):
    async def test_never_began(self) -> None:
        """
        What a dead owner holds returns, whether it is past its deadline or not; what others hold stays.
        """
        stores = await self.opened()
        for call_id, owner, lasts_us in (("a", "dead", 0), ("b", "dead", 10), ("c", "gone", 10), ("d", "me", 10)):
            wanted = share(amount=10), share(TEAM, 5), share(PARALLEL, 1)
            await self.claim(stores, call_id, *wanted, owner=owner, lasts_us=lasts_us)
        await stores.allowances.sweep()
        self.assertEqual([(10, 30), (0, 3)], [await self.stand(stores, each) for each in (KEY, PARALLEL)])
        self.assertEqual(5, await stores.allowances.forget(["dead"]))
        self.assertEqual((0, 20), await self.stand(stores))
        self.assertEqual((0, 10), await self.stand(stores, TEAM))
        self.assertEqual((0, 2), await self.stand(stores, PARALLEL))
        self.assertEqual(3, await stores.allowances.forget(["dead", "gone"]))
        self.assertEqual(0, await stores.allowances.forget(["dead", "gone", "never"]))
        self.assertEqual(0, await stores.allowances.forget([]))
        self.assertEqual((0, 10), await self.stand(stores))

    async def test_what_began(self) -> None:
        """
        What the ledger has of a dead owner stays used, also of a call that had not been released, or was so twice.
        """
        stores = await self.opened()
        for call_id in "abc":
            await self.claim(stores, call_id, share(amount=10), owner="dead", lasts_us=0 if call_id == "c" else 10)
        await self.release(stores, "a", 4)
        await self.release(stores, "b", 3)
        for call_id, cost in (("a", 4), ("c", 7)):
            await self.keep(stores, call_id, cost)
        self.assertEqual((11, 3), await self.stand(stores))
        self.assertEqual(1, await stores.allowances.forget(["dead"]))
        self.assertEqual((11, 0), await self.stand(stores))

    async def test_windows(self) -> None:
        """
        It returns to the window from which it was taken, and to none if that is long over.
        """
        stores = await self.opened()
        for call_id in "ab":
            await self.claim(stores, call_id, daily(), owner=call_id, lasts_us=0)
        await self.set_clock(NOON_US + DAY_US)
        await self.claim(stores, "c", daily(day_us=MIDNIGHT_US + DAY_US))
        self.assertEqual(1, await stores.allowances.forget(["a"]))
        self.assertEqual((0, 30), await self.stand(stores, daily().allowance))
        await self.set_clock(NOON_US + 4 * DAY_US)
        await stores.allowances.sweep()
        self.assertEqual(1, await stores.allowances.forget(["b"]))


class Seeds(OnAllowances):
    async def test_all_time(self) -> None:
        """
        A budget that never begins anew begins with what its subject has spent ever.
        """
        stores = await self.opened()
        entities = [a_key(spend=Usd(1)), a_user(spend=Usd(2)), a_team(spend=Usd(3)), a_customer(spend=Usd(4))]
        await stores.directory.apply([Add(each) for each in entities], [])
        fields: dict[str, Any] = {"user_id": "u", "team_id": "t", "end_user": "e"}
        await self.keep(stores, "before", 10, **fields)
        await self.keep(stores, "other", 100, key_id="l", team_id="t", user_id="v", started_at=NOON - timedelta(1000))
        expected = {
            "key/k": 11, "user/u": 12, "team/t": 113, "customer/e": 14, "member/t/u": 10, "member/t/v": 100,
            "member/u/t": 0, "proxy": 110, "key/none": 0, "team/k": 0,
        }  # fmt: skip
        for subject, spent in expected.items():
            allowance = Allowance(subject=subject, kind="usd")
            verdict = await self.claim(stores, subject, share(allowance, 7, cap=1000))
            self.assertEqual([Standing(taken=spent + 7, held=7)], verdict.standings, subject)
        self.assertEqual((11, 7), await self.stand(stores))

    async def test_days(self) -> None:
        """
        A budget whose window is made of days begins with what was spent in those that are past, by one model if it is
        for one; a user's own with what was spent without a team.
        """
        stores = await self.opened()
        days_us = {"starts_us": MIDNIGHT_US - DAY_US, "ends_us": MIDNIGHT_US + DAY_US}
        fields: dict[str, Any] = {"user_id": "u", "end_user": "e"}
        for ago, cost, more in (
            (0, 1, {"team_id": "t"}), (1, 2, {}), (1.49, 4, {}), (1.51, 8, {}), (30, 16, {}),
            (0, 32, {"key_id": "l", "model": "n"}), (0, 64, {"model": "n"}),
        ):  # fmt: skip
            await self.keep(stores, f"{ago} {cost}", cost, started_at=NOON - timedelta(days=ago), **fields, **more)
        expected = {
            ("key/k", ""): 71, ("user/u", ""): 102, ("team/t", ""): 1, ("member/t/u", ""): 1, ("customer/e", ""): 103,
            ("proxy", ""): 103, ("key/k", "m"): 7, ("key/k", "mistral/n"): 64, ("proxy", "n"): 96, ("key/k", "*"): 0,
        }  # fmt: skip
        for (subject, model), spent in expected.items():
            allowance = Allowance(subject=subject, kind="usd", span="2d", model=model)
            verdict = await self.claim(stores, f"{subject} {model}", share(allowance, 1, cap=1000, **days_us))
            self.assertEqual(spent + 1, verdict.standings[0].taken, (subject, model))

    async def test_hours(self) -> None:
        """
        A window that does not begin and end at midnight begins with nothing; nor does one of a single model that never
        ends, since nobody has its sum.
        """
        stores = await self.opened()
        await self.keep(stores, "before", 10)
        hour = Allowance(subject="key/k", kind="usd", span="1h")
        model = Allowance(subject="key/k", kind="usd", model="m")
        for call_id, each in (
            ("a", share(hour, starts_us=NOON_US, ends_us=NOON_US + HOUR_US)),
            ("b", share(hour, starts_us=MIDNIGHT_US, ends_us=NOON_US + HOUR_US)),
            ("c", share(model)),
        ):
            self.assertEqual(30, (await self.claim(stores, call_id, each)).standings[0].taken, call_id)

    async def test_seeded_and_spent(self) -> None:
        """
        What is seeded counts: a budget that is spent lets nothing through from the first claim on.
        """
        stores = await self.opened()
        await stores.directory.apply([Add(a_key(spend=Usd(95)))], [])
        verdict = await self.claim(stores, "a", share(amount=6))
        expected = Verdict(refused=0, standings=[Standing(taken=95)], first=True)
        self.assertEqual(expected, verdict)
        self.assertEqual((95, 0), await self.stand(stores))


class Unheld(OnAllowances):
    async def test_patterns(self) -> None:
        """
        What a call without a hold costs is added to budgets of the models that it asked for, or that answered: by name,
        and by pattern.
        """
        stores = await self.opened()
        models = {
            "": 5, "mistral-large": 5, "mistral/mistral-large": 5, "mistral-*": 5, "*-2512": 5, "*": 5, "m*l*e": 5,
            "mistral": 0, "Mistral-Large": 0, "*x*": 0, "mistral_large": 0, "mistral-larg?": 0, "%": 0,
            "mistral.large": 0,
        }  # fmt: skip
        some = [Allowance(subject="key/k", kind="usd", model=model) for model in models]
        await self.claim(stores, "a", *map(share, some))
        await self.keep(stores, "b", 5, model="mistral-large", answered_model="mistral-large-2512")
        for allowance in some:
            expected = (models[allowance.model], 30)
            self.assertEqual(expected, await self.stand(stores, allowance), allowance.model)

    async def test_clock_ahead(self) -> None:
        """
        No call began later than now: the clock of a node that is ahead takes nothing out of the current window.
        """
        stores = await self.opened()
        await self.claim(stores, "a", daily())
        ahead = datetime.fromtimestamp((NOON_US + 40 * DAY_US) / SECOND_US, UTC)
        await self.keep(stores, "b", 7, started_at=ahead)
        self.assertEqual((7, 30), await self.stand(stores, daily().allowance))

    async def test_when_it_began(self) -> None:
        """
        It counts in the windows in which the call began.
        """
        stores = await self.opened()
        await self.claim(stores, "a", daily(), share())
        begins = datetime.fromtimestamp(MIDNIGHT_US / SECOND_US, UTC)
        moment = timedelta(microseconds=1)
        await self.set_clock(MIDNIGHT_US + DAY_US)
        for number, at in enumerate((begins - moment, begins, begins + timedelta(1) - moment, begins + timedelta(1))):
            await self.keep(stores, f"{number}", 10, started_at=at)
        self.assertEqual((20, 30), await self.stand(stores, daily().allowance))
        self.assertEqual((40, 30), await self.stand(stores))

    async def test_partly_held(self) -> None:
        """
        A call that held some of its budgets counts on each of them once.
        """
        stores = await self.opened()
        await self.claim(stores, "a", share(TEAM), share(amount=0), daily(0))
        await self.claim(stores, "b", share())
        await self.release(stores, "b", 5)
        await self.keep(stores, "b", 5, team_id="t")
        self.assertEqual((5, 0), await self.stand(stores))
        self.assertEqual((5, 30), await self.stand(stores, TEAM))
        self.assertEqual((5, 0), await self.stand(stores, daily().allowance))

    async def test_claimed_late(self) -> None:
        """
        A call that began in one window, and was let through in the next, counts in the next alone.
        """
        stores = await self.opened()
        await self.claim(stores, "a", daily())
        tomorrow = MIDNIGHT_US + DAY_US
        await self.set_clock(tomorrow)
        await self.claim(stores, "b", daily(30, tomorrow))
        await self.keep(stores, "b", 5, started_at=NOON)
        self.assertEqual((5, 0), await self.stand(stores, daily().allowance))
        await self.set_clock(NOON_US)
        self.assertEqual(30, (await self.claim(stores, "c", daily(0))).standings[0].taken)


class Looks(OnAllowances):
    async def test_look(self) -> None:
        """
        Of those who are asked for, and of nobody else, it is told how each budget stands in its latest window, and of
        rates and requests at the same time what is taken, where anything is.
        """
        stores = await self.opened()
        self.assertEqual([], list(await stores.allowances.look([])))
        self.assertEqual([], list(await stores.allowances.look(["key/k"])))
        tomorrow = MIDNIGHT_US + DAY_US
        await self.claim(stores, "a", daily(soft=80), share(TEAM), share(PARALLEL, 1, cap=3), share(TOKENS, 7))
        await self.claim(stores, "c", share(REQUESTS, 1))
        await self.set_clock(tomorrow)
        await self.claim(stores, "b", daily(20, tomorrow, cap=200), share(REQUESTS, 1, cap=9))
        await self.set_clock(tomorrow + SLICE_US)
        await self.claim(stores, "d", share(REQUESTS, 1, cap=10))
        await self.release(stores, "b", 5)
        await stores.allowances.sweep()
        looked = {each.allowance: each for each in await stores.allowances.look(["key/k", "proxy"])}
        budget = daily().allowance
        used = Used(allowance=budget, used=0, held=5, cap=200, starts_us=tomorrow, ends_us=tomorrow + DAY_US)
        self.assertEqual({budget, REQUESTS}, set(looked))
        self.assertEqual(used, looked[budget])
        requests = looked[REQUESTS]
        self.assertEqual((2, 0, 10), (requests.used, requests.held, requests.cap))

    async def test_many(self) -> None:
        """
        However many are asked for.
        """
        stores = await self.opened()
        kinds: Sequence[Kind] = ("usd", "requests")
        some = [Allowance(subject=f"key/{number}", kind=kind) for number in range(150) for kind in kinds]
        claims = [Claim(call_id=f"{number}", shares=[share(each)]) for number, each in enumerate(some)]
        turned = await self.turn(stores, *claims)
        self.assertEqual([None] * 300, [each.refused for each in turned.verdicts])
        self.assertEqual(set(some), {one.allowance for one in await stores.allowances.look([e.subject for e in some])})
        await self.turn(stores, *[Release(call_id=each.call_id) for each in claims])
        looked = await stores.allowances.look([each.subject for each in some])
        self.assertEqual(0, sum(each.held for each in looked))


class Absence(OnAllowances):
    async def test_away(self) -> None:
        """
        When the database is away each question is answered so, and nothing was done.
        """
        stores = await self.opened()
        claim = Claim(call_id="a", shares=[share()])
        await self.break_it()
        for ask in (
            lambda: stores.allowances.turn(Turn(owner="me", claims=[claim])),
            lambda: stores.allowances.look(["key/k"]),
            stores.allowances.sweep,
        ):
            await self.fails(StoreAway, ask())
        await self.mend_it()
        self.assertEqual([], list(await self.once_back(lambda: stores.allowances.look(["key/k"]))))
        turned: Any = await self.once_back(lambda: stores.allowances.turn(Turn(owner="me", claims=[claim])))
        self.assertEqual([passed(Standing(taken=30, held=30))], turned.verdicts)

    async def once_back(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """
        What is answered at last.
        """
        from twisted.internet import reactor

        for _ in range(400):
            try:
                return await ask()
            except StoreAway:
                await deferLater(reactor, 0.05)
        return self.fail("the database does not come back")


class Leases(OnAllowances):
    """
    A hold of many calls.
    """

    async def lease(self, stores: Stores, *shares: Share, usd: int = 100, **fields: Any) -> Verdict:
        """
        What becomes of the claim of one.
        """
        claim = Claim(call_id="lease", shares=list(shares) or [share(amount=usd)], ahead=True)
        [verdict] = (await self.turn(stores, claim, **fields)).verdicts
        return verdict

    async def tell(self, stores: Stores, usd: int, *, lasts: bool = True) -> None:
        """
        What its calls have cost, and may cost.
        """
        await self.turn(stores, Release(call_id="lease", usd=usd, lasts=lasts))

    async def pay(self, stores: Stores, *costs: int, **fields: Any) -> None:
        """
        Records of calls of it come to the ledger, together.
        """
        told = {"key_id": "k", "started_at": NOON, "held_nano_usd": 50, "lease": "lease", **fields}
        await stores.books.keep([a_record(cost_nano_usd=cost, **told) for cost in costs])

    async def test_paid(self) -> None:
        """
        What calls cost is paid out of it, whatever owner and ledger say first: what is neither paid nor needed is free,
        and in the end all that is used is what was paid.
        """
        stores = await self.opened()
        await self.lease(stores)
        await self.pay(stores, 10, 20)
        self.assertEqual((30, 70), await self.stand(stores))
        await self.tell(stores, 50)
        self.assertEqual((30, 20), await self.stand(stores))
        await self.pay(stores, 5)
        self.assertEqual((35, 15), await self.stand(stores))
        for _ in range(2):
            await self.tell(stores, 47, lasts=False)
            self.assertEqual((35, 12), await self.stand(stores))
        await self.pay(stores, 4, 0)
        await self.pay(stores, 8)
        self.assertEqual((47, 0), await self.stand(stores))
        await self.tell(stores, 90)
        self.assertEqual((47, 0), await self.stand(stores))

    async def test_paid_first(self) -> None:
        """
        If all is paid when it is over, nothing is held any more.
        """
        stores = await self.opened()
        await self.lease(stores)
        await self.pay(stores, 10, 20)
        await self.tell(stores, 30, lasts=False)
        self.assertEqual((30, 0), await self.stand(stores))
        self.assertEqual((await self.claim(stores, "lease", share(amount=70))).refused, None)

    async def test_in_one_turn(self) -> None:
        """
        What is said last counts; what is said when it is over, counts for ever.
        """
        stores = await self.opened()
        await self.lease(stores)
        said = [Release(call_id="lease", usd=usd, lasts=lasts) for usd, lasts in ((80, True), (60, True))]
        await self.turn(stores, *said)
        self.assertEqual((0, 60), await self.stand(stores))
        over = Release(call_id="lease", usd=7)
        await self.turn(stores, *said, over, *said, Release(call_id="lease", usd=9))
        self.assertEqual((0, 7), await self.stand(stores))

    async def test_above(self) -> None:
        """
        Calls that cost more than they were expected to are counted in full.
        """
        stores = await self.opened()
        await self.lease(stores, usd=40)
        await self.tell(stores, 60)
        self.assertEqual((0, 60), await self.stand(stores))
        await self.pay(stores, 50, 30)
        self.assertEqual((80, 0), await self.stand(stores))
        await self.tell(stores, 80, lasts=False)
        self.assertEqual((80, 0), await self.stand(stores))

    async def test_all_budgets(self) -> None:
        """
        It is paid out of all budgets on which it is a hold; on others of the call's, the cost is added.
        """
        stores = await self.opened()
        await self.claim(stores, "other", share(TEAM, 0, cap=100))
        await self.lease(stores, share(amount=60), daily(50))
        await self.pay(stores, 10, 20, team_id="t")
        self.assertEqual((30, 30), await self.stand(stores))
        self.assertEqual((30, 20), await self.stand(stores, daily().allowance))
        self.assertEqual((30, 0), await self.stand(stores, TEAM))

    async def test_deadline(self) -> None:
        """
        At its deadline all that is left of it counts as used: records that come later move nothing twice, and its
        owner, if it lives, puts that right.
        """
        stores = await self.opened()
        await self.lease(stores)
        await self.pay(stores, 10)
        await self.set_clock(NOON_US + RATE_US)
        await stores.allowances.sweep()
        self.assertEqual((100, 0), await self.stand(stores))
        await self.pay(stores, 20, 30)
        self.assertEqual((100, 0), await self.stand(stores))
        await self.tell(stores, 70, lasts=False)
        self.assertEqual((70, 0), await self.stand(stores))
        await self.pay(stores, 10)
        self.assertEqual((70, 0), await self.stand(stores))

    async def test_lease_extended(self) -> None:
        """
        It lasts as long as its owner does.
        """
        stores = await self.opened()
        await self.lease(stores)
        await self.tell(stores, 40)
        for minutes in range(1, 4):
            await self.set_clock(NOON_US + minutes * RATE_US)
            await self.turn(stores, extends=True)
            await stores.allowances.sweep()
            self.assertEqual((0, 40), await self.stand(stores))

    async def test_lease_forgotten(self) -> None:
        """
        When the ledger has all that a dead owner has written down, the rest returns, also after the deadline.
        """
        for late in (False, True):
            stores = await self.opened()
            await self.lease(stores)
            await self.pay(stores, 10)
            if late:
                await self.set_clock(NOON_US + RATE_US)
                await stores.allowances.sweep()
            await self.pay(stores, 5)
            await stores.allowances.forget(["me"])
            self.assertEqual((30 if late else 15, 0), await self.stand(stores))

    async def test_refused(self) -> None:
        """
        That there is no room for one does not say that the budget is spent: that is told when a call is refused.
        """
        stores = await self.opened()
        await self.keep(stores, "unheld", 0)
        await self.claim(stores, "a", share(amount=60))
        await self.keep(stores, "a", 60)
        verdict = await self.lease(stores, usd=50)
        self.assertEqual((0, False), (verdict.refused, verdict.first))
        verdict = await self.claim(stores, "b", share(amount=41))
        self.assertEqual((0, True), (verdict.refused, verdict.first))


class AllowancesContract(
    Claims, Leases, Rates, Windows, Releases, Deadlines, Removals, Deaths, Seeds, Unheld, Looks, Absence
):
    """
    All of it. See `OnAllowances` and `OnBooks` for what a subclass has to say.
    """
