"""
What dead processes have left, and the store that has it.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.allowances.remains import LOOK_SECONDS, Remains
from dheera.bookkeeping import Lives
from dheera.errors import StoreAway
from tests.allowances.counter import Counter
from tests.stores.logs import Logged

LASTS_SECONDS = 60.0


@define(eq=False)
class Family:
    """
    A process after others.

    :ivar ready: those of which the ledger has all.
    """

    owner: str = "me"
    ready: list[str] = field(factory=list)

    def orphans(self) -> Sequence[str]:
        return [*self.ready]

    def forgotten(self, owners: Sequence[str]) -> None:
        for each in owners:
            self.ready.remove(each)


_: type[Lives] = Family


class RemainsTests(SynchronousTestCase):
    """
    Holds of calls that never began.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = Counter(self.clock)
        self.lives = Family()
        self.logged = Logged.during(self)  # type: ignore[arg-type]  # it can clean up, which is all that is needed
        self.remains = Remains(self.clock, self.store, self.lives, LASTS_SECONDS)
        self.remains.begin()

    def test_when_the_ledger_has_all(self) -> None:
        """
        They are given back soon after the ledger has caught up, and not before.
        """
        self.clock.pump([LOOK_SECONDS] * 5)
        self.assertEqual([], self.store.forgotten)
        self.lives.ready = ["a", "b"]
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual([["a", "b"]], self.store.forgotten)
        self.assertEqual(
            ["What was held for calls that a dead process never began is given back: 2"], self.logged.lines
        )

    def test_once_more(self) -> None:
        """
        It is done again when no claim of theirs can be on its way any more; then they are forgotten for good.
        """
        self.lives.ready = ["a"]
        self.clock.advance(LOOK_SECONDS)
        self.lives.ready.append("b")
        self.clock.pump([LOOK_SECONDS] * int(LASTS_SECONDS / LOOK_SECONDS - 1))
        self.assertEqual([["a"], ["b"]], self.store.forgotten)
        self.assertEqual(["a", "b"], self.lives.ready)
        self.clock.pump([LOOK_SECONDS] * 2)
        self.assertEqual([["a"], ["b"], ["a"], ["b"]], self.store.forgotten)
        self.assertEqual([], self.lives.ready)
        self.clock.pump([LOOK_SECONDS] * int(LASTS_SECONDS))
        self.assertEqual(4, len(self.store.forgotten))

    def test_away(self) -> None:
        """
        As long as the database is away they are kept in mind.
        """
        self.lives.ready = ["a"]
        self.store.fault = StoreAway()
        self.clock.pump([LOOK_SECONDS] * 3)
        self.assertEqual(["a"], self.lives.ready)
        self.store.fault = None
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual([["a"]], self.store.forgotten)

    def test_bug(self) -> None:
        """
        What the database will not do is not asked of it all the time.
        """
        self.lives.ready = ["a"]
        self.store.fault = ValueError("no such function")
        self.clock.pump([LOOK_SECONDS] * int(LASTS_SECONDS / LOOK_SECONDS))
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.store.fault = None
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual([["a"]], self.store.forgotten)

    def test_one_at_a_time(self) -> None:
        """
        Who is slow is not asked again meanwhile, and is not waited for at the end.
        """
        self.lives.ready = ["a"]
        self.store.forgetting = slow = Deferred[int]()
        self.clock.pump([LOOK_SECONDS] * 3)
        self.remains.end()
        self.assertTrue(slow.called)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual(["a"], self.lives.ready)
