"""
The rows of a list of prices, read from a table of TOML: what each must be, and what is told of those that are not.

How a row is written is told in ``prices.toml``. Imports no Twisted and does no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from math import gcd
from typing import Any, TypeAlias

from attrs import define, field, frozen

from dheera.kinds import shown
from dheera.money import NANO

UNITS: Mapping[str, int] = {
    "input_per_million": 1_000_000,
    "cached_per_million": 1_000_000,
    "output_per_million": 1_000_000,
    "audio_per_minute": 60_000,  # milliseconds
    "pages_per_thousand": 1_000,
    "annotated_pages_per_thousand": 1_000,
    "characters_per_million": 1_000_000,
}
"""
The prices that a row may have, each with how many of what is counted it is for.
"""

_PLACES = 9
_FACTOR_PLACES = 4

PARTS: int = 6 * 10 ** (_PLACES + 2 * _FACTOR_PLACES)
"""
Of a nano-dollar: each price is a whole number of them. The minute brings the 6; what may stand behind the point of a
price and of two factors, the rest, and more than that.
"""

LONGEST_NAME = 256

Rates: TypeAlias = tuple[int | None, ...]
"""
Parts of a nano-dollar for one of each, in the order of `UNITS`; ``None`` has no price.
"""

_INPUT, _OUTPUT = 0, 1  # places in `Price.dearest`
_DEAREST = 1_000_000
_CALLS = 1_000
_SHARE_OF_CACHED = Fraction(1, 10)
_SHARE_OF_BATCH = Decimal("0.5")
_HIGHEST_FACTOR = 100
_CONNECTORS = "connectors_per_thousand"
_SETTINGS = ("source", "factor", _CONNECTORS)
_FIELDS = (*UNITS, "batch_factor", "context_tokens", "as", "from", "source")
_NO_PRICES = ("as", "from", "source")

_NAME = f'a model\'s name of up to {LONGEST_NAME} characters, such as "mistral-small-latest", or its beginning and a *'
_TABLE = "a table of prices, such as { input_per_million = 0.5, output_per_million = 1.5 }, or an array of them"
_USD = f"US dollars, from 0 to {_DEAREST} with at most {_PLACES} digits behind the point"
_BATCH = f"a number from 0 to 1 with at most {_FACTOR_PLACES} digits behind the point"
_FACTOR = f"a number above 0, at most {_HIGHEST_FACTOR}, with at most {_FACTOR_PLACES} digits behind the point"


@frozen
class Tariff:
    """
    Rates in the largest unit of which all of them are whole numbers: sums of small numbers take half the time.

    :ivar rates: of what has a price, each behind its place in `UNITS`.
    :ivar units: how many are a nano-dollar.
    """

    rates: Sequence[tuple[int, int]]
    units: int

    @classmethod
    def of(cls, rates: Rates) -> Tariff:
        """
        That of *rates*, which are in parts of a nano-dollar.
        """
        unit = gcd(PARTS, *(rate for rate in rates if rate is not None))
        return cls([(place, rate // unit) for place, rate in enumerate(rates) if rate is not None], PARTS // unit)


@frozen(kw_only=True)
class Price:
    """
    What one model costs.

    :param row: the name of the row that says it: the model, another one that it is priced as, or a beginning and ``*``.
    :param since: when this began; ``None``: ever since.
    :param source: where the figures come from.
    :param is_ours: they are of our own list.
    :param usd: the figures, by the names in `UNITS`.
    :param batch_factor: what a batch costs, as a part of that.
    :param context_tokens: the most tokens that a call can be about, if that is known.
    :ivar dearest: as *tariff*, while nobody knows how much of the input the cache has: one place for both, the first.
    :ivar dearest_texts: of *dearest*, the rates of input and output; ``None`` unless both have a price.
    """

    row: str
    since: datetime | None
    source: str
    is_ours: bool
    usd: Mapping[str, Decimal]
    batch_factor: Decimal
    context_tokens: int | None
    rates: Rates = field(repr=False)
    batch_rates: Rates = field(repr=False)
    tariff: Tariff = field(init=False, repr=False)
    batch_tariff: Tariff = field(init=False, repr=False)
    dearest: Tariff = field(init=False, repr=False)
    dearest_texts: tuple[int, int] | None = field(init=False, repr=False)

    @tariff.default
    def _reduced(self) -> Tariff:
        return Tariff.of(self.rates)

    @batch_tariff.default
    def _batch_reduced(self) -> Tariff:
        return Tariff.of(self.batch_rates)

    @dearest.default
    def _bounding(self) -> Tariff:
        uncached, cached, *others = self.rates
        of_input = [rate for rate in (uncached, cached) if rate is not None]
        return Tariff.of((max(of_input, default=None), *others))

    @dearest_texts.default
    def _bounding_texts(self) -> tuple[int, int] | None:
        rates = dict(self.dearest.rates)
        return (rates[_INPUT], rates[_OUTPUT]) if _INPUT in rates and _OUTPUT in rates else None


@frozen(kw_only=True)
class Row:
    """
    From a day on, a price, or the name of a model that has it.
    """

    since: datetime | None
    price: Price | None = None
    same_as: str = ""
    source: str = ""


@define(eq=False)
class Table:
    """
    One list as it was read.

    :param factor: that its prices are multiplied with.
    :ivar rows: by their names; those of a name in the order of their days.
    :ivar connectors: parts of a nano-dollar for a call.
    :ivar factor_of_ours: that it wants our own list to be multiplied with.
    :ivar problems: sentences; where there are any, the rest is of no use.
    """

    is_ours: bool
    factor: Fraction
    rows: dict[str, Sequence[Row]] = field(factory=dict, init=False)
    connectors: dict[str, int] = field(factory=dict, init=False)
    problems: list[str] = field(factory=list, init=False)
    _source: str = field(default="", init=False)
    factor_of_ours: Fraction = field(default=Fraction(1), init=False)

    @classmethod
    def of(cls, table: Mapping[str, Any], *, is_ours: bool, factor: Fraction = Fraction(1)) -> Table:
        """
        What *table* says.
        """
        read = cls(is_ours, factor)
        read._read_settings(table)
        for name, value in table.items():
            if name not in _SETTINGS:
                read._read_rows(name, value)
        return read

    def _read_settings(self, table: Mapping[str, Any]) -> None:
        place = "[prices]"
        self._source = self._text(table, "source", place) or ("" if self.is_ours else "the configuration")
        factor = self._number(f"{place} factor", table.get("factor", 1), _HIGHEST_FACTOR, _FACTOR_PLACES, _FACTOR)
        if factor == 0:
            self._complain(f"{place} factor", factor, _FACTOR)
        self.factor_of_ours = Fraction(factor) if factor else self.factor_of_ours
        connectors = table.get(_CONNECTORS, {})
        if not isinstance(connectors, Mapping):
            self._complain(f"{place} {_CONNECTORS}", connectors, "a table, such as { web_search = 30.0 }")
            return
        for name, value in connectors.items():
            usd = self._number(f"{place} {_CONNECTORS}: {json.dumps(name)}", value, _DEAREST, _PLACES, _USD)
            if usd is not None:
                self.connectors[name] = _parts(Fraction(usd), _CALLS)

    def _read_rows(self, name: str, value: object) -> None:
        place = f"[prices] {json.dumps(name)}"
        if not 0 < len(name) <= LONGEST_NAME or "*" in name[:-1]:
            self._complain(place, name, _NAME)
            return
        tables = value if isinstance(value, list) else [value]
        if not tables or not all(isinstance(each, Mapping) for each in tables):
            self._complain(place, value, _TABLE)
            return
        places = [f"{place} (row {nth})" for nth in range(1, len(tables) + 1)] if len(tables) > 1 else [place]
        read = [self._row(name, each, at) for each, at in zip(tables, places, strict=True)]
        days = [row.since for row in read]
        if len(set(days)) < len(days):
            self.problems.append(f"{place}: found two rows that begin on one day, wanted another day in from")
        self.rows[name] = sorted(read, key=lambda row: (row.since is not None, row.since))

    def _row(self, name: str, table: Mapping[str, Any], place: str) -> Row:
        for key in table:
            if key not in _FIELDS:
                self.problems.append(f"{place}: {_unknown(name, key, table[key])}")
        since = self._since(table, place)
        if "as" in table:
            same_as = self._text(table, "as", place)
            if beside := [key for key in table if key in _FIELDS and key not in _NO_PRICES]:
                self.problems.append(f"{place}: found {beside[0]} beside as, wanted one of them")
            return Row(since=since, same_as=same_as, source=self._text(table, "source", place))
        usd = {
            key: self._number(f"{place} {key}", table[key], _DEAREST, _PLACES, _USD) for key in UNITS if key in table
        }
        if not usd:
            self.problems.append(f"{place}: found no price, wanted one of {', '.join(UNITS)}, or as")
        batch = self._number(
            f"{place} batch_factor", table.get("batch_factor", _SHARE_OF_BATCH), 1, _FACTOR_PLACES, _BATCH
        )
        context = table.get("context_tokens")
        if context is not None and (not isinstance(context, int) or isinstance(context, bool) or context < 1):
            self._complain(f"{place} context_tokens", context, "a whole number above 0")
        written = {key: each for key, each in usd.items() if each is not None}
        batch = _SHARE_OF_BATCH if batch is None else batch
        price = Price(
            row=name,
            since=since,
            source=self._text(table, "source", place) or self._source,
            is_ours=self.is_ours,
            usd={key: _times(each, self.factor) for key, each in written.items()},
            batch_factor=batch,
            context_tokens=context,
            rates=_rates(written, self.factor),
            batch_rates=_rates(written, self.factor * Fraction(batch)),
        )
        return Row(since=since, price=price)

    def _since(self, table: Mapping[str, Any], place: str) -> datetime | None:
        day = table.get("from")
        if isinstance(day, datetime) and day.tzinfo is not None:
            return day
        if isinstance(day, date) and not isinstance(day, datetime):
            return datetime.combine(day, time(), UTC)
        if day is not None:
            self._complain(f"{place} from", day, "a date such as 2026-10-29, or a date and time with its offset")
        return None

    def _text(self, table: Mapping[str, Any], key: str, place: str) -> str:
        text = table.get(key, "")
        if not isinstance(text, str) or (key in table and not text):
            self._complain(f"{place} {key}", text, "a text")
            return ""
        return text

    def _number(self, place: str, value: object, highest: int, places: int, wanted: str) -> Decimal | None:
        number = (
            None if isinstance(value, bool) or not isinstance(value, int | float | Decimal) else Decimal(str(value))
        )
        if number is None or not number.is_finite() or not 0 <= number <= highest or _behind_point(number) > places:
            self._complain(place, value, wanted)
            return None
        return number

    def _complain(self, place: str, found: object, wanted: str) -> None:
        found = float(found) if isinstance(found, Decimal) else found
        self.problems.append(f"{place}: found {shown(found)}, wanted {wanted}")


def _times(usd: Decimal, factor: Fraction) -> Decimal:
    """
    Exactly: what is behind both points fits into a decimal number.
    """
    return usd * factor.numerator / factor.denominator


def _rates(usd: Mapping[str, Decimal], factor: Fraction) -> Rates:
    exact = {key: Fraction(each) for key, each in usd.items()}
    if "input_per_million" in exact:
        exact.setdefault("cached_per_million", exact["input_per_million"] * _SHARE_OF_CACHED)
    return tuple(_parts(exact[key] * factor, unit) if key in exact else None for key, unit in UNITS.items())


def _parts(usd: Fraction, unit: int) -> int:
    return int(usd * NANO * PARTS / unit)


def _behind_point(number: Decimal) -> int:
    return max(0, -int(number.normalize().as_tuple().exponent))


def _unknown(name: str, key: str, value: object) -> str:
    if isinstance(value, Mapping):
        dotted = json.dumps(f"{name}.{key}")
        return f"found a table {json.dumps(key)} within, wanted quotes round a name with a dot: [prices.{dotted}]"
    near = get_close_matches(key, _FIELDS, n=1)
    meant = f"did you mean {near[0]}?" if near else f"wanted one of {', '.join(_FIELDS)}"
    return f"found {json.dumps(key)}, which is no field of a price; {meant}"
