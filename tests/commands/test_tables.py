"""
Tables for people.
"""

from __future__ import annotations

from decimal import Decimal
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from dheera.commands.tables import Column, amount, cells, count, listing, table, when

COLUMNS = (Column(title="NAME", least=6), Column(title="USD", right=True), Column(title="STATE"))


class TableTests(TestCase):
    """
    Columns and rows.
    """

    def test_aligned(self) -> None:
        """
        Texts stand at the left and numbers at the right, below their titles, and no line ends with spaces.
        """
        lines = list(table(COLUMNS, [["ada", "1.00", "active"], ["grace hopper", "12,345.00", "-"]]))
        self.assertEqual(
            [
                "NAME                USD  STATE",
                "ada                1.00  active",
                "grace hopper  12,345.00  -",
            ],
            lines,
        )

    def test_empty(self) -> None:
        """
        A table without rows is its head.
        """
        self.assertEqual(["NAME  USD  STATE"], list(table(COLUMNS, [])))

    def test_wide_letters(self) -> None:
        """
        Letters that take two cells, or none, do not push the columns apart.
        """
        lines = list(table(COLUMNS, [["日本", "1", "x"], ["e\u0301", "1", "x"]]))
        self.assertEqual(["NAME  USD  STATE", "日本    1  x", "e\u0301       1  x"], lines)

    def test_cut(self) -> None:
        """
        On a narrow terminal columns that may be are cut, no further than they may; others stay whole.
        """
        rows = [["a" * 30, "1.00", "active"]]
        self.assertEqual("a" * 7 + "…  1.00  active", list(table(COLUMNS, rows, 22))[1])
        self.assertEqual("a" * 5 + "…  1.00  active", list(table(COLUMNS, rows, 5))[1])
        self.assertEqual("日日…   1.00  active", list(table(COLUMNS, [["日" * 9, "1.00", "active"]], 20))[1])

    def test_spare(self) -> None:
        """
        What can be spared is left out where it does not fit even though all is cut that may be, and only there.
        """
        columns = (COLUMNS[0], Column(title="NOTE", spare=True), *COLUMNS[1:])
        rows = [["a" * 30, "note", "1.00", "active"]]
        self.assertEqual("a" * 5 + "…  note  1.00  active", list(table(columns, rows, 26))[1])
        self.assertEqual("a" * 10 + "…  1.00  active", list(table(columns, rows, 25))[1])

    def test_terminal_is_safe(self) -> None:
        """
        What stands in a cell cannot command the terminal, or add a line.
        """
        for lines in table(COLUMNS, [["a\x1b[2J\n\u202eb", "1", "x"]]), listing([("a", "\x1b[2J\n\u202e")]):
            for line in lines:
                self.assertTrue(line.isprintable(), line)

    @given(st.lists(st.tuples(st.text(), st.text(max_size=5), st.text(max_size=5))), st.integers(30, 60))
    def test_fits(self, rows: list[tuple[str, str, str]], width: int) -> None:
        """
        Whatever stands in it, no line is wider than the terminal.
        """
        for line in table(COLUMNS, rows, width):
            self.assertLessEqual(cells(line), width)


class ListingTests(TestCase):
    """
    Names and values.
    """

    def test_aligned(self) -> None:
        """
        The values stand below each other, and are never cut.
        """
        self.assertEqual(["a      " + "x" * 200, "state  -"], list(listing([("a", "x" * 200), ("state", "-")])))


class WordTests(TestCase):
    """
    Values in short words.
    """

    def test_amount(self) -> None:
        """
        All digits that there are, and cents.
        """
        for value, word in (
            (0, "0.00"),
            (Decimal(50), "50.00"),
            (Decimal("1E+3"), "1,000.00"),
            (Decimal("0.1"), "0.10"),
            (Decimal("1234.500000001"), "1,234.500000001"),
            (Decimal("1E-9"), "0.000000001"),
            (None, "-"),
            ("5", "-"),
            (True, "-"),
        ):
            self.assertEqual(word, amount(value))

    def test_when(self) -> None:
        """
        Minutes in UTC; what is no time is shown as it is.
        """
        for value, word in (
            ("2026-03-01T12:34:56.789Z", "2026-03-01 12:34"),
            ("2026-03-01T00:30:00+02:00", "2026-02-28 22:30"),
            ("0001-01-01T00:00:00+02:00", "0001-01-01T00:00:00+02:00"),
            ("soon", "soon"),
            ("", "-"),
            (None, "-"),
        ):
            self.assertEqual(word, when(value))

    def test_count(self) -> None:
        """
        Whole numbers; none is not zero.
        """
        self.assertEqual(["0", "1,000", "-"], [count(0), count(1000), count(None)])
