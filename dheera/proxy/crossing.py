"""
The head of an answer as the client gets it, written in one go: which of its lines cross is seen from their names, once
for all answers that have the same.
"""

from __future__ import annotations

from itertools import compress

from dheera.proxy.headers import DATE, DROPPED, fate
from dheera.wire.layout import Layout
from dheera.wire.request import NO_CONTENT, http_date
from dheera.wire.response import Response

_LOOKED_AT = frozenset({b"location", b"connection"})


class Crossing:
    """
    How the lines of a head cross, where that does not depend on what they say.

    :ivar is_sized: one of them tells how long the body is.
    """

    def __init__(self, layout: Layout) -> None:
        fates = [fate(name) for name in layout.names]
        self.is_sized = b"content-length" in layout.at
        self._crosses = [each != DROPPED and each not in _LOOKED_AT for each in fates]
        # Names are llhttp's tokens, in which % may stand.
        self._form = b"\r\n".join(name.replace(b"%", b"%%") + b": %b" for name in compress(layout.names, self._crosses))
        self._is_dated = DATE in fates
        self._is_plain = b"location" not in fates and fates.count(b"connection") <= 1
        self._connection_at = layout.at.get(b"connection")

    def lines(self, response: Response) -> list[bytes] | None:
        """
        What `headers.downward` gives, as it is sent; ``None`` if that takes a closer look at what the lines say.
        """
        values, connection_at = response.values, self._connection_at
        is_plain = self._is_plain and response.code != NO_CONTENT
        if not is_plain or (connection_at is not None and values[connection_at] != b"keep-alive"):
            return None
        lines = [self._form % tuple(compress(values, self._crosses))] if self._form else []
        if not self._is_dated:
            lines.append(b"Date: " + http_date())  # RFC 9110 §6.6.1
        return lines


def crossing_of(response: Response) -> Crossing:
    """
    How the head of *response* crosses.
    """
    memo = response.layout.memo
    if not isinstance(memo.made, Crossing):
        memo.made = Crossing(response.layout)
    return memo.made
