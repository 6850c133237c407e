"""
Upstream fails again and again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest import TestCase

from dheera.records import Alert
from dheera.upstream_alarm import FAILURES, SPAN, UpstreamAlarm
from tests.test_metrics import record


class UpstreamAlarmTests(TestCase):
    """
    Told once, and once when it is over.
    """

    def setUp(self) -> None:
        self.time = datetime(2026, 11, 23, tzinfo=UTC)
        self.alerts: list[Alert] = []
        self.alarm = UpstreamAlarm(self.alerts.append, "n", lambda: self.time)

    def fail(self, times: int = 1, **said: object) -> None:  # type: ignore[override]  # upstream does
        for _ in range(times):
            self.alarm.look(record(**{"outcome": "upstream_cut", "status": None, "error": "ConnectFailed", **said}))

    def test_again_and_again(self) -> None:
        """
        Many failures in a row, over a while, are told once; the first success is, too.
        """
        self.fail(FAILURES)
        self.assertEqual([], self.alerts)
        self.time += SPAN
        self.fail(2)
        self.assertEqual(["critical"], [alert.level for alert in self.alerts])
        self.assertIn("ConnectFailed", self.alerts[0].text)
        self.alarm.look(record())
        self.alarm.look(record())
        self.assertEqual(["critical", "resolved"], [alert.level for alert in self.alerts])
        self.assertNotEqual(self.alerts[0].id, self.alerts[1].id)

    def test_now_and_then(self) -> None:
        """
        A success between them begins the count anew; what is no failure of upstream's does nothing.
        """
        for _ in range(5):
            self.fail(FAILURES - 1)
            self.time += timedelta(minutes=10)
            self.alarm.look(record())
        self.fail(FAILURES)
        self.time += SPAN
        for said in ({"outcome": "client_left"}, {"outcome": "refused"}, {"attempts": 0}):
            self.alarm.look(record(**said))
        self.assertEqual([], self.alerts)
        self.fail()
        self.assertEqual(1, len(self.alerts))

    def test_errors_of_the_server(self) -> None:
        """
        Answers of 500 and above are failures, those below are not.
        """
        self.fail(FAILURES, outcome="complete", status=503, error=None)
        self.time += SPAN
        self.fail(outcome="complete", status=503, error=None)
        self.assertIn("503", self.alerts[0].text)
        self.fail(outcome="complete", status=429, error=None)
        self.assertEqual("resolved", self.alerts[-1].level)

    def test_key_of_ours(self) -> None:
        """
        That upstream does not take the real key, or wants to be paid, is a failure: no caller can mend it.
        """
        for status in 401, 402:
            self.fail(FAILURES, outcome="complete", status=status, error=None)
            self.time += SPAN
            self.fail(outcome="complete", status=status, error=None)
            self.assertIn(f"{status}", self.alerts[-1].text)
            self.alarm.look(record())
            self.assertEqual("resolved", self.alerts[-1].level)

    def test_others(self) -> None:
        """
        One upstream's failures are not made up for by another one's answers, and each is called by its name.
        """
        for _ in range(FAILURES):
            self.fail(upstream="local")
            self.alarm.look(record())
        self.time += SPAN
        self.fail(upstream="local")
        self.alarm.look(record())
        self.assertEqual([("upstream local", "critical")], [(alert.subject, alert.level) for alert in self.alerts])
        self.assertTrue(self.alerts[0].text.startswith("Upstream local has failed"))
        self.alarm.look(record(upstream="local"))
        self.assertEqual(("upstream local", "resolved"), (self.alerts[-1].subject, self.alerts[-1].level))
