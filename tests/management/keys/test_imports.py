"""
``/key/import``: keys from LiteLLM's table.
"""

from __future__ import annotations

from typing import Any

from dheera.keys import digest
from tests.management.office import MASTER, AtDesk, Desk, Failing

ROW: dict[str, Any] = {
    "token": digest(b"sk-made-by-litellm"),
    "key_name": "sk-...tllm",
    "key_alias": "from afar",
    "soft_budget_cooldown": False,
    "spend": 0.0123,
    "expires": "2027-01-01T00:00:00",
    "models": ["mistral-small-latest"],
    "aliases": {},
    "config": {},
    "router_settings": {},
    "user_id": "alice",
    "team_id": "search",
    "agent_id": None,
    "project_id": None,
    "permissions": {},
    "max_parallel_requests": None,
    "metadata": {"a": 1},
    "blocked": None,
    "tpm_limit": 1000,
    "rpm_limit": None,
    "max_budget": 10.0,
    "budget_duration": "30d",
    "budget_reset_at": "2026-04-01T00:00:00+00:00",
    "allowed_cache_controls": [],
    "allowed_routes": ["llm_api_routes"],
    "policies": [],
    "access_group_ids": [],
    "model_spend": {},
    "model_max_budget": {},
    "budget_id": None,
    "organization_id": None,
    "object_permission_id": None,
    "created_at": "2025-05-05 05:05:05",
    "created_by": "default_user_id",
    "updated_at": "2025-06-06T06:06:06",
    "updated_by": "default_user_id",
    "last_active": None,
    "rotation_count": 0,
    "auto_rotate": False,
    "rotation_interval": None,
    "last_rotation_at": None,
    "key_rotation_at": None,
}


class Imported(AtDesk):
    def send(self, *rows: object) -> dict[str, Any]:
        reply = self.desk.post("/key/import", {"keys": rows})
        self.assertEqual(200, reply.status, reply.json)
        said: dict[str, Any] = reply.json
        self.assertEqual(len(rows), said["total_requested"])
        self.assertEqual(said["imported"], sum(row["imported"] for row in said["rows"]))
        self.assertEqual(list(range(len(rows))), [row["row"] for row in said["rows"]])
        return said

    def test_row(self) -> None:
        """
        A row of LiteLLM's becomes a key that opens for the one who has it; nothing needed it in the clear.
        """
        self.desk.post("/team/new", {"team_id": "search"})
        said = self.send(ROW)
        self.assertEqual((1, 0), (said["imported"], said["failed"]))
        self.assertEqual(("from afar", None), (said["rows"][0]["key_alias"], said["rows"][0]["failed_reason"]))
        info = self.desk.get("/key/info?key=sk-made-by-litellm").json["info"]
        self.assertEqual(said["rows"][0]["key_id"], info["key_id"])
        for name in ("key_name", "key_alias", "spend", "models", "user_id", "team_id", "metadata", "tpm_limit"):
            self.assertEqual(ROW[name], info[name])
        for name in ("max_budget", "budget_duration", "allowed_routes", "policies", "created_by"):
            self.assertEqual(ROW[name], info[name])
        self.assertEqual(
            ("2027-01-01T00:00:00Z", "2026-04-01T00:00:00Z", "2025-05-05T05:05:05Z", False),
            (info["expires"], info["budget_reset_at"], info["created_at"], info["blocked"]),
        )
        (line,) = self.desk.audit(action="key.import")
        self.assertEqual(("key.import", info["key_id"]), (line.action, line.subject))
        self.assertNotIn(ROW["token"], repr(line))

    def test_token_alone(self) -> None:
        """
        The digest is all that a row must have.
        """
        self.assertEqual(1, self.send({"token": "a" * 64})["imported"])
        info = self.desk.get(f"/key/info?key={'a' * 64}").json["info"]
        self.assertEqual(("sk-...", None), (info["key_name"], info["expires"]))

    def test_each_by_itself(self) -> None:
        """
        A row that cannot be kept says why, and does not hinder the others.
        """
        said = self.send(
            {"token": "a" * 64, "key_alias": "one"},
            {"token": "a" * 64, "key_alias": "two"},
            {"token": "b" * 64, "key_alias": "one"},
            {"token": "sk-in-the-clear-1234", "key_alias": 5},
            {"key_alias": "nothing"},
            {"token": "c" * 64, "max_budget": -1},
            {"token": "d" * 64, "expires": "some day"},
            {"token": "e" * 64},
        )
        self.assertEqual((2, 6), (said["imported"], said["failed"]))
        self.assertEqual(
            [
                "Another one has this token already.",
                "Another one has this key_alias already.",
                "body.keys.3.token: Expected a SHA-256 in lower-case hexadecimal",
                "body.keys.4.token: This field is required",
                "max_budget must not be negative.",
                "body.keys.6.expires: Invalid RFC3339 encoded datetime",
            ],
            [row["failed_reason"] for row in said["rows"][1:7]],
        )
        self.assertEqual([None, "one", "nothing"], [said["rows"][at]["key_alias"] for at in (3, 2, 4)])

    def reasons(self, *rows: dict[str, Any]) -> list[str | None]:
        """
        Why each row fails.
        """
        said = self.send(*({"token": f"{at:064x}", **row} for at, row in enumerate(rows)))
        return [row["failed_reason"] for row in said["rows"]]

    def test_managers(self) -> None:
        """
        A key that its routes would let manage or read all here is not imported, and opens nothing.
        """
        reasons = self.reasons(
            {"allowed_routes": ["llm_api_routes", "management_routes"]},
            {"allowed_routes": ["info_routes"]},
            {"key_type": "management"},
            {"key_type": "read_only", "allowed_routes": None},
            {"key_type": "default", "allowed_routes": ["management_routes"]},
            {"key_type": "llm_api"},
            {"key_type": "default", "allowed_routes": ["/v1/models"]},
        )
        for reason in reasons[:5]:
            self.assertIn("could manage or read all keys here", reason or "")
        self.assertEqual([None, None], reasons[5:])
        self.assertEqual(2, self.desk.get("/key/list").json["total_count"])

    def test_owners(self) -> None:
        """
        A key whose team or budget is not here fails, and says what to make first; each is looked for once. A user need
        not be here.
        """
        self.desk.post("/team/new", {"team_id": "search"})
        self.desk.post("/budget/new", {"budget_id": "pot"})
        team, budget, *others = self.reasons(
            {"team_id": "none"},
            {"budget_id": "none"},
            {"team_id": "none", "budget_id": "pot"},
            {"team_id": "search", "budget_id": "pot", "user_id": "nobody"},
        )
        self.assertEqual(
            "There is no team with the id none. Make it first, with its limits: POST /team/new with this team_id.", team
        )
        self.assertIn("no budget with the id none. Make it first", budget or "")
        self.assertIn("POST /budget/new with this budget_id.", budget or "")
        self.assertEqual([team, None], others)

    def test_refused(self) -> None:
        """
        Nor is imported what could not be generated: an alias like a key, a route that is none, the master key.
        """
        alias, route, master = self.reasons(
            {"key_alias": "sk-ada"},
            {"allowed_routes": ["/v1/models", "spend_tracking_routes"]},
            {"token": digest(MASTER.encode())},
        )
        self.assertEqual("An alias must not look like a key: it may not begin with sk-.", alias)
        self.assertIn("allowed_routes.1: ", route or "")
        self.assertEqual("Another one has this token already.", master)

    def test_no_key_in_its_name(self) -> None:
        """
        A name that could be a key itself is not shown.
        """
        self.send({"token": "a" * 64, "key_name": "sk-made-by-litellm"})
        self.assertEqual("sk-...", self.desk.get(f"/key/info?key={'a' * 64}").json["info"]["key_name"])

    def test_store_away(self) -> None:
        """
        When the database goes away in the middle, what was done before is told, and nothing more is tried.
        """
        store = Failing(writes=1)
        reply = Desk(store=store).post("/key/import", {"keys": [{"token": letter * 64} for letter in "abc"]})
        self.assertEqual((200, 1, 2), (reply.status, reply.json["imported"], reply.json["failed"]))
        self.assertEqual(
            "The database is not answering. Try again in a moment.", reply.json["rows"][2]["failed_reason"]
        )
        self.assertEqual(-1, store.writes)

    def test_bounds(self) -> None:
        """
        One row at least, 1000 at most, which may take 4 MiB.
        """
        self.wrong(self.desk.post("/key/import", {"keys": []}), ["body", "keys"])
        self.wrong(self.desk.post("/key/import", {"keys": [{}] * 1001}), ["body", "keys"])
        self.wrong(self.desk.post("/key/import", {"keys": [5]}), ["body", "keys", 0])
        rows = [{"token": f"{at:064x}", "metadata": {"a": "x" * 3000}} for at in range(1000)]
        self.assertEqual(1000, self.send(*rows)["imported"])
