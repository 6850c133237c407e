"""
``/spend/prune``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from dheera.management.spending import pruning
from dheera.stores.memory_ledger import MemoryBooks
from tests.management.directory import bodies
from tests.management.office import START, Desk
from tests.management.spending.ledger import AtLedger, days


@define(eq=False)
class SlowBooks(MemoryBooks):
    """
    A ledger in which pruning takes its time.
    """

    desk: Desk | None = field(init=False, default=None)
    each_takes: timedelta = field(init=False, default=timedelta())

    def prune(self, before: datetime, most: int) -> Deferred[int]:
        if self.desk is not None:
            self.desk.now += self.each_takes
        return super().prune(before, most)


class PruningTests(AtLedger):
    def setUp(self) -> None:
        self.books = SlowBooks()
        self.desk = self.books.desk = Desk(books=self.books)
        for number in range(4):
            self.call(at=START - days(number), model=f"day {number}")

    def models(self) -> list[str]:
        return [row["model"] for row in self.look("/spend/logs")]

    def test_old_calls_go(self) -> None:
        """
        Calls that began before go, and their number is told; sums and spends stay.
        """
        told = self.does("/spend/prune", before="2026-02-28T12:00:00Z")
        self.assertEqual({"deleted": 2, "before": "2026-02-28T12:00:00Z", "more": False}, told)
        self.assertEqual(["day 0", "day 1"], self.models())
        self.assertEqual(0.04, self.look("/global/spend")["spend"])
        self.assertEqual(0, self.does("/spend/prune", before="2026-02-28T12:00:00Z")["deleted"])

    def test_slices(self) -> None:
        """
        They go in slices, the oldest first, for as long as a client waits; then it is told to call again.
        """
        self.patch(pruning, "SLICE", 1)
        self.books.each_takes = timedelta(seconds=3)
        told = self.does("/spend/prune", before="2026-03-01T12:00:00Z")
        self.assertEqual((2, True), (told["deleted"], told["more"]))
        self.assertEqual(["day 0", "day 1"], self.models())
        told = self.does("/spend/prune", before="2026-03-01T12:00:00Z")
        self.assertEqual((1, False), (told["deleted"], told["more"]))

    def test_the_audit_is_told(self) -> None:
        """
        Who deleted how many calls is written down; nothing is where none were.
        """
        self.does("/spend/prune", before="2026-02-28T12:00:00Z")
        self.does("/spend/prune", before="2026-02-28T12:00:00Z")
        [line] = self.desk.audit(action="ledger.prune")
        self.assertEqual(("master", "calls"), (line.actor, line.subject))
        self.assertEqual({"before": "2026-02-28T12:00:00Z", "deleted": 2}, line.after)

    def test_the_future(self) -> None:
        """
        A time to come is refused: it would be a slip.
        """
        self.refused(
            self.desk.post("/spend/prune", {"before": "2026-03-01T12:00:01Z"}), 400, "bad_request_error", "before"
        )
        self.wrong(self.desk.post("/spend/prune", {}), ["body", "before"])
        self.assertEqual(4, len(self.models()))

    def test_who_may(self) -> None:
        """
        Only who manages.
        """
        key = self.desk.generate()["key"]
        reply = self.desk.post("/spend/prune", {"before": "2026-02-28T12:00:00Z"}, key=key)
        self.refused(reply, 403, "auth_error")
        self.assertEqual(4, len(self.models()))

    @settings(max_examples=40, deadline=None)
    @given(st.data())
    def test_any_body_is_answered(self, data: st.DataObject) -> None:
        """
        Whatever is sent, the answer has a documented status.
        """
        [route] = pruning.ROUTES
        self.answers_as_described(route, data.draw(bodies(route)))
