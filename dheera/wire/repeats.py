"""
The head that came last on a connection, known again when it comes once more.

Most clients send the same head with each request, but for the length of the body. Then there is nothing to parse, to
check or to conclude that was not before: the result depends on these bytes and on the limits alone.
"""

from __future__ import annotations

import re

from msgspec import structs

from dheera.wire.heads import Head
from dheera.wire.limits import ServerLimits

REMEMBERED_BYTES = 4096
"""
Longest head that is kept, for as long as its connection is idle.
"""
LENGTH_DIGITS = 15
"""
In an announced length that is read here; longer ones are for the parser to judge.
"""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)


class Repeatable:
    """
    One head that was found valid, as it was written.

    :param before: its bytes up to the digits of ``Content-Length``; all of it, if it has no such line.
    :param digits: these.
    :param after: its bytes behind them.
    :param limits: by which it was judged.
    """

    def __init__(self, before: bytes, digits: bytes, after: bytes, head: Head, limits: ServerLimits) -> None:
        self._before = before
        self._digits = digits
        self._after = after
        self._head = head
        self._limits = limits

    @classmethod
    def of(cls, written: bytes, head: Head, limits: ServerLimits) -> Repeatable | None:
        """
        *head*, if it can be known again: neither very long nor before a chunked body, which llhttp follows from its
        head on.
        """
        framing = head.framing
        if len(written) > REMEMBERED_BYTES or (framing.has_body and framing.length is None):
            return None
        match = _LENGTH.search(written)
        if match is None:
            return cls(written, b"", b"", head, limits)
        return cls(written[: match.start(1)], match[1], written[match.end(1) :], head, limits)

    def again(self, data: bytes, limits: ServerLimits) -> tuple[Head, bytes] | None:
        """
        The head at the beginning of *data*, and what follows it; ``None`` if it is another one, or not all here.
        """
        before, after = self._before, self._after
        if limits is not self._limits or not data.startswith(before):
            return None
        end = len(before)
        if after:
            stop = data.find(b"\r", end, end + LENGTH_DIGITS + 1)
            digits = data[end:stop]
            if stop < 0 or not data.startswith(after, stop) or not digits.isdigit():
                return None
            end = stop + len(after)
            if digits != self._digits:
                if int(digits) > limits.body_bytes or end > limits.head_bytes:
                    return None
                self._digits, self._head = digits, self._with(digits)
        return self._head, data[end:]

    def _with(self, digits: bytes) -> Head:
        head = self._head
        return structs.replace(
            head,
            fields=[(name, digits if name.lower() == b"content-length" else value) for name, value in head.fields],
            framing=structs.replace(head.framing, length=int(digits)),
        )
