"""
The addresses of a host: when they are asked for, what is done with the answers, and in which order they are tried.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from dheera.wire.addresses import AVOID_SECONDS, PATIENCE_SECONDS, RETRY_SECONDS, Host
from tests.wire.directory import Directory

NAME = "upstream.test"


class Town(Clock):
    """
    A clock with a directory, and one host that is in it.
    """

    def __init__(self, *addresses: str, name: str = NAME, seconds: float = 30.0) -> None:
        super().__init__()
        self.nameResolver = Directory(upstream_test=[*addresses])
        self.seconds_kept = seconds
        self.moves = 0
        self.host = Host(self, name, lambda: self.seconds_kept, self.moved)

    def moved(self, host: Host) -> None:
        assert host is self.host
        self.moves += 1

    def register(self, *addresses: str) -> None:
        """
        From now on the name has these addresses.
        """
        self.nameResolver.hosts[NAME] = [*addresses]

    def ask(self) -> Deferred[list[str]]:
        return Deferred.fromCoroutine(self.host.addresses())

    @property
    def asked(self) -> int:
        """
        How often the directory was asked.
        """
        return len(self.nameResolver.asked)


class TestAsking(SynchronousTestCase):
    """
    When the directory is asked.
    """

    def test_first(self) -> None:
        """
        The first one waits for the answer; those who ask meanwhile share it, and whoever leaves is not told.
        """
        town = Town("192.0.2.1")
        town.nameResolver.waits = True
        asking = [town.ask() for _ in range(3)]
        asking[1].cancel()
        self.failureResultOf(asking[1], CancelledError)
        self.assertNoResult(asking[0])
        town.nameResolver.answer()
        self.assertEqual([["192.0.2.1"]] * 2, [self.successResultOf(asking[number]) for number in (0, 2)])
        self.assertEqual([NAME], town.nameResolver.asked)

    def test_again(self) -> None:
        """
        Addresses are taken for granted for the time that is set, as it is set then; afterwards the old ones are still
        given at once, while the directory is asked, once.
        """
        town = Town("192.0.2.1", seconds=60)
        self.successResultOf(town.ask())
        town.seconds_kept = 10
        town.advance(59.9)
        self.successResultOf(town.ask())
        self.assertEqual(1, town.asked)
        town.nameResolver.waits = True
        town.register("192.0.2.2")
        town.advance(0.1)
        for _ in range(3):
            self.assertEqual(["192.0.2.1"], self.successResultOf(town.ask()))
        self.assertEqual(2, town.asked)
        town.nameResolver.answer()
        self.assertEqual(["192.0.2.2"], self.successResultOf(town.ask()))
        self.assertEqual(town.seconds() + 10, town.host.old_at)

    def test_no_answer(self) -> None:
        """
        An answer that never comes is given up; one that then comes after all is not heard.
        """
        town = Town("192.0.2.1")
        town.nameResolver.waits = True
        first = town.ask()
        town.advance(PATIENCE_SECONDS - 0.1)
        self.assertNoResult(town.ask().addErrback(lambda _: None))
        self.assertEqual(1, town.asked)
        town.advance(0.1)
        second = town.ask()
        self.assertEqual(2, town.asked)
        [(late, _), (current, _)] = town.nameResolver._waiting
        late.resolutionComplete()
        self.assertNoResult(first)
        self.assertNoResult(second)
        town.nameResolver._waiting = [(current, NAME)]
        town.nameResolver.answer()
        self.assertEqual([["192.0.2.1"]] * 2, [self.successResultOf(first), self.successResultOf(second)])

    def test_unknown(self) -> None:
        """
        Nobody knows the name: all who wait are told, and the next one asks anew.
        """
        town = Town()
        town.nameResolver.waits = True
        asking = [town.ask() for _ in range(2)]
        town.nameResolver.answer()
        for one in asking:
            self.assertIn(NAME, str(self.failureResultOf(one, DNSLookupError).value))
        town.register("192.0.2.1")
        town.nameResolver.waits = False
        self.assertEqual(["192.0.2.1"], self.successResultOf(town.ask()))
        self.assertEqual(2, town.asked)

    def test_unknown_by_now(self) -> None:
        """
        A directory that finds nothing any more takes no address away. It is asked again soon, and the log tells of it
        once, and once when it is over.
        """
        town = Town("192.0.2.1")
        self.successResultOf(town.ask())
        town.register()
        with capturedLogs() as events:
            town.advance(30)
            for _ in range(3):
                self.assertEqual(["192.0.2.1"], self.successResultOf(town.ask()))
                town.advance(RETRY_SECONDS)
            self.assertEqual((4, 0), (town.asked, town.moves))
            self.assertEqual([LogLevel.warn], [event["log_level"] for event in events])
            town.register("192.0.2.1")
            for _ in range(3):
                self.successResultOf(town.ask())
                town.advance(30)
            self.assertEqual([LogLevel.warn, LogLevel.info], [event["log_level"] for event in events])
            self.assertEqual([NAME] * 2, [event["name"] for event in events])

    def test_nobody_there(self) -> None:
        """
        If no address answers the directory is asked sooner, but not for each attempt.
        """
        town = Town("192.0.2.1", seconds=3600)
        self.successResultOf(town.ask())
        for _ in range(19):
            town.advance(RETRY_SECONDS / 10)
            self.successResultOf(town.ask())
            town.host.silent_everywhere()
        self.assertEqual(2, town.asked)

    def test_nobody_there_while_asked(self) -> None:
        """
        An answer that is on its way is not asked for a second time.
        """
        town = Town("192.0.2.1")
        self.successResultOf(town.ask())
        town.advance(30)
        town.nameResolver.waits = True
        for _ in range(3):
            self.successResultOf(town.ask())
            town.host.silent_everywhere()
            town.advance(RETRY_SECONDS)
        self.assertEqual(2, town.asked)

    def test_address(self) -> None:
        """
        A host that is given by its address has that one, for ever, and nobody is asked.
        """
        for address in ("192.0.2.1", "2001:db8::1"):
            town = Town(name=address)
            town.host.silent_everywhere()
            town.advance(1e6)
            self.assertEqual([address], self.successResultOf(town.ask()))
            self.assertEqual((0, True), (town.asked, town.host.has("as the kernel writes it")))

    def test_international(self) -> None:
        """
        A name outside ASCII is asked for as the directory has it; what cannot be a name is none.
        """
        town = Town(name="bücher.test")
        self.failureResultOf(town.ask(), DNSLookupError)
        self.assertEqual(["xn--bcher-kva.test"], town.nameResolver.asked)
        self.assertRaises(ValueError, Town, name="a" * 64 + ".test")


class TestMoving(SynchronousTestCase):
    """
    A host that has other addresses.
    """

    def move(self, *addresses: str) -> Town:
        """
        A host with two addresses that has these later.
        """
        town = Town("192.0.2.1", "192.0.2.2")
        self.successResultOf(town.ask())
        town.register(*addresses)
        town.advance(30)
        self.successResultOf(town.ask())
        return town

    def test_gone(self) -> None:
        """
        An address that two answers in a row lack is gone, and somebody is told; new connections are made only to those
        that the last answer has.
        """
        town = self.move("192.0.2.2", "192.0.2.3")
        self.assertEqual(0, town.moves)
        self.assertEqual([True] * 3, [town.host.has(f"192.0.2.{number}") for number in (1, 2, 3)])
        self.assertEqual({"192.0.2.2", "192.0.2.3"}, {*self.successResultOf(town.ask())})
        town.advance(30)
        self.successResultOf(town.ask())
        self.assertEqual(1, town.moves)
        self.assertEqual([False, True, True], [town.host.has(f"192.0.2.{number}") for number in (1, 2, 3)])

    def test_some_of_many(self) -> None:
        """
        A directory that tells some of many addresses, and others the next time, takes none away.
        """
        town = Town("192.0.2.1", "192.0.2.2")
        for number in range(20):
            self.successResultOf(town.ask())
            town.register("192.0.2.1", f"192.0.2.{3 - number % 2}")
            town.advance(30)
            self.successResultOf(town.ask())
            self.assertEqual([True] * 3, [town.host.has(f"192.0.2.{one}") for one in (1, 2, 3)])
        self.assertEqual(0, town.moves)

    def test_more(self) -> None:
        """
        Another order, or one more, is nothing to tell of.
        """
        self.assertEqual(0, self.move("192.0.2.3", "192.0.2.2", "192.0.2.1", "192.0.2.1").moves)


class TestOrder(SynchronousTestCase):
    """
    Which address is tried first.
    """

    def order(self, town: Town) -> list[str]:
        return self.successResultOf(town.ask())

    def test_turns(self) -> None:
        """
        Of one family each is the first as often as the others.
        """
        town = Town("192.0.2.1", "192.0.2.2", "192.0.2.3")
        firsts = Counter(self.order(town)[0] for _ in range(9))
        self.assertEqual([3, 3, 3], [*firsts.values()])

    def test_families(self) -> None:
        """
        Families take turns, beginning with that which the directory names first.
        """
        town = Town("2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2")
        self.assertEqual([6, 4, 6, 4], [6 if ":" in one else 4 for one in self.order(town)])

    def test_worked(self) -> None:
        """
        Once a connection was made, its family is the first, until its address is gone.
        """
        town = Town("2001:db8::1", "192.0.2.1")
        town.host.answered_at("192.0.2.1")
        self.assertEqual(["192.0.2.1", "2001:db8::1"], self.order(town))
        town.register("2001:db8::1", "192.0.2.9")
        town.advance(30)
        self.order(town)
        self.assertEqual(["2001:db8::1", "192.0.2.9"], self.order(town))

    def test_silent(self) -> None:
        """
        What did not answer lately comes last, until it answers, or time has passed.
        """
        town = Town("192.0.2.1", "192.0.2.2", "192.0.2.3", seconds=1e6)
        self.order(town)
        town.host.silent_at("192.0.2.2")
        town.advance(AVOID_SECONDS - 1)
        self.assertEqual({"192.0.2.2"}, {self.order(town)[-1] for _ in range(3)})
        town.host.answered_at("192.0.2.2")
        self.assertEqual(3, len({self.order(town)[-1] for _ in range(3)}))
        town.host.silent_at("192.0.2.2")
        town.advance(AVOID_SECONDS)
        self.assertEqual(3, len({self.order(town)[-1] for _ in range(3)}))

    @given(
        st.lists(
            st.one_of(st.ip_addresses(v=4).map(str), st.integers(0, 9999).map("2001:db8::{:d}".format)),
            min_size=1,
            unique=True,
        ),
        st.data(),
    )
    def test_all(self, addresses: list[str], data: st.DataObject) -> None:
        """
        Each address is tried once; those that did not answer come after all others, and of the others no two of one
        family follow each other while the other family has any left.
        """
        town = Town(*addresses)
        silent = data.draw(st.sets(st.sampled_from(addresses)))
        for _ in range(data.draw(st.integers(1, 5))):
            self.order(town)
        for address in silent:
            town.host.silent_at(address)
        order = self.order(town)
        self.assertEqual(sorted(addresses), sorted(order))
        spoken = [address for address in order if address not in silent]
        if len(addresses) > 1:
            self.assertEqual(spoken, order[: len(spoken)])
        for number, (one, other) in enumerate(pairwise(spoken)):
            if (":" in one) == (":" in other):
                self.assertEqual(1, len({":" in each for each in spoken[number:]}))
