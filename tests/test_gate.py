"""
Who gets in with a key, and how far.
"""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.attempts import LONGEST_WAIT_SECONDS
from dheera.boundaries import Add, Admission, Caller, Put, Query, Rotate
from dheera.entities import Budget, Entity, Key, Team, User
from dheera.errors import (
    BadRequest,
    BlockedKey,
    ExpiredKey,
    NotAllowed,
    NotAuthenticated,
    Refusal,
    StoreAway,
    TooManyRequests,
    UnknownKey,
)
from dheera.gate import MASTER_REMEMBERED_SECONDS, make_key_gate
from dheera.keys import Secret, digest
from dheera.settings import KeySettings
from dheera.stores.memory import MemoryStore
from tests.network import LOCAL
from tests.test_keyring import NOW, key

MASTER = "sk-master-canary"
KEY = "sk-virtual-canary-1"
STRANGER = IPv4Address("TCP", "203.0.113.7", 50000)
CHAT = b"/v1/chat/completions"
SETTINGS = KeySettings(wrong_keys=3)


def caller(credential: str | None, peer: IAddress = LOCAL) -> Caller:
    return Caller(
        credential=None if credential is None else credential.encode(),
        ambiguous=False,
        peer=peer,
        host=b"dheera.team.test",
        origin=b"https://ui.test",
        cross_site=True,
        forwarded=True,
    )


class GateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.build(SETTINGS)
        self.successResultOf(self.store.open())

    def build(self, settings: KeySettings) -> None:
        start = NOW.timestamp()
        self.gate = make_key_gate(
            self.clock, self.store, Secret(MASTER), settings, lambda: start + self.clock.seconds()
        )

    def keep(self, *entities: Entity) -> None:
        self.successResultOf(self.store.apply([Add(entity) for entity in entities], []))

    def keep_key(self, **fields: object) -> None:
        self.keep(key("k", digest=digest(KEY.encode()), **fields))

    def admit(self, credential: str | None, target: bytes = CHAT, peer: IAddress = LOCAL) -> Admission:
        return self.successResultOf(self.gate.admit(caller(credential, peer), b"POST", target))

    def refused(self, sort: type[Refusal], credential: str | None, target: bytes = CHAT) -> Refusal:
        refusal: Refusal = self.failureResultOf(self.gate.admit(caller(credential), b"POST", target), sort).value
        said = refusal.envelope().decode()
        for secret in (MASTER, KEY, digest(KEY.encode()), digest(MASTER.encode())):
            self.assertNotIn(secret, said)
        return refusal


class Master(GateTests):
    """
    The master key.
    """

    def test_opens(self) -> None:
        """
        It opens everything, from anywhere and by any name, the first time and later.
        """
        for target in (CHAT, b"/v1/admin/api-keys"):
            for peer in (LOCAL, STRANGER):
                for _ in range(2):
                    self.assertEqual("master", self.admit(MASTER, target, peer).alias)
        self.assertTrue(self.successResultOf(self.gate.identify(caller(MASTER))).is_master)

    def test_opens_without_store(self) -> None:
        """
        It opens while the database is away.
        """
        self.store.fail()
        self.assertEqual("master", self.admit(MASTER).alias)

    def test_cannot_be_taken(self) -> None:
        """
        A virtual key with the same text takes nothing away from it.
        """
        self.keep(key("k", digest=digest(MASTER.encode()), blocked=True))
        for _ in range(2):
            self.assertTrue(self.successResultOf(self.gate.identify(caller(MASTER))).is_master)

    def test_described(self) -> None:
        """
        It can be told in one line who is let in, without the key.
        """
        self.assertNotIn("\n", self.gate.describe())
        self.assertNotIn(MASTER, self.gate.describe() + repr(self.gate))


class Virtual(GateTests):
    """
    Virtual keys.
    """

    def test_opens(self) -> None:
        """
        A key that was issued opens, under its alias, or else its masked name.
        """
        self.keep_key(alias="ada")
        self.assertEqual("ada", self.admit(KEY).alias)
        self.assertEqual("ada", self.admit(KEY).alias)
        self.keep(key("other", name="sk-...er-2", digest=digest(b"sk-another-2")))
        self.assertEqual("sk-...er-2", self.admit("sk-another-2").alias)

    def test_not_master(self) -> None:
        """
        A key that is called like the master key is told from it by name, and manages nothing.
        """
        self.keep_key(alias="master", name="sk-...ry-1")
        bearer = self.successResultOf(self.gate.identify(caller(KEY)))
        self.assertEqual(("sk-...ry-1", False), (bearer.alias, bearer.is_master))

    @given(st.one_of(st.text().map("sk-".__add__), st.sampled_from([KEY[:-1], KEY + "x", MASTER[:-1]])))
    def test_unknown(self, credential: str) -> None:
        """
        Nothing else opens; the refusal says what to do.
        """
        self.setUp()
        self.keep_key()
        refusal = self.refused(UnknownKey, credential)
        self.assertEqual((401, "token_not_found_in_db", "key"), (refusal.status, refusal.type, refusal.param))

    def test_no_key_of_ours(self) -> None:
        """
        What does not look like a key is said to be none.
        """
        for credential in ("Sk-1", "abc"):
            refusal = self.refused(NotAuthenticated, credential)
            self.assertEqual((401, "auth_error"), (refusal.status, refusal.type))

    def test_none(self) -> None:
        """
        No key, one that cannot be read, and two different ones are told apart.
        """
        self.assertIn("Authorization: Bearer", self.refused(NotAuthenticated, None).message)
        self.assertIn("Malformed", self.refused(NotAuthenticated, "").message)
        two = structs.replace(caller(KEY), ambiguous=True)
        self.assertIn(
            "Two different", self.failureResultOf(self.gate.admit(two, b"POST", CHAT), BadRequest).getErrorMessage()
        )

    def test_expires(self) -> None:
        """
        A key ends at its time, also when it is at hand.
        """
        self.keep_key(expires_at=NOW + timedelta(seconds=10), name="sk-...ry-1")
        self.admit(KEY)
        self.clock.advance(10)
        refusal = self.refused(ExpiredKey, KEY)
        self.assertEqual((401, "expired_key", "sk-...ry-1"), (refusal.status, refusal.type, refusal.param))

    def test_rotated(self) -> None:
        """
        A key that was replaced opens for its grace period and no longer, also when it was used meanwhile.
        """
        self.keep_key()
        [old], _ = self.successResultOf(self.store.find(Key, Query()))
        new = structs.replace(old, digest=digest(b"sk-the-next-one"))
        self.successResultOf(self.store.apply([Rotate(new, NOW + timedelta(seconds=10))], []))
        self.admit(KEY)
        self.admit("sk-the-next-one")
        self.clock.advance(10)
        self.refused(UnknownKey, KEY)
        self.admit("sk-the-next-one")

    def test_missing_team(self) -> None:
        """
        A key whose team is not there opens nothing: it might have been blocked, or bound to models.
        """
        self.keep_key(team_id="gone")
        self.assertIn("team", self.refused(BlockedKey, KEY).message)

    def test_blocked(self) -> None:
        """
        A blocked key opens nothing, from the moment that it is blocked.
        """
        self.keep_key()
        self.admit(KEY)
        [kept], _ = self.successResultOf(self.store.find(Key, Query()))
        self.successResultOf(self.store.apply([Put(structs.replace(kept, blocked=True))], []))
        self.assertIn("blocked", self.refused(BlockedKey, KEY).message)

    def test_blocked_team(self) -> None:
        """
        A blocked team's keys open nothing, from the moment that it is blocked.
        """
        team = Team(id="t", created_at=NOW, updated_at=NOW)
        self.keep_key(team_id="t")
        self.keep(team)
        self.admit(KEY)
        self.successResultOf(self.store.apply([Put(structs.replace(team, blocked=True))], []))
        self.assertIn("team", self.refused(BlockedKey, KEY).message)

    def test_limits(self) -> None:
        """
        An admission tells the limits of the key, of its budget, its team and its user in the team, as they are now; the
        master key has none.
        """
        team = Team(id="t", tpm_limit=20, members=[{"user_id": "u", "rpm_limit": 30}], created_at=NOW, updated_at=NOW)
        budget = Budget(id="b", max_parallel_requests=40, created_at=NOW, updated_at=NOW)
        user = User(id="u", alias="Ada", rpm_limit=50, created_at=NOW, updated_at=NOW)
        self.keep(team, budget, user)
        self.keep_key(
            rpm_limit=10, team_id="t", user_id="u", budget_id="b", metadata={"model_rpm_limit": {"small": 15}}
        )
        expected = {("key/k", 10), ("key/k", 15), ("key/k", 40), ("team/t", 20), ("member/t/u", 30)}
        self.assertEqual(expected, {(each.subject, each.cap) for each in self.admit(KEY).limits.all})
        changed = structs.replace(budget, max_parallel_requests=41)
        self.successResultOf(self.store.apply([Put(changed)], []))
        expected = (expected - {("key/k", 40)}) | {("key/k", 41)}
        self.assertEqual(expected, {(each.subject, each.cap) for each in self.admit(KEY).limits.all})
        self.assertFalse(self.admit(MASTER).limits)

    def test_limits_of_user(self) -> None:
        """
        A key without a team has those of its user.
        """
        self.keep(User(id="u", rpm_limit=50, created_at=NOW, updated_at=NOW))
        self.keep_key(user_id="u")
        self.assertEqual([("user/u", 50)], [(each.subject, each.cap) for each in self.admit(KEY).limits.all])

    def test_away(self) -> None:
        """
        While the database is away, keys that are at hand work, and of others it is said that it is away.
        """
        self.keep_key()
        self.admit(KEY)
        self.store.fail()
        self.admit(KEY)
        refusal = self.refused(StoreAway, "sk-some-other-key-9")
        self.assertEqual((503, "no_db_connection"), (refusal.status, refusal.type))
        self.assertIn((b"Retry-After", b"1"), refusal.fields)


class Reach(GateTests):
    """
    Where a key opens.
    """

    def test_sensitive(self) -> None:
        """
        Endpoints that hand out other credentials are closed to virtual keys, in every spelling.
        """
        self.keep_key()
        for target in (b"/v1/admin/api-keys", b"/v1/files/7/url?expiry=1", b"/v1/client/%73essions", b"/V1/Admin"):
            self.assertIn("allowed_routes", self.refused(NotAllowed, KEY, target).message, target)

    def test_sensitive_named(self) -> None:
        """
        A key whose routes name one may call it; a wildcard over everything names nothing.
        """
        self.keep_key(allowed_routes=["/mistral/*", "/v1/files/*/url"])
        self.admit(KEY, b"/v1/files/7/url?expiry=1")
        self.refused(NotAllowed, KEY, b"/v1/admin/api-keys")

    def test_sensitive_allowed(self) -> None:
        """
        The operator may open them to all virtual keys.
        """
        self.store = MemoryStore()
        self.build(KeySettings(sensitive_routes="allow"))
        self.keep_key()
        self.admit(KEY, b"/v1/files/7/url")

    def test_routes(self) -> None:
        """
        A key with routes opens there alone.
        """
        self.keep_key(allowed_routes=["/mistral/v1/chat/*"])
        self.admit(KEY, b"/v1/chat/completions?x=1")
        self.assertIn("allowed_routes", self.refused(NotAllowed, KEY, b"/v1/embeddings").message)

    def test_management(self) -> None:
        """
        A key that is made for managing does not open the Mistral API.
        """
        self.keep_key(allowed_routes=["management_routes"])
        self.refused(NotAllowed, KEY)
        bearer = self.successResultOf(self.gate.identify(caller(KEY)))
        self.assertTrue(bearer.routes.permits_management("POST"))

    def test_models(self) -> None:
        """
        The body is looked into for keys that have a model list, be it their team's, and for no others.
        """
        self.keep_key()
        self.assertIsNone(self.admit(KEY).models)
        self.keep(Team(id="t", created_at=NOW, updated_at=NOW, models=["mistral-small-*"]))
        for name, fields in (("own", {"models": ["mistral-small-latest"]}), ("team", {"team_id": "t"})):
            self.keep(key(name, digest=digest(f"sk-{name}".encode()), **fields))
            self.assertIsNotNone(self.admit(f"sk-{name}").models, name)


class Changed(GateTests):
    """
    Other settings for the gate.
    """

    def test_known_go_on(self) -> None:
        """
        What was known of keys stays known: they go on though the store is away.
        """
        self.keep_key(alias="ada")
        self.admit(KEY)
        self.gate = self.gate.changed(Secret("sk-master-2"), SETTINGS)
        self.store.fail()
        self.assertEqual("ada", self.admit(KEY).alias)

    def test_changes_are_heard(self) -> None:
        """
        Changes of keys are heard as before.
        """
        self.keep_key()
        self.admit(KEY)
        self.gate = self.gate.changed(Secret(MASTER), SETTINGS)
        self.successResultOf(
            self.store.apply([Put(key("k", digest=digest(KEY.encode()), blocked=True, version=0))], [])
        )
        self.refused(BlockedKey, KEY)

    def test_master_key(self) -> None:
        """
        The new master key opens, also where the old one was known to come from; the old one opens nothing.
        """
        self.admit(MASTER)
        self.gate = self.gate.changed(Secret("sk-master-2"), SETTINGS)
        self.refused(UnknownKey, MASTER)
        self.assertEqual("master", self.admit("sk-master-2").alias)

    def test_settings(self) -> None:
        """
        Its other settings are in force: what virtual keys may call, how many wrong keys are looked at, and how many
        keys are kept, how long.
        """
        self.keep_key()
        self.refused(NotAllowed, KEY, b"/v1/files/7/url")
        keys = KeySettings(sensitive_routes="allow", wrong_keys=50, cached=7, away_seconds=9)
        self.gate = self.gate.changed(Secret(MASTER), keys)
        self.admit(KEY, b"/v1/files/7/url")
        for number in range(50):
            self.failureResultOf(self.gate.admit(caller(f"sk-{number}", STRANGER), b"POST", CHAT), UnknownKey)
        self.assertNoResult(self.gate.admit(caller("sk-51", STRANGER), b"POST", CHAT).addErrback(lambda _: None))
        self.gate = self.gate.changed(Secret("sk-master-2"), keys)  # that forgives nobody
        self.assertNoResult(self.gate.admit(caller("sk-52", STRANGER), b"POST", CHAT).addErrback(lambda _: None))
        recall = self.gate._keyring._recall
        self.assertEqual((7, 9), (recall._size, recall._away_seconds))


class Guessing(GateTests):
    """
    Many wrong keys from one address.
    """

    def guess(self, count: int) -> None:
        for number in range(count):
            self.gate.admit(caller(f"sk-guess-{number}", STRANGER), b"POST", CHAT).addErrback(lambda _: None)

    def test_slowed(self) -> None:
        """
        They are looked at ever later, and then not at all; right and wrong ones alike.
        """
        self.keep_key()
        self.guess(SETTINGS.wrong_keys + 3)
        waiting = self.gate.admit(caller(KEY, STRANGER), b"POST", CHAT)
        self.assertNoResult(waiting)
        self.clock.pump([1.0] * LONGEST_WAIT_SECONDS)
        self.successResultOf(waiting)
        self.guess(100)
        refused = self.gate.admit(caller("sk-guess", STRANGER), b"POST", CHAT)
        self.assertEqual(429, self.failureResultOf(refused, TooManyRequests).value.status)

    def test_known_go_on(self) -> None:
        """
        Keys that are at hand, the master key where it came from before, and other addresses do not wait.
        """
        self.keep_key()
        self.admit(KEY, peer=STRANGER)
        self.admit(MASTER, peer=STRANGER)
        self.guess(100)
        self.admit(KEY, peer=STRANGER)
        self.admit(MASTER, peer=STRANGER)
        self.refused(UnknownKey, "sk-mistyped")

    def test_known_go_on_when_away(self) -> None:
        """
        Nor do keys that were at hand when the database went away.
        """
        self.keep_key()
        self.admit(KEY, peer=STRANGER)
        self.guess(100)
        self.store.fail()
        self.admit(KEY, peer=STRANGER)

    def test_master_stays_known(self) -> None:
        """
        As long as it is used, the master key stays known where it comes from.
        """
        self.admit(MASTER, peer=STRANGER)
        for _ in range(4):
            self.clock.advance(MASTER_REMEMBERED_SECONDS / 2)
            self.admit(MASTER, peer=STRANGER)
        self.guess(100)
        self.admit(MASTER, peer=STRANGER)

    def test_master_is_not_guessed(self) -> None:
        """
        A guess of the master key waits like any other, be it right or wrong.
        """
        self.guess(100)
        self.failureResultOf(self.gate.admit(caller(MASTER, STRANGER), b"POST", CHAT), TooManyRequests)

    def test_good_ones_lock_nobody_out(self) -> None:
        """
        Right keys that are not at hand cost nothing, be there ever so many, nor do those whose database is away, nor
        those who leave.
        """
        for number in range(100):
            name = f"sk-good-{number}"
            self.keep(key(name, digest=digest(name.encode())))
            self.admit(name, peer=STRANGER)
        self.store.fail()
        for number in range(100):
            self.failureResultOf(self.gate.admit(caller(f"sk-{number}", STRANGER), b"POST", CHAT), StoreAway)
        self.store.recover()
        self.admit("sk-good-1", peer=STRANGER)
        self.keep_key()
        self.admit(KEY, peer=STRANGER)

    def test_left(self) -> None:
        """
        Who leaves while waiting leaves nothing behind.
        """
        self.guess(SETTINGS.wrong_keys)
        waiting = self.gate.admit(caller(KEY, STRANGER), b"POST", CHAT)
        waiting.cancel()
        self.failureResultOf(waiting)
        self.assertEqual([], self.clock.getDelayedCalls())
