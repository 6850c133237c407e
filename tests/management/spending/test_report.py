"""
``/spend/report``, ``/global/spend``, and the lists in LiteLLM's shapes.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dheera.boundaries import Spent
from dheera.management.routes import Nothing
from dheera.management.spending import lists, report, sums
from dheera.money import Usd
from dheera.usage import Usage
from tests.management.directory import bodies
from tests.management.office import MASTER, START
from tests.management.spending.ledger import CENT, AtLedger, days


class ReportTests(AtLedger):
    def setUp(self) -> None:
        super().setUp()
        self.does("/team/new", team_id="search", team_alias="Search")
        self.ada = self.desk.generate(key_alias="ada")
        self.call(self.ada, user_id="alice", team_id="search", model="a", cost=2 * CENT, tags=["x", "y"])
        self.call(self.ada, user_id="alice", team_id="search", model="b", at=START + days(1), tags=["x"])
        self.call(model="a", end_user="acme", endpoint="ocr", usage=Usage(pages=3), estimated=True, status=500)
        self.call(model="new", cost=None)

    def spends(self, by: str, **query: object) -> dict[Any, Any]:
        rows = self.look("/spend/report", group_by=by, **query)["results"]
        return {row[by]: row["spend"] for row in rows}

    def test_dimensions(self) -> None:
        """
        Spend by each dimension; null stands for those who have none, and for what has no price.
        """
        for by, told in {
            "key": {self.ada["key_id"]: 0.03, None: 0.01},
            "user": {"alice": 0.03, None: 0.01},
            "team": {"search": 0.03, None: 0.01},
            "end_user": {"acme": 0.01, None: 0.03},
            "model": {"a": 0.03, "b": 0.01, "new": None},
            "tag": {"x": 0.03, "y": 0.02},
            "day": {"2026-03-01": 0.03, "2026-03-02": 0.01},
            "endpoint": {"chat/completions": 0.03, "ocr": 0.01},
        }.items():
            self.assertEqual(told, self.spends(by), by)

    def test_a_row(self) -> None:
        """
        A row has the names of what it is about, and all that was counted; so has the total.
        """
        told = self.look("/spend/report", group_by="key,team", start_date="2026-03-01", end_date="2026-03-01")
        figures = {
            "spend": 0.02,
            "requests": 1,
            "failed_requests": 0,
            "unpriced_requests": 0,
            "estimated_requests": 0,
            "prompt_tokens": 10,
            "cached_tokens": 4,
            "completion_tokens": 5,
            "total_tokens": 15,
            "pages": 0,
            "audio_ms": 0,
            "characters": 0,
        }
        who = {"key": self.ada["key_id"], "key_alias": "ada", "team": "search", "team_alias": "Search"}
        self.assertEqual(figures | who, told["results"][0])
        self.assertEqual(["key", "team"], told["group_by"])
        changed = {"spend": 0.03, "requests": 3, "failed_requests": 1, "unpriced_requests": 1, "estimated_requests": 1}
        changed |= {"prompt_tokens": 20, "cached_tokens": 8, "completion_tokens": 10, "total_tokens": 30, "pages": 3}
        self.assertEqual(figures | changed, told["totals"])

    def test_filters(self) -> None:
        """
        Each filter leaves what has the value; the total is of the same.
        """
        for name, value in {
            "api_key": self.ada["token"],
            "user_id": "alice",
            "team_id": "search",
            "tag": "x",
        }.items():
            told = self.look("/spend/report", group_by="model", **{name: value})
            self.assertEqual({"a": 0.02, "b": 0.01}, {row["model"]: row["spend"] for row in told["results"]}, name)
            self.assertEqual(0.03, told["totals"]["spend"], name)
        self.assertEqual({"a": 0.01}, self.spends("model", end_user="acme"))
        self.assertEqual({"a": 0.01}, self.spends("model", endpoint="ocr"))
        self.assertEqual({"search": 0.01}, self.spends("team", model="b"))
        self.assertEqual({"a": 0.01, "new": None}, self.spends("model", api_key=MASTER))
        self.assertEqual({"b": 0.01}, self.spends("model", start_date="2026-03-02"))
        self.assertEqual({}, self.spends("model", end_date="2026-02-28"))

    def test_pages(self) -> None:
        """
        The largest comes first, by day the latest; pages together hold each row once, and know of the next.
        """
        pages = [self.look("/spend/report", group_by="model", size=2, page=number) for number in (1, 2)]
        self.assertEqual(["a", "b", "new"], [row["model"] for page in pages for row in page["results"]])
        self.assertEqual([True, False], [page["has_more"] for page in pages])
        self.assertEqual(["2026-03-02", "2026-03-01"], list(self.spends("day")))

    def test_a_call_with_two_tags(self) -> None:
        """
        It counts under both, and once in the total.
        """
        told = self.look("/spend/report", group_by="tag")
        self.assertEqual(0.04, told["totals"]["spend"])

    def test_what_is_not_kept(self) -> None:
        """
        Sums that the ledger does not keep are refused, and so are those that make no sense.
        """
        for by in "tag,user", "team,tag", "tag,end_user", "endpoint,tag":
            self.denied("/spend/report", 400, "tag", group_by=by)
        self.denied("/spend/report", 400, "tag", group_by="model", tag="x", user_id="alice")
        self.denied("/spend/report", 400, "group_by", group_by="key,key")
        self.denied("/spend/report", 400, "end_date", group_by="key", start_date="2026-03-02", end_date="2026-03-01")
        self.denied("/spend/report", 404, "api_key", group_by="model", api_key="sk-nobody-has-this-one")
        for text in "", "colour", "key,", "key,user,team,model":
            self.wrong(self.desk.get(f"/spend/report?group_by={text}"), ["query", "group_by"])
        self.wrong(self.desk.get("/spend/report"), ["query", "group_by"])

    def test_all_in_all(self) -> None:
        """
        ``/global/spend`` is the sum of all, and says what has no price.
        """
        self.assertEqual(
            {"spend": 0.04, "max_budget": None, "requests": 4, "unpriced_requests": 1}, self.look("/global/spend")
        )

    def test_nothing_priced(self) -> None:
        """
        Where nothing has a price the spend is null, and not 0.
        """
        told = self.look("/spend/report", group_by="model", model="new")
        self.assertEqual((None, 1), (told["totals"]["spend"], told["totals"]["unpriced_requests"]))


class ListTests(AtLedger):
    def setUp(self) -> None:
        super().setUp()
        self.does("/team/new", team_id="search", team_alias="Search")
        self.ada = self.desk.generate(key_alias="ada")
        self.call(self.ada, team_id="search", end_user="acme", model="a", cost=2 * CENT, tags=["x", "y"])
        self.call(self.ada, team_id="search", model="b", tags=["x"])
        self.call(at=START + days(1), model="b", cost=None)

    def test_by_team(self) -> None:
        """
        Teams day by day, each with its models.
        """
        first, second = self.look("/global/spend/report", group_by="team")
        self.assertEqual(
            {
                "group_by_day": "2026-03-01",
                "teams": [
                    {
                        "team_id": "search",
                        "team_name": "Search",
                        "total_spend": 0.03,
                        "metadata": [
                            {"model": "a", "spend": 0.02, "total_tokens": 15},
                            {"model": "b", "spend": 0.01, "total_tokens": 15},
                        ],
                    }
                ],
            },
            first,
        )
        self.assertEqual(("", None), tuple(second["teams"][0][name] for name in ("team_name", "total_spend")))
        self.assertEqual([first], self.look("/global/spend/report", end_date="2026-03-01"))

    def test_by_customer(self) -> None:
        """
        End users day by day.
        """
        first, _ = self.look("/global/spend/report", group_by="customer")
        self.assertEqual({"acme": 0.02, "": 0.01}, {row["customer"]: row["total_spend"] for row in first["customers"]})

    def test_by_key(self) -> None:
        """
        Keys under their hashes, each with its models.
        """
        first, second = self.look("/global/spend/report", group_by="api_key")
        self.assertEqual(
            {
                "api_key": self.ada["token"],
                "key_alias": "ada",
                "total_cost": 0.03,
                "total_input_tokens": 20,
                "total_output_tokens": 10,
                "model_details": [
                    {"model": "a", "total_cost": 0.02, "total_input_tokens": 10, "total_output_tokens": 5},
                    {"model": "b", "total_cost": 0.01, "total_input_tokens": 10, "total_output_tokens": 5},
                ],
            },
            first,
        )
        self.assertEqual(("", None), (second["api_key"], second["total_cost"]))

    def test_keys_and_users(self) -> None:
        """
        Keys and users by what they have spent, the largest first.
        """
        bob = self.desk.generate(key_alias="bob")
        self.desk.store.apply([Spent("key", bob["key_id"], Usd(5 * CENT))], [])
        self.assertEqual([0.05, 0.03], [row["spend"] for row in self.look("/spend/keys")])
        self.assertEqual(["bob"], [row["key_alias"] for row in self.look("/spend/keys", limit=1)])
        for name in "alice", "bob":
            self.does("/user/new", user_id=name, auto_create_key=False)
        self.desk.store.apply([Spent("user", "bob", Usd(CENT))], [])
        self.assertEqual(["bob", "alice"], [row["user_id"] for row in self.look("/spend/users")])
        self.assertEqual([0], [row["spend"] for row in self.look("/spend/users", user_id="alice")])
        self.denied("/spend/users", 404, "user_id", user_id="nobody")

    def test_tags(self) -> None:
        """
        Tags by what was spent under them.
        """
        self.assertEqual(
            [
                {"individual_request_tag": "x", "log_count": 2, "unpriced_requests": 0, "total_spend": 0.03},
                {"individual_request_tag": "y", "log_count": 1, "unpriced_requests": 0, "total_spend": 0.02},
            ],
            self.look("/spend/tags"),
        )
        self.assertEqual([], self.look("/spend/tags", start_date="2026-03-02"))
        self.assertEqual(1, len(self.look("/spend/tags", limit=1)))

    def test_too_much(self) -> None:
        """
        An answer that would grow without bounds is refused, with what to do.
        """
        self.patch(sums, "MOST", 2)
        self.denied("/global/spend/report", 400, "start_date")


class AccessTests(AtLedger):
    def test_who_may_look(self) -> None:
        """
        Who manages, and nobody else.
        """
        key = self.desk.generate()["key"]
        for route in (*report.ROUTES, *lists.ROUTES):
            self.refused(self.desk.get(f"{route.path}?group_by=team", key=key), 403, "auth_error")

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_any_query_is_answered(self, data: st.DataObject) -> None:
        """
        Whatever is asked, the answer has a documented status.
        """
        routes = [route for route in (*report.ROUTES, *lists.ROUTES) if route.query is not Nothing]
        route = data.draw(st.sampled_from(routes))
        self.answers_as_described(route, data.draw(bodies(route)))
