"""
Lists of entities and of audit lines.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from dheera.boundaries import Add, Query, Retire, Store, Write
from dheera.entities import KINDS, Key, Team
from dheera.money import Usd
from dheera.stores.memory import MemoryStore
from tests.stores.contract import Contract, a_key, a_line, a_team, hour, opening
from tests.stores.strategies import crowded_keys, distinct, drawn, entities, queries


class Lists(Contract):
    async def ids(self, store: Store, query: Query) -> tuple[str, int]:
        """
        The ids of the keys that *query* finds, and how many there are.
        """
        keys, total = await store.find(Key, query)
        return " ".join(key.id for key in keys), total

    async def filled(self, keys: Iterable[Key]) -> Store:
        """
        A store that has *keys*.
        """
        store = await self.open_store()
        await store.apply([Add(key) for key in keys], [])
        return store

    async def test_newest_first(self) -> None:
        """
        Unless asked otherwise the newest come first; those of the same time by their ids.
        """
        store = await self.filled(a_key(id_, created_at=hour(int(id_[0]))) for id_ in ["1b", "3", "1a", "2", "1c"])
        self.assertEqual(("3 2 1a 1b 1c", 5), await self.ids(store, Query()))
        self.assertEqual(("1a 1b 1c 2 3", 5), await self.ids(store, Query(descending=False)))

    async def test_each_kind(self) -> None:
        """
        Each kind has its list, and an empty one to begin with.
        """
        store = await self.open_store()
        for sort in KINDS.values():
            self.assertEqual(([], 0), await store.find(sort, Query()))
            [entity] = drawn(entities(sort), 1)
            entity = distinct(entity, 0)
            await store.apply([Add(entity)], [])
            self.assertEqual(([entity], 1), await store.find(sort, Query()))

    async def test_pages(self) -> None:
        """
        Pages hold each entity once, and say how many there are on all.
        """
        store = await self.filled(a_key(f"{number:02}", created_at=hour(number // 5)) for number in range(23))
        found: list[Key] = []
        for offset in range(0, 30, 5):
            page, total = await store.find(Key, Query(offset=offset, limit=5))
            self.assertEqual((min(5, max(0, 23 - offset)), 23), (len(page), total))
            found += page
        whole, _ = await store.find(Key, Query(limit=100))
        self.assertEqual(whole, found)
        self.assertEqual(([], 23), await store.find(Key, Query(limit=0)))

    async def test_unset_last(self) -> None:
        """
        Those which have no value come last, whichever the direction, by their ids.
        """
        aliases = {"1": "b", "2": None, "3": "a", "4": None}
        store = await self.filled(a_key(id_, alias=alias) for id_, alias in aliases.items())
        self.assertEqual(("3 1 2 4", 4), await self.ids(store, Query(sort="alias", descending=False)))
        self.assertEqual(("1 3 2 4", 4), await self.ids(store, Query(sort="alias")))

    async def test_order_of_texts(self) -> None:
        """
        Texts are ordered by their code points, wherever the database lives.
        """
        aliases = {"1": "b", "2": "B", "3": "é", "4": "a b", "5": "ab", "6": "\U0001f511", "7": "\uffee"}
        store = await self.filled(a_key(id_, alias=alias) for id_, alias in aliases.items())
        self.assertEqual(("2 4 5 1 3 7 6", 7), await self.ids(store, Query(sort="alias", descending=False)))

    async def test_equal(self) -> None:
        """
        A filter matches the value exactly, ``None`` what is not set; several must all match.
        """
        keys = [
            a_key("1", user_id="u", team_id="t", alias="A", expires_at=hour(1)),
            a_key("2", user_id="u", blocked=True, key_type="management"),
            a_key("3", user_id="U", team_id="t", spend=Usd(1)),
        ]
        store = await self.filled(keys)
        for equal, expected in (
            ({"user_id": "u"}, "1 2"),
            ({"team_id": None}, "2"),
            ({"user_id": "u", "team_id": "t"}, "1"),
            ({"alias": "a"}, ""),
            ({"alias": "A"}, "1"),
            ({"blocked": True}, "2"),
            ({"blocked": False}, "1 3"),
            ({"expires_at": hour(1)}, "1"),
            ({"expires_at": hour(2)}, ""),
            ({"key_type": "management"}, "2"),
            ({"spend": Usd(1)}, "3"),
            ({"digest": opening("3")}, "3"),
            ({"id": "3"}, "3"),
        ):
            found, total = await self.ids(store, Query(equal=equal))
            self.assertEqual((expected, len(expected.split())), (found, total), equal)

    async def test_contains(self) -> None:
        """
        A text is found anywhere in the value, in any case of ASCII letters; no character means another.
        """
        aliases = ["Alpha", "beta%", "be_ta", "be!ta", "be\\ta", "ÉTÉ", None]
        store = await self.filled(a_key(str(number), alias=alias) for number, alias in enumerate(aliases))
        for text, expected in (
            ("ALPHA", "0"),
            ("a", "0 1 2 3 4"),
            ("%", "1"),
            ("_", "2"),
            ("!", "3"),
            ("\\", "4"),
            ("b%a", ""),
            ("ÉtÉ", "5"),
            ("", "0 1 2 3 4 5"),
        ):
            found, _ = await self.ids(store, Query(contains={"alias": text}, sort="id", descending=False))
            self.assertEqual(expected, found, text)

    async def test_deleted(self) -> None:
        """
        Deleted keys are in their own list alone.
        """
        store = await self.filled(a_key(id_, user_id="u") for id_ in "1234")
        for id_ in "24":
            await store.apply([Retire(field="id", value=id_, at=hour(1), by="me")], [])
        self.assertEqual(("1 3", 2), await self.ids(store, Query()))
        self.assertEqual(("2 4", 2), await self.ids(store, Query(deleted=True)))
        self.assertEqual(("2 4", 2), await self.ids(store, Query(deleted=True, equal={"user_id": "u"})))

    async def test_any_question(self) -> None:
        """
        Whatever is asked of whatever keys, the answer is that of plain Python.
        """
        store, model = await self.open_store(), MemoryStore()
        for number, key in enumerate(drawn(crowded_keys(hour), 40)):
            added = replace(distinct(key, number), alias=f"{key.name}{number}")
            writes: list[Write] = [Add(added)]
            if number % 4 == 0:
                writes.append(Retire(field="id", value=added.id, at=hour(number), by="me"))
            await store.apply(writes, [])
            await model.apply(writes, [])
        for query in drawn(queries(hour), 100):
            self.assertEqual(await model.find(Key, query), await store.find(Key, query), query)

    async def test_mistaken_questions(self) -> None:
        """
        Only columns can be asked about, and only texts for what they contain: no name from outside gets into a
        statement.
        """
        store = await self.open_store()
        for query in (
            Query(sort="document"),
            Query(sort="id; drop table keys"),
            Query(equal={"models": "a"}),
            Query(contains={"nothing": "a"}),
            Query(contains={"created_at": "2026"}),
        ):
            await self.fails(ValueError, store.find(Key, query))


class Audits(Contract):
    async def test_round_trip_of_lines(self) -> None:
        """
        A line is found as it was, alone or with what was done.
        """
        store = await self.open_store()
        lines = [
            a_line("1", claimed="somebody", before={"a": None, "b": [1.5]}, after={"a": "\0é", "b": {}}),
            a_line("2", at=hour(1)),
        ]
        await store.apply([Add(a_key())], lines[:1])
        await store.apply([], lines[1:])
        self.assertEqual((lines[::-1], 2), await store.audit(Query(sort="at")))

    async def test_filters(self) -> None:
        """
        Lines can be asked for by each of their columns, in pages.
        """
        store = await self.open_store()
        lines = [
            a_line("1", actor="ci", at=hour(1)),
            a_line("2", action="team.new", kind="team", subject="t", at=hour(2)),
            a_line("3", subject="other", at=hour(3)),
        ]
        await store.apply([], lines)
        for query, expected in (
            (Query(sort="at", equal={"actor": "ci"}), "1"),
            (Query(sort="at", equal={"kind": "key"}), "3 1"),
            (Query(sort="at", equal={"kind": "key", "subject": "k"}), "1"),
            (Query(sort="id", equal={"action": "team.new"}), "2"),
            (Query(sort="at", equal={"at": hour(3)}), "3"),
            (Query(sort="id", descending=False), "1 2 3"),
            (Query(sort="at", contains={"action": "KEY."}), "3 1"),
        ):
            found, total = await store.audit(query)
            self.assertEqual((expected, len(expected.split())), (" ".join(line.id for line in found), total), query)
        page, total = await store.audit(Query(sort="at", offset=1, limit=1))
        self.assertEqual((lines[1:2], 3), (page, total))

    async def test_lines_are_unique(self) -> None:
        """
        A line is kept once, and what would have been done with the second is not.
        """
        store = await self.open_store()
        await store.apply([], [a_line()])
        await self.taken("id", store.apply([Add(a_team())], [a_line(actor="other")]))
        self.assertIsNone(await store.get(Team, "t"))
        self.assertEqual(([a_line()], 1), await store.audit(Query(sort="at")))
