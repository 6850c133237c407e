"""
One record to a sink, to see whether it arrives.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.records import Alert, Record, parsed
from dheera.sinks.catalogue import Configured
from dheera.sinks.contract import SinkAway, SinkRefuses, SinkSettings
from dheera.sinks.trying import Tried, try_sink, try_sinks
from tests.sinks.feed import Told, ToldFactory
from tests.sinks.records import NOON


class AlertsOnly(ToldFactory):
    takes: ClassVar[Literal["records", "alerts", "all"]] = "alerts"


class TryingTests(SynchronousTestCase):
    """
    What is sent, and what is said of it.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.sink = Told()

    def configured(self, settings: SinkSettings | None = None, factory: ToldFactory | None = None) -> Configured:
        return Configured(
            name="tried", factory=factory or ToldFactory(), settings=settings or SinkSettings(), sink=self.sink
        )

    def tried(self, configured: Configured | None = None) -> Tried:
        trying = try_sink(self.clock, configured or self.configured(), "north-1", lambda: NOON)
        return self.successResultOf(trying)

    def test_record(self) -> None:
        """
        A record that says that it is a test, costs nothing, and did not fail; it is told which one to look for.
        """
        tried = self.tried()
        [entry] = self.sink.seen
        record = entry.value
        assert isinstance(record, Record)
        self.assertEqual((["test: true"], 0, False), (record.tags, record.cost_nano_usd, record.failed))
        self.assertEqual(record, parsed(entry.line))
        self.assertEqual(
            Tried(name="tried", kind="told", arrived=True, sent=record.call_id, reason="", seconds=0.0), tried
        )
        self.assertNotEqual(tried.sent, self.tried().sent)

    def test_failures_only(self) -> None:
        """
        Who is told of failures alone is sent one.
        """
        self.tried(self.configured(SinkSettings(only="failures")))
        record = self.sink.seen[0].value
        assert isinstance(record, Record)
        self.assertTrue(record.failed)

    def test_alert(self) -> None:
        """
        Who takes alerts alone is sent one.
        """
        tried = self.tried(self.configured(factory=AlertsOnly()))
        alert = self.sink.seen[0].value
        assert isinstance(alert, Alert)
        self.assertEqual((tried.sent, "sink tried"), (alert.id, alert.subject))

    def test_reasons(self) -> None:
        """
        What did not arrive is told with the reason; nothing is tried twice.
        """
        for error, reason in (
            (SinkAway("h answered 503."), "h answered 503."),
            (SinkRefuses("h answered 400."), "it does not take the record: h answered 400."),
            (KeyError("secret"), "a bug of the sink (KeyError): tell whoever wrote it."),
        ):
            self.sink.usual = error
            tried = self.tried()
            self.assertEqual((False, reason), (tried.arrived, tried.reason))
        self.assertEqual(3, len(self.sink.batches))

    def test_silence(self) -> None:
        """
        Who never answers is given up.
        """
        self.sink.held = []
        trying = try_sinks(self.clock, [self.configured(SinkSettings(timeout_seconds=2.0))], "north-1", lambda: NOON)
        self.clock.advance(2.9)
        self.assertNoResult(trying)
        self.clock.advance(0.2)
        [tried] = self.successResultOf(trying)
        self.assertEqual((False, "it did not end within 3 seconds."), (tried.arrived, tried.reason))
        self.assertAlmostEqual(3.1, tried.seconds)
