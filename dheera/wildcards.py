"""
Texts in which ``*`` stands for anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

LONGEST_TEXT = 1000
"""
Characters of a text that is compared with patterns. Names of models and paths are shorter; the many patterns of a key
would keep everybody else waiting for a long one.
"""


@frozen
class Wildcards:
    """
    A list of names and patterns, compiled once. The time that a match takes grows with the text's length and no faster.

    A text of more than `LONGEST_TEXT` characters fits no pattern but ``*``.
    """

    _exact: frozenset[str]
    _pattern: re.Pattern[str] | None
    _fits_all: bool = False

    @classmethod
    def of(cls, texts: Iterable[str]) -> Wildcards:
        """
        What is matched by any one of *texts*.
        """
        distinct = frozenset(texts)
        patterns = sorted(text for text in distinct if "*" in text)
        if not patterns:
            return cls(distinct, None)
        fits_all = any(not pattern.strip("*") for pattern in patterns)
        pattern = re.compile("|".join(map(_regex, patterns)), re.DOTALL)
        return cls(distinct.difference(patterns), pattern, fits_all=fits_all)

    def match(self, text: str) -> bool:
        """
        Whether *text*, all of it, is one of the names, or fits one of the patterns.
        """
        if self._fits_all or text in self._exact:
            return True
        if self._pattern is None or len(text) > LONGEST_TEXT:
            return False
        return self._pattern.fullmatch(text) is not None


def _regex(pattern: str) -> str:
    first, *middle, last = (re.escape(part) for part in re.split(r"\*+", pattern))
    # Each inner part is taken where it first occurs, once and for all (?>...): looking for it elsewhere finds no more
    # matches, and would take a time that grows with a power of the text's length.
    return first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last


EVERYTHING = Wildcards.of(["*"])
NOTHING = Wildcards.of([])
