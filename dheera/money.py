"""
US dollars as whole nano-dollars: what is counted, kept and compared. No float takes part in a sum.

Imports no Twisted and does no I/O.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from functools import total_ordering

NANO = 1_000_000_000
LARGEST = 9 * 10**9
"""
Whole dollars: in nano-dollars it still fits into 64 signed bits, as databases count.
"""


@total_ordering
class Usd:
    """
    An amount of US dollars. Not an attrs class: msgspec would write those by their fields.

    :ivar nano: whole nano-dollars, 1 USD = 1,000,000,000.
    """

    __slots__ = ("nano",)

    def __init__(self, nano: int = 0) -> None:
        self.nano = nano

    @classmethod
    def of(cls, amount: Decimal | float | str) -> Usd:
        """
        The amount that a number of dollars says, to the nearest nano-dollar.

        :param amount: a float is read as it would be printed: 0.1 is a tenth.
        :raises ValueError: it is no number, or its size is beyond `LARGEST`.
        """
        try:
            dollars = Decimal(repr(amount) if isinstance(amount, float) else amount)
        except (InvalidOperation, TypeError) as error:
            msg = "not an amount of US dollars"
            raise ValueError(msg) from error
        if not dollars.is_finite() or not -LARGEST <= dollars <= LARGEST:
            msg = f"not an amount of US dollars, or more than {LARGEST}"
            raise ValueError(msg)
        return cls(int((dollars * NANO).to_integral_value(ROUND_HALF_EVEN)))

    def dollars(self) -> Decimal:
        """
        The amount in dollars, exactly, without zeros that say nothing.
        """
        return Decimal(str(self))

    def __str__(self) -> str:
        """
        The amount in dollars, exactly, as a decimal number.
        """
        return written(self.nano).decode("ascii")

    def __eq__(self, other: object) -> bool:
        return self.nano == other.nano if isinstance(other, Usd) else NotImplemented

    def __lt__(self, other: Usd) -> bool:
        return self.nano < other.nano

    def __hash__(self) -> int:
        return hash(self.nano)

    def __repr__(self) -> str:
        return f"Usd({self.dollars()})"


def written(nano: int) -> bytes:
    """
    So many nano-dollars in dollars, exactly, as a decimal number: as header lines have it.
    """
    digits = (b"%d.%09d" % divmod(abs(nano), NANO)).rstrip(b"0").rstrip(b".")
    return b"-" + digits if nano < 0 else digits
