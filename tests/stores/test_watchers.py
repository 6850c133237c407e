from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Change
from dheera.stores.watchers import Watchers

CHANGE = Change("key", "k")


class WatchersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.heard: list[object] = []
        self.watchers = Watchers()

    def watch(self, name: str) -> None:
        def changed(change: Change) -> None:
            self.heard.append((name, change))

        self.watchers.add(changed, lambda: self.heard.append(name))

    def fail_to_watch(self) -> None:
        def fail(*_: Change) -> None:
            raise LookupError

        self.watchers.add(fail, fail)

    def test_in_turn(self) -> None:
        """
        All are told, in the order in which they came.
        """
        self.watch("a")
        self.watch("b")
        self.watchers.tell(CHANGE)
        self.watchers.lose()
        self.assertEqual([("a", CHANGE), ("b", CHANGE), "a", "b"], self.heard)

    def test_one_fails(self) -> None:
        """
        One that fails keeps no other from being told, and its error is raised.
        """
        self.watch("a")
        self.fail_to_watch()
        self.watch("b")
        self.assertRaises(LookupError, self.watchers.tell, CHANGE)
        self.assertRaises(LookupError, self.watchers.lose)
        self.assertEqual([("a", CHANGE), ("b", CHANGE), "a", "b"], self.heard)
