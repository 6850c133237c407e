"""
The names of an answer's header lines, and what follows from them alone. An upstream mostly sends the same ones in the
same order, and only what they say differs: so names are looked at once, and not for each answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from dheera.wire.heads import Memo


class Layout:
    """
    The names of all lines of a head.

    :param names: in their order and spelling.
    :ivar at: for each name, in small letters, the place of its last line.
    :ivar length_at: the place of ``Content-Length``, if no transfer coding is named.
    :ivar memo: where whoever passes answers on keeps what it has made of the names.
    """

    __slots__ = ("at", "length_at", "memo", "names")

    def __init__(self, names: Sequence[bytes]) -> None:
        self.names = [*names]
        self.at = {name.lower(): place for place, name in enumerate(names)}
        self.length_at = None if b"transfer-encoding" in self.at else self.at.get(b"content-length")
        self.memo = Memo()


@lru_cache(maxsize=64)
def layout_of(names: tuple[bytes, ...]) -> Layout:
    """
    The layout of a head with these *names*.
    """
    return Layout(names)
