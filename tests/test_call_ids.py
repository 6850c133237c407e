"""
The names of calls.
"""

from __future__ import annotations

import time
from uuid import RFC_4122, UUID

from twisted.trial.unittest import SynchronousTestCase

from dheera.call_ids import CallIds, new_call_id


class CallIdTests(SynchronousTestCase):
    """
    UUIDs of version 7.
    """

    def test_form(self) -> None:
        """
        Each is a UUID of version 7 and of the RFC's variant, in its usual spelling.
        """
        call_ids = CallIds()
        for make in (new_call_id, call_ids.next) * 1000:
            text = make()
            uuid = UUID(text)
            self.assertEqual((text, 7, RFC_4122), (str(uuid), uuid.version, uuid.variant))

    def test_time(self) -> None:
        """
        Its first 48 bits are the milliseconds since 1970.
        """
        before = time.time_ns() // 1_000_000
        told = UUID(new_call_id()).int >> 80
        self.assertTrue(before <= told <= time.time_ns() // 1_000_000)

    def test_unlike(self) -> None:
        """
        No two are alike, and no bit beyond time, version and variant is always the same.
        """
        drawn = [UUID(make()).int for make in (new_call_id, CallIds().next, CallIds().next) for _ in range(2000)]
        self.assertEqual(6000, len(set(drawn)))
        ones = zeros = 0
        for number in drawn:
            ones |= number
            zeros |= ~number
        noise = (0xFFF << 64) | 0x3FFFFFFFFFFFFFFF
        self.assertEqual(noise, ones & zeros & noise)
