"""
The name of one call: a UUID version 7, sorted by time (RFC 9562 §5.7).
"""

from __future__ import annotations

import os
import time


def new_call_id() -> str:
    """
    A new UUIDv7 in its usual 36 characters: 48 bits of Unix milliseconds, then 74 random bits.
    """
    stamp = f"{time.time_ns() // 1_000_000 & 0xFFFFFFFFFFFF:012x}"
    noise = os.urandom(10).hex()
    variant = "89ab"[int(noise[3], 16) & 3]
    return f"{stamp[:8]}-{stamp[8:]}-7{noise[:3]}-{variant}{noise[4:7]}-{noise[7:19]}"
