from __future__ import annotations

from decimal import Decimal
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from dheera.money import LARGEST, NANO, Usd

NANOS = st.integers(-LARGEST * NANO, LARGEST * NANO)


class AmountTests(TestCase):
    @given(NANOS)
    def test_dollars_are_exact(self, nano: int) -> None:
        """
        Dollars and back is the same amount, to the last nano-dollar, also as a text.
        """
        dollars = Usd(nano).dollars()
        self.assertEqual(Decimal(nano) / NANO, dollars)
        self.assertEqual(Usd(nano), Usd.of(dollars))
        self.assertEqual(Usd(nano), Usd.of(str(dollars)))

    @given(NANOS)
    def test_dollars_are_short(self, nano: int) -> None:
        """
        No zero stands at the end of the digits after the point, and no point at the end.
        """
        text = format(Usd(nano).dollars(), "f")
        self.assertRegex(text, r"\A-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?\Z")

    @given(st.integers(-(10**15), 10**15))
    def test_floats_are_read_as_printed(self, nano: int) -> None:
        """
        A float is the number that it is printed as: up to fifteen digits nothing is lost.
        """
        self.assertEqual(Usd(nano), Usd.of(float(Usd(nano).dollars())))

    def test_known(self) -> None:
        """
        A tenth is a tenth, in each way that one may say it.
        """
        for tenth in 0.1, "0.1", Decimal("0.1"), "1e-1", "0.10":
            self.assertEqual(100_000_000, Usd.of(tenth).nano, tenth)
        self.assertEqual(3 * NANO, Usd.of(3).nano)
        self.assertEqual(0, Usd().nano)

    def test_rounds_half_to_even(self) -> None:
        """
        What is finer than a nano-dollar goes to the nearest, a half to the even one.
        """
        for text, nano in (
            ("0.0000000004", 0),
            ("0.0000000005", 0),
            ("0.00000000050001", 1),
            ("0.0000000015", 2),
            ("-0.0000000015", -2),
            ("1e-999999999", 0),
        ):
            self.assertEqual(nano, Usd.of(text).nano, text)

    def test_not_amounts(self) -> None:
        """
        What is no number, or has no end, or is too large for a database, is a `ValueError`.
        """
        too_large = LARGEST + 1, -LARGEST - 1, f"{LARGEST}.0000000001", 1e300, "1e999999", "1e999999999", "9" * 5000
        for wrong in ("", "abc", "1,5", "nan", "sNaN", "inf", float("inf"), float("nan"), *too_large):
            with self.assertRaises(ValueError, msg=repr(wrong)[:20]):
                Usd.of(wrong)

    def test_fits_a_database(self) -> None:
        """
        The largest amount has 64 signed bits.
        """
        self.assertLess(Usd.of(LARGEST).nano, 2**63)
        self.assertEqual(-LARGEST * NANO, Usd.of(-LARGEST).nano)

    @given(NANOS, NANOS)
    def test_order(self, one: int, other: int) -> None:
        """
        Amounts compare as their numbers do, and equal ones are one in a set.
        """
        self.assertEqual(one < other, Usd(one) < Usd(other))
        self.assertEqual(one >= other, Usd(one) >= Usd(other))
        self.assertEqual(one == other, Usd(one) == Usd(other))
        self.assertEqual(len({one, other}), len({Usd(one), Usd(other)}))

    def test_is_no_number(self) -> None:
        """
        An amount equals no number: neither that of its dollars nor of its nano-dollars.
        """
        self.assertNotIn(Usd(1), [1, Decimal(1), 1e-9])

    def test_repr(self) -> None:
        """
        People see dollars.
        """
        self.assertEqual("Usd(-1.5)", repr(Usd(-1_500_000_000)))
