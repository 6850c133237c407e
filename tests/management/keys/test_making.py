"""
``/key/...``: making and changing keys.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from dheera.boundaries import Add
from dheera.entities import Budget, Entity, Team
from dheera.keys import digest
from dheera.money import Usd
from dheera.routes import KEY_TYPES
from tests.management.office import MASTER, START, AtDesk, Desk, Failing

GIVEN: dict[str, Any] = {
    "key_alias": "alice's laptop",
    "models": ["mistral-small-latest", "codestral-*"],
    "aliases": {"small": "mistral-small-latest"},
    "config": {"a": [1, {"b": None}]},
    "user_id": "alice",
    "organization_id": "org",
    "project_id": "project",
    "agent_id": "agent",
    "max_budget": 12.5,
    "soft_budget": 10,
    "budget_duration": "30d",
    "budget_limits": [{"budget_duration": "1d", "max_budget": 0.1}],
    "model_max_budget": {"codestral-latest": {"budget_limit": 1.5, "time_period": "1d"}},
    "budget_fallbacks": {"a": ["b"]},
    "throttle_on_budget_exceeded": True,
    "temp_budget_increase": 5,
    "temp_budget_expiry": "2026-04-01T00:00:00Z",
    "spend": 0.25,
    "rpm_limit": 10,
    "tpm_limit": 2**53 - 1,
    "max_parallel_requests": 0,
    "rpm_limit_type": "guaranteed_throughput",
    "tpm_limit_type": "dynamic",
    "model_rpm_limit": {"a": 1},
    "model_tpm_limit": {"b": 2},
    "tag_rpm_limit": {"c": 3},
    "mcp_rpm_limit": {"d": 4},
    "metadata": {"note": "für Ålesund ☃", "logging": [{"callback_name": "langfuse"}]},
    "tags": ["one", "two"],
    "permissions": {"x": True},
    "allowed_routes": ["/v1/models", "llm_api_routes"],
    "allowed_passthrough_routes": ["/x/*"],
    "allowed_cache_controls": ["no-cache"],
    "blocked": True,
    "auto_rotate": True,
    "rotation_interval": "30d",
    "guardrails": ["g"],
    "policies": ["p"],
    "prompts": ["q"],
    "disable_global_guardrails": True,
    "enforced_params": ["user"],
    "object_permission": {"mcp_servers": ["s"]},
    "allowed_vector_store_indexes": [{"index_name": "i"}],
    "router_settings": {"timeout": 1.5},
    "access_group_ids": ["ag"],
    "send_invite_email": False,
}
"""
Each field that users of such gateways may send, but those which have a rule of their own.
"""


class KeyCase(AtDesk):
    def keep(self, *entities: Entity) -> None:
        """
        Entities that are there already.
        """
        self.successResultOf(self.desk.store.apply([Add(entity) for entity in entities], []))

    def info(self, key: str) -> dict[str, Any]:
        reply = self.desk.get(f"/key/info?key={key}")
        self.assertEqual(200, reply.status)
        info: dict[str, Any] = reply.json["info"]
        return info


class Generated(KeyCase):
    def test_nothing_asked(self) -> None:
        """
        An empty object, and no body at all, make a key that opens everything for ever.
        """
        for body in (b"{}", b"", None):
            reply = self.desk.send("POST", "/key/generate", body=body)
            self.assertEqual(200, reply.status)
            made = reply.json
            self.assertRegex(made["key"], r"^sk-[A-Za-z0-9_-]{22,}$")
            self.assertEqual(digest(made["key"].encode()), made["token"])
            self.assertEqual(made["token"], made["token_id"])
            self.assertEqual(f"sk-...{made['key'][-4:]}", made["key_name"])
            self.assertEqual(("2026-03-01T12:00:00Z", "master"), (made["created_at"], made["created_by"]))
            for name, value in {
                "key_type": "default",
                "models": [],
                "allowed_routes": [],
                "metadata": {},
                "spend": 0,
                "blocked": False,
                "aliases": {},
                "config": {},
                "permissions": {},
                "allowed_cache_controls": [],
                "auto_rotate": False,
                "model_max_budget": {},
            }.items():
                self.assertEqual(value, made[name], name)
            for name in (
                "expires",
                "user_id",
                "team_id",
                "max_budget",
                "key_alias",
                "litellm_budget_table",
                "duration",
            ):
                self.assertIsNone(made[name], name)
            opened = self.desk.opens(made["key"])
            self.assertEqual(made["key_id"], opened and opened.id)

    def test_unlike_others(self) -> None:
        """
        No two keys are the same.
        """
        made = [self.desk.generate() for _ in range(20)]
        for name in ("key", "token", "key_id"):
            self.assertEqual(20, len({each[name] for each in made}))

    def test_every_field(self) -> None:
        """
        What is given is answered, and kept, under the same name, be it acted on or not.
        """
        made = self.desk.generate(**GIVEN)
        for shown in (made, self.info(made["key"])):
            self.assertEqual(GIVEN, {name: shown[name] for name in GIVEN})

    def test_null(self) -> None:
        """
        To give ``null`` is to give nothing.
        """
        made, plain = self.desk.generate(**dict.fromkeys([*GIVEN, "key", "duration", "key_type"])), self.desk.generate()
        different = {"key", "key_id", "key_name", "token", "token_id"}
        self.assertEqual(
            {name: value for name, value in plain.items() if name not in different},
            {name: value for name, value in made.items() if name not in different},
        )

    def test_numbers_as_texts(self) -> None:
        """
        Numbers may be written as texts, and amounts are exact to the billionth.
        """
        made = self.desk.generate(max_budget="0.1", rpm_limit="10", blocked="true", soft_budget=0.30000000049)
        self.assertEqual((0.1, 10, True), (made["max_budget"], made["rpm_limit"], made["blocked"]))
        kept = self.desk.opens(made["key"])
        self.assertEqual(Usd.of("0.1"), kept and kept.max_budget)
        self.assertEqual(Usd(300_000_000), kept and kept.soft_budget)

    def test_own_key(self) -> None:
        """
        A key that somebody brings along is taken as it is, if it begins with ``sk-`` and has 16 to 256 visible ASCII
        characters.
        """
        for key in ("sk-" + "a" * 13, "sk-" + "~!" * 126 + "x"):
            self.assertEqual(key, self.desk.generate(key=key)["key"])
            self.assertIsNotNone(self.desk.opens(key))
        for key in ("pk-" + "a" * 20, "sk-" + "a" * 12, "sk-" + "a" * 254, "sk-" + "a b" * 9, "sk-" + "é" * 20, ""):
            self.refused(self.desk.post("/key/generate", {"key": key}), 400, "bad_request_error", "key")

    def test_own_key_in_use(self) -> None:
        """
        A key opens one thing only; the master key opens that already.
        """
        for key in (self.desk.generate()["key"], MASTER):
            for path in ("/key/generate", "/user/new"):
                reply = self.desk.post(path, {"key": key})
                self.refused(reply, 400, "bad_request_error", "key")
                self.assertNotIn(key, reply.answer.body.decode())
        self.assertIsNone(self.desk.opens(MASTER))

    def test_alias_in_use(self) -> None:
        """
        An alias names one key; that of a deleted key is free.
        """
        made = self.desk.generate(key_alias="one")
        self.refused(self.desk.post("/key/generate", {"key_alias": "one"}), 400, "bad_request_error", "key_alias")
        self.desk.post("/key/delete", {"keys": [made["key"]]})
        self.assertEqual("one", self.desk.generate(key_alias="one")["key_alias"])

    def test_alias_like_a_key(self) -> None:
        """
        Aliases are shown and logged, so none may look like a key.
        """
        key = self.desk.generate(key_alias="ask-me")["key"]
        for path, body in (("/key/generate", {}), ("/user/new", {}), ("/key/update", {"key": key})):
            reply = self.desk.post(path, {**body, "key_alias": "sk-planted-canary"})
            self.refused(reply, 400, "bad_request_error", "key_alias")
            self.assertNotIn(b"planted", reply.answer.body)

    def test_duration(self) -> None:
        """
        A key expires after its duration, in each unit; ``-1`` is never.
        """
        for duration, expires in {
            "30s": START + timedelta(seconds=30),
            "30m": START + timedelta(minutes=30),
            "30h": START + timedelta(hours=30),
            "30d": START + timedelta(days=30),
            "2w": START + timedelta(days=14),
            "1mo": datetime(2026, 4, 1, 12, tzinfo=UTC),
        }.items():
            made = self.desk.generate(duration=duration)
            self.assertEqual((duration, expires), (made["duration"], datetime.fromisoformat(made["expires"])))
            kept = self.desk.opens(made["key"])
            self.assertEqual(expires, kept and kept.expires_at)
        self.assertIsNone(self.desk.generate(duration="-1")["expires"])
        for wrong in ("30", "d", "0d", "1y", "-2", "30d\n", "30 d", 30, "999999999mo", "999999999w"):
            self.wrong(self.desk.post("/key/generate", {"duration": wrong}), ["body", "duration"])

    def test_budget_period(self) -> None:
        """
        A budget with a duration is told when it begins anew.
        """
        made = self.desk.generate(max_budget=1, budget_duration="1d")
        self.assertEqual("2026-03-02T00:00:00Z", made["budget_reset_at"])
        self.assertIsNone(self.desk.generate(max_budget=1)["budget_reset_at"])

    def test_key_type(self) -> None:
        """
        A type of key stands for a group of routes, unless routes are given.
        """
        for key_type, routes in {
            "default": [],
            "llm_api": ["llm_api_routes"],
            "management": ["management_routes"],
            "read_only": ["info_routes"],
        }.items():
            made = self.desk.generate(key_type=key_type)
            self.assertEqual((key_type, routes), (made["key_type"], made["allowed_routes"]))
        made = self.desk.generate(key_type="llm_api", allowed_routes=["/v1/models"])
        self.assertEqual(("llm_api", ["/v1/models"]), (made["key_type"], made["allowed_routes"]))
        reply = self.desk.post("/key/generate", {"key_type": "god"})
        self.wrong(reply, ["body", "key_type"])
        for name in KEY_TYPES:
            self.assertIn(f"`{name}`", reply.json["detail"][0]["msg"])

    def test_type_says_no_lie(self) -> None:
        """
        Whether a key may manage is seen by its type, whichever way that was said.
        """
        for routes, key_type in {
            ("management_routes", "/v1/models"): "management",
            ("info_routes",): "read_only",
            ("llm_api_routes",): "default",
        }.items():
            self.assertEqual(key_type, self.desk.generate(allowed_routes=routes)["key_type"])
            self.assertEqual(key_type, self.desk.generate(allowed_routes=routes, key_type=key_type)["key_type"])
        for key_type, name in (
            ("management", "/v1/models"),
            ("read_only", "management_routes"),
            ("llm_api", "info_routes"),
        ):
            reply = self.desk.post("/key/generate", {"key_type": key_type, "allowed_routes": [name]})
            self.refused(reply, 400, "bad_request_error", "key_type")

    def test_routes(self) -> None:
        """
        What is no path, no wildcard and no group would permit nothing: it is refused with its place.
        """
        good = ["/v1/models", "*", "GET /v1/files/*", "llm_api_routes", "mistral_routes", "openai_routes", "/mistral/*"]
        self.assertEqual(good, self.desk.generate(allowed_routes=good)["allowed_routes"])
        for wrong in ("v1/models", "managment_routes", "get /v1/models", "sk-planted", "https://here/v1/models"):
            reply = self.desk.post("/key/generate", {"allowed_routes": ["/v1/models", wrong]})
            self.refused(reply, 400, "bad_request_error", "allowed_routes")
            self.assertTrue(reply.json["message"].startswith("allowed_routes.1: "))
            self.assertNotIn("planted", reply.json["message"])

    def test_owners(self) -> None:
        """
        A team and a budget must exist, a user need not.
        """
        for name in ("team_id", "budget_id"):
            self.refused(self.desk.post("/key/generate", {name: "gone"}), 404, "not_found_error", name)
        times: dict[str, Any] = {"created_at": START, "updated_at": START}
        self.keep(Team(id="t", **times), Budget(id="b", max_budget=Usd.of(3), rpm_limit=7, **times))
        made = self.desk.generate(team_id="t", budget_id="b", user_id="nobody")
        self.assertEqual(("t", "b", "nobody"), (made["team_id"], made["budget_id"], made["user_id"]))
        table = made["litellm_budget_table"]
        self.assertEqual(("b", 3, 7), (table["budget_id"], table["max_budget"], table["rpm_limit"]))
        self.assertEqual(table, self.info(made["key"])["litellm_budget_table"])

    def test_negative_amounts(self) -> None:
        """
        A negative amount is answered with 400, as scripts expect it, and other negative numbers with 422.
        """
        for name in ("max_budget", "soft_budget", "spend", "temp_budget_increase"):
            self.refused(self.desk.post("/key/generate", {name: -0.01}), 400, "bad_request_error", name)
        limits = [{"budget_duration": "1d", "max_budget": -1}]
        self.refused(self.desk.post("/key/generate", {"budget_limits": limits}), 400, "bad_request_error", "max_budget")
        for name in ("rpm_limit", "tpm_limit", "max_parallel_requests"):
            self.wrong(self.desk.post("/key/generate", {name: -1}), ["body", name])

    def test_raised_without_end(self) -> None:
        """
        To raise a budget for a while takes an end, which may be known already, or in the metadata as in LiteLLM.
        """
        place: list[str | int] = ["body", "temp_budget_increase"]
        end = {"temp_budget_expiry": "2026-04-01T00:00:00Z"}
        endless: tuple[dict[str, Any], ...] = (
            {},
            {"temp_budget_expiry": None},
            {"metadata": {"temp_budget_expiry": "soon"}},
        )
        for said in endless:
            self.wrong(self.desk.post("/key/generate", {"temp_budget_increase": 1, **said}), place)
        key = self.desk.generate(max_budget=1)["key"]
        raised = {"key": key, "temp_budget_increase": 1}
        self.wrong(self.desk.post("/key/update", raised), place)
        gone = {"temp_budget_increase": None, "temp_budget_expiry": None}
        for changes in (end, {}, {"max_budget": 2}, gone):
            self.assertEqual(200, self.desk.post("/key/update", {**raised, **changes}).status)
        self.wrong(self.desk.post("/key/update", raised), place)
        self.assertEqual(200, self.desk.post("/key/update", {**raised, "metadata": end}).status)

    def test_audit(self) -> None:
        """
        Who made a key, from where and with what, is written down, and nothing secret.
        """
        reply = self.desk.post(
            "/key/generate",
            {
                "key_alias": "x",
                "metadata": {"logging": [{"secret_key": "hunter2", "host": "h"}], "note": "was sk-aaaaaaaaaaaaaaaaaa"},
            },
            (b"Litellm-Changed-By", b"alice"),
        )
        made = reply.json
        (line,) = self.desk.audit()
        self.assertEqual(
            ("key.generate", "key", made["key_id"], "master", "alice", "127.0.0.1", START, None),
            (line.action, line.kind, line.subject, line.actor, line.claimed, line.address, line.at, line.before),
        )
        assert line.after is not None
        self.assertEqual("x", line.after["alias"])
        self.assertEqual({"logging": [{"secret_key": "***", "host": "h"}], "note": "was ***"}, line.after["metadata"])
        for secret in (made["key"], made["token"], "hunter2"):
            self.assertNotIn(secret, repr(line))


class ForServices(KeyCase):
    def test_team(self) -> None:
        """
        A service's key belongs to a team, and to no user.
        """
        self.refused(self.desk.post("/key/service-account/generate", {}), 400, "bad_request_error", "team_id")
        self.keep(Team(id="t", created_at=START, updated_at=START))
        reply = self.desk.post("/key/service-account/generate", {"team_id": "t", "user_id": "alice", "key_alias": "ci"})
        self.assertEqual(200, reply.status)
        self.assertEqual(("t", None, "ci"), tuple(reply.json[name] for name in ("team_id", "user_id", "key_alias")))
        self.assertIsNotNone(self.desk.opens(reply.json["key"]))


class Updated(KeyCase):
    def update(self, key: str, **fields: object) -> dict[str, Any]:
        reply = self.desk.post("/key/update", {"key": key, **fields})
        self.assertEqual(200, reply.status, reply.json)
        self.assertEqual(key, reply.json["key"])
        updated: dict[str, Any] = reply.json
        return updated

    def test_absent_keeps(self) -> None:
        """
        What an update does not name stays as it is.
        """
        key = self.desk.generate(**GIVEN, duration="1d")["key"]
        before = self.info(key)
        self.desk.now += timedelta(hours=1)
        self.update(key)
        self.update(key, rpm_limit=11, guardrails=[])
        expected = before | {"rpm_limit": 11, "guardrails": [], "updated_at": "2026-03-01T13:00:00Z"}
        self.assertEqual(expected, self.info(key))

    def test_null_clears(self) -> None:
        """
        ``null`` brings each field back to what it is in a new key.
        """
        key = self.desk.generate(**GIVEN, duration="1d", key_type="llm_api")["key"]
        self.update(key, **dict.fromkeys([*GIVEN, "duration", "key_type", "budget_reset_at"]))
        fresh = self.info(self.desk.generate()["key"])
        different = {"key_id", "key_name"}
        self.assertEqual(
            {name: value for name, value in fresh.items() if name not in different},
            {name: value for name, value in self.info(key).items() if name not in different},
        )

    def test_by_any_name(self) -> None:
        """
        A key is named by itself, by its digest, or by its id.
        """
        made = self.desk.generate()
        for at, name in enumerate((made["key"], made["token"], made["key_id"])):
            self.assertEqual(at, self.update(name, rpm_limit=at)["rpm_limit"])

    def test_duration(self) -> None:
        """
        A duration counts from now; ``-1`` and ``null`` are for ever.
        """
        key = self.desk.generate(duration="1d")["key"]
        self.desk.now += timedelta(hours=1)
        self.assertEqual("2026-03-01T13:30:00Z", self.update(key, duration="30m")["expires"])
        self.assertIsNone(self.update(key, duration="-1")["expires"])
        self.update(key, duration="30m")
        self.assertIsNone(self.update(key, duration=None)["expires"])

    def test_expired(self) -> None:
        """
        A key that has expired, or is blocked, can be changed.
        """
        key = self.desk.generate(duration="1s", blocked=True)["key"]
        self.desk.now += timedelta(days=1)
        self.assertEqual("2026-03-03T12:00:00Z", self.update(key, duration="1d")["expires"])

    def test_spend(self) -> None:
        """
        The spend can be set.
        """
        key = self.desk.generate(spend=2)["key"]
        self.assertEqual(1.5, self.update(key, spend=1.5)["spend"])
        self.assertEqual(1.5, self.info(key)["spend"])

    def test_unknown(self) -> None:
        """
        What there is not, cannot be changed.
        """
        deleted = self.desk.generate()
        self.desk.post("/key/delete", {"keys": [deleted["key"]]})
        for name in ("sk-nobody-has-made-this", "0" * 64, "x", deleted["key"], deleted["token"], deleted["key_id"]):
            reply = self.desk.post("/key/update", {"key": name, "rpm_limit": 1})
            self.refused(reply, 404, "not_found_error", "key")
            self.assertTrue(name == "x" or name not in reply.answer.body.decode())
        self.wrong(self.desk.post("/key/update", {}), ["body", "key"])

    def test_alias_in_use(self) -> None:
        """
        An alias that another key has is refused, its own is not.
        """
        self.desk.generate(key_alias="one")
        key = self.desk.generate(key_alias="two")["key"]
        self.refused(
            self.desk.post("/key/update", {"key": key, "key_alias": "one"}), 400, "bad_request_error", "key_alias"
        )
        self.assertEqual("two", self.update(key, key_alias="two")["key_alias"])

    def test_owners(self) -> None:
        """
        A key can only be moved to a team that exists.
        """
        key = self.desk.generate()["key"]
        self.refused(self.desk.post("/key/update", {"key": key, "team_id": "t"}), 404, "not_found_error", "team_id")

    def test_audit(self) -> None:
        """
        The fields that changed are written down, as they were and as they are.
        """
        made = self.desk.generate(rpm_limit=1, tpm_limit=2)
        self.update(made["key"], rpm_limit=3, guardrails=["g"])
        line = self.desk.audit(action="key.update")[0]
        self.assertEqual(made["key_id"], line.subject)
        self.assertEqual({"rpm_limit": 1, "rest": {}}, line.before)
        self.assertEqual({"rpm_limit": 3, "rest": {"guardrails": ["g"]}}, line.after)


class Routed(KeyCase):
    def routed(self, made: dict[str, Any], **fields: object) -> tuple[str, list[str]]:
        """
        Type and routes after an update.
        """
        reply = self.desk.post("/key/update", {"key": made["key"], **fields})
        self.assertEqual(200, reply.status, reply.json)
        info = self.info(made["key"])
        return info["key_type"], info["allowed_routes"]

    def test_back_to_the_type(self) -> None:
        """
        Routes go back to those of the key's own type, not to all.
        """
        for key_type, routes in KEY_TYPES.items():
            made = self.desk.generate(key_type=key_type)
            expected = (key_type, list(routes))
            self.assertEqual(expected, self.routed(made, allowed_routes=None))
        made = self.desk.generate(key_type="llm_api", allowed_routes=["/v1/models"])
        self.assertEqual(("llm_api", ["llm_api_routes"]), self.routed(made, allowed_routes=None))

    def test_back_to_the_default_type(self) -> None:
        """
        The type goes back without the routes that somebody has given, but with those of the old type.
        """
        for key_type in ("default", None):
            made = self.desk.generate(key_type="llm_api", allowed_routes=["/v1/models"])
            self.assertEqual(("default", ["/v1/models"]), self.routed(made, key_type=key_type))
            made = self.desk.generate(key_type="management")
            self.assertEqual(("default", []), self.routed(made, key_type=key_type))
            made = self.desk.generate(allowed_routes=["management_routes", "/v1/models"])
            reply = self.desk.post("/key/update", {"key": made["key"], "key_type": key_type})
            self.refused(reply, 400, "bad_request_error", "key_type")

    def test_another_type(self) -> None:
        """
        Another type brings its routes in place of the old one's, and never in place of those that somebody has given.
        """
        made = self.desk.generate()
        self.assertEqual(("llm_api", ["llm_api_routes"]), self.routed(made, key_type="llm_api"))
        self.assertEqual(("read_only", ["info_routes"]), self.routed(made, key_type="read_only"))
        made = self.desk.generate(allowed_routes=["/v1/models"])
        reply = self.desk.post("/key/update", {"key": made["key"], "key_type": "llm_api"})
        self.refused(reply, 400, "bad_request_error", "key_type")
        both = {"key_type": "llm_api", "allowed_routes": ["/v1/models"]}
        self.assertEqual(("llm_api", ["/v1/models"]), self.routed(made, **both))
        self.assertEqual(("llm_api", ["llm_api_routes"]), self.routed(made, key_type="llm_api", allowed_routes=None))

    def test_other_routes(self) -> None:
        """
        A manager whose routes are taken away is shown as none, and the other way round.
        """
        made = self.desk.generate(key_type="management")
        self.assertEqual(("default", ["/v1/models"]), self.routed(made, allowed_routes=["/v1/models"]))
        self.assertEqual(("management", ["management_routes"]), self.routed(made, allowed_routes=["management_routes"]))
        self.assertEqual(("default", []), self.routed(made, allowed_routes=[]))


class UpdatedMany(KeyCase):
    def test_each_by_itself(self) -> None:
        """
        Some are changed though others are not, and each is answered for.
        """
        one, two = self.desk.generate(), self.desk.generate(key_alias="two")
        reply = self.desk.post(
            "/key/bulk_update",
            {
                "keys": [
                    {"key": one["key"], "rpm_limit": 1},
                    {"key": "sk-nobody-has-made-this", "rpm_limit": 2},
                    {"key": one["key_id"], "key_alias": "two"},
                    {"key": two["token"], "rpm_limit": 3},
                ]
            },
        )
        self.assertEqual(200, reply.status)
        self.assertEqual(4, reply.json["total_requested"])
        self.assertEqual(
            [(one["key"], 1), (two["token"], 3)],
            [(each["key"], each["key_info"]["rpm_limit"]) for each in reply.json["successful_updates"]],
        )
        self.assertEqual(
            [
                ("sk-nobody-has-made-this", "There is no such key."),
                (one["key_id"], "Another one has this key_alias already."),
            ],
            [(each["key"], each["failed_reason"]) for each in reply.json["failed_updates"]],
        )

    def test_bounds(self) -> None:
        """
        At least one, at most 500.
        """
        self.wrong(self.desk.post("/key/bulk_update", {"keys": []}), ["body", "keys"])
        many = [{"key": "sk-nobody-has-made-this"}] * 501
        self.wrong(self.desk.post("/key/bulk_update", {"keys": many}), ["body", "keys"])
        self.assertEqual(200, self.desk.post("/key/bulk_update", {"keys": many[:500]}).status)

    def test_store_away(self) -> None:
        """
        When the database goes away in the middle, what was done before is told, and nothing more is tried.
        """
        store = Failing(writes=2)
        desk = Desk(store=store)
        key = desk.generate()["key"]
        reply = desk.post("/key/bulk_update", {"keys": [{"key": key}] * 4})
        self.assertEqual((200, 1), (reply.status, len(reply.json["successful_updates"])))
        reasons = {each["failed_reason"] for each in reply.json["failed_updates"]}
        self.assertEqual({"The database is not answering. Try again in a moment."}, reasons)
        self.assertEqual(-1, store.writes)


class SpendReset(KeyCase):
    def test_reset(self) -> None:
        """
        What was spent is set to no more than it is.
        """
        made = self.desk.generate(spend=2, max_budget=5)
        reply = self.desk.post(f"/key/{made['key']}/reset_spend", {"reset_to": 0.5})
        self.assertEqual(200, reply.status)
        self.assertEqual(
            (0.5, 2, 5, made["token"], made["key_id"]),
            tuple(reply.json[name] for name in ("spend", "previous_spend", "max_budget", "key_hash", "key_id")),
        )
        self.assertEqual(0.5, self.info(made["key"])["spend"])
        line = self.desk.audit(action="key.reset_spend")[0]
        self.assertEqual(({"spend": 2}, {"spend": 0.5}), (line.before, line.after))

    def test_refused(self) -> None:
        """
        It cannot be raised, nor be negative, nor be that of a key that is not there.
        """
        key = self.desk.generate(spend=2)["key"]
        path = f"/key/{key}/reset_spend"
        for amount in (2.01, -1):
            self.refused(self.desk.post(path, {"reset_to": amount}), 400, "bad_request_error", "reset_to")
        self.wrong(self.desk.post(path, {}), ["body", "reset_to"])
        self.refused(self.desk.post("/key/sk-x/reset_spend", {"reset_to": 0}), 404, "not_found_error", "key")
