"""
Which of several keys a call is sent with, and what is learnt from its answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from dheera.entities import now
from dheera.keys import Secret, WeightedKey
from dheera.proxy.credentials import Credential, Credentials, Turn, make_credentials
from dheera.records import Alert
from dheera.settings import BalanceSettings
from dheera.wire.layout import Layout
from dheera.wire.response import Response
from tests.house import Overheard

RULES = BalanceSettings(benched_seconds=60.0, failures=3, ejected_seconds=30.0)


def answer(code: int, retry_after: bytes | None = None) -> Response:
    """
    The head of an answer.
    """
    stream: Any = None
    said = [] if retry_after is None else [retry_after]
    return Response(stream, code, b"", Layout([b"Retry-After"] * len(said)), said, 0)


class CredentialsTestCase(SynchronousTestCase):
    """
    The keys of one upstream.
    """

    def setUp(self) -> None:
        self.make([1, 1])

    def make(self, weights: Sequence[int], names: Sequence[str] = ()) -> None:
        self.clock = Clock()
        self.alerts: list[Alert] = []
        named = [*names, *("" for _ in weights)]
        keys = [WeightedKey(Secret(f"sk-canary-{place}"), weight, named[place]) for place, weight in enumerate(weights)]
        self.credentials = Credentials(
            all=make_credentials(keys, {}),
            reactor=self.clock,
            rules=RULES,
            upstream="mistral",
            node="n",
            alert=self.alerts.append,
            now=now,
        )

    def call(self, code: int = 200, retry_after: bytes | None = None) -> str:
        """
        A call that is answered at once.

        :return: the name of its key.
        """
        turn = self.credentials.choose()
        turn.over(answer(code, retry_after))
        return turn.credential.name

    def begin(self, name: str) -> Turn:
        """
        A call that is sent with the key of that name, as soon as it is its turn; those before it are answered.
        """
        while (turn := self.credentials.choose()).credential.name != name:
            turn.over(answer(200))
        return turn

    def resting(self) -> list[str]:
        return [name for name, rests in self.credentials.resting().items() if rests]


class ShareTests(CredentialsTestCase):
    """
    Who is next.
    """

    @given(st.lists(st.integers(1, 1000), min_size=2, max_size=12), st.integers(1, 300))
    def test_weights(self, weights: list[int], calls: int) -> None:
        """
        After any number of calls, each key has had its share of them by its weight, to less than one call.
        """
        self.make(weights)
        total, had = sum(weights), Counter[str]()
        for number in range(1, calls + 1):
            had[self.call()] += 1
            for place, weight in enumerate(weights, 1):
                self.assertLess(abs(had[f"key {place}"] * total - number * weight), total)

    @given(st.lists(st.integers(1, 20), min_size=3, max_size=6), st.data())
    def test_rest(self, weights: list[int], data: st.DataObject) -> None:
        """
        While some keys rest, the others share by their weights; when they are back, all do.
        """
        self.make(weights)
        out = data.draw(st.sets(st.integers(1, len(weights)), max_size=len(weights) - 1))
        turns = [self.begin(f"key {place}") for place in out]
        for turn in turns:
            turn.over(answer(429, b"10"))
        for rest in (out, set[int]()):
            free = {place: weight for place, weight in enumerate(weights, 1) if place not in rest}
            had = Counter(self.call() for _ in range(2 * sum(free.values())))
            self.assertEqual({f"key {place}": 2 * weight for place, weight in free.items()}, had)
            self.clock.advance(10)

    def test_first(self) -> None:
        """
        Calls that only the first key may make are sent with it, even if it rests, and nothing is learnt from them.
        """
        for code in (401, 429, *([500] * RULES.failures), 200):
            turn = self.credentials.first()
            self.assertEqual("key 1", turn.credential.name)
            turn.over(answer(code))
            self.assertEqual([], self.resting())
        self.begin("key 1").over(answer(401))
        turn = self.credentials.first()
        turn.over(answer(200))
        self.assertEqual(("key 1", ["key 1"]), (turn.credential.name, self.resting()))

    def test_other(self) -> None:
        """
        Another key is one that was not tried and does not rest, if there is any.
        """
        self.make([1, 1, 1])
        tried: list[Credential] = []
        for _ in range(3):
            turn = self.credentials.other(tried)
            assert turn is not None
            self.assertNotIn(turn.credential, tried)
            tried.append(turn.credential)
        self.assertIsNone(self.credentials.other(tried))
        self.begin("key 2").over(answer(429, b"5"))
        self.assertEqual({"key 1", "key 2", "key 3"}, {each.name for each in tried})
        others = [each for each in tried if each.name != "key 2"]
        self.assertIsNone(self.credentials.other(others))

    def test_all_rest(self) -> None:
        """
        If all rest, calls go on with the one whose rest ends first; one that is taken does not bring back the others.
        """
        self.begin("key 1").over(answer(429, b"20"))
        self.begin("key 2").over(answer(429, b"10"))
        self.assertEqual(["key 1", "key 2"], self.resting())
        self.assertEqual(["key 2"] * 3, [self.call() for _ in range(3)])
        self.assertEqual(["key 1", "key 2"], self.resting())
        self.clock.advance(10)
        self.assertEqual(["key 1"], self.resting())


class LearningTests(CredentialsTestCase):
    """
    What answers tell.
    """

    def test_unknown(self) -> None:
        """
        One that upstream does not know rests; somebody is told once, and once when it has been over for a minute. The
        key is not shown.
        """
        self.make([1, 1], ["", "east"])
        self.begin("east").over(answer(401))
        self.assertEqual({"key 1"}, {self.call() for _ in range(10)})
        self.clock.advance(60)
        self.assertEqual("east", self.call(401))
        self.clock.advance(119)
        self.assertEqual("key 1", self.call())
        self.clock.advance(1)
        self.assertEqual("east", self.call(200))
        self.assertEqual({"key 1", "east"}, {self.call() for _ in range(2)})
        self.clock.advance(59)
        self.assertEqual({"key 1", "east"}, {self.call() for _ in range(2)})
        self.assertEqual(["warning"], [alert.level for alert in self.alerts])
        self.clock.advance(1)
        self.assertEqual({"key 1", "east"}, {self.call() for _ in range(4)})
        self.assertEqual(
            [
                ("warning", "upstream", "upstream mistral, key east"),
                ("resolved", "upstream", "upstream mistral, key east"),
            ],
            [(alert.level, alert.about, alert.subject) for alert in self.alerts],
        )
        self.assertNotEqual(self.alerts[0].id, self.alerts[1].id)
        self.assertNotIn("canary", repr(self.alerts) + repr(self.credentials) + repr([*self.credentials]))

    def test_one_trial(self) -> None:
        """
        While one call tries a key that has rested, no other one does; if that comes to nothing, the next one does.
        """
        self.begin("key 2").over(answer(401))
        self.clock.advance(60)
        trial = self.credentials.choose()
        self.assertEqual(("key 2", True), (trial.credential.name, trial.is_probe))
        self.assertEqual({"key 1"}, {self.call() for _ in range(5)})
        trial.over(None)
        trial = self.credentials.choose()
        self.assertEqual(("key 2", True), (trial.credential.name, trial.is_probe))
        trial.over(answer(204))
        self.assertEqual([], self.resting())

    def test_flapping(self) -> None:
        """
        One that is known now and then is told of once.
        """
        for _ in range(100):
            self.begin("key 1").over(answer(401))
            self.clock.advance(60)
            self.begin("key 1").over(answer(200))
            self.clock.advance(30)
        self.assertEqual(["warning"], [alert.level for alert in self.alerts])

    def test_told_seldom(self) -> None:
        """
        One that is unknown again soon after that was over is told of when ten minutes have passed.
        """
        levels = []
        for code, seconds in ((401, 60), (200, 60), (200, 60), (401, 60), (401, 120), (401, 240), (401, 480)):
            self.begin("key 1").over(answer(code))
            levels.append([alert.level for alert in self.alerts])
            self.clock.advance(seconds)
        once = ["warning", "resolved"]
        self.assertEqual([["warning"], ["warning"], once, once, once, once, [*once, "warning"]], levels)

    def test_of_the_call(self) -> None:
        """
        A call that several keys are refused for tells of the first alone, unless another key may make it.
        """
        for may in (False, True):
            self.make([1, 1, 1])
            turn = self.begin("key 2")
            turn.over(answer(401))
            refused = [turn]
            for _ in range(2):
                other = self.credentials.other([each.credential for each in refused])
                assert other is not None
                other.is_doubtful = True
                other.over(answer(401 if other.credential.name == "key 1" or not may else 200))
                refused.append(other)
            if may:
                self.credentials.confirm(each for each in refused if each.credential.name != "key 3")
            self.assertEqual(["key 1", "key 2"] if may else ["key 2"], self.resting())

    def test_no_trial(self) -> None:
        """
        A call that cannot be sent again tries no key.
        """
        self.begin("key 2").over(answer(401))
        self.clock.advance(60)
        for _ in range(3):
            turn = self.credentials.choose(may_probe=False)
            self.assertEqual(("key 1", False), (turn.credential.name, turn.is_probe))
        self.assertTrue(self.credentials.choose().is_probe)

    def test_limited(self) -> None:
        """
        One that may not send more rests for as long as upstream says.
        """
        self.begin("key 1").over(answer(429, b"7"))
        self.assertEqual({"key 2"}, {self.call() for _ in range(4)})
        self.clock.advance(6.9)
        self.assertEqual(["key 1"], self.resting())
        self.clock.advance(0.2)
        self.assertEqual({"key 1", "key 2"}, {self.call() for _ in range(2)})
        self.assertEqual([], self.alerts)

    def test_failing(self) -> None:
        """
        One that fails again and again is taken out, which the log tells; one call tries it, and brings it back.
        """
        overheard = Overheard.by(self)
        for code in (500, 502, 504):
            self.begin("key 1").over(answer(code))
        self.assertEqual(["key 1"], self.resting())
        [line] = overheard.lines(LogLevel.warn)
        self.assertIn("key 1 (last with 504): it rests for 30 s", line)
        self.assertNotIn("canary", overheard.everything())
        self.clock.advance(30)
        self.assertEqual("key 1", self.call(503))
        self.clock.advance(59)
        self.assertEqual(["key 1"], self.resting())
        self.assertEqual("key 2", self.call())
        self.clock.advance(1)
        self.assertEqual("key 1", self.call(200))
        self.assertEqual([], self.resting())

    def test_no_failures(self) -> None:
        """
        A 503 that says when to come back, no answer at all, and other answers of 5xx are nothing of the key's.
        """
        for _ in range(3):
            for other in (answer(503, b"3"), None, answer(501), answer(599)):
                self.begin("key 1").over(other)
        self.assertEqual([], self.resting())
        for _ in range(2):
            self.begin("key 1").over(answer(500))
        self.begin("key 1").over(answer(404))
        for _ in range(2):
            self.begin("key 1").over(answer(500))
        self.assertEqual([], self.resting())

    def test_old_news(self) -> None:
        """
        What was sent before a key began to rest neither brings it back nor makes it rest longer.
        """
        early = [self.begin("key 1") for _ in range(6)]
        early[0].over(answer(401))
        for turn, code in zip(early[1:], (200, 401, 500, 500, 500), strict=True):
            turn.over(answer(code))
        self.assertEqual(["key 1"], self.resting())
        self.clock.advance(60)
        self.assertEqual("key 1", self.call(200))
        self.assertEqual([], self.resting())

    def test_told_twice(self) -> None:
        """
        A turn is over once.
        """
        turn = self.begin("key 1")
        turn.over(answer(200))
        turn.over(answer(401))
        self.assertEqual([], self.resting())
