"""
Sinks that change while they are fed, from a spool on the disk.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from dheera.lifecycle import Hurry
from dheera.records import Record
from dheera.sinks.catalogue import Configured
from dheera.sinks.contract import SinkAway
from dheera.sinks.feeders import Feeders
from tests.sinks.feed import Told, told
from tests.sinks.records import NOON
from tests.spool.desk import SpoolTests, record

AWAY = SinkAway("h answered 503 Service Unavailable.")


class Changing(SpoolTests):
    """
    Sinks that change while a spool on the disk is written to.
    """

    def setUp(self) -> None:
        super().setUp()
        self.old, self.new = Told(), Told()
        self.hurry = Hurry()
        self.files_, [self.ledger] = self.spool("ledger", segment_bytes=600)
        self.feeders = self.made(told("a", self.old))
        self.number = 0

    def made(self, *sinks: Configured) -> Feeders:
        feeders = Feeders(self.clock, self.files_, sinks, node="n", now=lambda: NOON, hurry=self.hurry)
        self.successResultOf(Deferred.fromCoroutine(feeders.open()))
        return feeders

    def change(self, *sinks: Configured, same: str = "") -> Deferred[None]:
        return Deferred.fromCoroutine(self.feeders.change(sinks, {*same}))

    def write(self, count: int = 1) -> list[str]:
        """
        Calls are over.

        :return: their ids.
        """
        names = [str(self.number + each) for each in range(count)]
        self.number += count
        for name in names:
            self.files_.end(record(name))
            self.ledger.advance(self.ledger.read(9)[-1].position)
        self.settle()
        return names

    def settle(self) -> None:
        self.clock.pump([0.0] * 5)

    def test_added(self) -> None:
        """
        One that is new is sent what comes from then on; those before go on, and miss nothing.
        """
        first = self.write(2)
        self.successResultOf(self.change(told("a", Told()), told("b", self.new), same="a"))
        then = self.write(2)
        self.assertEqual((first + then, then), (self.old.arrived, self.new.arrived))
        self.assertEqual((["a", "b"], 0), ([each.name for each in self.feeders.states()], self.old.closed))

    def test_same(self) -> None:
        """
        One that is the same is left alone, in the middle of a batch, with all that was counted.
        """
        self.write(2)
        self.old.held = []
        self.write()
        self.successResultOf(self.change(told("a", self.new), same="a"))
        self.old.held[0].callback(None)
        [state] = self.feeders.states()
        self.assertEqual((3, 0, []), (state.sent, self.old.closed, self.new.batches))

    def test_replaced(self) -> None:
        """
        One with another table goes on where the old one was: what comes while the old one finishes is sent, by one of
        them, once.
        """
        self.old.held = []
        first = self.write()
        changing = self.change(told("a", self.new))
        meanwhile = self.write(3)
        self.assertNoResult(changing)
        self.assertEqual([], self.new.batches)
        held, self.old.held = self.old.held, None
        held[0].callback(None)
        self.settle()
        self.successResultOf(changing)
        then = self.write(2)
        arrived = first + self.old.arrived + self.new.arrived
        self.assertEqual((first + meanwhile + then, 1), (arrived, self.old.closed))
        self.assertEqual(then, self.new.arrived[-2:])

    def test_replaced_while_away(self) -> None:
        """
        What did not arrive at the old one goes to the new one.
        """
        self.old.usual = AWAY
        waiting = self.write(20)
        self.successResultOf(self.change(told("a", self.new)))
        self.settle()
        then = self.write()
        self.assertEqual(([], waiting + then), (self.old.arrived, self.new.arrived))

    def test_silent(self) -> None:
        """
        An old one that does not answer is waited for a bounded time; what it may have taken is sent to the new one.
        """
        self.old.held = []
        waiting = self.write(3)
        changing = self.change(told("a", self.new))
        self.clock.pump([0.5] * 9)
        self.assertNoResult(changing)
        self.clock.pump([0.5, 0])
        self.successResultOf(changing)
        self.assertEqual((waiting, 1), (self.new.arrived, self.old.closed))

    def test_gone(self) -> None:
        """
        One that is gone holds nothing any more: not the disk, and it is not shown.
        """
        self.old.usual = AWAY
        self.write(20)
        self.assertGreater(len(self.files()), 4)
        self.successResultOf(self.change())
        self.assertEqual(1, len(self.files()))
        self.assertEqual(({"ledger"}, [], 1), ({*self.files_.state().readers}, self.feeders.states(), self.old.closed))

    def test_gone_and_back(self) -> None:
        """
        One that was gone and comes again is sent what comes from then on.
        """
        self.successResultOf(self.change())
        self.write(3)
        self.successResultOf(self.change(told("a", self.new)))
        self.assertEqual(self.write(2), self.new.arrived)

    def test_one_silent(self) -> None:
        """
        While one is waited for the others that stay are fed.
        """
        other = Told()
        self.successResultOf(self.change(told("a", Told()), told("b", other), same="a"))
        self.old.held = []
        first = self.write()
        changing = self.change(told("a", self.new), told("b", Told()), same="b")
        then = self.write()
        self.assertNoResult(changing)
        self.assertEqual(first + then, other.arrived)
        self.clock.advance(5)
        self.settle()
        self.successResultOf(changing)

    def test_stopped_meanwhile(self) -> None:
        """
        An end in the middle of a change ends all: nothing new is begun, and what is left stays for the next start.
        """
        self.old.held = []
        first = self.write()
        changing = self.change(told("a", self.new))
        closing = Deferred.fromCoroutine(self.feeders.close())
        then = self.write()
        self.clock.pump([0.5] * 10)
        self.successResultOf(changing)
        self.successResultOf(closing)
        self.write()
        self.assertEqual(([], 1), (self.new.batches, self.old.closed))
        self.assertEqual(first + then, [each.value.call_id for each in self.left()[:2]])

    def test_changed_after_the_end(self) -> None:
        """
        After the end nothing new is begun either.
        """
        self.successResultOf(Deferred.fromCoroutine(self.feeders.close()))
        self.successResultOf(self.change(told("a", self.new)))
        self.write()
        self.assertEqual([], self.new.batches)

    def left(self) -> list[Any]:
        """
        What is there to be sent.
        """
        return [*self.files_.reader("sink-a").read(9)]

    def test_after_a_restart(self) -> None:
        """
        A place that was reached after a change is where the next process goes on.
        """
        self.successResultOf(self.change(told("a", self.new)))
        self.write(2)
        self.new.usual = AWAY
        waiting = self.write(3)
        self.successResultOf(Deferred.fromCoroutine(self.feeders.close()))
        self.successResultOf(self.files_.close())
        again, (_, reader) = self.spool("ledger", "sink-a")
        self.assertEqual(waiting, [each.value.call_id for each in reader.read(9) if isinstance(each.value, Record)])
        self.successResultOf(again.close())
