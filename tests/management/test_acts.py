"""
Reading, deciding and writing as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Add, Put, Write
from dheera.entities import AuditLine, Key, Team
from dheera.errors import BadRequest, NotFound, Outdated, Unavailable
from dheera.management.acts import ATTEMPTS, Decision, existing, line, revised, settle
from dheera.management.routes import Actor, Asked, Nothing, Office
from dheera.stores.memory import MemoryStore
from dheera.stores.memory_allowances import MemoryAllowances
from dheera.stores.memory_ledger import MemoryBooks
from tests.management.office import START

TEAM = Team(id="t", created_at=START, updated_at=START)
ASKED = Asked(actor=Actor(alias="master", is_admin=True), body=Nothing(), query=Nothing(), claimed="x", address="::1")


@define(eq=False)
class Contested(MemoryStore):
    """
    A store in which somebody else is faster, for a number of times.
    """

    losses: int = 0

    def apply(self, writes: Sequence[Write], lines: Sequence[AuditLine]) -> Deferred[None]:
        if self.losses:
            self.losses -= 1
            return fail(Outdated())
        return super().apply(writes, lines)


class Settled(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Contested()
        self.office = Office(
            store=self.store,
            books=MemoryBooks(),
            allowances=MemoryAllowances(),
            now=lambda: START + timedelta(hours=1),
        )
        self.successResultOf(self.store.apply([Add(TEAM)], []))
        self.looks = 0

    async def block(self) -> Decision[Team]:
        self.looks += 1
        before = await existing(self.office, Team, "t", param="team_id")
        after = revised(before, self.office, ASKED, blocked=True)
        return Decision(
            outcome=after, writes=[Put(after)], lines=[line(self.office, ASKED, "team.block", before, after)]
        )

    def test_once(self) -> None:
        """
        What was decided is written, with the audit, and its outcome returned.
        """
        outcome = self.successResultOf(Deferred.fromCoroutine(settle(self.office, self.block)))
        self.assertEqual(
            (True, "master", START + timedelta(hours=1)), (outcome.blocked, outcome.updated_by, outcome.updated_at)
        )
        kept = self.successResultOf(self.store.get(Team, "t"))
        self.assertTrue(kept and kept.blocked)

    def test_again(self) -> None:
        """
        Whoever comes too late looks again, and decides again.
        """
        self.store.losses = ATTEMPTS - 1
        self.successResultOf(Deferred.fromCoroutine(settle(self.office, self.block)))
        self.assertEqual(ATTEMPTS, self.looks)

    def test_never(self) -> None:
        """
        Who is always too late is told to try again, and nothing was written.
        """
        self.store.losses = ATTEMPTS
        refusal = self.failureResultOf(Deferred.fromCoroutine(settle(self.office, self.block)), Unavailable).value
        self.assertEqual(((b"Retry-After", b"1"),), refusal.fields)
        kept = self.successResultOf(self.store.get(Team, "t"))
        self.assertFalse(kept and kept.blocked)

    def test_taken(self) -> None:
        """
        What is in use is told by the name that the request has for it.
        """

        async def again() -> Decision[None]:
            return Decision(outcome=None, writes=[Add(TEAM)])

        settling = Deferred.fromCoroutine(settle(self.office, again, called={"id": "team_id"}))
        refusal = self.failureResultOf(settling, BadRequest).value
        self.assertEqual(("team_id", "Another one has this team_id already."), (refusal.param, refusal.message))

    def test_not_there(self) -> None:
        """
        What is not there is told with its id, and the name that the request has for it.
        """
        looking = Deferred.fromCoroutine(existing(self.office, Team, "u", param="team_id"))
        refusal = self.failureResultOf(looking, NotFound).value
        self.assertEqual(("team_id", "There is no team with the id u."), (refusal.param, refusal.message))

    def test_not_there_and_secret(self) -> None:
        """
        An id that looks like a key, or a digest, is not repeated.
        """
        for name, told in (("sk-planted-canary-12345", "sk-...2345"), ("sk-12", "sk-..."), ("0a" * 32, "***")):
            looking = Deferred.fromCoroutine(existing(self.office, Team, name, param="team_id"))
            message = self.failureResultOf(looking, NotFound).value.message
            self.assertEqual(f"There is no team with the id {told}.", message)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5) | st.just("sk-planted-canary-12345"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


class Lines(SynchronousTestCase):
    def setUp(self) -> None:
        self.office = Office(store=MemoryStore(), books=MemoryBooks(), allowances=MemoryAllowances(), now=lambda: START)

    def test_new_and_gone(self) -> None:
        """
        What is new was nothing before, what is gone is nothing after.
        """
        made = line(self.office, ASKED, "team.new", None, TEAM)
        gone = line(self.office, ASKED, "team.delete", TEAM, None)
        self.assertEqual((None, "t", "team"), (made.before, made.subject, made.kind))
        self.assertEqual((None, "t", made.after), (gone.after, gone.subject, gone.before))
        self.assertEqual(("master", "x", "::1", START), (made.actor, made.claimed, made.address, made.at))

    def test_same(self) -> None:
        """
        Where nothing changed, nothing is told of.
        """
        same = line(self.office, ASKED, "team.update", TEAM, TEAM)
        self.assertEqual(({}, {}), (same.before, same.after))

    def test_secrets(self) -> None:
        """
        What is called like a secret, or looks like one, is masked; its absence is not.
        """
        metadata = {
            "langfuse_secret_key": "hunter2",
            "password": "",
            "api_key": None,
            "max_tokens": 5,
            "note": f"digest {'0a' * 32}, Bearer abc",
            "sk-planted-canary-12345": 1,
        }
        told = line(self.office, ASKED, "team.new", None, structs.replace(TEAM, metadata=metadata))
        gone = line(self.office, ASKED, "team.delete", structs.replace(TEAM, metadata=metadata), None)
        self.assertEqual(told.after, gone.before)
        assert told.after is not None
        self.assertEqual(
            {
                "langfuse_secret_key": "***",
                "password": "",
                "api_key": None,
                "max_tokens": 5,
                "note": "digest ***, ***",
                "***": 1,
            },
            told.after["metadata"],
        )

    def test_who(self) -> None:
        """
        A key that acts is told by its id, too, and a secret in a name is masked.
        """
        key = Key(id="k", digest="d", name="sk-...abcd", created_at=START, updated_at=START)
        asked = Asked(
            actor=Actor(alias="sk-planted-canary-12345", key=key),
            body=Nothing(),
            query=Nothing(),
            claimed=f"alice Bearer planted {'0a' * 32}",
        )
        told = line(self.office, asked, "team.new", None, TEAM)
        self.assertEqual(("***", "k", "alice *** ***"), (told.actor, told.actor_key, told.claimed))
        self.assertEqual(None, line(self.office, ASKED, "team.new", None, TEAM).actor_key)

    @given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
    def test_any_document(self, metadata: dict[str, object]) -> None:
        """
        Whatever is kept can be told of, without the secrets in it.
        """
        team = Team(id="t", created_at=START, updated_at=START, metadata=metadata)
        self.assertNotIn("planted", repr(line(self.office, ASKED, "team.new", None, team)))
