"""
Secrets and what may be said of them. Virtual keys will live here.

Imports no Twisted and does no I/O.
"""

from __future__ import annotations

import hmac

from attrs import field, frozen


@frozen(repr=False, eq=False)
class Secret:
    """
    A text that must not be shown: its ``repr`` and ``str`` hide it.
    """

    _text: str = field()

    def __repr__(self) -> str:
        return "<secret>"

    def reveal(self) -> str:
        """
        The text itself, for the one place that sends it on.
        """
        return self._text

    def matches(self, offered: bytes) -> bool:
        """
        Whether *offered* is this secret, in a time that tells nothing about how much of it is right.
        """
        return hmac.compare_digest(self._text.encode(), offered)
