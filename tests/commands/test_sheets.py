"""
CSV for spreadsheets.
"""

from __future__ import annotations

import csv
from decimal import Decimal
from io import StringIO
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from dheera.commands.sheets import sheet
from dheera.commands.tables import clean


class SheetTests(TestCase):
    def test_formulas(self) -> None:
        """
        No text can begin like a formula, be there spaces in front or not; numbers stay numbers.
        """
        for text in '=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "  =1":
            [_, [cell]] = csv.reader(StringIO(sheet(["name"], [[text]]), newline=""))
            self.assertEqual(f"'{text}", cell)
        self.assertEqual("name\n?=1\n", sheet(["name"], [["\t=1"]]))
        self.assertEqual("n\n-1,0.000000001,,True\n", sheet(["n"], [[-1, Decimal("1E-9"), None, True]]))

    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, max_size=4))
    def test_it_reads_back(self, texts: list[str]) -> None:
        """
        Whatever is in a text, there are as many cells as were written, and each ends with its text; signs that are none
        to be seen come as question marks.
        """
        [_, cells] = csv.reader(StringIO(sheet(["name"], [texts]), newline=""))
        for text, cell in zip(texts, cells, strict=True):
            self.assertIn(cell, (clean(text), f"'{clean(text)}"))
