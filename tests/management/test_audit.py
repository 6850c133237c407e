"""
``/audit``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from msgspec.structs import replace

from tests.management.directory import AtDirectory


class AuditTests(AtDirectory):
    def read(self, **query: object) -> Any:
        return self.sees(f"/audit?{urlencode(query)}")

    def subjects(self, **query: object) -> list[str]:
        return [each["subject"] for each in self.read(**query)["audit_logs"]]

    def make(self, *names: str) -> None:
        for name in names:
            self.desk.now += timedelta(seconds=1)
            self.does("/budget/new", budget_id=name)

    def test_the_newest_comes_first(self) -> None:
        """
        Lines are read from the last act to the first, page by page, and each is on one page.
        """
        self.make("a", "b", "c")
        first, second = self.read(size=2), self.read(size=2, page=2)
        lines = first["audit_logs"] + second["audit_logs"]
        self.assertEqual(["c", "b", "a"], [each["subject"] for each in lines])
        self.assertEqual((3, 2, 2), tuple(second[name] for name in ("total_count", "current_page", "total_pages")))

    def test_it_says_who_did_what_when_and_from_where(self) -> None:
        """
        A line names the caller, whom they say they act for, their address, the act, and what changed.
        """
        self.desk.post("/budget/new", {"budget_id": "a", "max_budget": 1.5}, (b"x-dheera-changed-by", b"alice"))
        [line] = self.read()["audit_logs"]
        told = {name: line[name] for name in ("actor", "claimed", "address", "action", "kind", "subject", "at")}
        self.assertEqual(
            {
                "actor": "master",
                "claimed": "alice",
                "address": "127.0.0.1",
                "action": "budget.new",
                "kind": "budget",
                "subject": "a",
                "at": "2026-03-01T12:00:00Z",
            },
            told,
        )
        self.assertIsNone(line["before"])
        self.assertEqual(1.5, line["after"]["max_budget"])

    def test_the_key_that_was_used(self) -> None:
        """
        A line names the key that was used, so that two keys which had one alias are told apart; the master key has no
        such name.
        """
        made = self.desk.generate(key_type="management")
        self.desk.store.apply([], [replace(self.desk.audit()[0], id="later", actor="ada", actor_key=made["key_id"])])
        self.assertEqual(
            {"master": None, "ada": made["key_id"]},
            {each["actor"]: each["actor_key"] for each in self.read()["audit_logs"]},
        )

    def test_filters(self) -> None:
        """
        Each filter leaves only lines that have the value, and together they leave those that have all.
        """
        self.make("a", "b")
        self.desk.now += timedelta(seconds=1)
        self.does("/budget/update", budget_id="a", max_budget=1)
        self.desk.now += timedelta(seconds=1)
        self.does("/customer/new", user_id="a")
        self.assertEqual(["b", "a"], self.subjects(action="budget.new"))
        self.assertEqual(["a"], self.subjects(kind="customer"))
        self.assertEqual(["a", "a", "a"], self.subjects(subject="a"))
        self.assertEqual(["a"], self.subjects(subject="a", action="budget.new"))
        self.assertEqual([], self.subjects(actor="nobody"))
        self.assertEqual(4, len(self.subjects(actor="master")))

    def test_pages_are_bounded(self) -> None:
        """
        A page has at most a hundred lines.
        """
        self.assertEqual(0, self.read(size=100)["total_pages"])
        self.wrong(self.desk.get("/audit?size=101"), ["query", "size"])
        self.wrong(self.desk.get("/audit?page=0"), ["query", "page"])

    def test_it_is_for_those_who_manage(self) -> None:
        """
        Another key does not read it, and what was refused is not in it.
        """
        key = self.desk.generate()["key"]
        self.refused(self.desk.get("/audit", key=key), 403, "auth_error")
        self.refused(self.desk.post("/budget/new", {}, key=key), 403, "auth_error")
        self.assertEqual(["key.generate"], [each["action"] for each in self.read()["audit_logs"]])
