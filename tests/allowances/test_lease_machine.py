"""
Leases, whatever calls, processes, records and time do.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from dheera.errors import Refusal
from dheera.holding import Allowance
from dheera.limits import Limit
from tests.allowances.house import KEY, Call, House
from tests.allowances.limits import limit

CAP, REQUESTS = 3000, 120
TEAM = Allowance(subject="team/t", kind="usd")
WINDOW = Allowance(subject="key/2", kind="usd", span="10s")
OF_TEAM = limit("usd", CAP, subject="team/t", whose="team", name="search")
KEYS: dict[str, list[Limit]] = {
    "1": [limit("usd", CAP), OF_TEAM, limit("requests", REQUESTS)],
    "2": [limit("usd", CAP, subject="key/2", span="10s"), OF_TEAM],
    "3": [limit("tokens", 2000, subject="key/3"), OF_TEAM],
}


class LeaseMachine(RuleBasedStateMachine):
    """
    Two processes, of which one dies now and then, and keys that share the budget of a team.
    """

    def __init__(self) -> None:
        super().__init__()
        self.house = House()
        self.owners = ["a", "b"]
        self.dead: list[str] = []
        self.key_of: dict[str, str] = {}
        for owner in self.owners:
            self.house.start(owner)

    def of(self, which: str | None, **said: Any) -> list[Call]:
        return [
            call
            for call in self.house.calls
            if which in (None, self.key_of[call.id])
            and all(getattr(call, name) == value for name, value in said.items())
        ]

    @rule(
        owner=st.integers(0, 1),
        key=st.sampled_from(["1", "2", "3"]),
        count=st.integers(1, 60),
        nano=st.sampled_from([0, 1, 2, 2, 3, 40]),
    )
    def call(self, owner: int, key: str, count: int, nano: int) -> None:
        """
        Calls come. One is refused only if it does not fit beside what others have, and other processes hold ahead.
        """
        for _ in range(count):
            try:
                call = self.house.take(self.owners[owner], *KEYS[key], nano=nano, tokens=10)
            except Refusal:
                return
            self.key_of[call.id] = key

    @precondition(lambda self: self.of(None, cost=None))
    @rule(data=st.data(), part=st.floats(0, 1), reached=st.booleans(), count=st.integers(1, 60))
    def end(self, data: st.DataObject, part: float, count: int, *, reached: bool) -> None:
        """
        Some are over.
        """
        alive = [call for call in self.of(None, cost=None) if call.owner in self.owners]
        first = data.draw(st.integers(0, max(0, len(alive) - 1)))
        for call in alive[first : first + count]:
            self.house.end(call, int(part * (call.hold.nano or 0)), tokens=7, reached=reached)

    @precondition(lambda self: self.of(None, is_kept=False))
    @rule(data=st.data(), count=st.integers(1, 100))
    def keep(self, data: st.DataObject, count: int) -> None:
        """
        The ledger writes records: of calls that are over, or were interrupted.
        """
        ended = [call for call in self.of(None, is_kept=False) if call.cost is not None or call.owner in self.dead]
        first = data.draw(st.integers(0, max(0, len(ended) - 1)))
        self.house.keep(*ended[first : first + count])

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.5, 0.9, 1.1, 4.0, 30.0]), times=st.integers(1, 3))
    def wait(self, seconds: float, times: int) -> None:
        """
        Time passes.
        """
        for _ in range(times):
            self.house.wait(seconds)

    @rule(owner=st.integers(0, 1))
    def kill(self, owner: int) -> None:
        """
        A process dies, and is started again.
        """
        self.house.kill(self.owners[owner])
        self.dead.append(self.owners[owner])
        self.owners[owner] = f"{self.owners[owner][0]}{len(self.dead)}"
        self.house.start(self.owners[owner])

    @rule()
    def sweep(self) -> None:
        """
        What is past its deadline is ended.
        """
        self.house.store.sweep()

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """
        The ledger has all of a dead process.
        """
        self.forget_one(data.draw(st.sampled_from(self.dead)))

    def forget_one(self, owner: str) -> None:
        self.house.keep(*self.of(None, owner=owner, is_kept=False))
        self.house.store.forget([owner])

    @invariant()
    def within(self) -> None:
        """
        No budget is ever exceeded, and all that calls have cost, or may still cost, is counted.
        """
        for allowance, key in (TEAM, None), (KEY, "1"):
            used, held = self.house.stand(allowance)
            assert used + held <= CAP, allowance
            assert used + held >= sum(call.taken for call in self.of(key)), allowance
        assert sum(self.house.stand(WINDOW)) <= CAP

    @invariant()
    def any_minute(self) -> None:
        """
        Nor are there ever more requests in a minute, but those that returned since upstream never saw them.
        """
        began = [call.at for call in self.of("1", reached=True)]
        for first, last in zip(began, began[REQUESTS:], strict=False):
            assert last - first > 60, (first, last)

    def teardown(self) -> None:
        """
        In the end nothing is held, and what is used is what the records say.
        """
        for call in self.of(None, cost=None):
            if call.owner in self.owners:
                self.house.end(call, 1 if call.hold.nano else 0)
        self.house.wait(2)
        for owner in self.dead:
            self.forget_one(owner)
        self.house.keep(*self.of(None, is_kept=False))
        for allowance, key in (TEAM, None), (KEY, "1"):
            assert self.house.stand(allowance) == (sum(call.taken for call in self.of(key)), 0)
        assert self.house.stand(WINDOW)[1] == 0


class MachineTests(SynchronousTestCase):
    def test_machine(self) -> None:
        """
        Nothing is taken beyond a cap, nothing is lost, and nothing counts twice.
        """
        chosen = settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # a shorter story takes minutes to find
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(LeaseMachine, settings=chosen)
