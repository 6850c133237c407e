"""
What waits for the next turn.
"""

from __future__ import annotations

from attrs import define, field
from twisted.trial.unittest import SynchronousTestCase

from dheera.allowances.waiting import MOST_KEPT, MOST_RELEASES, Asking, Waiting
from dheera.holding import Allowance, Claim, Rated, Release, Turn, Verdict

TOKENS = Allowance(subject="key/k", kind="tokens")


@define(eq=False)
class Caller:
    """
    Claims nothing.
    """

    _name: str
    is_gone: bool = False
    claim: Claim = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.claim = Claim(call_id=self._name, shares=[])

    def hear(self, verdict: Verdict, at_us: int) -> None:
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        raise NotImplementedError


_: type[Asking] = Caller


class WaitingTests(SynchronousTestCase):
    """
    Claims and releases, in their order.
    """

    def setUp(self) -> None:
        self.waiting = Waiting("w1", 1)

    def next(self) -> tuple[str, list[str]]:
        """
        Who claims in the next turn, and what is given back in it.
        """
        turn, asking = self.waiting.next()
        self.assertEqual([claim.call_id for claim in turn.claims], [each.claim.call_id for each in asking])
        return "".join(claim.call_id for claim in turn.claims), [release.call_id for release in turn.releases]

    def test_suspects(self) -> None:
        """
        Those under suspicion go one by one, in their order, and nothing with them; all others together, as ever.
        """
        self.waiting.suspect([Caller("a"), Caller("b")])
        self.waiting.release(Release(call_id="r"))
        self.waiting.extends = True
        for name in "cd":
            self.waiting.ask(Caller(name))
        self.assertEqual([("a", []), ("b", [])], [self.next(), self.next()])
        self.assertTrue(self.waiting.extends)
        self.assertEqual(("cd", ["r"]), self.next())
        self.assertFalse(self.waiting.extends)

    def test_suspects_left(self) -> None:
        """
        When they have gone nobody else goes alone in their place.
        """
        self.waiting.suspect([Caller("a", is_gone=True), Caller("b", is_gone=True)])
        self.assertEqual(("", []), self.next())
        for name in "cd":
            self.waiting.ask(Caller(name))
        self.assertEqual(("cd", []), self.next())

    def test_most_releases(self) -> None:
        """
        A turn has an end; what is left is known to be left.
        """
        for n in range(MOST_RELEASES + 1):
            self.waiting.release(Release(call_id=f"r{n}"))
        self.assertEqual(MOST_RELEASES, len(self.next()[1]))
        self.assertTrue(self.waiting.has_releases)
        self.assertEqual([f"r{MOST_RELEASES}"], self.next()[1])
        self.assertFalse(self.waiting.has_releases)

    def test_put_back(self) -> None:
        """
        What is said again though it may have been heard gives back nothing of a rate for the second time; what was
        surely not heard is said as it was.
        """
        less, more = (Rated(allowance=TOKENS, at_us=5, change=change) for change in (-3, 4))
        said = Release(call_id="a", usd=7, rates=[less, more])
        for undone, rates in ((False, [more]), (True, [less, more])):
            self.waiting.put_back(Turn(owner="w1", releases=[said]), undone=undone)
            [release] = self.waiting.next()[0].releases
            self.assertEqual(Release(call_id="a", usd=7, rates=rates), release)

    def test_wary(self) -> None:
        """
        While there is something wrong with a release, each goes alone, by turns with all who claim; and none when it is
        to be found out whether the store is there.
        """
        for name in "rst":
            self.waiting.release(Release(call_id=name))
        turn, _ = self.waiting.next()
        self.waiting.put_back(turn, undone=True)
        self.waiting.suspect_releases(turn)
        self.waiting.release(Release(call_id="u"))
        self.waiting.extends = True
        for name in "ab":
            self.waiting.ask(Caller(name))
        probe, _ = self.waiting.next(probing=True)
        self.assertEqual((["a", "b"], True), ([claim.call_id for claim in probe.claims], probe.extends))
        self.assertEqual([], probe.releases)
        seen = []
        for name in "cdefg":
            self.waiting.ask(Caller(name))
            turn, _ = self.waiting.next()
            seen.append("".join([each.call_id for each in turn.claims] + [each.call_id for each in turn.releases]))
            self.waiting.cleared(turn)
        self.assertEqual(["r", "cd", "s", "ef", "t"], seen)
        self.assertFalse(self.waiting.is_wary)
        self.assertEqual(("g", ["u"]), self.next())

    def test_most_kept(self) -> None:
        """
        What is kept is bounded: the oldest goes.
        """
        turn = Turn(owner="w1", releases=[Release(call_id=f"t{n}") for n in range(3)])
        for n in range(MOST_KEPT - 2):
            self.waiting.release(Release(call_id=f"r{n}"))
        self.waiting.put_back(turn)
        self.assertEqual(["t1", "t2", "r0"], self.next()[1][:3])
        for n in range(MOST_KEPT):
            self.waiting.release(Release(call_id=f"s{n}"))
        self.waiting.put_back(turn)
        self.assertEqual("s0", self.next()[1][0])
