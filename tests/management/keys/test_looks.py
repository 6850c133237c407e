"""
``/key/...``: looking at keys.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from dheera.boundaries import Add
from dheera.entities import User
from tests.management.office import START, AtDesk


class Info(AtDesk):
    def test_any_name(self) -> None:
        """
        A key is told of by any of its names, without itself and without its digest.
        """
        made = self.desk.generate(key_alias="a", rpm_limit=5)
        for name in (made["key"], made["token"], made["key_id"]):
            reply = self.desk.get(f"/key/info?key={name}")
            self.assertEqual((200, name), (reply.status, reply.json["key"]))
            info = reply.json["info"]
            self.assertEqual(("a", 5, made["key_name"]), (info["key_alias"], info["rpm_limit"], info["key_name"]))
            for secret in {made["key"], made["token"]} - {name}:
                self.assertNotIn(secret, reply.answer.body.decode())
            self.assertNotIn(name if name != made["key_id"] else "token", str({**info, "key_id": ""}))

    def test_own(self) -> None:
        """
        A key that asks without saying about which is told of itself, and may also name itself.
        """
        made = self.desk.generate(key_alias="mine")
        reply = self.desk.get("/key/info", key=made["key"])
        self.assertEqual((200, made["key_name"]), (reply.status, reply.json["key"]))
        self.assertEqual("mine", reply.json["info"]["key_alias"])
        self.assertNotIn(made["token"], reply.answer.body.decode())
        for name in (made["key"], made["token"], made["key_id"]):
            self.assertEqual(200, self.desk.get(f"/key/info?key={name}", key=made["key"]).status)

    def test_others(self) -> None:
        """
        A key learns nothing of others, not even whether they are there.
        """
        own, other = self.desk.generate()["key"], self.desk.generate()
        for name in (other["key"], other["token"], other["key_id"], "sk-nobody-has-made-this", "0" * 64):
            self.refused(self.desk.get(f"/key/info?key={name}", key=own), 403, "auth_error", "key")

    def test_master(self) -> None:
        """
        The master key must say which key it asks about.
        """
        self.refused(self.desk.get("/key/info"), 404, "not_found_error", "key")
        reply = self.desk.get("/key/info?key=sk-nobody-has-made-this")
        self.refused(reply, 404, "not_found_error", "key")
        self.assertNotIn("nobody", reply.answer.body.decode())

    def test_query(self) -> None:
        """
        A query that could mean two things is refused.
        """
        self.wrong(self.desk.get("/key/info?key=a&key=b"), ["query", "key"])
        self.wrong(self.desk.get("/key/info?key="), ["query", "key"])
        self.wrong(self.desk.get("/key/info?key=%ff"), ["query"])
        self.wrong(self.desk.get("/key/info?key=a%00"), ["query", "key"])


class Infos(AtDesk):
    def test_several(self) -> None:
        """
        Those that are there are told of.
        """
        made = [self.desk.generate(key_alias=alias) for alias in "ab"]
        names = [made[0]["key"], "sk-nobody-has-made-this", made[1]["token"]]
        reply = self.desk.post("/v2/key/info", {"keys": names})
        self.assertEqual((200, names), (reply.status, reply.json["key"]))
        self.assertEqual(["a", "b"], [each["key_alias"] for each in reply.json["info"]])
        self.refused(self.desk.post("/v2/key/info", {"keys": ["x"]}), 404, "not_found_error", "keys")
        self.wrong(self.desk.post("/v2/key/info", {"keys": []}), ["body", "keys"])
        self.wrong(self.desk.post("/v2/key/info", {}), ["body", "keys"])


class Listed(AtDesk):
    def setUp(self) -> None:
        """
        Twelve keys, made one minute after the other.
        """
        super().setUp()
        self.made: list[dict[str, Any]] = []
        for at in range(12):
            self.made.append(
                self.desk.generate(
                    key_alias=f"Key-{at:02}", user_id=f"user-{at % 3}", organization_id=f"o{at % 2}", spend=at * 7 % 12
                )
            )
            self.desk.now += timedelta(minutes=1)

    def listed(self, query: str) -> list[int]:
        """
        Which keys a page has, by the order in which they were made.
        """
        reply = self.desk.get(f"/key/list?{query}")
        self.assertEqual(200, reply.status, reply.json)
        tokens = [each["token"] for each in self.made]
        return [tokens.index(token) for token in reply.json["keys"]]

    def test_pages(self) -> None:
        """
        Ten on a page, the newest first; pages add up to all.
        """
        reply = self.desk.get("/key/list")
        self.assertEqual([each["token"] for each in self.made[:1:-1]], reply.json["keys"])
        self.assertEqual((12, 1, 2), tuple(reply.json[name] for name in ("total_count", "current_page", "total_pages")))
        self.assertEqual([1, 0], self.listed("page=2"))
        self.assertEqual([], self.listed("page=3"))
        self.assertEqual([6, 5, 4, 3, 2], self.listed("page=2&size=5"))
        self.assertEqual(12, len(self.listed("size=100")))
        for query, name in {"page=0": "page", "size=0": "size", "size=101": "size", "page=x": "page"}.items():
            self.wrong(self.desk.get(f"/key/list?{query}"), ["query", name])

    def test_filters(self) -> None:
        """
        Each filter narrows, and all hold at once.
        """
        self.assertEqual([9, 6, 3, 0], self.listed("user_id=user-0"))
        self.assertEqual([6, 0], self.listed("user_id=user-0&organization_id=o0"))
        self.assertEqual([5], self.listed("key_alias=Key-05"))
        self.assertEqual([5], self.listed(f"key_hash={self.made[5]['token']}"))
        self.assertEqual([], self.listed("key_alias=key-05"))
        self.assertEqual([], self.listed("team_id=t"))

    def test_substrings(self) -> None:
        """
        Parts of an alias, or of a user's id, in any case of letters.
        """
        self.assertEqual([11, 10], self.listed("key_alias=EY-1&substring_matching=true"))
        self.assertEqual([10], self.listed("key_alias=ey-1&user_id=-1&substring_matching=true"))
        self.assertEqual([], self.listed("key_alias=%25&substring_matching=true"))

    def test_order(self) -> None:
        """
        By each of the fields that can be sorted by, both ways.
        """
        self.assertEqual(list(range(10)), self.listed("sort_order=asc"))
        by_spend = sorted(range(12), key=lambda at: at * 7 % 12)
        self.assertEqual(by_spend, self.listed("sort_by=spend&sort_order=asc&size=12"))
        self.assertEqual(by_spend[::-1], self.listed("sort_by=spend&size=12"))
        for name in ("created_at", "updated_at", "expires", "key_alias", "key_name", "token", "user_id", "team_id"):
            self.assertEqual(list(range(12)), sorted(self.listed(f"sort_by={name}&size=12")))
        self.wrong(self.desk.get("/key/list?sort_by=document"), ["query", "sort_by"])
        self.wrong(self.desk.get("/key/list?sort_order=up"), ["query", "sort_order"])

    def test_deleted(self) -> None:
        """
        Deleted keys are listed apart.
        """
        self.desk.post("/key/delete", {"keys": [self.made[4]["key"]]})
        self.assertEqual([4], self.listed("status=deleted"))
        self.assertNotIn(4, self.listed("size=100"))
        (row,) = self.desk.get("/key/list?status=deleted&return_full_object=true").json["keys"]
        self.assertEqual(("2026-03-01T12:12:00Z", "master"), (row["deleted_at"], row["deleted_by"]))
        self.wrong(self.desk.get("/key/list?status=live"), ["query", "status"])

    def test_expires(self) -> None:
        """
        Keys that expire at one instant.
        """
        self.made.append(self.desk.generate(duration="1h"))
        self.assertEqual([12], self.listed("expires=2026-03-01T13:12:00Z"))
        self.assertEqual([12], self.listed("expires=2026-03-01T14:12:00%2B01:00"))
        self.assertEqual([12], self.listed("expires=2026-03-01T13:12:00"))
        self.wrong(self.desk.get("/key/list?expires=soon"), ["query", "expires"])
        self.wrong(self.desk.get("/key/list?expires=0001-01-01T00:00:00%2B01:00"), ["query", "expires"])

    def test_full(self) -> None:
        """
        All that is known of the keys, and of their owners if that is asked for.
        """
        user = User(id="user-2", email="a@b.c", created_at=START, updated_at=START)
        self.successResultOf(self.desk.store.apply([Add(user)], []))
        path = "/key/list?return_full_object=true&size=2"
        rows = self.desk.get(path).json["keys"]
        self.assertEqual(["Key-11", "Key-10"], [row["key_alias"] for row in rows])
        self.assertEqual([each["token"] for each in self.made[:9:-1]], [row["token"] for row in rows])
        self.assertFalse(any("user" in row or "key" in row for row in rows))
        rows = self.desk.get(f"{path}&expand=user&expand%5B%5D=user").json["keys"]
        self.assertEqual(
            [{"user_id": "user-2", "user_email": "a@b.c", "user_alias": None}, None], [row["user"] for row in rows]
        )
        self.wrong(self.desk.get(f"{path}&expand=team"), ["query", "expand", 0])

    def test_not_searchable(self) -> None:
        """
        A filter that cannot be followed is refused: to ignore it would list too much.
        """
        for name in ("project_id", "agent_id", "access_group_id"):
            self.refused(self.desk.get(f"/key/list?{name}=x"), 400, "bad_request_error", name)


class Aliases(AtDesk):
    def test_aliases(self) -> None:
        """
        The aliases in use, in their order, page by page.
        """
        for alias in ("b", "a", None, "ca", None):
            self.desk.generate(key_alias=alias)
        reply = self.desk.get("/key/aliases")
        self.assertEqual(
            {"aliases": ["a", "b", "ca"], "total_count": 3, "current_page": 1, "total_pages": 1, "size": 50}, reply.json
        )
        self.assertEqual(["ca"], self.desk.get("/key/aliases?page=2&size=2").json["aliases"])
        self.assertEqual(["a", "ca"], self.desk.get("/key/aliases?search=A").json["aliases"])
        self.assertEqual([], self.desk.get("/key/aliases?team_id=t").json["aliases"])
        self.wrong(self.desk.get("/key/aliases?size=101"), ["query", "size"])


class Health(AtDesk):
    def test_any_key(self) -> None:
        """
        Each key that is accepted is told so, by POST and by GET.
        """
        key = self.desk.generate()["key"]
        for method in ("POST", "GET"):
            for each in (key, "sk-the-master-key"):
                reply = self.desk.send(method, "/key/health", key=each)
                self.assertEqual((200, {"key": "healthy", "logging_callbacks": None}), (reply.status, reply.json))
            reply = self.desk.send(method, "/key/health", key="sk-nobody-has-made-this")
            self.refused(reply, 401, "token_not_found_in_db", "key")
