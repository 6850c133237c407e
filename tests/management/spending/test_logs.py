"""
``/spend/logs``.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dheera.keys import digest
from dheera.management.spending import logs
from tests.management.directory import bodies
from tests.management.office import MASTER, START
from tests.management.spending.ledger import CENT, AtLedger, days


class RowTests(AtLedger):
    def test_names(self) -> None:
        """
        A call stands there under LiteLLM's names, with all that is known of it.
        """
        ada = self.desk.generate(key_alias="ada")
        call = self.call(
            ada,
            user_id="alice",
            team_id="search",
            end_user="acme",
            tags=["batch"],
            estimated=True,
            upstream_id="up-1",
            cost=1_234_567,
        )
        [row] = self.look("/spend/logs")
        about = row.pop("metadata")
        self.assertEqual(
            {
                "request_id": call.call_id,
                "call_type": "pass_through_endpoint",
                "custom_llm_provider": "mistral",
                "api_key": ada["token"],
                "spend": 0.001234567,
                "total_tokens": 15,
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "startTime": "2026-03-01T12:00:00Z",
                "endTime": "2026-03-01T12:00:01.500000Z",
                "completionStartTime": "2026-03-01T12:00:00.250000Z",
                "request_duration_ms": 1500,
                "model": "mistral-small-latest",
                "user": "alice",
                "team_id": "search",
                "end_user": "acme",
                "request_tags": ["batch"],
                "requester_ip_address": "192.0.2.7",
                "status": "success",
            },
            row,
        )
        self.assertEqual(
            {
                "key_id": ada["key_id"],
                "key_alias": "ada",
                "outcome": "complete",
                "status_code": 200,
                "error": None,
                "endpoint": "chat/completions",
                "estimated": True,
                "price_list": "2026-03",
                "usage": {"prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 5, "total_tokens": 15},
                "upstream_id": "up-1",
                "node": "one",
            },
            about,
        )

    def test_no_price(self) -> None:
        """
        Without a price the spend is null; what was free, and what was refused, cost 0.
        """
        self.call(cost=None, model="new")
        self.call(cost=0, model="free")
        self.call(cost=None, model="refused", outcome="refused", status=403)
        self.assertEqual(
            {"new": None, "free": 0, "refused": 0}, {row["model"]: row["spend"] for row in self.look("/spend/logs")}
        )

    def test_no_key(self) -> None:
        """
        A call of the master key has no hash, and no field of it is null that a script may take for a text.
        """
        self.call(model=None)
        [row] = self.look("/spend/logs")
        self.assertEqual(("", "", ""), (row["api_key"], row["user"], row["model"]))
        self.assertNotIn(digest(MASTER.encode()), str(row))

    def test_failures(self) -> None:
        """
        Whatever went wrong is a failure.
        """
        self.call(status=400, model="bad")
        self.call(outcome="client_left", model="left")
        self.call(outcome="interrupted", status=None, model="died")
        self.call(error="overloaded", model="told")
        self.call(model="good")
        told = {row["model"]: row["status"] for row in self.look("/spend/logs")}
        self.assertEqual({"bad", "left", "died", "told"}, {name for name, word in told.items() if word == "failure"})
        self.assertEqual("success", told["good"])


class FilterTests(AtLedger):
    def models(self, **query: object) -> set[str]:
        rows = self.look("/spend/logs", **{"summarize": "false", **query})
        paged = self.look("/spend/logs/v2", **query)
        self.assertEqual([row["request_id"] for row in rows], [row["request_id"] for row in paged["data"]])
        if "status" not in query:
            self.assertEqual(len(rows), paged["total"])
        return {row["model"] for row in rows}

    def test_columns(self) -> None:
        """
        Each filter leaves the calls that have the value.
        """
        wanted = self.call(
            model="a", key_alias="ada", user_id="u", team_id="t", end_user="e", endpoint="ocr", tags=["x", "y"]
        )
        self.call(model="b", tags=["xy"])
        for name, value in {
            "model": "a",
            "key_alias": "ada",
            "user_id": "u",
            "team_id": "t",
            "end_user": "e",
            "endpoint": "ocr",
            "tag": "y",
            "request_id": wanted.call_id,
        }.items():
            self.assertEqual({"a"}, self.models(**{name: value}), name)
        self.assertEqual(set(), self.models(user_id="u", model="b"))

    def test_keys(self) -> None:
        """
        A key is named by itself, by its hash or its id, also when it was deleted; the master key by itself.
        """
        ada, bob = self.desk.generate(key_alias="ada"), self.desk.generate(key_alias="bob")
        self.call(ada, model="a")
        self.call(bob, model="b")
        self.call(model="m")
        self.does("/key/delete", keys=[bob["key_id"]])
        for key, model in ((ada, "a"), (bob, "b")):
            for name in "key", "token", "key_id":
                self.assertEqual({model}, self.models(api_key=key[name]), name)
        self.assertEqual({"m"}, self.models(api_key=MASTER))
        self.denied("/spend/logs", 404, "api_key", api_key="sk-nobody-has-this-one")

    def test_status(self) -> None:
        """
        Failures, or what went well; the longer name of LiteLLM's pages means the same.
        """
        self.call(model="good")
        self.call(model="bad", status=500)
        self.assertEqual({"bad"}, self.models(status="failure"))
        self.assertEqual({"good"}, self.models(status="success"))
        [row] = self.look("/spend/logs/v2", status_filter="failure")["data"]
        self.assertEqual("bad", row["model"])
        self.denied("/spend/logs/v2", 400, "status_filter", status_filter="failure", status="success")

    def test_times(self) -> None:
        """
        A day is meant as a whole, in UTC; a time is where it begins, and where it ends is no longer part of it.
        """
        for number in range(3):
            self.call(model=f"day {number}", at=START + days(number))
        self.assertEqual({"day 1", "day 2"}, self.models(start_date="2026-03-02"))
        self.assertEqual({"day 0", "day 1"}, self.models(end_date="2026-03-02"))
        self.assertEqual({"day 1"}, self.models(start_date="2026-03-02", end_date="2026-03-02"))
        self.assertEqual({"day 1", "day 2"}, self.models(start_date="2026-03-02T12:00:00Z"))
        self.assertEqual({"day 0"}, self.models(end_date="2026-03-02T12:00:00Z"))
        self.assertEqual({"day 1", "day 2"}, self.models(start_date="2026-03-02T14:00:00+02:00"))
        self.assertEqual({"day 1", "day 2"}, self.models(start_date="2026-03-02 12:00:00"))

    def test_no_times(self) -> None:
        """
        What is no time is refused, and so is an end before the beginning.
        """
        for text in "yesterday", "2026-02-30", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00":
            self.wrong(self.desk.get(f"/spend/logs?start_date={text.replace('+', '%2B')}"), ["query", "start_date"])
            self.wrong(self.desk.get(f"/spend/logs?end_date={text.replace('+', '%2B')}"), ["query", "end_date"])
        self.denied("/spend/logs", 400, "end_date", start_date="2026-03-02T00:00:00Z", end_date="2026-03-01T00:00:00Z")
        self.assertEqual(set(), self.models(end_date="0001-01-01"))
        self.assertEqual(set(), self.models(end_date="9999-12-31"))


class PageTests(AtLedger):
    def setUp(self) -> None:
        super().setUp()
        self.ids = [self.call(at=START - days(number), status=200 + number % 2 * 300).call_id for number in range(5)]

    def seen(self, page: Any) -> list[str]:
        return [row["request_id"] for row in page["data"]]

    def test_numbers(self) -> None:
        """
        Pages by their numbers hold each call once, the newest first, and tell how many there are.
        """
        pages = [self.look("/spend/logs/v2", page=number, page_size=2) for number in (1, 2, 3)]
        self.assertEqual(self.ids, [each for page in pages for each in self.seen(page)])
        self.assertEqual((5, 3, 2, 2), tuple(pages[1][name] for name in ("total", "total_pages", "page", "page_size")))
        self.assertIsNone(pages[2]["next"])
        rows = self.look("/spend/logs", page=2, size=3)
        self.assertEqual(self.ids[3:], [row["request_id"] for row in rows])

    def test_cursor(self) -> None:
        """
        From one page to the next no call is missed or repeated, though new ones come meanwhile.
        """
        found: list[str] = []
        query: dict[str, str] = {}
        while True:
            page = self.look("/spend/logs/v2", page_size=2, **query)
            found += self.seen(page)
            if page["next"] is None:
                break
            query = {"after": page["next"]}
            self.call(at=START + days(1))
        self.assertEqual(self.ids, found)
        rows = self.look("/spend/logs", after=self.ids[3])
        self.assertEqual(self.ids[4:], [row["request_id"] for row in rows])

    def test_failures(self) -> None:
        """
        The same with failures alone, by cursor or by number; they are counted.
        """
        first = self.look("/spend/logs/v2", status="failure", page_size=1)
        for way in {"after": first["next"]}, {"page": 2}:
            second = self.look("/spend/logs/v2", status_filter="failure", page_size=1, **way)
            self.assertEqual([self.ids[1], self.ids[3]], self.seen(first) + self.seen(second))
            self.assertEqual((None, 2, 2), tuple(second[name] for name in ("next", "total", "total_pages")))
        self.assertEqual(len(self.ids) - 2, self.look("/spend/logs/v2", status="success")["total"])

    def test_wrong_pages(self) -> None:
        """
        Numbers of pages mean nothing behind a cursor; a call that is gone is no cursor.
        """
        self.denied("/spend/logs", 400, "page", page=2, after=self.ids[0])
        self.denied("/spend/logs", 404, "after", after="gone")


class SummaryTests(AtLedger):
    def setUp(self) -> None:
        super().setUp()
        self.ada = self.desk.generate(key_alias="ada")
        self.call(self.ada, user_id="alice", model="a")
        self.call(user_id="bob", model="b", cost=3 * CENT)
        self.call(model="new", cost=None)
        self.call(self.ada, at=START + days(1), model="a")
        self.call(at=START + days(5))

    def test_by_day(self) -> None:
        """
        Days, with the spend of each user, model and key, as LiteLLM gives it; what has no price is null.
        """
        first, second = self.look("/spend/logs", start_date="2026-03-01", end_date="2026-03-03")
        self.assertEqual(
            {
                "startTime": "2026-03-01",
                "spend": 0.04,
                "unpriced_requests": 1,
                "users": {"alice": 0.01, "bob": 0.03, "": None},
                "models": {"a": 0.01, "b": 0.03, "new": None},
                self.ada["token"]: 0.01,
                "": 0.03,
            },
            first,
        )
        self.assertEqual(("2026-03-02", 0.01), (second["startTime"], second["spend"]))

    def test_filters(self) -> None:
        """
        Of one key, one user, or one tag alone.
        """
        range_ = {"start_date": "2026-03-01", "end_date": "2026-03-03"}
        told = self.look("/spend/logs", api_key=self.ada["key"], **range_)
        self.assertEqual([0.01, 0.01], [day["spend"] for day in told])
        [day] = self.look("/spend/logs", user_id="bob", **range_)
        self.assertEqual(0.03, day["spend"])
        self.call(model="a", tags=["x"], cost=2 * CENT)
        [day] = self.look("/spend/logs", tag="x", summarize="true", **range_)
        self.assertEqual((0.02, {"a": 0.02}, {}), (day["spend"], day["models"], day["users"]))

    def test_when(self) -> None:
        """
        Sums are given where they are asked for, and where LiteLLM gives them: for two days, and no more than a key or a
        user. Everything else gives calls.
        """
        range_ = {"start_date": "2026-03-01", "end_date": "2026-03-03"}
        for query, sums in (
            (range_, True),
            ({**range_, "user_id": "bob"}, True),
            ({"summarize": "true"}, True),
            ({**range_, "summarize": "true", "model": "a"}, True),
            ({**range_, "summarize": "false"}, False),
            ({**range_, "model": "a"}, False),
            ({**range_, "size": 3}, False),
            ({"start_date": "2026-03-01"}, False),
            ({**range_, "end_date": "2026-03-03T00:00:00Z"}, False),
        ):
            told = self.look("/spend/logs", **query)
            self.assertEqual(sums, "request_id" not in told[0], query)

    def test_what_is_not_kept(self) -> None:
        """
        What no sums are kept by is refused, and nothing is left out in silence.
        """
        for name, value in {"key_alias": "ada", "request_id": "x", "status": "failure", "after": "x"}.items():
            self.denied("/spend/logs", 400, name, summarize="true", **{name: value})
        self.denied("/spend/logs", 400, "start_date", summarize="true", start_date="2026-03-01T00:00:00Z")
        self.denied("/spend/logs", 400, "tag", summarize="true", tag="x", user_id="alice")
        self.denied("/spend/logs", 400, "end_date", start_date="2026-03-02", end_date="2026-03-01")


class AccessTests(AtLedger):
    def test_who_may_look(self) -> None:
        """
        Who manages, and nobody else: no developer sees the calls of others here.
        """
        key = self.desk.generate(key_alias="ada")["key"]
        for path in "/spend/logs", "/spend/logs/v2":
            self.refused(self.desk.get(path, key=key), 403, "auth_error")
            self.assertEqual(401, self.desk.get(path, key=None).status)

    def test_a_ledger_that_is_away(self) -> None:
        """
        It is told, with 503.
        """
        self.desk.books.fail()
        self.assertEqual(503, self.desk.get("/spend/logs").status)

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_any_query_is_answered(self, data: st.DataObject) -> None:
        """
        Whatever is asked, the answer has a documented status.
        """
        route = data.draw(st.sampled_from(logs.ROUTES))
        self.answers_as_described(route, data.draw(bodies(route)))
