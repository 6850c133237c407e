"""
``/user/...``, and who is in which team.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from dheera.boundaries import Query
from dheera.entities import Team, User
from dheera.errors import BadRequest
from dheera.management.roster import ENTITIES_AT_ONCE
from dheera.management.routes import Office
from dheera.management.teams import making as teams
from dheera.management.teams import members
from dheera.management.teams.member_shapes import AddMembers, DeleteMember
from dheera.management.teams.shapes import Member, NamedTeams, NewTeam
from dheera.management.users import looks as user_looks
from dheera.management.users import making as users
from dheera.management.users.shapes import NamedUsers, NewUser
from dheera.stores.memory import MemoryStore
from tests.management.directory import AtDirectory, Contested, asked, bodies

LIMITS: dict[str, Any] = {
    "max_budget": 12.5,
    "soft_budget": 10,
    "budget_duration": "30d",
    "budget_reset_at": "2026-04-01T00:00:00Z",
    "tpm_limit": 1000,
    "rpm_limit": 10,
    "max_parallel_requests": 3,
    "model_max_budget": {"codestral-latest": {"budget_limit": 1.5}},
    "model_rpm_limit": {"a": 1},
    "model_tpm_limit": {"b": 2},
    "models": ["mistral-small-latest", "codestral-*"],
    "metadata": {"note": "für Ålesund ☃"},
    "spend": 0.25,
}
"""
What is the user's, and not the key's.
"""
KEPT: dict[str, Any] = {
    "user_alias": "Alice",
    "user_email": "alice@example.org",
    "user_role": "internal_user",
    "organizations": ["org"],
    "sso_user_id": "sso",
    "aliases": {"small": "mistral-small-latest"},
    "config": {"a": 1},
    "permissions": {"x": True},
    "allowed_cache_controls": ["no-cache"],
    "guardrails": ["g"],
    "policies": ["p"],
    "prompts": ["q"],
    "object_permission": {"mcp_servers": ["s"]},
    "send_invite_email": False,
}
OF_THE_KEY: dict[str, Any] = {
    "key_alias": "laptop",
    "duration": "30d",
    "allowed_routes": ["/v1/models"],
    "tags": ["t"],
    "blocked": True,
    "auto_rotate": True,
    "rotation_interval": "30d",
}


class UserCase(AtDirectory):
    def make(self, user_id: str, **fields: object) -> Any:
        return self.does("/user/new", user_id=user_id, auto_create_key=False, **fields)

    def info(self, user_id: str) -> Any:
        return self.sees(f"/user/info?user_id={quote(user_id)}")


class MakingTests(UserCase):
    def test_a_user_and_a_key(self) -> None:
        """
        With nothing said there is a user, and a key of theirs that opens.
        """
        made = self.does("/user/new")
        key = self.desk.opens(made["key"])
        assert key is not None
        self.assertEqual((made["user_id"], made["key_id"], made["token"]), (key.user_id, key.id, key.digest))
        info = self.info(made["user_id"])
        self.assertEqual([made["key_id"]], [each["key_id"] for each in info["keys"]])
        self.assertEqual(made["user_id"], info["user_info"]["user_id"])

    def test_everything_is_kept_and_echoed(self) -> None:
        """
        Each field is answered as it was given; the user has what is theirs, and the key what only keys have.
        """
        given = LIMITS | KEPT | OF_THE_KEY
        made = self.does("/user/new", user_id="alice", **given)
        self.assertEqual(given | {"user_id": "alice"}, {name: made[name] for name in (*given, "user_id")})
        info = self.info("alice")
        user, [key] = info["user_info"], info["keys"]
        self.assertEqual(LIMITS | KEPT, {name: user[name] for name in (*LIMITS, *KEPT)})
        told = set(OF_THE_KEY) - {"duration"}
        self.assertEqual({name: OF_THE_KEY[name] for name in told}, {name: key[name] for name in told})
        self.assertEqual("2026-03-31T12:00:00Z", key["expires"])
        nothing = {"models": [], "metadata": {}, "spend": 0, "model_max_budget": {}}
        self.assertEqual(dict.fromkeys(LIMITS) | nothing, {name: key[name] for name in LIMITS})

    def test_a_user_without_a_key(self) -> None:
        """
        If no key is wanted, none is made.
        """
        made = self.make("alice", **LIMITS)
        self.assertEqual([None] * 4, [made[name] for name in ("key", "key_id", "token", "expires")])
        self.assertEqual(LIMITS, {name: made[name] for name in LIMITS})
        self.assertEqual([], self.info("alice")["keys"])

    def test_a_key_of_their_own(self) -> None:
        """
        A key that comes along is the user's, if it is one that we accept.
        """
        own = "sk-" + 30 * "a"
        self.assertEqual(own, self.does("/user/new", user_id="alice", key=own)["key"])
        self.refused(self.desk.post("/user/new", {"user_id": "bob", "key": "sk-1"}), 400, "bad_request_error", "key")
        self.refused(self.desk.post("/user/new", {"user_id": "bob", "key": own}), 400, "bad_request_error", "key")
        self.assertIsNone(self.kept(User, "bob"))

    def test_names_are_used_once(self) -> None:
        """
        If the user is there already, or a key has the alias, neither is made.
        """
        self.does("/user/new", user_id="alice", key_alias="laptop")
        for body, param in (
            ({"user_id": "alice"}, "user_id"),
            ({"user_id": "bob", "key_alias": "laptop"}, "key_alias"),
        ):
            self.refused(self.desk.post("/user/new", body), 400, "bad_request_error", param)
        self.assertIsNone(self.kept(User, "bob"))
        self.assertEqual(1, len(self.info("alice")["keys"]))

    def test_teams_are_joined(self) -> None:
        """
        The user is a member of the teams that are named, each of which must exist.
        """
        self.does("/team/new", team_id="one")
        made = self.make("alice", teams=["one", "one"], user_email="a@b.c")
        self.assertEqual(["one"], made["teams"])
        [team] = self.info("alice")["teams"]
        self.assertEqual(
            ("one", [{"user_id": "alice", "user_email": "a@b.c", "role": "user"}]),
            (team["team_id"], team["members_with_roles"]),
        )
        refused = self.desk.post("/user/new", {"user_id": "bob", "teams": ["one", "none"]})
        self.refused(refused, 404, "not_found_error", "teams")
        self.assertIsNone(self.kept(User, "bob"))


class ChangingTests(UserCase):
    def test_an_update_is_a_merge(self) -> None:
        """
        What is absent is kept, and what is null goes back to the default; the spend can be set.
        """
        self.make("alice", **LIMITS, **KEPT)
        before = self.info("alice")["user_info"]
        changes = {"user_alias": None, "sso_user_id": None, "metadata": None, "spend": 3, "rpm_limit": 11}
        answer = self.does("/user/update", user_id="alice", **changes)
        self.assertEqual("alice", answer["user_id"])
        self.assertEqual(before | changes | {"metadata": {}}, answer["data"])
        self.assertEqual(answer["data"], self.info("alice")["user_info"])
        self.refused(self.desk.post("/user/update", {"user_id": "none"}), 404, "not_found_error", "user_id")

    def test_moving_between_teams(self) -> None:
        """
        The user is in the teams that are named and in no other; keys in a team that they left open nothing.
        """
        for name in ("one", "two"):
            self.does("/team/new", team_id=name)
        self.make("alice", teams=["one"])
        key = self.desk.generate(team_id="one", user_id="alice")["key"]
        self.assertEqual(["two"], self.does("/user/update", user_id="alice", teams=["two"])["data"]["teams"])
        self.assertIsNone(self.desk.opens(key))
        one, two = (self.kept(Team, name) for name in ("one", "two"))
        assert one is not None
        assert two is not None
        self.assertEqual(([], ["alice"]), (one.members, [each["user_id"] for each in two.members]))
        self.does("/user/update", user_id="alice", teams=None)
        self.assertEqual([], self.info("alice")["teams"])

    def test_teams_know_a_new_address(self) -> None:
        """
        The address of a user is the same wherever it is shown.
        """
        self.does("/team/new", team_id="one", members_with_roles=[{"user_id": "alice", "role": "admin"}])
        for address in ("a@b.c", None):
            self.does("/user/update", user_id="alice", user_email=address)
            [member] = self.sees("/team/info?team_id=one")["team_info"]["members_with_roles"]
            self.assertEqual({"user_id": "alice", "user_email": address, "role": "admin"}, member)


class DeletingTests(UserCase):
    def test_keys_and_memberships_go_with_them(self) -> None:
        """
        The keys of a deleted user open nothing, and no team has them as a member; others are untouched.
        """
        self.does("/team/new", team_id="one", members_with_roles=[{"user_id": name} for name in ("alice", "bob", "c")])
        keys = [self.desk.generate(user_id=name)["key"] for name in ("alice", "bob", "c")]
        self.assertEqual({"deleted_users": ["alice", "bob"]}, self.does("/user/delete", user_ids=["alice", "bob"]))
        self.assertEqual([False, False, True], [self.desk.opens(each) is not None for each in keys])
        members_left = self.sees("/team/info?team_id=one")["team_info"]["members_with_roles"]
        self.assertEqual(["c"], [each["user_id"] for each in members_left])
        self.refused(self.desk.get("/user/info?user_id=alice"), 404, "not_found_error", "user_id")

    def test_all_or_none(self) -> None:
        """
        If one does not exist, none is deleted.
        """
        key = self.does("/user/new", user_id="alice")["key"]
        refused = self.desk.post("/user/delete", {"user_ids": ["alice", "none"]})
        self.refused(refused, 404, "not_found_error", "user_ids")
        self.assertIsNotNone(self.desk.opens(key))
        self.wrong(self.desk.post("/user/delete", {"user_ids": [str(n) for n in range(101)]}), ["body", "user_ids"])


class LookingTests(UserCase):
    def setUp(self) -> None:
        super().setUp()
        self.make("a", user_email="Anna@x.org", user_role="proxy_admin", user_alias="z")
        self.make("b", user_email="bob@x.org", user_role="internal_user")
        self.make("c,1", user_role="internal_user", user_alias="y")
        self.does("/team/new", team_id="one", members_with_roles=[{"user_id": "a"}, {"user_id": "b"}])

    def names(self, query: str) -> list[str]:
        return [each["user_id"] for each in self.sees(f"/user/list?{query}")["users"]]

    def test_pages(self) -> None:
        """
        All pages together hold each user once, and say how many there are.
        """
        pages = [self.sees(f"/user/list?page_size=2&page={page}") for page in (1, 2)]
        self.assertEqual({"a", "b", "c,1"}, {one["user_id"] for each in pages for one in each["users"]})
        self.assertEqual((3, 2, 2, 2), tuple(pages[1][name] for name in ("total", "page", "page_size", "total_pages")))
        self.wrong(self.desk.get("/user/list?page_size=101"), ["query", "page_size"])

    def test_filters_and_order(self) -> None:
        """
        Each filter leaves only who fits, also among those of a team, and the order is that which is asked for.
        """
        self.assertEqual(["b", "c,1"], self.names("role=internal_user&sort_by=user_id"))
        self.assertEqual(["a"], self.names("user_email=ANNA"))
        self.assertEqual(["c,1", "a", "b"], self.names("sort_by=user_alias"))
        self.assertEqual(["a", "c,1", "b"], self.names("sort_by=user_alias&sort_order=desc"))
        self.assertEqual(["a", "b"], self.names("team=one&sort_by=user_id"))
        self.assertEqual(["b"], self.names("team=one&role=internal_user"))
        self.assertEqual(["b", "a"], self.names("user_ids=a,b,none&sort_by=user_id&sort_order=desc"))
        self.assertEqual(["a", "b"], self.names("user_ids=a&user_ids=b&sort_by=user_id"))
        self.assertEqual(["b"], self.names("user_ids=a,b&sort_by=user_id&page=2&page_size=1"))
        self.assertEqual(["b"], self.names("user_ids=b,c&team=one"))
        self.assertEqual([], self.names("user_ids="))
        self.refused(self.desk.get("/user/list?team=none"), 404, "not_found_error", "team")

    def test_names_in_a_query_are_bounded(self) -> None:
        """
        However they are written, there are at most a hundred, and each is one that a user could have.
        """
        for query in ("user_ids=" + ",".join(["u"] * 101), "&".join(["user_ids=u"] * 101)):
            self.wrong(self.desk.get(f"/user/list?{query}"), ["query", "user_ids"])
        self.wrong(self.desk.get("/user/list?user_ids=a,%00"), ["query", "user_ids", 1])

    def test_a_key_learns_of_its_own_user(self) -> None:
        """
        A key that may not manage sees its user, their keys without digests, and their teams without the others.
        """
        self.does("/team/update", team_id="one", metadata={"secret": "planted"})
        mine = self.desk.generate(user_id="a", key_alias="mine")
        self.desk.generate(user_id="b", key_alias="other")
        for path in ("/user/info", "/v2/user/info", "/user/info?user_id=a"):
            reply = self.desk.get(path, key=mine["key"])
            self.assertEqual(("a", ["mine"]), (reply.json["user_id"], [key["key_alias"] for key in reply.json["keys"]]))
            [team] = reply.json["teams"]
            self.assertEqual(["a"], [each["user_id"] for each in team["members_with_roles"]])
            for secret in (b"planted", mine["token"].encode()):
                self.assertNotIn(secret, reply.answer.body)
        for other in ("b", "none"):
            self.refused(self.desk.get(f"/user/info?user_id={other}", key=mine["key"]), 403, "auth_error", "user_id")
        self.refused(self.desk.get("/user/list", key=mine["key"]), 403, "auth_error")

    def test_keys_without_a_user(self) -> None:
        """
        A key of nobody, and the master key, are told to name one; a user who was never made is not there.
        """
        for key in (self.desk.generate()["key"], self.desk.generate(user_id="never made")["key"]):
            self.refused(self.desk.get("/user/info", key=key), 404, "not_found_error", "user_id")
        self.refused(self.desk.get("/user/info"), 404, "not_found_error", "user_id")


class RecordTests(UserCase):
    def test_each_act_leaves_a_line(self) -> None:
        """
        What was done to a user is in the audit, and that they were given a key, but not the key.
        """
        made = self.does("/user/new", user_id="alice")
        self.does("/user/update", user_id="alice", rpm_limit=1)
        self.does("/user/delete", user_ids=["alice"])
        self.assertEqual([(f"user.{act}", "alice") for act in ("delete", "new", "update")], self.actions(kind="user"))
        self.assertEqual([("key.generate", made["key_id"])], self.actions(kind="key"))
        for secret in (made["key"], made["token"]):
            self.assertNotIn(secret, repr(self.desk.audit()))

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_any_body_is_answered(self, data: st.DataObject) -> None:
        """
        Whatever JSON is sent, the answer has a documented status.
        """
        route = data.draw(st.sampled_from((*users.ROUTES, *user_looks.ROUTES)))
        self.answers_as_described(route, data.draw(bodies(route)))


NAMES = st.sampled_from(["a", "b", "c"])
PEOPLE = NAMES.map(lambda name: {"user_id": name})
TEAMS = st.sampled_from(["one", "two"])
ACTS = st.one_of(
    st.tuples(st.just("/user/new"), st.fixed_dictionaries({"user_id": NAMES, "teams": st.lists(TEAMS, max_size=2)})),
    st.tuples(st.just("/user/update"), st.fixed_dictionaries({"user_id": NAMES, "teams": st.lists(TEAMS, max_size=2)})),
    st.tuples(st.just("/user/delete"), st.fixed_dictionaries({"user_ids": st.lists(NAMES, min_size=1, max_size=3)})),
    st.tuples(
        st.just("/team/new"),
        st.fixed_dictionaries({"team_id": TEAMS, "members_with_roles": st.lists(PEOPLE, max_size=3)}),
    ),
    st.tuples(st.just("/team/delete"), st.fixed_dictionaries({"team_ids": st.lists(TEAMS, min_size=1, max_size=2)})),
    st.tuples(st.just("/team/member_add"), st.fixed_dictionaries({"team_id": TEAMS, "member": PEOPLE})),
    st.tuples(st.just("/team/member_delete"), st.fixed_dictionaries({"team_id": TEAMS, "user_id": NAMES})),
)


class MembershipTests(UserCase):
    @settings(max_examples=60, deadline=None)
    @given(st.lists(ACTS, max_size=12))
    def test_both_sides_agree(self, acts: list[tuple[str, dict[str, Any]]]) -> None:
        """
        Whatever is done: a user is in a team exactly if the team has them, once, and both exist.
        """
        super().setUp()
        for path, body in acts:
            self.assertIn(self.desk.post(path, body).status, (200, 400, 404))
            self.agree(self.desk.store)

    def agree(self, store: MemoryStore) -> None:
        everybody, _ = self.successResultOf(store.find(User, Query(limit=10_000)))
        all_teams, _ = self.successResultOf(store.find(Team, Query(limit=10_000)))
        from_users = sorted((team, each.id) for each in everybody for team in each.teams)
        from_teams = sorted((each.id, member["user_id"]) for each in all_teams for member in each.members)
        self.assertEqual(from_users, from_teams)
        self.assertEqual(len(from_users), len(set(from_users)))

    def contested(self) -> tuple[Contested, Office]:
        store, office = Contested.with_office()
        for team in ("one", "two"):
            self.successResultOf(Deferred.fromCoroutine(teams.new(office, asked(NewTeam(team_id=team)))))
        user = NewUser(user_id="alice", teams=["one"])
        self.successResultOf(Deferred.fromCoroutine(users.new(office, asked(user))))
        return store, office

    def test_who_is_deleted_while_they_join(self) -> None:
        """
        A user who joins a team, or leaves one, while they are deleted is in none afterwards; so with the team.
        """
        joining = partial(members.add, asked=asked(AddMembers(team_id="two", member=Member(user_id="alice"))))
        leaving = partial(members.delete, asked=asked(DeleteMember(team_id="one", user_id="alice")))
        no_user = partial(users.delete, asked=asked(NamedUsers(user_ids=["alice"])))
        no_teams = partial(teams.delete, asked=asked(NamedTeams(team_ids=["one", "two"])))
        for rival in (joining, leaving):
            for deleting, left in ((no_user, (0, 2)), (no_teams, (1, 0))):
                store, office = self.contested()
                store.rivals.append(partial(rival, office))
                self.successResultOf(Deferred.fromCoroutine(deleting(office)))
                self.assertEqual([], store.rivals)
                self.agree(store)
                counts = tuple(self.successResultOf(store.find(sort, Query()))[1] for sort in (User, Team))
                self.assertEqual(left, counts)

    def test_two_who_join_at_once(self) -> None:
        """
        Of two who join the same team at the same time, both are in it.
        """
        store, office = self.contested()
        bob, carol = (AddMembers(team_id="one", member=Member(user_id=name)) for name in ("bob", "carol"))
        store.rivals.append(partial(members.add, office, asked(bob)))
        self.successResultOf(Deferred.fromCoroutine(members.add(office, asked(carol))))
        team = self.successResultOf(store.get(Team, "one"))
        assert team is not None
        self.assertEqual(["alice", "bob", "carol"], [each["user_id"] for each in team.members])
        self.agree(store)

    def test_an_act_is_bounded(self) -> None:
        """
        What concerns too many users and teams at once is refused, and nothing was done.
        """
        for team in ("one", "two", "three"):
            people = [{"user_id": f"{team} {number}"} for number in range(ENTITIES_AT_ONCE // 3 + 1)]
            self.does("/team/new", team_id=team, members_with_roles=people)
        refused = self.desk.post("/team/delete", {"team_ids": ["one", "two", "three"]})
        self.refused(refused, 400, BadRequest.type)
        self.assertEqual(3, len(self.sees("/team/list")))
        self.agree(self.desk.store)
