"""
Being told of changes, and a database that goes away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from dheera.boundaries import Add, Change, Grant, Put, Query, Remove, Retire, Rotate, Spent
from dheera.entities import Key
from dheera.errors import Outdated, StoreAway
from dheera.money import Usd
from tests.stores.contract import NOON, Contract, Heard, a_key, a_line, a_team, hour, opening


class News(Contract):
    async def test_own_changes(self) -> None:
        """
        Each write is told before its Deferred fires.
        """
        heard = Heard()
        store = await self.open_store(heard)
        for writes, expected in (
            ([Add(a_key(team_id="t")), Add(a_team())], [Change("key", "k"), Change("team", "t")]),
            ([Put(a_key(team_id="t"))], [Change("key", "k")]),
            ([Rotate(a_key(digest=opening("new"), team_id="t", version=1))], [Change("key", "k")]),
            ([Spent("team", "t", Usd(1))], [Change("team", "t")]),
            ([Retire(field="id", value="k", at=hour(1), by="me")], [Change("key", "k")]),
            ([Retire(field="team_id", value="t", at=hour(1), by="me")], [Change("", "")]),
            ([Remove("team", "t")], [Change("team", "t")]),
        ):
            heard.told.clear()
            await store.apply(writes, []).addCallback(
                lambda _, told: self.assertLessEqual(told, set(heard.told)), set(expected)
            )

    async def test_nothing_done_nothing_told(self) -> None:
        """
        Writes that were refused are told nowhere.
        """
        ours, theirs = Heard(), Heard()
        store, _ = await self.open_store(ours), await self.open_store(theirs)
        await self.fails(Outdated, store.apply([Add(a_team("never")), Put(a_team())], []))
        await store.apply([Add(a_team())], [])
        await self.until(lambda: Change("team", "t") in theirs.told)
        self.assertNotIn(Change("team", "never"), ours.told + theirs.told)

    async def test_changes_of_others(self) -> None:
        """
        A second store on the same database hears what the first one does, and then finds it so.
        """
        heard = Heard()
        first, second = await self.open_store(), await self.open_store(heard)
        await first.apply([Add(a_key())], [])
        await self.until(lambda: Change("key", "k") in heard.told)
        await first.apply([Retire(field="user_id", value="u", at=hour(1), by="me")], [])
        await self.until(lambda: Change("", "") in heard.told)
        await first.apply([Retire(field="id", value="k", at=hour(1), by="me")], [])
        await self.until(lambda: heard.told.count(Change("key", "k")) > 1)
        self.assertIsNone(await second.look_up(opening("k"), NOON))

    async def test_several_watchers(self) -> None:
        """
        All who watch a store are told, of its own changes and of those of others.
        """
        heard = [Heard(), Heard(), Heard()]
        store = self.new_store()
        for each in heard:
            each.attach(store)
        await store.open()
        self.addCleanup(store.close)
        other = await self.open_store()
        await store.apply([Add(a_key("ours"))], [])
        await other.apply([Add(a_key("theirs"))], [])
        both = {Change("key", "ours"), Change("key", "theirs")}
        await self.until(lambda: all(both <= set(each.told) for each in heard))

    async def test_both_ways(self) -> None:
        """
        Each store hears what the other does.
        """
        heard = [Heard(), Heard()]
        stores = [await self.open_store(each) for each in heard]
        for number, store in enumerate(stores):
            await store.apply([Add(a_key(f"k{number}"))], [])
        both = {Change("key", "k0"), Change("key", "k1")}
        await self.until(lambda: all(both <= set(each.told) for each in heard))


class Absences(Contract):
    async def test_away(self) -> None:
        """
        When the database is away all that is asked fails with `StoreAway`, and the store says that it is.
        """
        store = await self.open_store()
        await store.apply([Add(a_key())], [])
        self.assertFalse(store.is_away())
        await self.break_it()
        asked: Sequence[Callable[[], Deferred[Any]]] = [
            lambda: store.look_up(opening("k"), NOON),
            lambda: store.get(Key, "k"),
            lambda: store.find(Key, Query()),
            lambda: store.audit(Query(sort="at")),
            lambda: store.apply([Add(a_team())], [a_line()]),
        ]
        for ask in asked:
            await self.fails(StoreAway, ask())
            self.assertTrue(store.is_away())

    async def test_lost_unasked(self) -> None:
        """
        A database that goes away is noticed though nobody asks it anything, and told once, to all who watch.
        """
        heard, also = Heard(), Heard()
        store = self.new_store()
        for each in heard, also:
            each.attach(store)
        await store.open()
        self.addCleanup(store.close)
        await self.break_it()
        await self.until(store.is_away)
        await self.until(lambda: None in heard.told)
        await self.fails(StoreAway, store.look_up(opening("k"), NOON))
        self.assertEqual(([None], [None]), (heard.told, also.told))

    async def test_back(self) -> None:
        """
        When the database is back, that is told as "anything may have changed", and all works as before.
        """
        heard, others = Heard(), Heard()
        store, other = await self.open_store(heard), await self.open_store(others)
        await store.apply([Add(a_key())], [])
        await self.until(lambda: Change("key", "k") in others.told)
        await self.break_it()
        await self.until(lambda: None in heard.told and None in others.told)
        heard.told.clear()
        others.told.clear()
        await self.mend_it()
        await self.until(lambda: Change("", "") in heard.told and Change("", "") in others.told)
        self.assertEqual((False, False), (store.is_away(), other.is_away()))
        self.assertEqual(Grant(a_key()), await store.look_up(opening("k"), NOON))
        await store.apply([Put(a_key(alias="ci"))], [])
        await self.until(lambda: Change("key", "k") in others.told)
        self.assertEqual(a_key(alias="ci", version=1), await other.get(Key, "k"))
