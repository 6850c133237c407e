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
    milliseconds = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10), "big")
    number = (
        (milliseconds & 0xFFFFFFFFFFFF) << 80
        | 0x7 << 76
        | (noise >> 68 & 0xFFF) << 64
        | 0b10 << 62
        | (noise & 0x3FFFFFFFFFFFFFFF)
    )
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
