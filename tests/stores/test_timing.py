"""
How long a database takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Change
from dheera.errors import StoreAway
from dheera.stores.database import AnyStep, Rows
from dheera.stores.timing import TimedDatabase


class SlowDatabase:
    """
    One that takes two seconds for all that it is asked, and refuses to write.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def open(self) -> Deferred[None]:
        return deferLater(self.clock, 0)

    def close(self) -> Deferred[None]:
        return deferLater(self.clock, 0)

    def is_away(self) -> bool:
        return True

    def watch(self, changed: Callable[[Change], None], lost: Callable[[], None]) -> Callable[[], None]:
        lost()
        changed(Change("", ""))
        return lost

    def run(
        self,
        steps: Sequence[AnyStep],  # noqa: ARG002 - as databases have it
        *,
        changes: Sequence[Change] | None = None,
        slow: bool = False,  # noqa: ARG002 - likewise
        lasting: bool = True,  # noqa: ARG002 - likewise
    ) -> Deferred[list[Rows]]:
        if changes is not None:
            return fail(StoreAway())
        return deferLater(self.clock, 2, lambda: [[(1,)]])


class TimedDatabaseTests(SynchronousTestCase):
    """
    Whoever counts is told; nothing else is changed.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.seen: list[tuple[str, float]] = []
        self.database = TimedDatabase(
            SlowDatabase(self.clock), self.clock, lambda work, seconds: self.seen.append((work, seconds))
        )

    def test_kinds_of_work(self) -> None:
        """
        Each kind is told by its name with its seconds, also what fails; the outcome passes.
        """
        look_up, search = self.database.run([]), self.database.run([], slow=True)
        self.failureResultOf(self.database.run([], changes=[]), StoreAway)
        self.failureResultOf(self.database.run([], changes=[], lasting=False), StoreAway)
        self.clock.advance(2)
        self.assertEqual([[(1,)]], self.successResultOf(look_up))
        self.assertEqual([[(1,)]], self.successResultOf(search))
        self.assertEqual([("write", 0.0), ("turn", 0.0), ("look-up", 2.0), ("search", 2.0)], self.seen)

    def test_all_else_passes(self) -> None:
        """
        Opening, news and closing are the database's own.
        """
        heard: list[object] = []
        leave = self.database.watch(heard.append, lambda: heard.append("lost"))
        self.assertEqual(["lost", Change("", "")], heard)
        leave()
        self.assertEqual(3, len(heard))
        self.assertTrue(self.database.is_away())
        opened, closed = self.database.open(), self.database.close()
        self.clock.advance(0)
        self.assertEqual((None, None), (self.successResultOf(opened), self.successResultOf(closed)))
