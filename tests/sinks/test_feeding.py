"""
From the spool to a sink.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import ClassVar, Literal

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.lifecycle import Hurry
from dheera.records import parsed
from dheera.sinks.backoff import Backoff
from dheera.sinks.contract import SinkAway, SinkRefuses
from dheera.sinks.feeders import Feeders
from dheera.sinks.feeding import HURRIED_SECONDS
from tests.house import Overheard
from tests.sinks.feed import Fed, MemorySpool, Told, ToldFactory, told
from tests.sinks.records import NOON, an_alert, bare, fine, full
from tests.sinks.suite import ids

AWAY = SinkAway("h answered 503 Service Unavailable.")


class Batches(SynchronousTestCase):
    """
    What goes together, and when.
    """

    def test_age(self) -> None:
        """
        The first of a batch waits for others as long as is configured, and no longer.
        """
        fed = Fed(batch_seconds=2.0)
        first = fed.reader.write(bare())
        fed.turn(1.75)
        more = fed.reader.write(bare(), bare())
        self.assertEqual([], fed.sink.batches)
        fed.turn(0.25)
        self.assertEqual([ids(first + more)], fed.sink.batches)
        later = fed.reader.write(bare())
        fed.turn(2.0)
        self.assertEqual(ids(later), fed.sink.batches[1])
        self.assertEqual(2, len(fed.sink.batches))

    def test_count(self) -> None:
        """
        No batch has more than is configured; what is left over goes at once.
        """
        fed = Fed(batch_records=3, batch_seconds=2.0)
        written = ids(fed.reader.write(*(bare() for _ in range(8))))
        fed.turn(2.0)
        fed.settle()
        self.assertEqual([written[:3], written[3:6], written[6:]], fed.sink.batches)

    def test_turns(self) -> None:
        """
        However much waits, others have their turn after each batch.
        """
        fed = Fed(batch_records=1, batch_seconds=0)
        fed.reader.write(*(bare() for _ in range(5)))
        self.assertEqual(1, len(fed.sink.batches))
        seen: list[int] = []
        fed.clock.callLater(0, lambda: seen.append(len(fed.sink.batches)))
        fed.settle()
        self.assertEqual([2], seen)

    def test_one_at_a_time(self) -> None:
        """
        A batch is sent when the one before it has arrived.
        """
        fed = Fed(batch_records=1, batch_seconds=0)
        fed.sink.held = []
        fed.reader.write(bare(), bare())
        fed.turn(20)
        self.assertEqual(1, len(fed.sink.held))
        fed.sink.held[0].callback(None)
        fed.settle()
        self.assertEqual(2, len(fed.sink.held))

    def test_advances(self) -> None:
        """
        The reader is advanced when a batch has arrived, and not before.
        """
        fed = Fed(batch_seconds=0)
        fed.sink.held = []
        written = fed.reader.write(bare(), bare())
        self.assertEqual(0, fed.reader.position)
        fed.sink.held[0].callback(None)
        self.assertEqual(written[-1].position, fed.reader.position)
        state = fed.feeder.state()
        self.assertEqual((2, 0, 0, NOON), (state.sent, state.refused, state.retries, state.last_sent_at))
        self.assertEqual((False, None, "", 0), (state.is_away, state.since, state.reason, state.lag.waiting_bytes))

    @given(st.lists(st.sampled_from(["fine", "away", "refused"]), max_size=40), st.integers(1, 6))
    def test_any(self, fates: list[str], most: int) -> None:
        """
        Whatever happens, all but what is refused arrives, in order, each once.
        """
        fed = Fed(batch_records=most, batch_seconds=0.5)
        written = [bare() for _ in fates]
        for record, fate in zip(written, fates, strict=True):
            if fate == "refused":
                fed.sink.refuses[record.call_id] = SinkRefuses("no")
            elif fate == "away":
                fed.sink.next.append(AWAY)
            fed.reader.write(record)
        fed.turn(3600, 5)
        taken = [each.call_id for each, fate in zip(written, fates, strict=True) if fate != "refused"]
        self.assertEqual(taken, fed.sink.arrived)
        state = fed.feeder.state()
        self.assertEqual((len(taken), len(fates) - len(taken), 0), (state.sent, state.refused, state.lag.waiting_bytes))


class AlertsOnly(ToldFactory):
    takes: ClassVar[Literal["records", "alerts", "all"]] = "alerts"


class RecordsOnly(ToldFactory):
    takes: ClassVar[Literal["records", "alerts", "all"]] = "records"


class Views(SynchronousTestCase):
    """
    What a sink sees.
    """

    def test_takes(self) -> None:
        """
        Alerts, records, or both; what it does not take is passed over.
        """
        record, alert = bare(), an_alert()
        for factory, expected in (
            (AlertsOnly(), [alert.id]),
            (RecordsOnly(), [record.call_id]),
            (ToldFactory(), [record.call_id, alert.id]),
        ):
            fed = Fed(factory, batch_seconds=0.5)
            end = fed.reader.write(record, alert)[-1].position
            fed.turn(1)
            self.assertEqual(expected, fed.sink.arrived)
            self.assertEqual(end, fed.reader.position)

    def test_nothing_to_see(self) -> None:
        """
        A batch of which it sees nothing is not sent.
        """
        fed = Fed(batch_seconds=0, only="failures")
        end = fed.reader.write(fine())[-1].position
        self.assertEqual(([], end), (fed.sink.batches, fed.reader.position))

    def test_failures(self) -> None:
        """
        Only what failed, and alerts.
        """
        fed = Fed(batch_seconds=0.5, only="failures")
        well, wrong, alert = fine(), full(), an_alert()
        fed.reader.write(well, wrong, alert)
        fed.turn(1)
        self.assertEqual([wrong.call_id, alert.id], fed.sink.arrived)

    def test_content(self) -> None:
        """
        Bodies only with "full", settings not with "none"; value and line say the same.
        """
        for policy, bodies, settings in (("none", False, False), ("meta", False, True), ("full", True, True)):
            fed = Fed(batch_seconds=0, content=policy)
            record = full()
            fed.reader.write(record)
            [seen] = fed.sink.seen
            self.assertEqual(seen.value, parsed(seen.line))
            expected = full(
                record.call_id,
                request=record.request if bodies else None,
                response=record.response if bodies else None,
                parameters=record.parameters if settings else {},
            )
            self.assertEqual(expected, seen.value)

    def test_untouched(self) -> None:
        """
        Where nothing is hidden, an entry is passed on as it is: it costs nothing.
        """
        for policy, record in (
            ("full", full()),
            ("meta", full(request=None, response=None)),
            ("none", bare()),
        ):
            fed = Fed(batch_seconds=0, content=policy)
            [written] = fed.reader.write(record)
            self.assertIs(written, fed.sink.seen[0])


class Absences(SynchronousTestCase):
    """
    A sink that is away.
    """

    def test_tried_again(self) -> None:
        """
        The same batch is sent again after one second, two, four and so on up to a minute, until it arrives.
        """
        fed = Fed(batch_seconds=0)
        fed.sink.usual = AWAY
        moments: list[float] = []
        fed.reader.write(bare())
        while len(moments) < 9:
            if len(fed.sink.batches) > len(moments):
                moments.append(fed.clock.seconds())
            fed.clock.advance(0.5)
        gaps = [later - sooner for sooner, later in pairwise(moments)]
        self.assertEqual([1, 2, 4, 8, 16, 32, 60, 60], gaps)
        self.assertEqual(8, fed.feeder.state().retries)
        fed.sink.usual = None
        fed.turn(60)
        self.assertEqual(fed.sink.batches[0], fed.sink.arrived)
        fed.sink.next.append(AWAY)
        fed.reader.write(bare())
        fed.turn(1)
        self.assertEqual(2, len(fed.sink.arrived))

    def test_jitter(self) -> None:
        """
        Each wait is drawn anew, from nothing to all of it.
        """
        asked: list[tuple[float, float]] = []

        def draw(low: float, high: float) -> float:
            asked.append((low, high))
            return 0.25

        backoff = Backoff(draw)
        self.assertEqual([0.25, 0.25, 0.25], [backoff.next_seconds(None) for _ in range(3)])
        self.assertEqual([(0, 1), (0, 2), (0, 4)], asked)

    def test_retry_after(self) -> None:
        """
        How long the other side asks us to wait is obeyed, up to ten minutes.
        """
        for asked, waited in (17.0, 18.0), (1e9, 601.0):
            fed = Fed(batch_seconds=0)
            fed.sink.next.append(SinkAway("later", retry_after_seconds=asked))
            fed.reader.write(bare())
            fed.turn(waited - 0.25)
            self.assertEqual([], fed.sink.arrived)
            fed.turn(0.25)
            self.assertEqual(1, len(fed.sink.arrived))

    def test_told(self) -> None:
        """
        The log says once that it is away, and why, and once that it is back, and how much has waited.
        """
        overheard = Overheard.by(self)
        fed = Fed(batch_seconds=0)
        fed.sink.usual = AWAY
        fed.reader.write(bare())
        fed.turn(100)
        state = fed.feeder.state()
        self.assertEqual((True, NOON, str(AWAY)), (state.is_away, state.since, state.reason))
        fed.reader.write(bare())
        waiting = state.lag.waiting_bytes + fed.reader.lag().waiting_bytes - state.lag.waiting_bytes
        fed.sink.usual = None
        fed.turn(100)
        self.assertFalse(fed.feeder.state().is_away)
        logged = overheard.lines()
        self.assertEqual(2, len(logged))
        self.assertIn("Sink tried is away", logged[0])
        self.assertIn(str(AWAY), logged[0])
        self.assertIn("Sink tried is back", logged[1])
        self.assertIn(f"{waiting} bytes", logged[1])

    def test_alerts(self) -> None:
        """
        After five minutes there is an alert, and one that it is over; short absences bother nobody.
        """
        fed = Fed(batch_seconds=0)
        fed.sink.usual = AWAY
        fed.reader.write(bare())
        fed.turn(200)
        fed.sink.usual = None
        fed.turn(199)
        self.assertEqual([], fed.alerts)
        fed.sink.usual = AWAY
        fed.reader.write(bare())
        fed.turn(1000)
        [alert] = fed.alerts
        self.assertEqual(("sink", "sink tried", "warning"), (alert.about, alert.subject, alert.level))
        self.assertEqual(NOON + timedelta(seconds=699), alert.at)
        self.assertIn(str(AWAY), alert.text)
        fed.sink.usual = None
        fed.turn(60)
        self.assertEqual(["warning", "resolved"], [each.level for each in fed.alerts])
        self.assertEqual(2, len({each.id for each in fed.alerts}))

    def test_bugs(self) -> None:
        """
        What a sink should not fail with is logged as a bug, once; the batch is tried again.
        """
        fed = Fed(batch_seconds=0)
        fed.sink.next.extend([KeyError("x"), KeyError("x"), ValueError("y")])
        fed.reader.write(bare())
        fed.turn(10)
        self.assertEqual(1, len(fed.sink.arrived))
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))
        self.assertEqual("a bug of the sink: ValueError", fed.feeder.state().reason)

    def test_cancelled_itself(self) -> None:
        """
        A sink that cancels what it does is away, no more.
        """
        fed = Fed(batch_seconds=0)
        fed.sink.next.append(CancelledError())
        fed.reader.write(bare())
        fed.turn(1)
        self.assertEqual(1, len(fed.sink.arrived))

    def test_silence(self) -> None:
        """
        A sink that never answers, whatever it was told of time, is given up and tried again.
        """
        fed = Fed(batch_seconds=0, timeout_seconds=1.0)
        fed.sink.held = []
        fed.reader.write(bare())
        fed.turn(9.75)
        self.assertFalse(fed.feeder.state().is_away)
        fed.turn(1.25)
        self.assertTrue(fed.feeder.state().is_away)
        self.assertEqual(2, len(fed.sink.held))
        fed.sink.held[1].callback(None)
        self.assertFalse(fed.feeder.state().is_away)

    def test_broken_reader(self) -> None:
        """
        When the spool cannot be read it is logged, once, and tried again.
        """
        fed = Fed(batch_seconds=0.5)
        fed.reader.broken = OSError("disk")
        fed.reader.write(bare())
        fed.turn(20)
        self.assertTrue(fed.feeder.state().is_away)
        fed.reader.broken = None
        fed.turn(60)
        self.assertEqual(1, len(fed.sink.arrived))
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))


class Refusals(SynchronousTestCase):
    """
    What a sink will never take.
    """

    def test_halves(self) -> None:
        """
        Only what is refused by itself is given up, counted, and logged by its call id.
        """
        overheard = Overheard.by(self)
        fed = Fed(batch_seconds=0.5)
        written = ids(fed.reader.write(*(bare() for _ in range(8))))
        fed.sink.refuses[written[5]] = SinkRefuses("h answered 400 Bad Request.")
        fed.turn(1)
        self.assertEqual([each for each in written if each != written[5]], fed.sink.arrived)
        state = fed.feeder.state()
        self.assertEqual((7, 1, False), (state.sent, state.refused, state.is_away))
        self.assertEqual(0, state.lag.waiting_bytes)
        [line] = overheard.lines()
        self.assertIn(written[5], line)
        self.assertIn("h answered 400", line)

    def test_advances(self) -> None:
        """
        What has arrived of a batch need not be sent again when the rest must wait.
        """
        fed = Fed(batch_seconds=0.5)
        written = fed.reader.write(*(bare() for _ in range(4)))
        names = ids(written)
        fed.sink.refuses[names[3]] = SinkRefuses("no")
        fed.sink.next.extend([None, None, None, AWAY])  # all refused, half arrived, half refused, and then
        fed.turn(0.5)
        self.assertEqual(names[:2], fed.sink.arrived)
        self.assertEqual(written[1].position, fed.reader.position)


class Closing(SynchronousTestCase):
    """
    The end.
    """

    def test_last_flush(self) -> None:
        """
        What is there is sent at once, however young it is; then the sink is closed.
        """
        fed = Fed(batch_seconds=60, batch_records=2)
        written = ids(fed.reader.write(*(bare() for _ in range(5))))
        closing = fed.feeder.close(5)
        fed.settle()
        self.assertEqual(written, fed.sink.arrived)
        self.successResultOf(closing)
        self.assertEqual(1, fed.sink.closed)
        self.assertEqual([], fed.clock.getDelayedCalls())

    def test_idle(self) -> None:
        """
        With nothing to send, it ends at once.
        """
        fed = Fed()
        self.successResultOf(fed.feeder.close(5))
        self.assertEqual(([], 1), (fed.sink.batches, fed.sink.closed))
        self.assertEqual([], fed.clock.getDelayedCalls())

    def test_away(self) -> None:
        """
        For a sink that is away nothing is waited for: what is for it stays.
        """
        fed = Fed(batch_seconds=0)
        fed.sink.usual = AWAY
        fed.reader.write(bare())
        self.successResultOf(fed.feeder.close(5))
        self.assertEqual((0, 1), (fed.reader.position, fed.sink.closed))
        self.assertEqual([], fed.clock.getDelayedCalls())
        other = Fed(batch_seconds=60)
        other.sink.usual = AWAY
        other.reader.write(bare())
        self.successResultOf(other.feeder.close(5))
        self.assertEqual((0, 1), (other.reader.position, len(other.sink.batches)))

    def test_slow(self) -> None:
        """
        A sink that takes longer than there is time is given up; what it did not take stays.
        """
        fed = Fed(batch_seconds=0)
        fed.sink.held = []
        fed.reader.write(bare())
        closing = fed.feeder.close(5)
        fed.turn(4.75)
        self.assertNoResult(closing)
        fed.turn(0.5)
        self.successResultOf(closing)
        self.assertEqual((0, 1), (fed.reader.position, fed.sink.closed))

    def test_twice(self) -> None:
        """
        Who asks a second time waits for the same end; the sink is let go once, and no timer is left.
        """
        fed = Fed(batch_seconds=0)
        fed.sink.held = []
        fed.reader.write(bare())
        endings = [fed.feeder.close(5), fed.feeder.close(5)]
        fed.sink.held[0].callback(None)
        for each in endings:
            self.successResultOf(each)
        self.assertEqual((1, []), (fed.sink.closed, fed.clock.getDelayedCalls()))

    def test_under_way(self) -> None:
        """
        A batch that is under way may end, and the rest follows.
        """
        fed = Fed(batch_seconds=0)
        fed.sink.held = []
        fed.reader.write(bare())
        fed.reader.write(bare())
        closing = fed.feeder.close(5)
        fed.sink.held[0].callback(None)
        fed.sink.held[1].callback(None)
        self.successResultOf(closing)
        self.assertEqual(0, fed.reader.lag().waiting_bytes)

    def test_much(self) -> None:
        """
        More than can be sent in the time that there is stays.
        """
        fed = Fed(batch_seconds=60, batch_records=1)
        fed.reader.write(*(bare() for _ in range(100)))
        fed.sink.held = []
        closing = fed.feeder.close(0.5)
        for _ in range(4):
            fed.sink.held[-1].callback(None)
            fed.clock.advance(0.1)
        self.assertNoResult(closing)
        fed.clock.advance(0.1)
        self.successResultOf(closing)
        self.assertEqual((5, 4), (len(fed.sink.held), fed.feeder.state().sent))

    def test_hurried(self) -> None:
        """
        In a hurry a sink that does not answer is given a moment, and never more than it had left.
        """
        for hurried_at, ends_at in (2.0, 2.0 + HURRIED_SECONDS), (4.5, 5.0):
            fed = Fed(batch_seconds=0)
            fed.sink.held = []
            fed.reader.write(bare())
            closing = fed.feeder.close(5)
            fed.turn(hurried_at)
            fed.feeder.hurry()
            fed.turn(ends_at - hurried_at - 0.25)
            self.assertNoResult(closing)
            fed.turn(0.25)
            self.successResultOf(closing)
            self.assertEqual((0, 1, []), (fed.reader.position, fed.sink.closed, fed.clock.getDelayedCalls()))

    def test_hurried_in_vain(self) -> None:
        """
        A hurry before the end, or after it, changes nothing.
        """
        fed = Fed(batch_seconds=0)
        fed.feeder.hurry()
        written = ids(fed.reader.write(bare()))
        self.successResultOf(fed.feeder.close(5))
        fed.feeder.hurry()
        self.assertEqual((written, []), (fed.sink.arrived, fed.clock.getDelayedCalls()))

    def test_never_closes(self) -> None:
        """
        A sink that does not close is left behind, and it is logged.
        """
        fed = Fed()
        fed.sink.closing = Deferred()
        closing = fed.feeder.close(5)
        fed.turn(2)
        self.successResultOf(closing)
        self.assertEqual(1, len(self.flushLoggedErrors()))


class Together(SynchronousTestCase):
    """
    All sinks.
    """

    def test_apart(self) -> None:
        """
        Each has its own reader; one that never answers delays no other, and all are closed at the same time.
        """
        clock, spool = Clock(), MemorySpool()
        sinks = {name: Told() for name in ("a", "b")}
        configured = [told(name, sink) for name, sink in sinks.items()]
        feeders = Feeders(clock, spool, configured, node="n", now=lambda: NOON, close_seconds=3)
        self.assertEqual({"sink-a", "sink-b"}, set(spool.readers))
        self.successResultOf(Deferred.fromCoroutine(feeders.open()))
        sinks["a"].held = []
        for reader in spool.readers.values():
            reader.write(bare())
        self.assertEqual([0, 1], [each.sent for each in feeders.states()])
        self.assertEqual(["a", "b"], [each.name for each in feeders.states()])
        closing = Deferred.fromCoroutine(feeders.close())
        self.assertEqual(1, sinks["b"].closed)
        self.assertNoResult(closing)
        clock.advance(3)
        self.successResultOf(closing)
        self.assertEqual(1, sinks["a"].closed)

    def test_hurried(self) -> None:
        """
        In a hurry, be it before they are closed or while they are, all sinks are waited for only a moment.
        """
        for before in True, False:
            clock, spool, hurry, sink = Clock(), MemorySpool(), Hurry(), Told()
            feeders = Feeders(clock, spool, [told("a", sink)], node="n", now=lambda: NOON, hurry=hurry)
            self.successResultOf(Deferred.fromCoroutine(feeders.open()))
            sink.held = []
            spool.readers["sink-a"].write(bare())
            if before:
                hurry.begin()
            closing = Deferred.fromCoroutine(feeders.close())
            hurry.begin()
            clock.advance(HURRIED_SECONDS - 0.1)
            self.assertNoResult(closing)
            clock.advance(0.1)
            self.successResultOf(closing)
            self.assertEqual([], clock.getDelayedCalls())

    def test_no_hurry_left(self) -> None:
        """
        A hurry after the end is nothing to those who are closed.
        """
        hurry = Hurry()
        feeders = Feeders(Clock(), MemorySpool(), [told("a", Told())], node="n", now=lambda: NOON, hurry=hurry)
        self.successResultOf(Deferred.fromCoroutine(feeders.open()))
        self.successResultOf(Deferred.fromCoroutine(feeders.close()))
        self.assertEqual([], hurry._waiting)
