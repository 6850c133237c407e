"""
Texts in which ``*`` stands for anything.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.wildcards import EVERYTHING, LONGEST_TEXT, NOTHING, Wildcards


def fits(pattern: str, text: str) -> bool:
    """
    The meaning of a pattern, by the plainest recipe: which of its prefixes fit which prefixes of the text.
    """
    row = [True, *[False] * len(text)]
    for char in pattern:
        before, row = row, [char == "*" and row[0]]
        for at, other in enumerate(text):
            row.append((before[at + 1] or row[at]) if char == "*" else before[at] and char == other)
    return row[-1]


class TestWildcards(SynchronousTestCase):
    """
    ``Wildcards``.
    """

    @given(st.lists(st.text("ab.*\n", max_size=6), max_size=3), st.text("ab.*\n", max_size=8))
    def test_meaning(self, patterns: list[str], text: str) -> None:
        """
        A text matches if it fits one of the patterns: a star is any characters, all others are themselves.
        """
        expected = any(fits(pattern, text) for pattern in patterns)
        self.assertEqual(expected, Wildcards.of(patterns).match(text))

    def test_ends(self) -> None:
        """
        All of the text must fit, and a name without a star is no prefix.
        """
        listed = Wildcards.of(["ab", "c*d"])
        self.assertEqual(
            [True, True, True, False, False, False, False],
            [listed.match(text) for text in ("ab", "cd", "cxxd", "abc", "ab\n", "cd\n", "xcd")],
        )

    def test_extremes(self) -> None:
        """
        There is a list of all, and one of none.
        """
        self.assertEqual([True, True], [EVERYTHING.match(text) for text in ("", "a\nb")])
        self.assertEqual([False, False], [NOTHING.match(text) for text in ("", "a")])

    def test_many_stars(self) -> None:
        """
        A pattern with many stars does not try all ways to place them: this test would not end.
        """
        self.assertFalse(Wildcards.of(["*a" * 30 + "*b"]).match("a" * LONGEST_TEXT))

    def test_long(self) -> None:
        """
        A longer text fits no pattern but that of everything; a name is a name at any length.
        """
        longest = "a" * LONGEST_TEXT
        for pattern, matches in (("a*", False), ("*", True), ("**", True), (longest + "a", True)):
            self.assertEqual(
                [True, matches],
                [Wildcards.of([pattern, "a*"]).match(longest), Wildcards.of([pattern]).match(longest + "a")],
            )
