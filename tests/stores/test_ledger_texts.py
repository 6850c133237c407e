from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.stores.ledger_rows import line_of, row_of
from dheera.stores.ledger_texts import LONGEST_TEXT_BYTES, MOST_TAGS, are_bounded, bounded, bounded_tags
from tests.stores.books import a_record

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

    @given(st.lists(TEXTS, max_size=40))
    def test_tags(self, tags: list[str]) -> None:
        """
        There are not too many tags, and what a row says of them is read as they are.
        """
        kept = bounded_tags(tags)
        self.assertLessEqual(len(kept), MOST_TAGS)
        self.assertEqual(len(set(kept)), len(kept))
        self.assertEqual(kept, line_of(row_of(a_record(tags=tags))).tags)
