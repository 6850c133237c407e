"""
Keys at hand: fresh, bounded, and usable for a while when the store is away.
"""

from __future__ import annotations

from datetime import UTC, datetime

from attrs import define
from msgspec import structs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Add, Grant, Put, Retire
from dheera.entities import Budget, Entity, Key, Team, User
from dheera.errors import StoreAway
from dheera.keyring import Keyring
from dheera.keys import Digest, digest
from dheera.stores.memory import MemoryStore

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
AWAY_SECONDS = 60.0


@define(eq=False)
class LateStore(MemoryStore):
    """
    A store whose look-ups can be held back after they have read.
    """

    held: list[Deferred[None]] | None = None
    looks: int = 0

    def look_up(self, digest: Digest, at: datetime) -> Deferred[Grant | None]:
        self.looks += 1
        answer = super().look_up(digest, at)
        if self.held is None:
            return answer
        late: Deferred[None] = Deferred()
        self.held.append(late)
        return late.addCallback(lambda _: answer)


def key(name: str, /, **fields: object) -> Key:
    said = {"id": name, "digest": digest(name.encode()), "name": "sk-...", "created_at": NOW, "updated_at": NOW}
    return Key(**{**said, **fields})  # type: ignore[arg-type]


class KeyringTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = LateStore()
        self.keyring = Keyring(self.clock, self.store, lambda: NOW, lambda grant: grant.key.alias, 3, AWAY_SECONDS)
        self.successResultOf(self.store.open())

    def keep(self, *entities: Entity) -> None:
        self.successResultOf(self.store.apply([Add(entity) for entity in entities], []))

    def look_up(self, name: str) -> str | None:
        return self.successResultOf(self.keyring.look_up(digest(name.encode())))

    def held(self, name: str) -> str | None:
        return self.keyring.held(digest(name.encode()))


class Held(KeyringTests):
    """
    While the store tells what changes.
    """

    def test_found_once(self) -> None:
        """
        A key that was looked up is at hand from then on; the store is not asked again.
        """
        self.keep(key("a", alias="ada"))
        self.assertIsNone(self.held("a"))
        self.assertEqual("ada", self.look_up("a"))
        self.assertEqual("ada", self.held("a"))

    def test_unknown(self) -> None:
        """
        A key that nobody has issued is not kept, and drives nothing out.
        """
        self.keep(key("a", alias="ada"))
        self.look_up("a")
        for number in range(100):
            self.assertIsNone(self.look_up(f"unknown {number}"))
        self.assertEqual("ada", self.held("a"))
        self.assertEqual(1, len(self.keyring._recall._kept))

    def test_bounded(self) -> None:
        """
        Of more keys than may be kept, those that were used last are.
        """
        self.keep(*(key(name, alias=name) for name in "abcd"))
        for name in "abc":
            self.look_up(name)
        self.held("a")
        self.look_up("d")
        self.assertEqual(["a", None, "c", "d"], [self.held(name) for name in "abcd"])

    def test_changed(self) -> None:
        """
        A key that was changed, or whose team, user or budget was, is looked up anew; others stay at hand.
        """
        team = Team(id="t", created_at=NOW, updated_at=NOW)
        user = User(id="u", created_at=NOW, updated_at=NOW)
        budget = Budget(id="b", created_at=NOW, updated_at=NOW)
        keys = [key("a", alias="a"), key("b", alias="b", team_id="t", budget_id="b"), key("c", alias="c", user_id="u")]
        self.keep(team, user, budget, *keys)
        for changed, lost in ((keys[0], "a"), (team, "b"), (user, "c"), (budget, "b")):
            for name in "abc":
                self.look_up(name)
            self.successResultOf(self.store.apply([Put(changed)], []))
            self.assertEqual([None if name == lost else name for name in "abc"], [self.held(name) for name in "abc"])

    def test_deleted(self) -> None:
        """
        A deleted key opens nothing any more.
        """
        self.keep(key("a", alias="a"))
        self.look_up("a")
        self.successResultOf(self.store.apply([Retire(field="id", value="a", at=NOW, by="test")], []))
        self.assertIsNone(self.held("a"))
        self.assertIsNone(self.look_up("a"))


class Resized(KeyringTests):
    """
    Other settings, and the end.
    """

    def setUp(self) -> None:
        super().setUp()
        self.keep(*(key(name, alias=name) for name in "abcde"))
        for name in "abc":
            self.look_up(name)

    def test_more(self) -> None:
        """
        Where there is room for more, more are kept, and those that are at hand stay so.
        """
        self.keyring.resize(5, AWAY_SECONDS)
        looks = self.store.looks
        for name in "de":
            self.look_up(name)
        self.assertEqual([*"abcde"], [self.held(name) for name in "abcde"])
        self.assertEqual(looks + 2, self.store.looks)

    def test_fewer(self) -> None:
        """
        Where there is room for fewer, those that were used last are kept, and no more from then on.
        """
        self.held("a")
        self.keyring.resize(1, AWAY_SECONDS)
        self.assertEqual(["a", None, None], [self.held(name) for name in "abc"])
        self.look_up("d")
        self.assertEqual([None, "d"], [self.held(name) for name in "ad"])

    def test_away_seconds(self) -> None:
        """
        From then on keys go on as long as was said last while the store is away.
        """
        self.keyring.resize(3, 2 * AWAY_SECONDS)
        self.store.fail()
        self.clock.advance(2 * AWAY_SECONDS - 1)
        self.assertEqual("a", self.look_up("a"))
        self.clock.advance(1)
        self.failureResultOf(self.keyring.look_up(digest(b"a")), StoreAway)

    def test_doubted(self) -> None:
        """
        Where all that is at hand is in doubt, each key is looked up once more, and so is one that was being looked up.
        """
        self.store.held = []
        found = self.keyring.look_up(digest(b"d"))
        self.keyring._recall.doubt()
        late, self.store.held = self.store.held, None
        looks = self.store.looks
        late[0].callback(None)
        self.assertEqual(("d", looks + 1), (self.successResultOf(found), self.store.looks))
        self.assertEqual(["d", None, None], [self.held(name) for name in "dbc"])
        self.assertEqual("b", self.look_up("b"))
        self.assertEqual("b", self.held("b"))

    def test_closed(self) -> None:
        """
        One that is closed hears of no changes any more; another one of the same store does.
        """
        other = Keyring(self.clock, self.store, lambda: NOW, lambda grant: grant.key.alias, 3, AWAY_SECONDS)
        self.successResultOf(other.look_up(digest(b"a")))
        self.keyring.close()
        self.successResultOf(self.store.apply([Retire(field="id", value="a", at=NOW, by="test")], []))
        self.assertEqual(("a", None), (self.held("a"), other.held(digest(b"a"))))


class Overtaken(KeyringTests):
    """
    Changes that happen while the store is being asked.
    """

    def test_not_kept(self) -> None:
        """
        What was read before a change is never kept after it, nor given to anybody.
        """
        first = key("a", alias="before")
        self.keep(first)
        self.store.held = []
        answer = self.keyring.look_up(Digest(first.digest))
        late, self.store.held = self.store.held, None
        self.successResultOf(self.store.apply([Put(structs.replace(first, alias="after"))], []))
        late[0].callback(None)
        self.assertEqual("after", self.successResultOf(answer))
        self.assertEqual("after", self.held("a"))

    def test_others(self) -> None:
        """
        The change of another key makes nobody look again.
        """
        self.keep(key("a", alias="a"), key("b"))
        self.store.held = []
        answer = self.keyring.look_up(digest(b"a"))
        late, self.store.held = self.store.held, None
        self.successResultOf(self.store.apply([Put(key("b", alias="changed"))], []))
        late[0].callback(None)
        self.successResultOf(answer)
        self.assertEqual(1, self.store.looks)

    def test_asked_once(self) -> None:
        """
        Many who ask for the same key at once are answered by one look; one who leaves takes nothing from the others.
        """
        self.keep(key("a", alias="ada"))
        self.store.held = []
        answers = [self.keyring.look_up(digest(b"a")) for _ in range(5)]
        answers[0].cancel()
        self.failureResultOf(answers[0])
        self.store.held[0].callback(None)
        self.assertEqual(["ada"] * 4, [self.successResultOf(answer) for answer in answers[1:]])
        self.assertEqual(1, self.store.looks)


class Away(KeyringTests):
    """
    While the store does not answer.
    """

    def setUp(self) -> None:
        super().setUp()
        self.keep(key("a", alias="ada"), key("b"))
        self.look_up("a")
        self.store.fail()

    def test_known(self) -> None:
        """
        A key that was at hand goes on working for the stated time, and no longer.
        """
        self.clock.advance(AWAY_SECONDS - 1)
        self.assertIsNone(self.held("a"))
        self.assertEqual("ada", self.look_up("a"))
        self.clock.advance(1)
        self.failureResultOf(self.keyring.look_up(digest(b"a")), StoreAway)

    def test_unknown(self) -> None:
        """
        Of others it is not known what they open.
        """
        self.failureResultOf(self.keyring.look_up(digest(b"b")), StoreAway)

    def test_back(self) -> None:
        """
        When it is back each key is looked up once before it is at hand again: what happened meanwhile was not heard.
        """
        self.store.recover()
        self.assertIsNone(self.held("a"))
        self.assertEqual("ada", self.look_up("a"))
        self.assertEqual("ada", self.held("a"))
