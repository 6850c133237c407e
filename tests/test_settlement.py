"""
What is due for a call.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest import TestCase

from dheera.prices import PriceList
from dheera.records import Begun
from dheera.settlement import FREE, NOTHING, Deed, Settlement, charged, interrupted, settled
from dheera.usage import Part, Reading, Usage, Wanted

WHEN = datetime(2026, 11, 23, tzinfo=UTC)
PRICES = PriceList.load(
    {
        "a": {"input_per_million": 1, "cached_per_million": 1, "output_per_million": 2},
        "b": {"input_per_million": 10, "output_per_million": 20},
    }
)
MILLION = Usage(prompt_tokens=1_000_000, completion_tokens=1_000_000, total_tokens=2_000_000)
DOLLAR = 1_000_000_000


def deed(**said: Any) -> Deed:
    """
    A chat that was answered with 200, as a whole, of which nothing is known but what is said.
    """
    usual: dict[str, Any] = {
        "endpoint": "chat/completions",
        "method": "POST",
        "path": "/v1/chat/completions",
        "at": WHEN,
        "wanted": Wanted(model="a"),
        "reading": Reading(),
        "request_bytes": 400,
        "status": 200,
        "is_whole": True,
    }
    return Deed(**usual | said)


class ReadTests(TestCase):
    """
    What upstream has said is what counts.
    """

    def test_model_of_the_answer(self) -> None:
        """
        The model that the answer names makes the price.
        """
        due = settled(deed(reading=Reading(model="b", parts=[Part(model="b", usage=MILLION)])), PRICES)
        self.assertEqual((30 * DOLLAR, False, MILLION), (due.cost_nano_usd, due.estimated, due.usage))
        self.assertEqual(PRICES.name, due.price_list)

    def test_model_of_the_request(self) -> None:
        """
        If that has no price, or there is none, the one that was asked for does.
        """
        for model in None, "a-2610-unheard-of":
            due = settled(deed(reading=Reading(model=model, parts=[Part(model=model, usage=MILLION)])), PRICES)
            self.assertEqual((3 * DOLLAR, []), (due.cost_nano_usd, list(due.unpriced)))

    def test_unknown_model(self) -> None:
        """
        Without a price the cost is unknown, and never 0; what has no price is named.
        """
        parts = [Part(model="unheard-of", usage=MILLION)]
        due = settled(deed(wanted=Wanted(model="unheard-of"), reading=Reading(parts=parts)), PRICES)
        self.assertEqual((None, ["unheard-of"]), (due.cost_nano_usd, list(due.unpriced)))

    def test_many_models(self) -> None:
        """
        The output of a batch has a price for each of its models, at half price, and may be billed once only; what has
        no price is named beside the rest.
        """
        parts = [Part(model=model, usage=MILLION, is_batch=True) for model in ("a", "b", "unheard-of")]
        fetched = deed(
            endpoint="files/content",
            method="GET",
            path="/v1/files/f1/content",
            wanted=Wanted(),
            reading=Reading(parts=parts),
        )
        due = settled(fetched, PRICES)
        self.assertEqual((33 * DOLLAR // 2, ["unheard-of"]), (due.cost_nano_usd, list(due.unpriced)))
        self.assertEqual("batch /v1/files/f1/content", due.once)
        self.assertEqual(3_000_000, due.usage.prompt_tokens if due.usage else None)

    def test_half_of_a_batch(self) -> None:
        """
        Who does not fetch all of it pays nothing: who does, will.
        """
        parts = [Part(model="a", usage=MILLION, is_batch=True)]
        due = settled(
            deed(endpoint="files/content", method="GET", reading=Reading(parts=parts), is_whole=False), PRICES
        )
        self.assertEqual((0, None), (due.cost_nano_usd, due.once))

    def test_range_of_a_batch(self) -> None:
        """
        A part that was asked for as such has no price, and does not count as the one time that the whole is billed.
        """
        parts = [Part(model="a", usage=MILLION, is_batch=True)]
        due = settled(deed(endpoint="files/content", method="GET", reading=Reading(parts=parts), status=206), PRICES)
        self.assertEqual((None, None), (due.cost_nano_usd, due.once))


class OtherTests(TestCase):
    """
    Upstreams beside Mistral's.
    """

    def test_free(self) -> None:
        """
        One that is not priced costs nothing, whether it has said what was used, or what it used has no price.
        """
        readings = (
            Reading(parts=[Part(model="a", usage=MILLION)]),
            Reading(parts=[Part(model="unheard-of", usage=MILLION, is_batch=True)]),
            Reading(model="a", events=7),
            Reading(),
        )
        for reading in readings:
            due = settled(deed(reading=reading, upstream="local", priced=False), PRICES)
            self.assertEqual((0, FREE, (), None), (due.cost_nano_usd, due.price_list, due.unpriced, due.once))
            self.assertIs(due, charged(due, 5))

    def test_once(self) -> None:
        """
        Batches of the same name at two upstreams are two.
        """
        reading = Reading(parts=[Part(model="a", usage=MILLION, is_batch=True)])
        said = {"endpoint": "files/content", "method": "GET", "path": "/v1/files/f1/content", "reading": reading}
        self.assertEqual("batch local /v1/files/f1/content", settled(deed(**said, upstream="local"), PRICES).once)


class UnreadTests(TestCase):
    """
    Upstream has not said what was used.
    """

    def test_refused_by_upstream(self) -> None:
        """
        An error costs nothing, and neither does it to be sent elsewhere.
        """
        for status in 304, 307, 400, 401, 429, 500, 503:
            self.assertEqual((0, False), _brief(settled(deed(status=status), PRICES)))

    def test_broken_off(self) -> None:
        """
        A stream without its end is estimated: of the request a token for four bytes, of the answer one for each event.
        """
        due = settled(deed(reading=Reading(model="a", events=7), is_whole=False), PRICES)
        self.assertEqual(Usage(prompt_tokens=100, completion_tokens=7, total_tokens=107), due.usage)
        self.assertEqual((100 * 1000 + 7 * 2000, True), _brief(due))

    def test_error_after_the_status(self) -> None:
        """
        A stream that tells of an error, and of nothing else, costs nothing; one that breaks with an error later is
        estimated.
        """
        self.assertEqual((0, False), _brief(settled(deed(reading=Reading(events=1, error="3505")), PRICES)))
        self.assertTrue(settled(deed(reading=Reading(events=9, error="3505")), PRICES).estimated)

    def test_never_answered(self) -> None:
        """
        A client that left before the answer may have made upstream work: the request is estimated.
        """
        self.assertEqual((100 * 1000, True), _brief(settled(deed(status=None, is_whole=False), PRICES)))

    def test_free(self) -> None:
        """
        What costs nothing by itself is free, and not unknown.
        """
        for endpoint, method in ("models", "GET"), ("files", "POST"), ("libraries", "DELETE"):
            self.assertEqual((0, False), _brief(settled(deed(endpoint=endpoint, method=method), PRICES)))

    def test_unknown(self) -> None:
        """
        What may be billed, and nobody can tell, has no cost.
        """
        for endpoint in "libraries", "workflows", "other", "ocr":
            self.assertEqual((None, False), _brief(settled(deed(endpoint=endpoint), PRICES)))
        self.assertEqual((None, False), _brief(settled(deed(wanted=Wanted()), PRICES)))


class InterruptedTests(TestCase):
    """
    dheera died before the end.
    """

    def test_estimated(self) -> None:
        """
        The record has all that was known at the beginning, and the cost of the request.
        """
        record = interrupted(begun(), PRICES)
        self.assertEqual(("interrupted", 100_000, True), (record.outcome, record.cost_nano_usd, record.estimated))
        self.assertEqual(("1", "k", ["x"], WHEN), (record.call_id, record.key_id, record.tags, record.started_at))
        self.assertIsNone(record.status)

    def test_held(self) -> None:
        """
        What was held for it is what it costs, also where there is no other way to tell; the record says how much it
        was. Where nothing was held it is as if there were no budget.
        """
        for model in "a", "unheard-of":
            record = interrupted(begun(model=model, held_nano_usd=777), PRICES)
            self.assertEqual(
                ("interrupted", 777, True, 777),
                (record.outcome, record.cost_nano_usd, record.estimated, record.held_nano_usd),
            )
        record = interrupted(begun(model="unheard-of", held_nano_usd=0), PRICES)
        self.assertEqual((None, 0), (record.cost_nano_usd, record.held_nano_usd))


class ChargedTests(TestCase):
    """
    Nobody can tell what a call costs.
    """

    def test_hold(self) -> None:
        """
        Then it costs what was held for it, and that is said to be estimated; it is not what may be billed once only.
        """
        due = Settlement(usage=MILLION, price_list="p", unpriced=["x"], once="batch /v1/files/f/content")
        expected = Settlement(usage=MILLION, price_list="p", unpriced=["x"], cost_nano_usd=777, estimated=True)
        self.assertEqual(expected, charged(due, 777))

    def test_told(self) -> None:
        """
        What can be told counts, more than was held or less.
        """
        for due in NOTHING, Settlement(cost_nano_usd=5), Settlement(cost_nano_usd=999, estimated=True):
            for held in None, 0, 777:
                self.assertIs(due, charged(due, held))

    def test_nothing_held(self) -> None:
        """
        Where nothing was held the cost stays unknown, and is never 0.
        """
        for held in None, 0:
            self.assertIsNone(charged(Settlement(price_list="p"), held).cost_nano_usd)


def begun(**said: Any) -> Begun:
    """
    A chat of 400 bytes that has begun.
    """
    usual: dict[str, Any] = {
        "call_id": "1",
        "started_at": WHEN,
        "node": "n",
        "method": "POST",
        "path": "/v1/chat/completions",
        "endpoint": "chat/completions",
        "model": "a",
        "key_alias": "ada",
        "key_id": "k",
        "request_bytes": 400,
        "tags": ["x"],
    }
    return Begun(**usual | said)


def _brief(due: Any) -> tuple[int | None, bool]:
    return due.cost_nano_usd, due.estimated
