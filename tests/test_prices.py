"""
What calls cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.demo.models import CARDS
from dheera.money import NANO
from dheera.prices import Cost, PriceList
from dheera.usage import Part, Usage

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PRICES = st.integers(0, 10**6).map(lambda millionths: millionths / 10**6)
MUCH = st.integers(0, 2**40)
USAGES = st.builds(
    Usage,
    prompt_tokens=MUCH,
    cached_tokens=MUCH,
    completion_tokens=MUCH,
    connector_tokens=MUCH,
    audio_ms=MUCH,
    pages=MUCH,
    annotated_pages=MUCH,
    characters=MUCH,
    connectors=st.dictionaries(st.sampled_from(["web_search", "image_generation"]), MUCH),
)
FIELDS = (
    "input_per_million",
    "cached_per_million",
    "output_per_million",
    "audio_per_minute",
    "pages_per_thousand",
    "annotated_pages_per_thousand",
    "characters_per_million",
)
PRICED_BY = {
    "completion_chat": "output_per_million",
    "moderation": "input_per_million",
    "ocr": "pages_per_thousand",
    "audio_transcription": "audio_per_minute",
    "audio_transcription_realtime": "audio_per_minute",
    "audio_speech": "characters_per_million",
}


def nano(overrides: Mapping[str, Any], usage: Usage, model: str = "x", *, is_batch: bool = False) -> int | None:
    """
    What *usage* costs with these rows; ``None`` if that is not known.
    """
    cost = PriceList.load(overrides).cost(Part(model=model, usage=usage, is_batch=is_batch), NOW)
    return None if cost is None else cost.nano


def exactly(text: float) -> Fraction:
    """
    The number that a float is printed as.
    """
    return Fraction(repr(text))


class CostTests(SynchronousTestCase):
    """
    ``PriceList.cost``.
    """

    @given(st.fixed_dictionaries(dict.fromkeys(FIELDS, PRICES)), PRICES, USAGES, st.booleans())
    def test_exact(self, row: dict[str, float], connector: float, usage: Usage, is_batch: bool) -> None:  # noqa: FBT001 - drawn
        """
        The cost is that of exact fractions, rounded once, a half to the even nano-dollar.
        """
        usd = {name: exactly(price) for name, price in row.items()}
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        expected = (
            (usage.prompt_tokens - cached + usage.connector_tokens) * usd["input_per_million"] / 10**6
            + cached * usd["cached_per_million"] / 10**6
            + usage.completion_tokens * usd["output_per_million"] / 10**6
            + usage.audio_ms * usd["audio_per_minute"] / 60_000
            + usage.pages * usd["pages_per_thousand"] / 1000
            + usage.annotated_pages * usd["annotated_pages_per_thousand"] / 1000
            + usage.characters * usd["characters_per_million"] / 10**6
        ) * (Fraction(1, 2) if is_batch else 1)
        expected += usage.connectors.get("web_search", 0) * exactly(connector) / 1000
        if not any((cached, usage.prompt_tokens, usage.connector_tokens, usage.completion_tokens, usage.audio_ms)):
            return  # see test_not_told
        overrides = {"x": row, "connectors_per_thousand": {"web_search": connector}}
        cost = PriceList.load(overrides).cost(Part(model="x", usage=usage, is_batch=is_batch), NOW)
        unpriced = ("image_generation",) if usage.connectors.get("image_generation") else ()
        nanos = round(expected * NANO)
        self.assertEqual(Cost(nano=nanos, unpriced=unpriced) if nanos <= 9 * 10**18 else None, cost)

    @given(USAGES, st.sampled_from(["completion_tokens", "connector_tokens", "audio_ms", "pages", "characters"]), MUCH)
    def test_more_is_not_cheaper(self, usage: Usage, name: str, more: int) -> None:
        """
        Who uses more pays as much or more, in whole nano-dollars.
        """
        prices = PriceList.load({"x": dict.fromkeys(FIELDS, 0.01)})
        values = {field: getattr(usage, field) for field in usage.__struct_fields__}
        less = prices.cost(Part(model="x", usage=usage), NOW)
        rather = prices.cost(Part(model="x", usage=Usage(**values | {name: values[name] + more})), NOW)
        if less is not None:
            assert rather is not None
            self.assertIsInstance(less.nano, int)
            self.assertGreaterEqual(rather.nano, less.nano)

    def test_known(self) -> None:
        """
        Costs worked out by hand: a chat with cached tokens, an alias, pages, audio, speech, an embedding.
        """
        for model, usage, nanos in (
            # 13 of 1013 tokens at 0.15 a million, 1000 at a tenth of that, 30 at 0.6
            ("mistral-small-2603", Usage(prompt_tokens=1013, cached_tokens=1000, completion_tokens=30), 34_950),
            ("mistral-small-latest", Usage(prompt_tokens=1013, cached_tokens=1000, completion_tokens=30), 34_950),
            ("mistral-ocr-latest", Usage(pages=3), 12_000_000),
            ("mistral-ocr-latest", Usage(annotated_pages=3), 15_000_000),
            ("voxtral-mini-transcribe-3", Usage(audio_ms=60_000), 3_500_000),
            ("voxtral-mini-tts-2603", Usage(characters=1000), 16_000_000),
            ("mistral-embed", Usage(prompt_tokens=15, total_tokens=15), 1_500),
        ):
            cost = PriceList.load({}).cost(Part(model=model, usage=usage), NOW)
            self.assertEqual(Cost(nano=nanos), cost, model)

    def test_half_to_even(self) -> None:
        """
        A half of a nano-dollar goes to the even one, and is not rounded token by token.
        """
        row = {"x": {"input_per_million": 0.0005}}
        self.assertEqual([0, 1, 2, 2], [nano(row, Usage(prompt_tokens=count)) for count in (1, 2, 3, 4)])

    def test_batch(self) -> None:
        """
        A batch costs half, or what its model says; connectors cost the same.
        """
        usage = Usage(prompt_tokens=1000, connectors={"web_search": 1})
        for row, nanos in (
            ({"input_per_million": 1}, 500_000),
            ({"input_per_million": 1, "batch_factor": 1}, 1_000_000),
            ({"input_per_million": 1, "batch_factor": 0.25}, 250_000),
        ):
            overrides = {"x": row, "connectors_per_thousand": {"web_search": 30}}
            self.assertEqual(nanos + 30_000_000, nano(overrides, usage, is_batch=True), row)

    def test_other_units(self) -> None:
        """
        A model that is priced by the minute costs its minutes, though tokens are told too.
        """
        usage = Usage(prompt_tokens=4, completion_tokens=635, total_tokens=3264, audio_ms=203_000)
        self.assertEqual(10_150_000, nano({}, usage, "voxtral-mini-latest"))

    def test_nothing_priced(self) -> None:
        """
        Where nothing that was used has a price the cost is unknown, and not 0.
        """
        self.assertIsNone(nano({}, Usage(prompt_tokens=10), "mistral-ocr-latest"))
        self.assertIsNone(nano({}, Usage(connectors={"web_search": 1}), "mistral-small-latest"))

    def test_unknown_model(self) -> None:
        """
        A model that is not listed, or not named, has no cost.
        """
        usage = Usage(prompt_tokens=10)
        prices = PriceList.load({})
        for model in (None, "", "made-up", "ft:open-mistral-7b:x", "x" * 10_000):
            self.assertIsNone(prices.cost(Part(model=model, usage=usage), NOW))

    def test_free(self) -> None:
        """
        A free model costs 0, whatever was used, told or not.
        """
        self.assertEqual(0, nano({}, Usage(), "mistral-moderation-2603"))
        self.assertEqual(0, nano({}, Usage(prompt_tokens=99), "mistral-moderation-2603"))

    def test_not_told(self) -> None:
        """
        What a model that is not free costs is unknown as long as nobody says what was used.
        """
        self.assertIsNone(nano({}, Usage(), "mistral-small-latest"))

    def test_not_believed(self) -> None:
        """
        What would cost more than an amount can be has no cost.
        """
        self.assertIsNone(nano({"x": {"output_per_million": 1_000_000}}, Usage(completion_tokens=2**53)))


class LookupTests(SynchronousTestCase):
    """
    ``PriceList.find``: which row counts.
    """

    def output(self, overrides: Mapping[str, Any], model: str, at: datetime = NOW) -> float | None:
        """
        What a million tokens of output cost.
        """
        price = PriceList.load(overrides).find(model, at)
        return None if price is None else float(price.usd["output_per_million"])

    def test_specific_first(self) -> None:
        """
        The very name goes before beginnings, a longer beginning before a shorter one, in whatever order they stand.
        """
        rows = {
            "ft:*": {"output_per_million": 1},
            "ft:small:*": {"output_per_million": 2},
            "ft:small:1": {"output_per_million": 3},
        }
        for each in rows, dict(reversed(rows.items())):
            found = [self.output(each, model) for model in ("ft:x", "ft:small:x", "ft:small:1", "ft:", "ft")]
            self.assertEqual([1, 2, 3, 1, None], found)

    def test_operator_first(self) -> None:
        """
        The operator's rows go before all of ours, also where they only say a beginning; a star alone goes after all.
        """
        self.assertEqual(9, self.output({"mistral-large-2512": {"output_per_million": 9}}, "mistral-large-2512"))
        self.assertEqual(9, self.output({"mistral-large-*": {"output_per_million": 9}}, "mistral-large-2512"))
        everything = {"*": {"output_per_million": 9}}
        self.assertEqual([1.5, 9], [self.output(everything, model) for model in ("mistral-large-2512", "made-up")])

    def test_aliases_follow(self) -> None:
        """
        What the operator says of a version counts for the names that stand for it.
        """
        self.assertEqual(9, self.output({"mistral-large-2512": {"output_per_million": 9}}, "mistral-large-latest"))

    def test_days(self) -> None:
        """
        A row counts from the first moment of its day, in UTC; the cost of a call is that of the day it began.
        """
        turn = datetime(2026, 10, 29, tzinfo=UTC)
        prices = PriceList.load({})
        for at, nanos in (
            (turn - timedelta(microseconds=1), 4_180),
            (turn, 2_100),
            (datetime(2020, 1, 1, tzinfo=UTC), 2_090),
        ):
            part = Part(model="mistral-large-4-0", usage=Usage(completion_tokens=1))
            self.assertEqual(Cost(nano=nanos), prices.cost(part, at))

    def test_alias_moves(self) -> None:
        """
        A name may stand for one model until a day, and for another one from then on.
        """
        turn = datetime(2026, 3, 16, tzinfo=UTC)
        price = PriceList.load({}).find("mistral-small-latest", turn)
        assert price is not None
        self.assertEqual(("mistral-small-2603", turn), (price.row, price.since))
        self.assertEqual(0.3, self.output({}, "mistral-small-latest", turn - timedelta(seconds=1)))

    def test_announced(self) -> None:
        """
        Until the day of an operator's row ours counts.
        """
        row = {"mistral-large-2512": {"from": datetime(2027, 1, 1, tzinfo=UTC), "output_per_million": 9}}
        self.assertEqual(1.5, self.output(row, "mistral-large-2512"))
        self.assertEqual(9, self.output(row, "mistral-large-2512", datetime(2027, 1, 1, tzinfo=UTC)))

    def test_not_yet(self) -> None:
        """
        Before its first day a model has no price.
        """
        row = {"x": {"from": datetime(2027, 1, 1, tzinfo=UTC), "output_per_million": 9}}
        self.assertIsNone(self.output(row, "x"))

    def test_factor(self) -> None:
        """
        A factor multiplies our own list, as it is shown and as it costs, and leaves the operator's rows alone.
        """
        overrides = {"factor": 1.1, "x": {"output_per_million": 3}}
        self.assertEqual([1.65, 3], [self.output(overrides, model) for model in ("mistral-large-2512", "x")])
        self.assertEqual(1_650_000, nano(overrides, Usage(completion_tokens=1000), "mistral-large-2512"))

    def test_many_names(self) -> None:
        """
        Names that callers make up do not fill the memory.
        """
        prices = PriceList.load({})
        for nth in range(10_000):
            prices.find(f"made-up-{nth}", NOW)
        self.assertLess(len(prices._found), 5_000)

    def test_ceiling(self) -> None:
        """
        The context of a model is known where somebody says it.
        """
        prices = PriceList.load({})
        models = ("mistral-small-latest", "mistral-ocr-latest", "made-up")
        self.assertEqual([262_144, None, None], [prices.ceiling(model, NOW) for model in models])


class NameTests(SynchronousTestCase):
    """
    ``PriceList.name`` and ``names``.
    """

    def test_ours(self) -> None:
        """
        Our list is called by its day, without a digest.
        """
        self.assertRegex(PriceList.load({}).name, r"\A20[0-9]{2}-[0-9]{2}-[0-9]{2}\Z")

    def test_operators(self) -> None:
        """
        Other rows make another name, the same rows the same one, in whatever order.
        """
        one, other = {"output_per_million": 1}, {"output_per_million": 2}
        named = PriceList.load({"x": one, "y": other}).name
        self.assertRegex(named, r"\A[0-9-]{10}\+[0-9a-f]{8}\Z")
        self.assertEqual(named, PriceList.load({"y": other, "x": one}).name)
        self.assertNotEqual(named, PriceList.load({"x": one, "y": one}).name)

    def test_names(self) -> None:
        """
        All rows are told, those of operators too, each once.
        """
        ours = PriceList.load({}).names
        row = {"output_per_million": 1}
        theirs = PriceList.load({"x": row, "ft:*": row, "*": row, "mistral-embed": row}).names
        self.assertEqual({"x", "ft:*", "*"}, set(theirs) - set(ours))
        self.assertEqual(sorted(set(theirs)), theirs)


class ShippedTests(SynchronousTestCase):
    """
    ``dheera/prices.toml``.
    """

    def test_all_have_prices(self) -> None:
        """
        Every row leads to a price today, with a source, and a context where it is priced by tokens.
        """
        prices = PriceList.load({})
        self.assertGreater(len(prices.names), 80)
        for name in prices.names:
            price = prices.find(name, NOW)
            assert price is not None, name
            self.assertTrue(price.is_ours and price.source, name)
            self.assertEqual("input_per_million" in price.usd, price.context_tokens is not None, name)

    def test_demo(self) -> None:
        """
        Every model that the demo lists has a price for what it is listed for.
        """
        prices = PriceList.load({})
        for name, card in CARDS.items():
            price = prices.find(name, NOW)
            assert price is not None, name
            needed = {field for ability, field in PRICED_BY.items() if card["capabilities"][ability]}
            self.assertLessEqual(needed or {"input_per_million"}, price.usd.keys(), name)

    def test_cached_is_a_tenth(self) -> None:
        """
        Where nothing else is said cached tokens cost a tenth, as Mistral's documentation has it.
        """
        self.assertEqual(1_000, nano({}, Usage(prompt_tokens=20, cached_tokens=20), "mistral-large-2512"))
        self.assertEqual(140, nano({}, Usage(prompt_tokens=20, cached_tokens=20), "deepseek-v4-1-flash-1017"))
