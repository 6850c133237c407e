from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.texts import LONGEST_TEXT_BYTES, are_bounded, bounded

TEXTS = st.text(st.characters(), max_size=400)


class TextTests(SynchronousTestCase):
    @given(TEXTS)
    def test_bounds(self, text: str) -> None:
        """
        Whatever the text, what is kept fits, is Unicode without NUL, and is kept again as it is.
        """
        kept = bounded(text)
        self.assertLessEqual(len(kept.encode()), LONGEST_TEXT_BYTES)
        self.assertNotIn("\0", kept)
        self.assertEqual(kept, bounded(kept))

    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=64))
    def test_ordinary(self, text: str) -> None:
        """
        What is not long is kept as it is.
        """
        self.assertEqual(text, bounded(text))

    def test_cut_apart(self) -> None:
        """
        Two long texts that begin alike are told apart.
        """
        self.assertEqual(3, len({bounded("x" * 256), bounded("x" * 257), bounded("x" * 257 + "y")}))

    @given(st.lists(TEXTS, max_size=4))
    def test_together(self, texts: list[str]) -> None:
        """
        Of texts that are surely bounded together, each is.
        """
        if are_bounded("".join(texts)):
            self.assertEqual(texts, list(map(bounded, texts)))
