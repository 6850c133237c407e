"""
``/usage``: the limits that bind a key, and how they stand.
"""

from __future__ import annotations

from typing import Any

from dheera.boundaries import Remove
from dheera.call_ids import new_call_id
from dheera.holding import Allowance, Claim, Release, Share, Turn
from dheera.management.periods import micros
from dheera.money import Usd
from dheera.settings import LimitSettings
from dheera.windows import window_at
from tests.management.office import START, Desk
from tests.management.spending.ledger import CENT, AtLedger, days

_OF_ALL = ("spend", "max_budget", "soft_budget", "budget_duration", "budget_reset_at", "rpm_limit", "tpm_limit")
SHOWN = ("whose", "kind", "model", "window")


class LimitTests(AtLedger):
    def limits(self, key: dict[str, Any]) -> list[dict[str, Any]]:
        """
        What a key sees of its limits.
        """
        told: list[dict[str, Any]] = self.sees("/usage", key=key["key"])["limits"]
        return told

    def claim(self, *shares: Share) -> str:
        """
        What a call takes; its id.
        """
        claim = Claim(call_id=new_call_id(), shares=list(shares))
        turned = self.successResultOf(self.desk.allowances.turn(Turn(owner="one", claims=[claim])))
        self.assertEqual([None], [each.refused for each in turned.verdicts])
        self.assertEqual([False], [each.turned for each in turned.verdicts])
        return claim.call_id

    def share(self, subject: str, amount: int, *, span: str = "", model: str = "") -> Share:
        """
        Dollars that a call may take, in the window that is now.
        """
        window = window_at(span, None, micros(self.desk.now))
        allowance = Allowance(subject=subject, kind="usd", span=span, model=model)
        return Share(allowance=allowance, cap=10**12, amount=amount, starts_us=window.starts_us, ends_us=window.ends_us)

    def test_all_that_bind(self) -> None:
        """
        Those of the key, of its team and of its user in the team, each kind, model and window by itself; none of the
        user's own, which are for keys without a team.
        """
        self.does("/team/new", team_id="search", max_budget=50, team_member_rpm_limit=9)
        self.does("/user/new", user_id="alice", max_budget=20, auto_create_key=False)
        member = {"user_id": "alice"}
        self.does("/team/member_add", team_id="search", member=member, max_budget_in_team=5, budget_duration="7d")
        key = self.desk.generate(
            team_id="search",
            user_id="alice",
            max_budget=10,
            budget_duration="30d",
            budget_limits=[{"budget_duration": "1d", "max_budget": 1}],
            model_max_budget={"codestral-*": {"budget_limit": 2, "time_period": "1d"}},
            rpm_limit=3,
            tpm_limit=1000,
            max_parallel_requests=2,
            model_tpm_limit={"mistral-large-latest": 500},
        )
        seen = {tuple(each[name] for name in SHOWN): each["cap"] for each in self.limits(key)}
        self.assertEqual(
            {
                ("key", "usd", None, "30d"): 10,
                ("key", "usd", None, "1d"): 1,
                ("key", "usd", "codestral-*", "1d"): 2,
                ("key", "requests", None, None): 3,
                ("key", "tokens", None, None): 1000,
                ("key", "parallel", None, None): 2,
                ("key", "tokens", "mistral-large-latest", None): 500,
                ("team", "usd", None, None): 50,
                ("team_member", "usd", None, "7d"): 5,
                ("team_member", "requests", None, None): 9,
            },
            seen,
        )
        alone = self.desk.generate(user_id="alice")
        self.assertEqual([("user", 20)], [(each["whose"], each["cap"]) for each in self.limits(alone)])
        self.assertEqual([], self.limits(self.desk.generate()))

    def test_a_budget(self) -> None:
        """
        It is told what is used, what calls hold, what is left, and when it begins anew.
        """
        key = self.desk.generate(max_budget=1, budget_duration="30d")
        self.call(key, at=START - days(3), cost=50 * CENT)
        self.call(key, cost=20 * CENT)
        [before] = self.limits(key)
        subject = f"key/{key['key_id']}"
        held = self.claim(self.share(subject, 30 * CENT, span="30d"))
        [while_held] = self.limits(key)
        self.successResultOf(self.desk.allowances.turn(Turn(owner="one", releases=[Release(call_id=held)])))
        self.claim(self.share(subject, 200 * CENT, span="30d"))
        [beyond] = self.limits(key)
        self.assertEqual((0.2, 0, 0.8), _amounts(before))
        self.assertEqual((0.2, 0.3, 0.5), _amounts(while_held))
        self.assertEqual((0.2, 2, 0), _amounts(beyond))
        self.assertEqual("2026-04-01T00:00:00Z", before["resets_at"])
        self.assertEqual(0.2, self.sees("/usage", key=key["key"])["spend"])

    def test_of_a_model(self) -> None:
        """
        What was spent on a model counts against its budget, and nothing else does; of a pattern nobody knows until it
        was claimed.
        """
        key = self.desk.generate(model_max_budget={"a": {"budget_limit": 1, "time_period": "1d"}, "b*": 1})
        self.call(key, model="a", cost=20 * CENT)
        self.call(key, model="b", cost=20 * CENT)
        self.assertEqual({"a": 0.2, "b*": 0}, {each["model"]: each["used"] for each in self.limits(key)})
        self.claim(self.share(f"key/{key['key_id']}", 30 * CENT, model="b*"))
        self.assertEqual({"a": 0, "b*": 0.3}, {each["model"]: each["held"] for each in self.limits(key)})

    def test_of_a_member(self) -> None:
        """
        What the user's keys in the team spent counts, and not those elsewhere.
        """
        self.does("/team/new", team_id="search", team_member_budget=1)
        key = self.desk.generate(team_id="search", user_id="alice")
        self.call(key, team_id="search", user_id="alice", cost=20 * CENT)
        self.call(user_id="alice", cost=50 * CENT)
        [limit] = self.limits(key)
        self.assertEqual(("team_member", 0.2, 0.8), (limit["whose"], limit["used"], limit["remaining"]))

    def test_rates(self) -> None:
        """
        Of rates it is told what the last minute took, and of parallel requests, how many there are.
        """
        key = self.desk.generate(rpm_limit=5, tpm_limit=1000, max_parallel_requests=1)
        subject = f"key/{key['key_id']}"
        self.claim(
            Share(allowance=Allowance(subject=subject, kind="requests"), cap=5, amount=1),
            Share(allowance=Allowance(subject=subject, kind="tokens"), cap=1000, amount=300),
            Share(allowance=Allowance(subject=subject, kind="parallel"), cap=1, amount=1),
        )
        told = {each["kind"]: each for each in self.limits(key)}
        self.assertEqual((1, 0, 4), _amounts(told["requests"]))
        self.assertEqual((300, 0, 700), _amounts(told["tokens"]))
        self.assertEqual((0, 1, 0), _amounts(told["parallel"]))
        self.assertEqual({None}, {each["resets_at"] for each in told.values()})
        self.desk.now = START + days(1)
        self.assertEqual((0, 0, 5), _amounts({each["kind"]: each for each in self.limits(key)}["requests"]))

    def test_raised_for_a_while(self) -> None:
        """
        A budget that is raised shows it as long as it is.
        """
        key = self.desk.generate(max_budget=1, temp_budget_increase=2, temp_budget_expiry="2026-03-02T00:00:00Z")
        self.assertEqual([3], [each["cap"] for each in self.limits(key)])
        self.desk.now = START + days(1)
        self.assertEqual([(1, 1)], [(each["cap"], each["remaining"]) for each in self.limits(key)])

    def test_an_alert_alone(self) -> None:
        """
        Where there is only an amount to be told at, nothing is left or exceeded.
        """
        key = self.desk.generate(soft_budget=1)
        self.assertEqual(
            [(None, None, 0)], [(each["cap"], each["remaining"], each["used"]) for each in self.limits(key)]
        )

    def test_whole_proxy(self) -> None:
        """
        What limits all calls together is told to each key, since it may stop it; and to the master key, alone and with
        what was spent in all.
        """
        limits = LimitSettings(max_budget=Usd.of(5), soft_budget=Usd.of(2), budget_duration="30d", rpm_limit=100)
        self.desk = Desk(proxy_limits=limits)
        self.assertEqual(0, self.sees("/usage")["spend"])
        self.call(at=START - days(3), cost=100 * CENT)
        self.call(cost=150 * CENT)
        key = self.desk.generate(rpm_limit=9)
        expected = [("proxy", "usd", 5, 1.5, 3.5), ("proxy", "requests", 100, 0, 100)]
        names = ("whose", "kind", "cap", "used", "remaining")
        of_key = [tuple(each[name] for name in names) for each in self.limits(key)]
        self.assertEqual([("key", "requests", 9, 0, 9), *expected], of_key)
        told = self.sees("/usage")
        self.assertEqual(expected, [tuple(each[name] for name in names) for each in told["limits"]])
        self.assertEqual(
            (1.5, 5, 2, "30d", "2026-04-01T00:00:00Z", 100, None),
            tuple(told[name] for name in _OF_ALL),
        )
        self.claim(self.share("proxy", 30 * CENT, span="30d"))
        self.assertEqual((1.5, 0.3, 3.2), _amounts(self.sees("/usage")["limits"][0]))

    def test_what_nobody_can_read(self) -> None:
        """
        A shared budget that is gone lets nothing through, and that is shown.
        """
        key = self.desk.generate(budget_id=self.does("/budget/new", budget_id="small")["budget_id"])
        self.successResultOf(self.desk.store.apply([Remove("budget", "small")], []))
        self.assertEqual([("requests", 0, 0)], [(each["kind"], each["cap"], each["used"]) for each in self.limits(key)])


def _amounts(limit: dict[str, Any]) -> tuple[float, float, float]:
    return limit["used"], limit["held"], limit["remaining"]
