"""
``/user/daily/activity`` and its kin.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dheera.management.spending import activity
from tests.management.directory import bodies
from tests.management.office import START
from tests.management.spending.ledger import CENT, AtLedger, days

MARCH = {"start_date": "2026-03-01", "end_date": "2026-03-31"}


class ActivityTests(AtLedger):
    def setUp(self) -> None:
        super().setUp()
        self.does("/team/new", team_id="search", team_alias="Search")
        self.ada = self.desk.generate(key_alias="ada")
        who = {"user_id": "alice", "team_id": "search", "end_user": "acme", "tags": ["x", "y"]}
        self.call(self.ada, model="a", cost=2 * CENT, **who)
        self.call(self.ada, model="b", status=500, **who)
        self.call(user_id="bob", team_id="ops", end_user="zeta", tags=["y"], model="a", endpoint="ocr")
        self.call(model="new", cost=None, at=START + days(2))

    def days(self, of: str, **query: object) -> list[dict[str, Any]]:
        return [dict(day) for day in self.look(f"/{of}/daily/activity", **MARCH, **query)["results"]]

    def spends(self, of: str, **query: object) -> dict[str, Any]:
        return {day["date"]: day["metrics"]["spend"] for day in self.days(of, **query)}

    def test_a_day(self) -> None:
        """
        A day has its figures, and the same by model, key, provider, endpoint and user.
        """
        [_, day] = self.days("user")
        metrics = {
            "spend": 0.04,
            "prompt_tokens": 30,
            "completion_tokens": 15,
            "cache_read_input_tokens": 12,
            "total_tokens": 45,
            "api_requests": 3,
            "successful_requests": 2,
            "failed_requests": 1,
            "unpriced_requests": 0,
        }
        self.assertEqual(("2026-03-01", metrics), (day["date"], day["metrics"]))
        broken = {
            name: {of: each["metrics"]["spend"] for of, each in part.items()} for name, part in day["breakdown"].items()
        }
        self.assertEqual(
            {
                "models": {"a": 0.03, "b": 0.01},
                "api_keys": {self.ada["token"]: 0.03, "": 0.01},
                "providers": {"mistral": 0.04},
                "endpoints": {"chat/completions": 0.03, "ocr": 0.01},
                "entities": {"alice": 0.03, "bob": 0.01},
            },
            broken,
        )
        told = day["breakdown"]["api_keys"][self.ada["token"]]["metadata"]
        self.assertEqual({"key_id": self.ada["key_id"], "key_alias": "ada", "team_id": None}, told)
        self.assertEqual(metrics, day["breakdown"]["providers"]["mistral"]["metrics"])

    def test_no_price(self) -> None:
        """
        A day of which nothing has a price has no spend, and not 0.
        """
        self.assertEqual({"2026-03-03": None, "2026-03-01": 0.04}, self.spends("user"))

    def test_of_whom(self) -> None:
        """
        By team, end user and tag only calls count that have one; by user and key all do. A call counts under each tag.
        """
        for of, spend, names in (
            ("team", 0.04, {"search", "ops"}),
            ("customer", 0.04, {"acme", "zeta"}),
            ("tag", 0.07, {"x", "y"}),
            ("key", 0.04, {self.ada["token"], ""}),
        ):
            last = self.days(of)[-1]
            self.assertEqual((spend, names), (last["metrics"]["spend"], set(last["breakdown"]["entities"])), of)
            self.assertEqual(of == "key", "2026-03-03" in self.spends(of), of)
            self.assertEqual(of != "tag", "endpoints" in last["breakdown"])
        [day] = self.days("team", team_ids="search")
        self.assertEqual({"team_alias": "Search"}, day["breakdown"]["entities"]["search"]["metadata"])

    def test_filters(self) -> None:
        """
        Of some of them alone, of a model, of a key.
        """
        day = "2026-03-01"
        for of, query, spend in (
            ("user", {"user_id": "alice"}, 0.03),
            ("team", {"team_ids": "ops"}, 0.01),
            ("team", {"team_ids": "ops, search"}, 0.04),
            ("customer", {"end_user_ids": "zeta"}, 0.01),
            ("tag", {"tags": "x"}, 0.03),
            ("tag", {"tags": "x,y,x"}, 0.07),
            ("key", {"api_key": self.ada["key"]}, 0.03),
            ("user", {"model": "a"}, 0.03),
            ("team", {"api_key": self.ada["token"], "model": "b"}, 0.01),
        ):
            self.assertEqual({day: spend}, self.spends(of, **query), query)
        self.assertEqual({}, self.spends("user", user_id="nobody"))

    def test_pages(self) -> None:
        """
        A page is so many days, the latest first; the totals are those of all pages.
        """
        first, second = (self.look("/user/daily/activity", **MARCH, page_size=1, page=number) for number in (1, 2))
        self.assertEqual(["2026-03-03", "2026-03-01"], [each["results"][0]["date"] for each in (first, second)])
        totals = {
            "total_spend": 0.04,
            "total_prompt_tokens": 40,
            "total_completion_tokens": 20,
            "total_cache_read_input_tokens": 16,
            "total_tokens": 60,
            "total_api_requests": 4,
            "total_successful_requests": 3,
            "total_failed_requests": 1,
            "total_unpriced_requests": 1,
            "total_pages": 2,
        }
        self.assertEqual(totals | {"page": 1, "has_more": True}, first["metadata"])
        self.assertEqual(totals | {"page": 2, "has_more": False}, second["metadata"])
        self.assertEqual([], self.look("/user/daily/activity", **MARCH, page=3)["results"])

    def test_wrong_questions(self) -> None:
        """
        The days must be said, in their order; of names there are some, and not too many.
        """
        self.wrong(self.desk.get("/user/daily/activity?end_date=2026-03-01"), ["query", "start_date"])
        self.denied("/user/daily/activity", 400, "end_date", start_date="2026-03-02", end_date="2026-03-01")
        range_ = "start_date=2026-03-01&end_date=2026-03-02"
        for names in ",", ",".join(str(number) for number in range(51)):
            self.wrong(self.desk.get(f"/team/daily/activity?{range_}&team_ids={names}"), ["query", "team_ids"])

    def test_who_may_look(self) -> None:
        """
        Who manages, and nobody else: not even of one's own team.
        """
        key = self.desk.generate()["key"]
        for route in activity.ROUTES:
            self.refused(self.desk.get(route.path, key=key), 403, "auth_error")

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_any_query_is_answered(self, data: st.DataObject) -> None:
        """
        Whatever is asked, the answer has a documented status.
        """
        route = data.draw(st.sampled_from(activity.ROUTES))
        query = data.draw(bodies(route))
        self.answers_as_described(route, {**MARCH, **query} if isinstance(query, dict) else query)
