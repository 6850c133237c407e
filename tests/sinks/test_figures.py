"""
What vendors want to know of a record.
"""

from __future__ import annotations

from datetime import timedelta

from twisted.trial.unittest import SynchronousTestCase

from dheera.sinks.figures import cost_of, ended_at, error_type, first_byte_at, uuid_of
from tests.sinks.records import NOON, bare, fine, full


class FigureTests(SynchronousTestCase):
    def test_uuid(self) -> None:
        """
        A UUID stays what it is; another text has one of its own, always the same.
        """
        call_id = "019ab5c0-8f3a-7c31-9d2e-5a1b2c3d4e5f"
        self.assertEqual(call_id, str(uuid_of(call_id)))
        self.assertEqual(uuid_of("call-1"), uuid_of("call-1"))
        self.assertNotEqual(uuid_of("call-1"), uuid_of("call-2"))

    def test_cost(self) -> None:
        """
        Dollars; nothing where there is no price, zero where it is free.
        """
        self.assertEqual([0.0000415, None, 0.0], [cost_of(full(cost_nano_usd=nano)) for nano in (41_500, None, 0)])

    def test_times(self) -> None:
        """
        When upstream's answer began and when all was over, if it was.
        """
        self.assertEqual(NOON + timedelta(seconds=1.25), ended_at(full()))
        self.assertEqual(NOON + timedelta(seconds=0.25), first_byte_at(full()))
        self.assertIsNone(first_byte_at(bare()))

    def test_error(self) -> None:
        """
        The class of the error, or else who ended it, or else the status; nothing if all went well.
        """
        for expected, record in (
            (None, fine()),
            ("ClientLeft", full()),
            ("interrupted", full(error=None, outcome="interrupted")),
            ("404", fine(status=404)),
            ("unknown", fine(status=None)),
        ):
            self.assertEqual(expected, error_type(record))
