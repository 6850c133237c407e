from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Add, Change, Query, Store
from dheera.entities import Key
from dheera.stores.memory import MemoryStore
from dheera.stores.shelves import Shelves
from tests.stores import suite
from tests.stores.contract import Heard, a_key


class MemoryStoreTests(suite.StoreContract):
    def setUp(self) -> None:
        self.shelves = Shelves()
        self.stores: list[MemoryStore] = []

    def new_store(self) -> Store:
        store = MemoryStore(self.shelves)
        self.stores.append(store)
        return store

    async def break_it(self) -> None:
        for store in self.stores:
            store.fail()

    async def mend_it(self) -> None:
        for store in self.stores:
            store.recover()


class SeparationTests(SynchronousTestCase):
    def test_stores_are_separate(self) -> None:
        """
        What one store keeps, another does not, unless they are given the same shelves.
        """
        store = MemoryStore()
        self.successResultOf(store.apply([Add(a_key())], []))
        self.assertEqual(([], 0), self.successResultOf(MemoryStore().find(Key, Query())))

    def test_nothing_is_shared(self) -> None:
        """
        What a caller does with the lists and dictionaries of an entity that it added changes nothing here.
        """
        store = MemoryStore()
        key = a_key(models=["a"], metadata={"a": []})
        self.successResultOf(store.apply([Add(key)], []))
        key.models.append("b")
        key.metadata["a"].append("b")
        expected = a_key(models=["a"], metadata={"a": []})
        self.assertEqual(expected, self.successResultOf(store.get(Key, "k")))

    def test_away_hears_nothing(self) -> None:
        """
        A store that is away hears no changes; that there may have been some it is told when it is back.
        """
        heard = Heard()
        shelves = Shelves()
        store, other = MemoryStore(shelves), MemoryStore(shelves)
        heard.attach(store)
        for each in store, other:
            self.successResultOf(each.open())
        store.fail()
        self.successResultOf(other.apply([Add(a_key())], []))
        store.recover()
        self.assertEqual([None, Change("", "")], heard.told)
        self.successResultOf(store.close())
        self.successResultOf(other.apply([Add(a_key("later"))], []))
        self.assertEqual([None, Change("", "")], heard.told)
