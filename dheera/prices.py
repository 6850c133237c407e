"""
What a model costs, on which day, and who says so: our own list, and before it the operator's rows.

All sums are of whole numbers and are rounded once, at the end. No Twisted.
"""

from __future__ import annotations

import json
import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from importlib import resources
from typing import Any

from attrs import define, evolve, field, frozen
from msgspec import Struct

from dheera.config import ConfigurationError
from dheera.money import LARGEST, NANO
from dheera.price_rows import LONGEST_NAME, PARTS, Price, Row, Table
from dheera.usage import Part, Usage

_ALL = "*"
_KNOWN = 4096
_MOST_NANO = LARGEST * NANO
_NEVER, _FOR_EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class Cost(Struct, frozen=True):
    """
    What a part of a call costs.

    :param nano: whole nano-dollars.
    :param unpriced: connectors that were called and have no price: it costs more than that.
    """

    nano: int
    unpriced: tuple[str, ...] = ()


@frozen
class _Shelf:
    """
    The rows of one list.
    """

    exact: Mapping[str, Sequence[Row]]
    beginnings: Mapping[str, Sequence[Row]]  # longest first
    rest: Sequence[Row]

    @classmethod
    def of(cls, rows: Mapping[str, Sequence[Row]]) -> _Shelf:
        starred = sorted((name for name in rows if name.endswith("*")), key=len, reverse=True)
        return cls(
            {name: each for name, each in rows.items() if not name.endswith("*")},
            {name[:-1]: rows[name] for name in starred if name != _ALL},
            rows.get(_ALL, ()),
        )

    def naming(self, model: str) -> Iterator[Sequence[Row]]:
        if model in self.exact:
            yield self.exact[model]
        yield from (rows for beginning, rows in self.beginnings.items() if model.startswith(beginning))

    def all(self) -> Iterator[Row]:
        for rows in (*self.exact.values(), *self.beginnings.values(), self.rest):
            yield from rows


@define(eq=False)
class PriceList:
    """
    All prices. What was found is kept.

    :ivar name: the day of our list, and a digest of the operator's rows if there are any.
    :ivar _found: what models cost between two days on which prices change, *_since* and *_until*.
    """

    name: str
    _shelves: Sequence[_Shelf]
    _connectors: Mapping[str, int]
    _days: Sequence[datetime] = field(init=False)
    _since: datetime = field(default=_NEVER, init=False)
    _until: datetime = field(default=_NEVER, init=False)
    _found: dict[str, Price | None] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._days = sorted({row.since for shelf in self._shelves for row in shelf.all() if row.since})

    @classmethod
    def load(cls, overrides: Mapping[str, Any]) -> PriceList:
        """
        Our own list, and before it what the operator says. Of either, the row of that very name counts, then the one
        with the longest beginning; the row ``*`` counts for what nothing else names.

        :param overrides: ``[prices]`` of the configuration.
        :raises ConfigurationError: with all that is wrong in it.
        """
        text = resources.files("dheera").joinpath("prices.toml").read_text(encoding="utf-8")
        document = tomllib.loads(text, parse_float=Decimal)
        theirs = Table.of(overrides, is_ours=False)
        ours = Table.of(document["prices"], is_ours=True, factor=theirs.factor_of_ours)
        name = document["name"]
        if overrides:
            name += "+" + sha256(json.dumps(overrides, sort_keys=True, default=str).encode()).hexdigest()[:8]
        shelves = (_Shelf.of(theirs.rows), _Shelf.of(ours.rows))
        prices = cls(name, shelves, {**ours.connectors, **theirs.connectors})
        problems = [*theirs.problems, *ours.problems] or [*prices._dead_ends()]
        if problems:
            raise ConfigurationError(problems)
        return prices

    @property
    def names(self) -> Sequence[str]:
        """
        The names of all rows, in order, those of beginnings with their ``*``.
        """
        names = {name for shelf in self._shelves for name in shelf.exact}
        names |= {f"{beginning}*" for shelf in self._shelves for beginning in shelf.beginnings}
        return sorted(names | {_ALL for shelf in self._shelves if shelf.rest})

    def find(self, model: str, at: datetime) -> Price | None:
        """
        What *model* costs; ``None`` if nobody says.

        :param at: aware.
        """
        if not self._since <= at < self._until:
            self._turn_to(at)
        try:
            return self._found[model]
        except KeyError:
            pass
        if len(model) > LONGEST_NAME:
            return None
        if len(self._found) >= _KNOWN:  # whoever calls may make up names
            self._found.clear()
        found = self._found[model] = self._followed(model, at)
        return found

    def _turn_to(self, at: datetime) -> None:
        """
        Nearly all calls begin on the day on which the one before them did.
        """
        era = bisect_right(self._days, at)
        self._since = self._days[era - 1] if era else _NEVER
        self._until = self._days[era] if era < len(self._days) else _FOR_EVER
        self._found = {}

    def ceiling(self, model: str, at: datetime) -> int | None:
        """
        The most tokens that a call of *model* can be about; ``None`` if nobody says.
        """
        price = self.find(model, at)
        return None if price is None else price.context_tokens

    def cost(self, part: Part, at: datetime) -> Cost | None:
        """
        What *part* costs; ``None`` if that is not known: there is no such model, or no price for anything that was
        used of it, or it is not told what was used and the model is not free.

        :param at: when the call began, aware.
        """
        price = None if part.model is None else self.find(part.model, at)
        if price is None:
            return None
        tariff = price.batch_tariff if part.is_batch else price.tariff
        counted, connectors = _counted(part.usage), part.usage.connectors
        used, is_known = 0, False
        for place, rate in tariff.rates:
            if much := counted[place]:
                used, is_known = used + rate * much, True
        called, unpriced = 0, []
        if connectors:
            for connector, calls in connectors.items():
                parts = self._connectors.get(connector)
                if parts is None and calls:
                    unpriced.append(connector)
                elif parts is not None and calls:
                    called, is_known = called + parts * calls, True
        if not is_known and (any(counted) or unpriced or any(rate for _, rate in tariff.rates)):
            return None
        units = tariff.units
        nano = _rounded(used * (PARTS // units) + called, PARTS) if called else _rounded(used, units)
        return Cost(nano, tuple(sorted(unpriced)) if unpriced else ()) if nano <= _MOST_NANO else None

    def _followed(self, model: str, at: datetime) -> Price | None:
        """
        :raises LookupError: rows lead in a circle, which `load` lets nobody have.
        """
        passed: dict[str, Row] = {}
        while model not in passed:
            row = self._row(model, at)
            if row is None:
                return None
            if row.price is not None:
                return _by_way_of(list(passed.values()), row.price)
            passed[model] = row
            model = row.same_as
        raise LookupError(model)

    def _row(self, model: str, at: datetime) -> Row | None:
        named = (rows for shelf in self._shelves for rows in shelf.naming(model))
        for rows in (*named, *(shelf.rest for shelf in self._shelves)):
            if begun := [row for row in rows if row.since is None or row.since <= at]:
                return begun[-1]
        return None

    def _dead_ends(self) -> Iterator[str]:
        """
        What is wrong with rows that lead to others.
        """
        days = [_NEVER, *self._days]
        for target in sorted({row.same_as for shelf in self._shelves for row in shelf.all() if row.same_as}):
            found = f"[prices]: found as = {json.dumps(target)}"
            try:
                if not any(self._followed(target, day) for day in days):
                    yield f"{found}, wanted the name of a model that has a price"
            except LookupError:
                yield f"{found}, which leads back to itself, wanted the name of a model that has prices of its own"


def _by_way_of(rows: Sequence[Row], price: Price) -> Price:
    """
    *price* with what is said of it where *rows* led to it.
    """
    sources = [row.source for row in rows if row.source]
    days = [day for day in (price.since, *(row.since for row in rows)) if day is not None]
    return evolve(price, source=sources[0] if sources else price.source, since=max(days, default=None))


def _counted(usage: Usage) -> tuple[int, ...]:
    """
    What was used of all that has a price, in the order of `dheera.price_rows.UNITS`.
    """
    prompt, cached = usage.prompt_tokens, usage.cached_tokens
    cached = prompt if cached > prompt else cached  # noqa: FURB136 - min() takes three times as long
    return (
        prompt - cached + usage.connector_tokens,
        cached,
        usage.completion_tokens,
        usage.audio_ms,
        usage.pages,
        usage.annotated_pages,
        usage.characters,
    )


def _rounded(amount: int, one: int) -> int:
    """
    Whole nano-dollars, a half to the even one.

    :param one: of them, in what *amount* is counted in.
    """
    whole, rest = divmod(amount, one)
    return whole + (2 * rest > one or (2 * rest == one and whole % 2)) if rest else whole
