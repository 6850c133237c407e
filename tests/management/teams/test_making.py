"""
``/team/...``.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dheera.entities import Key, Team, User
from dheera.management.teams import looks as team_looks
from dheera.management.teams import making as teams
from dheera.management.teams import members
from tests.management.directory import AtDirectory, bodies

GIVEN: dict[str, Any] = {
    "team_alias": "Research",
    "organization_id": "org",
    "models": ["mistral-small-latest", "codestral-*"],
    "blocked": True,
    "spend": 0.25,
    "metadata": {"note": "für Ålesund ☃", "logging": [{"callback_name": "langfuse"}]},
    "tags": ["one"],
    "max_budget": 12.5,
    "soft_budget": 10,
    "budget_duration": "30d",
    "budget_reset_at": "2026-04-01T00:00:00Z",
    "budget_limits": [{"budget_duration": "1d", "max_budget": 0.5}],
    "tpm_limit": 1000,
    "rpm_limit": 10,
    "max_parallel_requests": 3,
    "model_max_budget": {"codestral-latest": {"budget_limit": 1.5}},
    "model_rpm_limit": {"a": 1},
    "model_tpm_limit": {"b": 2},
    "team_member_budget": 5,
    "team_member_budget_duration": "1mo",
    "team_member_rpm_limit": 6,
    "team_member_tpm_limit": 7,
    "team_member_key_duration": "90d",
    "team_member_permissions": ["/key/generate"],
    "model_aliases": {"small": "mistral-small-latest"},
    "allowed_passthrough_routes": ["/x/*"],
    "guardrails": ["g"],
    "policies": ["p"],
    "prompts": ["q"],
    "object_permission": {"mcp_servers": ["s"]},
    "allowed_vector_store_indexes": [{"index_name": "i"}],
    "router_settings": {"timeout": 1.5},
    "access_group_ids": ["ag"],
}


class TeamCase(AtDirectory):
    def members(self, team_id: str) -> list[str]:
        return [
            each["user_id"] for each in self.sees(f"/team/info?team_id={team_id}")["team_info"]["members_with_roles"]
        ]

    def teams(self, user_id: str) -> list[str]:
        user = self.kept(User, user_id)
        assert user is not None
        return user.teams

    def add(self, team_id: str, *users: str, **fields: object) -> Any:
        return self.does("/team/member_add", team_id=team_id, member=[{"user_id": each} for each in users], **fields)


class MakingTests(TeamCase):
    def test_everything_is_kept_and_echoed(self) -> None:
        """
        Each field is answered as it was given, and again when asked, be it acted on or not.
        """
        made = self.does("/team/new", team_id="one", **GIVEN)
        self.assertEqual(GIVEN | {"team_id": "one"}, {name: made[name] for name in (*GIVEN, "team_id")})
        self.assertEqual(made, self.sees("/team/info?team_id=one")["team_info"])
        self.assertEqual([made], self.sees("/team/list"))

    def test_nothing_need_be_said(self) -> None:
        """
        A team without an id is given one; an id is of one team.
        """
        made = self.does("/team/new")
        self.assertEqual([], self.members(made["team_id"]))
        again = self.desk.post("/team/new", {"team_id": made["team_id"]})
        self.refused(again, 400, "bad_request_error", "team_id")

    def test_members_are_made(self) -> None:
        """
        Members who do not exist become users, and each member knows of the team; who has an address is found by it.
        """
        self.does("/user/new", user_id="carol", user_email="carol@example.org", auto_create_key=False)
        given = [
            {"user_id": "alice", "role": "admin"},
            {"user_email": "bob@example.org"},
            {"user_email": "carol@example.org"},
        ]
        made = self.does("/team/new", team_id="one", members_with_roles=given)
        alice, bob, carol = made["members_with_roles"]
        self.assertEqual({"user_id": "alice", "user_email": None, "role": "admin"}, alice)
        self.assertEqual(("bob@example.org", "user"), (bob["user_email"], bob["role"]))
        self.assertEqual("carol", carol["user_id"])
        self.assertEqual([["one"]] * 3, [self.teams(each["user_id"]) for each in (alice, bob, carol)])

    def test_members_have_a_name(self) -> None:
        """
        A member without one, or who is there twice, is refused, and nothing is made.
        """
        nameless = self.desk.post("/team/new", {"team_id": "one", "members_with_roles": [{"role": "user"}]})
        self.wrong(nameless, ["body", "user_id"])
        twice = {"team_id": "one", "members_with_roles": [{"user_email": "a@b.c"}, {"user_email": "a@b.c"}]}
        self.refused(self.desk.post("/team/new", twice), 400, "bad_request_error", "user_id")
        self.assertEqual((None, []), (self.kept(Team, "one"), self.sees("/user/list")["users"]))

    def test_the_number_of_members_is_bounded(self) -> None:
        """
        A team has a thousand members, and no more.
        """
        everybody = [{"user_id": f"user {number}"} for number in range(1000)]
        self.does("/team/new", team_id="one", members_with_roles=everybody)
        more = {"team_id": "one", "member": {"user_id": "one more"}}
        self.refused(self.desk.post("/team/member_add", more), 400, "bad_request_error", "team_id")
        self.assertEqual({"deleted_teams": ["one"]}, self.does("/team/delete", team_ids=["one"]))
        self.assertEqual([], self.teams("user 999"))


class ChangingTests(TeamCase):
    def test_an_update_is_a_merge(self) -> None:
        """
        What is absent is kept, and what is null goes back to the default; members stay; the spend can be set.
        """
        made = self.does("/team/new", team_id="one", members_with_roles=[{"user_id": "alice"}], **GIVEN)
        changes = {"team_alias": None, "spend": 2, "tags": None, "models": None, "rpm_limit": 11}
        answer = self.does("/team/update", team_id="one", **changes)
        self.assertEqual("one", answer["team_id"])
        self.assertEqual(made | changes | {"models": []}, answer["data"])
        self.assertEqual(answer["data"], self.sees("/team/info?team_id=one")["team_info"])

    def test_blocking(self) -> None:
        """
        What a key belongs to says at once that it is blocked, and then that it is not.
        """
        self.does("/team/new", team_id="one")
        for path, blocked in (("/team/block", True), ("/team/unblock", False)):
            self.assertEqual(blocked, self.does(path, team_id="one")["blocked"])
            self.assertEqual(blocked, self.sees("/team/info?team_id=one")["team_info"]["blocked"])

    def test_it_must_be_there(self) -> None:
        """
        What does not exist can be neither changed nor shown.
        """
        for path in ("/team/update", "/team/block", "/team/unblock"):
            self.refused(self.desk.post(path, {"team_id": "none"}), 404, "not_found_error", "team_id")
        for path in ("/team/member_add", "/team/member_update", "/team/member_delete"):
            body = {"team_id": "none", "user_id": "alice", "member": {"user_id": "alice"}}
            self.refused(self.desk.post(path, body), 404, "not_found_error", "team_id")
        self.refused(self.desk.get("/team/info?team_id=none"), 404, "not_found_error", "team_id")


class DeletingTests(TeamCase):
    def test_keys_and_memberships_go_with_it(self) -> None:
        """
        The keys of a deleted team open nothing, its members are in it no longer, and other teams are untouched.
        """
        self.does("/team/new", team_id="one", members_with_roles=[{"user_id": "alice"}, {"user_id": "bob"}])
        self.does("/team/new", team_id="two", members_with_roles=[{"user_id": "alice"}])
        keys = [self.desk.generate(team_id=team)["key"] for team in ("one", "two")]
        self.assertEqual({"deleted_teams": ["one"]}, self.does("/team/delete", team_ids=["one", "one"]))
        self.assertEqual([False, True], [self.desk.opens(each) is not None for each in keys])
        self.assertEqual([["two"], []], [self.teams("alice"), self.teams("bob")])
        self.refused(self.desk.get("/team/info?team_id=one"), 404, "not_found_error", "team_id")

    def test_all_or_none(self) -> None:
        """
        If one does not exist, none is deleted.
        """
        self.does("/team/new", team_id="one")
        refused = self.desk.post("/team/delete", {"team_ids": ["one", "none"]})
        self.refused(refused, 404, "not_found_error", "team_ids")
        self.assertIsNotNone(self.kept(Team, "one"))
        self.wrong(self.desk.post("/team/delete", {"team_ids": [str(n) for n in range(101)]}), ["body", "team_ids"])


class MemberTests(TeamCase):
    def setUp(self) -> None:
        super().setUp()
        self.does("/team/new", team_id="one")

    def test_added(self) -> None:
        """
        One member or several are added, with limits; users who do not exist are made; both sides know.
        """
        answer = self.does("/team/member_add", team_id="one", member={"user_id": "alice", "role": "admin"})
        self.assertEqual(["alice"], [each["user_id"] for each in answer["updated_users"]])
        answer = self.add("one", "bob", "carol", max_budget_in_team="0.1", budget_duration="1d", allowed_models=["m"])
        budget = {"max_budget": 0.1, "budget_duration": "1d", "tpm_limit": None, "rpm_limit": None}
        budget |= {"allowed_models": ["m"], "budget_reset_at": "2026-03-02T00:00:00Z"}
        self.assertEqual(
            [budget, budget], [each["litellm_budget_table"] for each in answer["updated_team_memberships"]]
        )
        self.assertEqual(["alice", "bob", "carol"], self.members("one"))
        self.assertEqual([["one"]] * 3, [self.teams(each) for each in ("alice", "bob", "carol")])
        info = self.sees("/team/info?team_id=one")
        self.assertEqual([None, budget, budget], [each["litellm_budget_table"] for each in info["team_memberships"]])

    def test_added_once(self) -> None:
        """
        Who is a member already is refused, and nobody is added.
        """
        self.add("one", "alice")
        refused = self.desk.post(
            "/team/member_add", {"team_id": "one", "member": [{"user_id": "bob"}, {"user_id": "alice"}]}
        )
        self.refused(refused, 400, "bad_request_error", "user_id")
        self.assertEqual((["alice"], None), (self.members("one"), self.kept(User, "bob")))

    def test_an_address_may_be_of_several(self) -> None:
        """
        An address that two users have names neither of them.
        """
        for name in ("a", "b"):
            self.does("/user/new", user_id=name, user_email="x@y.z", auto_create_key=False)
        refused = self.desk.post("/team/member_add", {"team_id": "one", "member": {"user_email": "x@y.z"}})
        self.refused(refused, 400, "bad_request_error", "user_email")
        self.add("one", "a", "b")
        for path in ("/team/member_update", "/team/member_delete"):
            refused = self.desk.post(path, {"team_id": "one", "user_email": "x@y.z"})
            self.refused(refused, 400, "bad_request_error", "user_email")

    def test_updated(self) -> None:
        """
        Role and limits of a member change as a merge; amounts stay exact.
        """
        self.add("one", "alice", "bob", rpm_limit=5, max_budget_in_team=1)
        changed = self.does(
            "/team/member_update",
            team_id="one",
            user_id="alice",
            role="admin",
            max_budget_in_team="8999999999.000000001",
            rpm_limit=None,
            allowed_models=["m"],
        )
        self.assertEqual(("alice", "admin", None), tuple(changed[name] for name in ("user_id", "role", "rpm_limit")))
        reply = self.desk.post("/team/member_update", {"team_id": "one", "user_id": "alice"})
        self.assertIn(b'"max_budget_in_team":8999999999.000000001,', reply.answer.body.replace(b": ", b":"))
        self.assertEqual(changed, reply.json)
        _, bob = self.sees("/team/info?team_id=one")["team_memberships"]
        self.assertEqual((1, 5), (bob["litellm_budget_table"]["max_budget"], bob["litellm_budget_table"]["rpm_limit"]))

    def test_deleted(self) -> None:
        """
        Who leaves a team is in it no longer, nor have they a key there; the user, and their other keys, stay.
        """
        self.does("/user/new", user_id="alice", user_email="a@b.c", auto_create_key=False)
        self.add("one", "alice", "bob")
        mine, theirs, other = (
            self.desk.generate(**fields)["key"]
            for fields in ({"team_id": "one", "user_id": "alice"}, {"team_id": "one"}, {"user_id": "alice"})
        )
        self.does("/team/member_delete", team_id="one", user_email="a@b.c")
        self.assertEqual((["bob"], []), (self.members("one"), self.teams("alice")))
        self.assertEqual([False, True, True], [self.desk.opens(key) is not None for key in (mine, theirs, other)])
        again = self.desk.post("/team/member_delete", {"team_id": "one", "user_id": "alice"})
        self.refused(again, 404, "not_found_error", "user_id")

    def test_somebody_is_named(self) -> None:
        """
        Which member is meant must be said.
        """
        for path in ("/team/member_update", "/team/member_delete"):
            self.wrong(self.desk.post(path, {"team_id": "one"}), ["body", "user_id"])


class LookingTests(TeamCase):
    def setUp(self) -> None:
        super().setUp()
        for name, alias in (("one", "b"), ("two", "A"), ("three", None)):
            self.does("/team/new", team_id=name, team_alias=alias, organization_id="org" if alias else None)
        self.add("one", "alice")
        self.add("three", "alice")

    def page(self, query: str) -> list[str]:
        return [each["team_id"] for each in self.sees(f"/v2/team/list?{query}")["teams"]]

    def test_pages(self) -> None:
        """
        All pages together hold each team once, and say how many there are.
        """
        pages = [self.sees(f"/v2/team/list?page_size=2&page={page}") for page in (1, 2)]
        self.assertEqual([2, 1], [len(each["teams"]) for each in pages])
        self.assertEqual({"one", "two", "three"}, {one["team_id"] for each in pages for one in each["teams"]})
        self.assertEqual((3, 2, 2, 2), tuple(pages[1][name] for name in ("total", "page", "page_size", "total_pages")))
        self.assertEqual([1], [len(self.sees("/team/list?page_size=2&page=2"))])
        self.wrong(self.desk.get("/v2/team/list?page_size=101"), ["query", "page_size"])
        self.wrong(self.desk.get("/team/list?page_size=501"), ["query", "page_size"])

    def test_filters_and_order(self) -> None:
        """
        Each filter leaves only what fits, also among the teams of one user, and the order is that which is asked for.
        """
        self.assertEqual(["two", "one", "three"], self.page("sort_by=team_alias"))
        self.assertEqual(["one", "two", "three"], self.page("sort_by=team_alias&sort_order=desc"))
        self.assertEqual(["one", "two"], self.page("organization_id=org&sort_by=team_id"))
        self.assertEqual(["two"], self.page("team_alias=a"))
        self.assertEqual(["two"], self.page("team_id=two"))
        self.assertEqual(["one", "three"], self.page("user_id=alice&sort_by=team_id"))
        self.assertEqual(["three", "one"], self.page("user_id=alice&sort_by=team_id&sort_order=desc"))
        self.assertEqual(["one"], self.page("user_id=alice&team_alias=B"))
        self.assertEqual(["three"], self.page("user_id=alice&sort_by=team_id&page=2&page_size=1"))
        self.assertEqual(
            ["one"], [each["team_id"] for each in self.sees("/team/list?user_id=alice&organization_id=org")]
        )
        self.refused(self.desk.get("/team/list?user_id=nobody"), 404, "not_found_error", "user_id")

    def test_a_key_learns_of_its_own_team(self) -> None:
        """
        A key that may not manage sees its team, its user's keys there without digests, and no free fields.
        """
        self.does("/team/update", team_id="one", metadata={"secret": "planted"}, router_settings={"x": "planted"})
        mine = self.desk.generate(team_id="one", user_id="alice", key_alias="mine")
        self.desk.generate(team_id="one", user_id="bob", key_alias="bobs", metadata={"secret": "planted"})
        reply = self.desk.get("/team/info", key=mine["key"])
        self.assertEqual(("one", ["mine"]), (reply.json["team_id"], [key["key_alias"] for key in reply.json["keys"]]))
        for secret in (b"planted", mine["token"].encode()):
            self.assertNotIn(secret, reply.answer.body)
        self.assertEqual(reply.json, self.sees("/team/info?team_id=one", key=mine["key"]))
        for other in ("two", "none"):
            refused = self.desk.get(f"/team/info?team_id={other}", key=mine["key"])
            self.refused(refused, 403, "auth_error", "team_id")
        self.refused(self.desk.get("/team/list", key=mine["key"]), 403, "auth_error")

    def test_a_key_learns_of_no_other_member(self) -> None:
        """
        A key that may not manage sees its own user in the team; one of nobody sees no member at all.
        """
        self.does("/team/member_add", team_id="one", member={"user_email": "bob@b.c"}, max_budget_in_team=7)
        for user_id, seen_ids in (("alice", ["alice"]), (None, []), ("stranger", [])):
            key = self.desk.generate(team_id="one", user_id=user_id)["key"]
            seen = self.sees("/team/info", key=key)
            self.assertEqual(seen_ids, [each["user_id"] for each in seen["team_info"]["members_with_roles"]])
            self.assertEqual(seen_ids, [each["user_id"] for each in seen["team_memberships"]])
            self.assertNotIn("bob@b.c", str(seen))
        seen = self.sees("/team/info?team_id=one")
        self.assertEqual((2, 2), (len(seen["team_info"]["members_with_roles"]), len(seen["team_memberships"])))

    def test_keys_without_a_user_or_a_team(self) -> None:
        """
        A key of nobody sees itself alone; one without a team is told to name one, as is the master key.
        """
        self.desk.generate(team_id="one", key_alias="another")
        service = self.desk.generate(team_id="one", key_alias="service")["key"]
        self.assertEqual(["service"], [each["key_alias"] for each in self.sees("/team/info", key=service)["keys"]])
        self.refused(self.desk.get("/team/info", key=self.desk.generate()["key"]), 404, "not_found_error", "team_id")
        self.refused(self.desk.get("/team/info"), 404, "not_found_error", "team_id")

    def test_who_manages_sees_all_keys(self) -> None:
        """
        The keys of a team are shown with their digests, the newest hundred of them.
        """
        made = [self.desk.generate(team_id="two")["token"] for _ in range(101)]
        shown = [each["token"] for each in self.sees("/team/info?team_id=two")["keys"]]
        self.assertEqual((100, True), (len(set(shown)), set(shown) <= set(made)))


class RecordTests(TeamCase):
    def test_each_act_leaves_a_line(self) -> None:
        """
        What was done to a team is in the audit, with who was made on the way, and keys that went.
        """
        self.does("/team/new", team_id="one", members_with_roles=[{"user_id": "alice"}])
        self.does("/team/update", team_id="one", rpm_limit=1)
        self.does("/team/block", team_id="one")
        self.does("/team/unblock", team_id="one")
        self.add("one", "bob")
        self.does("/team/member_update", team_id="one", user_id="bob", role="admin")
        key_id = self.desk.generate(team_id="one", user_id="bob")["key_id"]
        self.does("/team/member_delete", team_id="one", user_id="bob")
        self.does("/team/delete", team_ids=["one"])
        acts = ["block", "delete", "member_add", "member_delete", "member_update", "new", "unblock", "update"]
        self.assertEqual([(f"team.{act}", "one") for act in acts], self.actions(kind="team"))
        self.assertEqual([("user.new", "alice"), ("user.new", "bob")], self.actions(kind="user"))
        self.assertEqual([("key.delete", key_id), ("key.generate", key_id)], self.actions(kind="key"))
        key = self.kept(Key, key_id)
        assert key is not None
        self.assertEqual("master", key.deleted_by)

    def test_a_line_does_not_grow_with_the_team(self) -> None:
        """
        Of many members, the audit is told of those alone who change.
        """
        self.does("/team/new", team_id="one", members_with_roles=[{"user_id": str(number)} for number in range(50)])
        self.add("one", "alice")
        [line] = self.desk.audit(action="team.member_add")
        member = {"user_id": "alice", "role": "user"}
        self.assertEqual(({"members": []}, {"members": [member]}), (line.before, line.after))
        self.does("/team/member_update", team_id="one", user_id="alice", role="admin")
        [line] = self.desk.audit(action="team.member_update")
        expected = {"members": [member]}, {"members": [member | {"role": "admin"}]}
        self.assertEqual(expected, (line.before, line.after))

    @settings(max_examples=120, deadline=None)
    @given(st.data())
    def test_any_body_is_answered(self, data: st.DataObject) -> None:
        """
        Whatever JSON is sent, the answer has a documented status.
        """
        route = data.draw(st.sampled_from((*teams.ROUTES, *members.ROUTES, *team_looks.ROUTES)))
        self.answers_as_described(route, data.draw(bodies(route)))
