"""
What is written: all or nothing, by those who have seen what they change.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred, gatherResults

from dheera.boundaries import Add, Grant, Put, Query, Remove, Retire, Rotate, Spent, Store, Write
from dheera.entities import KINDS, Budget, Customer, Entity, Key, Team, User
from dheera.errors import Outdated, Taken
from dheera.money import Usd
from tests.stores.contract import NOON, Contract, a_key, a_line, a_team, a_user, hour, opening
from tests.stores.strategies import distinct, drawn, entities


class Writes(Contract):
    async def refused(self, store: Store, sort: type[Exception], write: Write) -> Any:
        """
        The error of *write*, alone and as the second of several: nothing at all may have been written either time.
        """
        line = a_line("refused")
        error = await self.fails(sort, store.apply([write], [line]))
        again = await self.fails(sort, store.apply([Add(a_team("first")), write, Add(a_team("last"))], [line]))
        self.assertEqual(vars(error), vars(again))
        self.assertIsNone(await store.get(Team, "first"))
        self.assertEqual(([], 0), await store.audit(Query(sort="at", equal={"id": "refused"})))
        return error

    async def test_round_trip(self) -> None:
        """
        Whatever was added is found as it was.
        """
        store = await self.open_store()
        for sort in KINDS.values():
            added = [distinct(entity, number) for number, entity in enumerate(drawn(entities(sort), 30))]
            await store.apply([Add(entity) for entity in added], [])
            for entity in added:
                self.assertEqual(entity, await store.get(sort, entity.id))

    async def test_add(self) -> None:
        """
        What is new has version 0, whatever it says, and is found under its id alone, as what it is.
        """
        store = await self.open_store()
        await store.apply([Add(a_key(version=7))], [])
        self.assertEqual(a_key(), await store.get(Key, "k"))
        self.assertIsNone(await store.get(Key, "K"))
        self.assertIsNone(await store.get(Team, "k"))

    async def test_put(self) -> None:
        """
        A changed entity has the next version.
        """
        store = await self.open_store()
        changed = a_key(alias="ci", blocked=True, metadata={"a": [1]}, expires_at=hour(3), updated_at=hour(2))
        await store.apply([Add(a_key())], [])
        await store.apply([Put(changed)], [])
        self.assertEqual(replace(changed, version=1), await store.get(Key, "k"))
        await store.apply([Put(a_key(version=1))], [])
        self.assertEqual(a_key(version=2), await store.get(Key, "k"))

    async def test_put_each_kind(self) -> None:
        """
        Of all kinds, everything but the spend is replaced, by what was never there and by what was.
        """
        store = await self.open_store()
        for sort in KINDS.values():
            for number, (first, second) in enumerate(
                zip(drawn(entities(sort), 10), drawn(entities(sort), 10), strict=False)
            ):
                before = distinct(first, number)
                after = replace(distinct(second, number), id=before.id)
                await store.apply([Add(before)], [])
                await store.apply([Put(after)], [])
                expected = replace(after, version=1, spend=before.spend)  # type: ignore[attr-defined]  # each kind has it
                self.assertEqual(expected, await store.get(sort, before.id))

    async def test_put_keeps(self) -> None:
        """
        A key that is put keeps its spend and its digest, and does not become a deleted one.
        """
        store = await self.open_store()
        await store.apply([Add(a_key(spend=Usd(5)))], [])
        put = a_key(spend=Usd(7), digest=opening("new"), deleted_at=hour(1), deleted_by="me", alias="b")
        await store.apply([Put(put)], [])
        expected = a_key(spend=Usd(5), alias="b", version=1)
        self.assertEqual(expected, await store.get(Key, "k"))
        self.assertEqual(Grant(expected), await store.look_up(opening("k"), NOON))
        self.assertIsNone(await store.look_up(opening("new"), NOON))

    async def test_outdated(self) -> None:
        """
        Who has not seen the latest version cannot put or rotate.
        """
        store = await self.open_store()
        await store.apply([Add(a_key()), Add(a_user())], [])
        await store.apply([Put(a_key(alias="seen")), Put(a_user(alias="seen"))], [])
        for version in 0, 2:
            await self.refused(store, Outdated, Put(a_key(version=version)))
            await self.refused(store, Outdated, Put(a_user(version=version)))
            await self.refused(store, Outdated, Rotate(a_key(digest=opening("new"), version=version)))
        self.assertEqual(a_key(alias="seen", version=1), await store.get(Key, "k"))
        self.assertEqual(a_user(alias="seen", version=1), await store.get(User, "u"))
        self.assertIsNotNone(await store.look_up(opening("k"), NOON))

    async def test_not_there(self) -> None:
        """
        What is not there, or is a deleted key, cannot be changed.
        """
        store = await self.open_store()
        await store.apply([Add(a_key("gone", alias="a"))], [])
        await store.apply([Retire(field="id", value="gone", at=hour(1), by="me")], [])
        for version, id_ in (0, "never"), (1, "gone"):
            await self.refused(store, Outdated, Put(a_key(id_, version=version)))
            await self.refused(store, Outdated, Rotate(a_key(id_, version=version, digest=opening("new"))))
            await self.refused(store, Outdated, Retire(field="id", value=id_, at=hour(2), by="me"))
        for kind in KINDS:
            await self.refused(store, Outdated, Spent(kind, "never", Usd(1)))
        for kind in set(KINDS) - {"key"}:
            await self.refused(store, Outdated, Remove(kind, "never"))
        self.assertIsNone(await store.look_up(opening("new"), NOON))

    async def test_race(self) -> None:
        """
        Of several who put the same version at once, one succeeds, and what it wrote stays.
        """
        stores = [await self.open_store(), await self.open_store()]
        await stores[0].apply([Add(a_key())], [])
        outcomes: list[str] = []

        async def put(store: Store, alias: str) -> None:
            try:
                await store.apply([Put(a_key(alias=alias))], [])
            except Outdated:
                return
            outcomes.append(alias)

        putting = [Deferred.fromCoroutine(put(stores[number % 2], f"a{number}")) for number in range(10)]
        await gatherResults(putting, consumeErrors=True)
        [winner] = outcomes
        self.assertEqual(a_key(alias=winner, version=1), await stores[0].get(Key, "k"))

    async def test_in_order(self) -> None:
        """
        Writes that are done together see what those before them did.
        """
        store = await self.open_store()
        await store.apply([Add(a_key(alias="a")), Put(a_key(alias="b")), Add(a_key("other", alias="a"))], [])
        self.assertEqual(a_key(alias="b", version=1), await store.get(Key, "k"))

    async def test_taken_id(self) -> None:
        """
        No two of a kind have the same id, deleted keys included; two kinds may share one.
        """
        store = await self.open_store()
        await store.apply([Add(a_key()), Add(a_team()), Add(a_key("gone"))], [])
        await store.apply([Retire(field="id", value="gone", at=hour(1), by="me")], [])
        for entity in a_key(digest=opening("new")), a_team(), a_key("gone", digest=opening("newer")):
            error = await self.refused(store, Taken, Add(entity))
            self.assertEqual("id", error.field)
        await store.apply([Add(a_team("k"))], [])

    async def test_taken_alias(self) -> None:
        """
        No two keys that live have the same alias; a key may keep its own, and one that it gave up is free.
        """
        store = await self.open_store()
        await store.apply([Add(a_key(alias="ci")), Add(a_key("other", alias="dev")), Add(a_key("none"))], [])
        writes = Add(a_key("new", alias="ci")), Put(a_key("other", alias="ci")), Put(a_key("none", alias="ci"))
        for write in (*writes, Rotate(a_key("other", alias="ci", digest=opening("new")))):
            self.assertEqual("alias", (await self.refused(store, Taken, write)).field)
        await store.apply([Put(a_key(alias="ci", blocked=True))], [])
        await store.apply([Put(a_key(alias="CI", version=1))], [])
        await store.apply([Add(a_key("new", alias="ci"))], [])

    async def test_shared_aliases(self) -> None:
        """
        What is no key may share its alias.
        """
        store = await self.open_store()
        times = {"created_at": hour(0), "updated_at": hour(0)}
        for one, other in (
            (a_user(alias="a"), a_user("v", alias="a")),
            (a_team(alias="a"), a_team("s", alias="a")),
            (Customer(id="c", alias="a", **times), Customer(id="d", alias="a", **times)),  # type: ignore[arg-type]
        ):
            await store.apply([Add(one), Add(other)], [])

    async def test_taken_digest(self) -> None:
        """
        A digest opens one key; also one that lives on after a rotation is in use.
        """
        store = await self.open_store()
        await store.apply([Add(a_key()), Add(a_key("other"))], [])
        await store.apply([Rotate(a_key(digest=opening("new")), hour(20))], [])
        for text in "k", "new", "other":
            writes = Add(a_key("third", digest=opening(text))), Rotate(a_key(version=1, digest=opening(text)), hour(1))
            for write in writes:
                self.assertEqual("digest", (await self.refused(store, Taken, write)).field)
        self.assertIsNone(await store.get(Key, "third"))
        self.assertEqual(a_key(digest=opening("new"), version=1), await store.get(Key, "k"))

    async def test_free_again(self) -> None:
        """
        The alias and the digests of a deleted key can be given again.
        """
        store = await self.open_store()
        await store.apply([Add(a_key(alias="ci"))], [])
        await store.apply([Retire(field="id", value="k", at=hour(1), by="me")], [])
        again = a_key("again", alias="ci", digest=opening("k"))
        await store.apply([Add(again)], [])
        self.assertEqual(Grant(again), await store.look_up(opening("k"), NOON))
        await store.apply([Retire(field="id", value="again", at=hour(1), by="me")], [])
        await store.apply([Add(a_key("third", alias="ci"))], [])

    async def test_retire(self) -> None:
        """
        A deleted key can be got, says when and by whom it was deleted, and has the next version.
        """
        store = await self.open_store()
        await store.apply([Add(a_key(alias="ci", spend=Usd(3)))], [])
        await store.apply([Retire(field="id", value="k", at=hour(5), by="master")], [])
        expected = a_key(alias="ci", spend=Usd(3), version=1, deleted_at=hour(5), deleted_by="master")
        self.assertEqual(expected, await store.get(Key, "k"))

    async def test_retire_many(self) -> None:
        """
        The keys of a user or of a team are deleted together, and no other; there need not be any, and those that were
        deleted before keep their day.
        """
        store = await self.open_store()
        for name in "user_id", "team_id":
            mine, yours, gone = (f"{name}{each}" for each in ("mine", "yours", "gone"))
            mine_fields: dict[str, Any] = {name: "x"}
            added = [a_key(f"{mine}{number}", **mine_fields) for number in range(3)]
            await store.apply([Add(key) for key in [*added, a_key(gone, **mine_fields), a_key(yours)]], [])
            await store.apply([Retire(field="id", value=gone, at=hour(1), by="me")], [])
            await store.apply([Retire(field=name, value="x", at=hour(2), by="you")], [])
            for key in added:
                expected = replace(key, deleted_at=hour(2), deleted_by="you", version=1)
                self.assertEqual(expected, await store.get(Key, key.id))
                self.assertIsNone(await store.look_up(opening(key.id), NOON))
            kept = await store.get(Key, gone)
            self.assertEqual(hour(1), kept and kept.deleted_at)
            self.assertEqual(Grant(a_key(yours)), await store.look_up(opening(yours), NOON))
            await store.apply([Retire(field=name, value="x", at=hour(3), by="you")], [])

    async def test_spent(self) -> None:
        """
        The spend is set for each kind, deleted keys included; the version stays, so nobody's change is lost by it.
        """
        store = await self.open_store()
        times = {"created_at": hour(0), "updated_at": hour(0)}
        added: list[Entity] = [a_key(), a_user(), a_team()]
        added += [Customer(id="c", **times), Budget(id="b", **times)]  # type: ignore[arg-type]  # they are times
        await store.apply([Add(entity) for entity in added], [])
        await store.apply([Retire(field="id", value="k", at=hour(1), by="me")], [])
        for kind, entity in zip(KINDS, added, strict=True):
            before = await store.get(KINDS[kind], entity.id)
            assert before is not None
            await store.apply([Spent(kind, entity.id, Usd(9 * 10**18))], [])
            self.assertEqual(replace(before, spend=Usd(9 * 10**18)), await store.get(KINDS[kind], entity.id))

    async def test_remove(self) -> None:
        """
        What was removed is not there, and its id is free.
        """
        store = await self.open_store()
        await store.apply([Add(a_team()), Add(a_team("other")), Add(a_key(team_id="t"))], [])
        await store.apply([Remove("team", "t")], [])
        self.assertIsNone(await store.get(Team, "t"))
        self.assertEqual(Grant(a_key(team_id="t")), await store.look_up(opening("k"), NOON))
        await store.apply([Add(a_team(alias="again"))], [])
        self.assertEqual(a_team("other"), await store.get(Team, "other"))

    async def test_mistakes(self) -> None:
        """
        A program that removes keys, or retires them by something else, is told that it is wrong.
        """
        store = await self.open_store()
        await store.apply([Add(a_key(alias="a"))], [])
        await self.refused(store, ValueError, Remove("key", "k"))
        await self.refused(store, ValueError, Retire(field="alias", value="a", at=hour(1), by="me"))

    async def test_nothing(self) -> None:
        """
        Nothing can be done, too.
        """
        store = await self.open_store()
        await store.apply([], [])
