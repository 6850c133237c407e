from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Change
from dheera.stores.watchers import Watchers

CHANGE = Change("key", "k")


class WatchersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.heard: list[object] = []
        self.watchers = Watchers()

    def watch(self, name: str) -> Callable[[], None]:
        """
        :return: ends it.
        """

        def changed(change: Change) -> None:
            self.heard.append((name, change))

        return self.watchers.add(changed, lambda: self.heard.append(name))

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

    def test_late(self) -> None:
        """
        Who comes while changes cannot be heard is told so at once; once they are heard again, nobody is.
        """
        self.watchers.lose()
        self.watch("a")
        self.assertEqual(["a"], self.heard)
        self.watchers.tell(CHANGE)  # of our own: it says nothing of those of others
        self.watch("b")
        self.assertEqual(["a", ("a", CHANGE), "b"], self.heard)
        self.watchers.tell(Change("", ""))
        self.heard.clear()
        self.watch("c")
        self.assertEqual([], self.heard)

    def test_left(self) -> None:
        """
        Who has left is told nothing more; others are.
        """
        leave = self.watch("a")
        self.watch("b")
        leave()
        self.watchers.tell(CHANGE)
        self.watchers.lose()
        self.assertEqual([("b", CHANGE), "b"], self.heard)
