"""
``/usage``: what a developer sees.
"""

from __future__ import annotations

import json
from typing import Any

from tests.management.office import START
from tests.management.spending.ledger import CENT, AtLedger, days


class UsageTests(AtLedger):
    def setUp(self) -> None:
        super().setUp()
        self.does("/team/new", team_id="search", team_alias="Search", max_budget=50, rpm_limit=7)
        self.does("/user/new", user_id="alice", user_alias="Alice", max_budget=20, auto_create_key=False)
        self.ada = self.desk.generate(
            key_alias="ada",
            team_id="search",
            user_id="alice",
            max_budget=10,
            budget_duration="30d",
            rpm_limit=3,
            tpm_limit=1000,
            max_parallel_requests=2,
            models=["mistral-*"],
        )
        self.desk.now = START + days(2)
        self.call(self.ada, at=START - days(3), team_id="search", user_id="alice", cost=4 * CENT)
        self.call(self.ada, team_id="search", user_id="alice", model="a", cost=2 * CENT)
        self.call(self.ada, at=self.desk.now, team_id="search", user_id="alice", model="b", status=500)
        self.call(team_id="search", user_id="bob", cost=100 * CENT, model="secret-model")

    def own(self, key: Any = None) -> Any:
        return self.sees("/usage", key=(key or self.ada)["key"])

    def test_what_was_spent(self) -> None:
        """
        A key sees its spend and limits, and what it used today and this month, by model.
        """
        told = self.own()
        self.assertEqual(
            {
                "key_id": self.ada["key_id"],
                "key_name": self.ada["key_name"],
                "key_alias": "ada",
                "spend": 0.03,
                "max_budget": 10,
                "budget_duration": "30d",
                "budget_reset_at": "2026-04-01T00:00:00Z",
                "rpm_limit": 3,
                "tpm_limit": 1000,
                "max_parallel_requests": 2,
                "models": ["mistral-*"],
                "expires": None,
                "blocked": False,
            },
            {name: told[name] for name in told if name in _ABOUT_THE_KEY},
        )
        self.assertEqual((0.01, 1, 1), tuple(told["today"][name] for name in _FIGURES))
        self.assertEqual((0.03, 2, 1), tuple(told["month"][name] for name in _FIGURES))
        self.assertEqual(
            [("a", 0.02), ("b", 0.01)], [(each["model"], each["spend"]) for each in told["month_by_model"]]
        )

    def test_team_and_user(self) -> None:
        """
        It sees what its team and its user have spent in all, and may.
        """
        told = self.own()
        self.assertEqual(
            ("search", "Search", 1.07, 50, 7),
            tuple(told["team"][name] for name in ("team_id", "team_alias", "spend", "max_budget", "rpm_limit")),
        )
        self.assertEqual(
            ("alice", "Alice", 0.07, 20),
            tuple(told["user"][name] for name in ("user_id", "user_alias", "spend", "max_budget")),
        )
        lonely = self.own(self.desk.generate())
        self.assertEqual((None, None, None), (lonely["team"], lonely["user"], lonely["litellm_budget_table"]))

    def test_a_shared_budget(self) -> None:
        """
        It sees the budget that it shares.
        """
        self.does("/budget/new", budget_id="small", max_budget=1)
        told = self.own(self.desk.generate(budget_id="small"))
        self.assertEqual(1, told["litellm_budget_table"]["max_budget"])

    def test_nothing_of_others(self) -> None:
        """
        It sees nothing of other keys, and no digest; not even whether they exist.
        """
        told = json.dumps(self.own())
        for text in "secret-model", "bob", self.ada["token"], self.ada["key"]:
            self.assertNotIn(text, told)
        other = self.desk.generate(key_alias="other")
        for reference in other["key"], other["token"], other["key_id"], "sk-nobody-has-this-one":
            self.refused(self.desk.get(f"/usage?key={reference}", key=self.ada["key"]), 403, "auth_error", "key")
        for name in "key", "token", "key_id":
            self.assertEqual("ada", self.sees(f"/usage?key={self.ada[name]}", key=self.ada["key"])["key_alias"])

    def test_of_any_key(self) -> None:
        """
        Who manages may ask about any key.
        """
        self.assertEqual("ada", self.sees(f"/usage?key={self.ada['key_id']}")["key_alias"])
        self.refused(self.desk.get("/usage?key=sk-nobody-has-this-one"), 404, "not_found_error", "key")

    def test_of_all(self) -> None:
        """
        The master key has no usage of its own: it sees that of all calls together.
        """
        told = self.sees("/usage")
        self.assertEqual([None] * 4, [told[name] for name in ("key_id", "key_name", "team", "max_budget")])
        self.assertEqual((1.07, 0.01, 1.03), (told["spend"], told["today"]["spend"], told["month"]["spend"]))
        self.assertEqual(["secret-model", "a", "b"], [each["model"] for each in told["month_by_model"]])

    def test_nothing_yet(self) -> None:
        """
        A key that was never used has spent 0: that is known.
        """
        told = self.own(self.desk.generate())
        self.assertEqual((0, 0, 0), tuple(told["month"][name] for name in _FIGURES))
        self.assertEqual([], told["month_by_model"])


_FIGURES = ("spend", "requests", "failed_requests")
_ABOUT_THE_KEY = (
    "key_id",
    "key_name",
    "key_alias",
    "spend",
    "max_budget",
    "budget_duration",
    "budget_reset_at",
    "rpm_limit",
    "tpm_limit",
    "max_parallel_requests",
    "models",
    "expires",
    "blocked",
)
