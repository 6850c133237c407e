"""
Records as lines of JSON: what `stdout`, `file` and `webhook` write.
"""

from __future__ import annotations

from collections.abc import Sequence

from dheera.bookkeeping import Entry


def joined(entries: Sequence[Entry]) -> bytes:
    """
    The lines of *entries*, each with its end, as the spool has them.
    """
    return b"".join([b"%b\n" % entry.line for entry in entries])
