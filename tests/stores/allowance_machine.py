"""
Allowances against a plain list of calls: whatever calls, clocks, owners and caps do, nothing is taken beyond a cap,
nothing is lost, and nothing counts twice. A test of an adapter runs `run_machine` with what `OnAllowances` gives.

A call is in the list with all that it ever was; what is used and held is added up from there each time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count
from typing import Any, Literal, TypeVar

from attrs import define
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

from dheera.holding import RATE_US, SLICE_US, Allowance, Claim, Rated, Release, Share, Turn, Turned, Verdict
from dheera.stores import Stores
from tests.stores.allowances import COUNTED_US, DAY_US, HOUR_US, NOON, NOON_US, SECOND_US, OnAllowances
from tests.stores.books import a_record

Result = TypeVar("Result")
Doing = Callable[[], Awaitable[Result]]

LASTS_US = 60 * SECOND_US
LARGEST_CAP = 200
_examples = count()


@define(eq=False)
class Call:
    """
    One call.

    :param amounts: what it took, by allowance; of those in windows of an hour, in that one.
    :ivar stage: what became of it; ``expired`` if it was when it was neither released nor kept.
    :ivar cost: once it is released, or its record kept.
    """

    id: str
    owner: str
    began_us: int
    bound: int
    amounts: dict[Allowance, int]
    window_us: int
    deadline_us: int
    stage: Literal["open", "released", "kept"] = "open"
    cost: int = 0
    expired: bool = False

    @property
    def taken(self) -> int:
        """
        Of each of its budgets.
        """
        return self.bound if self.stage == "open" else self.cost


@define(eq=False)
class Stage:
    """
    Where machines run: real stores, and a thread that waits for them.
    """

    case: OnAllowances
    reactor: Any
    stores: Stores

    def do(self, doing: Doing[Result]) -> Result:
        """
        What comes of it.
        """

        async def wait() -> Result:
            return await doing()

        def begin() -> Any:
            return Deferred.fromCoroutine(wait())

        result: Result = blockingCallFromThread(self.reactor, begin)
        return result


async def run_machine(case: OnAllowances, *, examples: int, steps: int) -> None:
    """
    Let machines run on a database of *case*.
    """
    from twisted.internet import reactor

    stage = Stage(case, reactor, await case.open_stores())

    class Staged(AllowanceMachine):
        def __init__(self) -> None:
            super().__init__(stage)

    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # to find a shorter story on a database would take minutes
        suppress_health_check=list(HealthCheck),
    )
    await deferToThread(run_state_machine_as_test, Staged, settings=chosen)


class AllowanceMachine(RuleBasedStateMachine):
    """
    Calls of one key and one team, with names and times that no other machine on the same database has.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        number = next(_examples)
        self.name = f"{number}"
        self.now = self.latest = NOON_US + number * 100 * DAY_US
        self.key, self.team = f"key/{number}", f"team/{number}"
        self.budgets = [
            Allowance(subject=self.key, kind="usd"),
            Allowance(subject=self.key, kind="usd", span="1h"),
            Allowance(subject=self.team, kind="usd", model="m*"),
        ]
        self.requests = Allowance(subject=self.key, kind="requests")
        self.parallel = Allowance(subject=self.key, kind="parallel")
        self.tokens = Allowance(subject=self.key, kind="tokens")
        self.rates = [self.requests, self.tokens]
        self.caps = dict.fromkeys([*self.budgets, self.requests, self.parallel, self.tokens], 100)
        self.caps[self.requests] = self.caps[self.parallel] = 4
        self.loose: set[Allowance] = set()
        self.set_back_us = 0
        self.calls: list[Call] = []
        self.rows: set[tuple[Allowance, int]] = set()
        self.unheld: dict[tuple[Allowance, int], int] = {}
        self.owners = ["a", "b"]
        self.dead: list[str] = []
        self.lives = 0
        self.has_ended = False
        self.set_clock(self.now)

    # What is asked of the store.

    def set_clock(self, at_us: int) -> None:
        self.now = at_us
        self.latest = max(self.latest, at_us)
        self.stage.do(lambda: self.stage.case.set_clock(at_us))

    def turn(self, **fields: Any) -> Turned:
        asked = Turn(**{"owner": "nobody", "lasts_us": LASTS_US, **fields})
        turned = self.stage.do(lambda: self.stage.stores.allowances.turn(asked))
        assert turned.at_us == self.now
        if self.has_ended:
            # What is due and does not concern a turn it may leave to the sweep, or not.
            self.has_ended = False
            self.sweep()
        return turned

    def sweep(self) -> None:
        self.stage.do(self.stage.stores.allowances.sweep)
        for call in self.calls:
            # Its slice is forgotten, also if the clock is set back behind it.
            if call.began_us - call.began_us % SLICE_US + COUNTED_US + RATE_US <= self.now:
                for rate in self.rates:
                    call.amounts.pop(rate, None)

    # What must be.

    def starts(self, allowance: Allowance, at_us: int) -> int:
        return at_us - at_us % HOUR_US if allowance.span else 0

    def of(self, allowance: Allowance, starts_us: int) -> list[Call]:
        return [
            call
            for call in self.calls
            if allowance in call.amounts and (not allowance.span or call.window_us == starts_us)
        ]

    def taken(self, allowance: Allowance) -> int:
        if allowance in self.rates:
            slices: dict[int, int] = {}
            for call in self.calls:
                if allowance in call.amounts:
                    at_us = call.began_us - call.began_us % SLICE_US
                    slices[at_us] = slices.get(at_us, 0) + call.amounts[allowance]
            return sum(each for at_us, each in slices.items() if self.now - COUNTED_US < at_us <= self.now)
        if allowance is self.parallel:
            return sum(
                call.stage == "open" and not call.expired and self.now < call.deadline_us
                for call in self.calls
                if allowance in call.amounts
            )
        starts_us = self.starts(allowance, self.now)
        return sum(call.taken for call in self.of(allowance, starts_us)) + self.unheld.get((allowance, starts_us), 0)

    def expire(self) -> None:
        for call in self.calls:
            if call.stage != "kept" and not call.expired and call.deadline_us <= self.now:
                call.expired = self.has_ended = True

    # What happens.

    @rule(
        which=st.sets(st.integers(0, 5), min_size=1),
        bound=st.integers(0, 60),
        owner=st.integers(0, 1),
        extends=st.booleans(),
    )
    def claim(self, which: set[int], bound: int, owner: int, *, extends: bool) -> None:
        """
        A call is let through if, and only if, all that it may take is there.
        """
        chosen = [list(self.caps)[each] for each in sorted(which)]
        hour_us = self.now - self.now % HOUR_US
        shares = []
        for allowance in chosen:
            amount = bound if allowance.kind in ("usd", "tokens") else 1
            windows = {"starts_us": hour_us, "ends_us": hour_us + HOUR_US} if allowance.span else {}
            shares.append(Share(allowance=allowance, cap=self.caps[allowance], amount=amount, **windows))
        call_id = f"{self.name}-{len(self.calls)}"
        if extends:
            self.extend(owner)
        self.expire()
        self.rows |= {(each, self.starts(each, self.now)) for each in chosen if each in self.budgets}
        before = {each.allowance: self.taken(each.allowance) for each in shares}
        claims = [Claim(call_id=call_id, shares=shares)]
        [verdict] = self.turn(owner=self.owners[owner], extends=extends, claims=claims).verdicts
        short = [n for n, each in enumerate(shares) if before[each.allowance] + each.amount > each.cap]
        assert verdict.refused == (short[0] if short else None)
        assert not verdict.turned
        self.check_standings(shares, verdict, before)
        if not short:
            amounts = {each.allowance: each.amount for each in shares}
            deadline_us = self.now + LASTS_US
            self.calls.append(Call(call_id, self.owners[owner], self.now, bound, amounts, hour_us, deadline_us))

    def check_standings(self, shares: list[Share], verdict: Verdict, before: dict[Allowance, int]) -> None:
        for share, standing in zip(shares, verdict.standings, strict=True):
            more = share.amount if verdict.refused is None else 0
            assert standing.taken == before[share.allowance] + more
            assert 0 <= standing.held <= standing.taken
            assert verdict.refused is not None or standing.taken <= share.cap <= LARGEST_CAP

    @rule(which=st.integers(0, 5), seconds=st.sampled_from([-1, 1]))
    def claim_another_window(self, which: int, seconds: int) -> None:
        """
        Nothing is taken by who is mistaken about the window.
        """
        budget = self.budgets[1]
        starts_us = self.now - self.now % HOUR_US + seconds * HOUR_US
        shares = [
            Share(allowance=list(self.caps)[which], cap=100, amount=1) if which != 1 else None,
            Share(allowance=budget, cap=100, amount=1, starts_us=starts_us, ends_us=starts_us + HOUR_US),
        ]
        self.expire()
        claims = [Claim(call_id=f"{self.name}-mistaken", shares=[each for each in shares if each is not None])]
        [verdict] = self.turn(claims=claims).verdicts
        assert verdict.turned

    @precondition(lambda self: self.calls)
    @rule(
        data=st.data(),
        part=st.floats(0, 1),
        more=st.sampled_from([0, 0, 0, 30]),
        tokens=st.integers(0, 80),
        reached=st.booleans(),
    )
    def release(self, data: st.DataObject, part: float, more: int, tokens: int, *, reached: bool) -> None:
        """
        What a call has cost, and the tokens that it had, are what is taken for it from then on; also if it is said
        again, or late.
        """
        call = data.draw(st.sampled_from(self.calls))
        cost = int(part * call.bound) + more
        self.expire()
        rates = []
        if call.stage == "open":
            for rate, actual in (self.requests, int(reached)), (self.tokens, tokens):
                change = actual - call.amounts.get(rate, actual)
                if change:
                    rates.append(Rated(allowance=rate, at_us=call.began_us, change=change))
                    call.amounts[rate] = actual
                if change > 0:
                    self.loose.add(rate)
        self.turn(releases=[Release(call_id=call.id, usd=cost, rates=rates)])
        if call.stage == "open":
            call.stage, call.cost = "released", cost
            if cost > call.bound:
                self.loose.update(call.amounts)
            if not call.expired:
                call.deadline_us = self.now + DAY_US

    @precondition(lambda self: any(call.stage != "kept" for call in self.calls))
    @rule(data=st.data(), more=st.sampled_from([0, 0, 0, 40]))
    def keep(self, data: st.DataObject, more: int) -> None:
        """
        What the ledger says of a call is used, of what it held and of what it did not hold; once.
        """
        call = data.draw(st.sampled_from([each for each in self.calls if each.stage != "kept"]))
        self.keep_all([call], more)

    @precondition(lambda self: any(call.stage != "kept" for call in self.calls))
    @rule()
    def keep_many(self) -> None:
        """
        The ledger has caught up.
        """
        self.keep_all([each for each in self.calls if each.stage != "kept"], 0)

    def keep_all(self, calls: list[Call], more: int) -> None:
        records = []
        for call in calls:
            cost = call.cost if call.stage == "released" else call.bound
            if cost:
                cost += more
            began = NOON + timedelta(microseconds=call.began_us - NOON_US)
            told: dict[str, Any] = {"key_id": self.name, "team_id": self.name, "held_nano_usd": call.bound}
            records.append(a_record(call.id, started_at=began, cost_nano_usd=cost, **told))
            for budget in self.budgets:
                row = (budget, self.starts(budget, min(call.began_us, self.now)))  # no call began later than now
                if budget not in call.amounts and row in self.rows:
                    self.unheld[row] = self.unheld.get(row, 0) + cost
                    self.loose.add(budget)
            if cost > call.bound:
                self.loose.update(call.amounts)
            call.stage, call.cost = "kept", cost
        for _ in range(2):
            self.stage.do(lambda: self.stage.stores.books.keep(records))

    @rule(owner=st.integers(0, 1))
    def extend_alone(self, owner: int) -> None:
        """
        An owner says that it lives.
        """
        self.extend(owner)
        self.expire()
        self.turn(owner=self.owners[owner], extends=True)

    def extend(self, owner: int) -> None:
        for call in self.calls:
            if call.stage == "open" and not call.expired and call.owner == self.owners[owner]:
                call.deadline_us = self.now + LASTS_US

    @rule(owner=st.integers(0, 1))
    def crash(self, owner: int) -> None:
        """
        A process dies, and is started again under another name.
        """
        self.lives += 1
        self.dead.append(self.owners[owner])
        self.owners[owner] = f"{self.owners[owner][0]}{self.lives}"

    @precondition(lambda self: self.dead)
    @rule(data=st.data(), unbegun=st.integers(0, 4))
    def forget(self, data: st.DataObject, unbegun: int) -> None:
        """
        The ledger has all that a dead process has written down: its latest calls had not begun, and took nothing.
        """
        owner = data.draw(st.sampled_from(self.dead))
        left = [call for call in self.calls if call.owner == owner and call.stage != "kept"]
        began = max(0, len(left) - unbegun)
        self.keep_all(left[:began], 0)
        self.stage.do(lambda: self.stage.stores.allowances.forget([owner]))
        for call in left[began:]:
            call.stage, call.cost = "kept", 0

    @rule(which=st.integers(0, 5), cap=st.integers(0, LARGEST_CAP))
    def change_cap(self, which: int, cap: int) -> None:
        """
        It is raised, or lowered, maybe below what is taken.
        """
        allowance = list(self.caps)[which]
        if cap < self.caps[allowance]:
            self.loose.add(allowance)
        self.caps[allowance] = cap

    @rule(
        by_us=st.one_of(
            st.integers(0, 10 * SECOND_US),
            st.integers(0, 100 * SECOND_US),
            st.sampled_from([SLICE_US, LASTS_US, COUNTED_US - 1, COUNTED_US, HOUR_US]),
        )
    )
    def wait(self, by_us: int) -> None:
        """
        Time passes; windows turn.
        """
        self.set_clock(self.now + by_us)

    @rule(by_us=st.one_of(st.integers(0, 100 * SECOND_US), st.just(HOUR_US)))
    def set_back(self, by_us: int) -> None:
        """
        The clock is set back. What was ended by then stays so.
        """
        self.end_due()
        self.set_back_us = self.latest
        self.set_clock(self.now - by_us)

    @rule()
    def end_due(self) -> None:
        """
        All whose deadline is past are ended.
        """
        self.expire()
        self.sweep()

    @invariant()
    def as_the_list(self) -> None:
        """
        What the store says is taken is what the calls in the list took, and that is never more than the cap.
        """
        looked = self.stage.do(lambda: self.stage.stores.allowances.look([self.key, self.team]))
        found = {each.allowance: each for each in looked}
        self.check_caps({name: each.used + each.held for name, each in found.items()})
        for rate in self.rates:
            assert self.taken(rate) == (found[rate].used if rate in found else 0), rate
        for allowance in {each for each, _ in self.rows}:
            latest_us = max(starts_us for each, starts_us in self.rows if each is allowance)
            if allowance not in found:
                assert latest_us
                assert latest_us + DAY_US < self.now, "it is forgotten too soon"
                continue
            used = found[allowance]
            assert used.starts_us == latest_us
            calls = self.of(allowance, latest_us)
            taken = sum(call.taken for call in calls) + self.unheld.get((allowance, latest_us), 0)
            assert used.used + used.held == taken, allowance
            assert used.used >= 0
            assert used.held >= 0

    def check_caps(self, taken: dict[Allowance, int]) -> None:
        """
        Only what is not asked for can pass a cap: a cost above its bound, or of a call without a hold, more tokens than
        were expected, and what was there before the cap was lowered. Then nothing is let through until all fits again,
        as `claim` looks after. A clock that was set back shows once more what was taken after the time that it shows.
        """
        for allowance, cap in self.caps.items():
            if allowance in self.rates and self.now - COUNTED_US < self.set_back_us:
                continue
            if taken.get(allowance, 0) <= cap:
                self.loose.discard(allowance)
            assert allowance in self.loose or taken.get(allowance, 0) <= cap, allowance

    def teardown(self) -> None:
        """
        In the end, when records are kept or deadlines past, nothing is held, and all that the calls cost is used.
        """
        self.keep_all([each for each in self.calls if each.stage == "released"][::2], 0)
        self.set_clock(self.latest + DAY_US)
        self.end_due()
        self.as_the_list()
        looked = self.stage.do(lambda: self.stage.stores.allowances.look([self.key, self.team]))
        assert all(not each.held for each in looked)
        assert all(each.allowance.kind == "usd" for each in looked)
