"""
What opens a key, and what does not.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from msgspec import structs

from dheera.boundaries import Add, Grant, Retire, Rotate
from dheera.entities import Team
from tests.stores.contract import NOON, Contract, a_budget, a_key, a_team, a_user, hour, opening


class LookUps(Contract):
    async def test_live(self) -> None:
        """
        A digest finds its key, and the team, the user and the budget that the key names, with all that they say.
        """
        store = await self.open_store()
        key = a_key(team_id="t", user_id="u", budget_id="b")
        said: dict[str, Any] = {"rest": {"model_rpm_limit": {"a": 1}}, "metadata": {"model_tpm_limit": {"a": 1}}}
        team, user, budget = a_team(models=["a"], **said), a_user(email="a@b", **said), a_budget(rpm_limit=3)
        others = [a_team("u"), a_team("b"), a_user("t"), a_user("b"), a_budget("t"), a_budget("u")]
        await store.apply([Add(each) for each in (key, team, user, budget, *others)], [])
        self.assertEqual(Grant(key, team, user, budget=budget), await store.look_up(opening("k"), NOON))

    async def test_member(self) -> None:
        """
        Of the members of a team, the one who owns the key comes with it, and no other.
        """
        store = await self.open_store()
        keys = [
            a_key(team_id="t", user_id="u"),
            a_key("alien", team_id="t", user_id="z"),
            a_key("ownerless", team_id="t"),
        ]
        members: list[dict[str, Any]] = [{"user_id": "v", "role": "admin"}, {"user_id": "u", "rpm_limit": 3}]
        team = a_team(alias="crew", members=members)
        await store.apply([Add(each) for each in (*keys, team)], [])
        shown = structs.replace(team, members=[])
        for key, member in zip(keys, [members[1], None, None], strict=True):
            self.assertEqual(Grant(key, shown, member=member), await store.look_up(opening(key.id), NOON), key.id)
        self.assertEqual(team, await store.get(Team, "t"))

    async def test_nobody_behind(self) -> None:
        """
        A key that names no team, no user and no budget, or ones that do not exist, is found without.
        """
        store = await self.open_store()
        key, lonely = a_key(team_id="t", user_id="u", budget_id="b"), a_key("lonely")
        await store.apply([Add(key), Add(lonely), Add(a_team("")), Add(a_user("x"))], [])
        self.assertEqual(Grant(key), await store.look_up(opening("k"), NOON))
        self.assertEqual(Grant(lonely), await store.look_up(opening("lonely"), NOON))

    async def test_unknown(self) -> None:
        """
        A digest of no key finds nothing.
        """
        store = await self.open_store()
        await store.apply([Add(a_key())], [])
        self.assertIsNone(await store.look_up(opening("other"), NOON))

    async def test_blocked_and_expired(self) -> None:
        """
        Keys that are blocked or expired are found: what that means is for others to say.
        """
        store = await self.open_store()
        key = a_key(blocked=True, expires_at=hour(1))
        await store.apply([Add(key)], [])
        self.assertEqual(Grant(key), await store.look_up(opening("k"), NOON))

    async def test_rotated(self) -> None:
        """
        After a rotation the new digest opens the key and the old one nothing.
        """
        store = await self.open_store()
        await store.apply([Add(a_key())], [])
        await store.apply([Rotate(a_key(digest=opening("new"), name="sk-...wxyz"))], [])
        expected = a_key(digest=opening("new"), name="sk-...wxyz", version=1)
        self.assertEqual(Grant(expected), await store.look_up(opening("new"), NOON))
        self.assertIsNone(await store.look_up(opening("k"), NOON))

    async def test_grace(self) -> None:
        """
        A digest that lives on after a rotation opens the same key until its time, which is told, and not at it; the one
        in force has no such time.
        """
        store = await self.open_store()
        await store.apply([Add(a_key())], [])
        await store.apply([Rotate(a_key(digest=opening("new")), hour(6))], [])
        key = a_key(digest=opening("new"), version=1)
        at = hour(6) - timedelta(microseconds=1)
        self.assertEqual(Grant(key, until=hour(6)), await store.look_up(opening("k"), at))
        self.assertIsNone(await store.look_up(opening("k"), hour(6)))
        self.assertEqual(Grant(key), await store.look_up(opening("new"), hour(7)))

    async def test_earlier_digests(self) -> None:
        """
        A rotation leaves digests that live on from earlier ones as they are; one that ends the old digest now ends
        them.
        """
        store = await self.open_store()
        await store.apply([Add(a_key()), Add(a_key("other"))], [])
        await store.apply([Rotate(a_key(digest=opening("second")), hour(20))], [])
        await store.apply([Rotate(a_key(digest=opening("third"), version=1), hour(14))], [])
        self.assertIsNotNone(await store.look_up(opening("k"), hour(19)))
        self.assertIsNotNone(await store.look_up(opening("second"), hour(13)))
        self.assertIsNone(await store.look_up(opening("second"), hour(14)))
        await store.apply([Rotate(a_key(digest=opening("fourth"), version=2))], [])
        for old in "k", "second", "third":
            self.assertIsNone(await store.look_up(opening(old), NOON), old)
        self.assertIsNotNone(await store.look_up(opening("fourth"), NOON))
        self.assertIsNotNone(await store.look_up(opening("other"), NOON))

    async def test_retired(self) -> None:
        """
        None of a deleted key's digests opens anything.
        """
        store = await self.open_store()
        await store.apply([Add(a_key()), Add(a_key("other"))], [])
        await store.apply([Rotate(a_key(digest=opening("new")), hour(20))], [])
        await store.apply([Retire(field="id", value="k", at=hour(1), by="master")], [])
        self.assertIsNone(await store.look_up(opening("k"), NOON))
        self.assertIsNone(await store.look_up(opening("new"), NOON))
        self.assertIsNotNone(await store.look_up(opening("other"), NOON))
