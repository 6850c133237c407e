from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.stores.ledger_rows import line_of, row_of
from dheera.stores.ledger_texts import MOST_TAGS, bounded_tags
from tests.stores.books import a_record

TEXTS = st.text(st.characters(), max_size=400)


class TextTests(SynchronousTestCase):
    @given(st.lists(TEXTS, max_size=40))
    def test_tags(self, tags: list[str]) -> None:
        """
        There are not too many tags, and what a row says of them is read as they are.
        """
        kept = bounded_tags(tags)
        self.assertLessEqual(len(kept), MOST_TAGS)
        self.assertEqual(len(set(kept)), len(kept))
        self.assertEqual(kept, line_of(row_of(a_record(tags=tags))).tags)
