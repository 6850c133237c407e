"""
Every way in which upstream says what was used.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.metering.quantities import MOST, MOST_CONNECTORS, added, usage_of
from dheera.usage import Usage
from tests.metering import shapes

PLAIN = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
NUMBERS = [name for name in Usage.__struct_fields__ if name != "connectors"]


def usages() -> st.SearchStrategy[Usage]:
    """
    Any sane usage.
    """
    numbers = st.integers(0, MOST)
    connectors = st.dictionaries(st.sampled_from("abc"), numbers)
    return st.builds(Usage, connectors=connectors, **dict.fromkeys(NUMBERS, numbers))


class ShapeTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """
        Tokens of the input and of the output, and in all.
        """
        self.assertEqual(Usage(prompt_tokens=20, completion_tokens=5, total_tokens=25), usage_of(PLAIN))

    def test_cached(self) -> None:
        """
        Cached tokens have three spellings, and a fourth in responses; the first that is not null counts.
        """
        spellings: list[dict[str, Any]] = [
            {"prompt_tokens_details": {"cached_tokens": 8}},
            {"num_cached_tokens": 8},
            {"prompt_token_details": {"cached_tokens": 8}},
            {"input_tokens_details": {"cached_tokens": 8}},
            {"prompt_tokens_details": {"cached_tokens": 8}, "num_cached_tokens": 9},
            {"prompt_tokens_details": None, "num_cached_tokens": 8, "prompt_token_details": {"cached_tokens": 9}},
            {"prompt_tokens_details": {"cached_tokens": None}, "prompt_token_details": {"cached_tokens": 8}},
        ]
        wanted = Usage(prompt_tokens=20, cached_tokens=8, completion_tokens=5, total_tokens=25)
        for spelling in spellings:
            self.assertEqual(wanted, usage_of(PLAIN | spelling), spelling)

    def test_cached_zero(self) -> None:
        """
        A zero is a number: what comes after it does not count.
        """
        told = usage_of(PLAIN | {"prompt_tokens_details": {"cached_tokens": 0}, "num_cached_tokens": 9})
        self.assertEqual(Usage(prompt_tokens=20, completion_tokens=5, total_tokens=25), told)

    def test_more_cached_than_sent(self) -> None:
        """
        Cached tokens are never more than those of the input, or a price would be negative; nor those of reasoning
        more than those of the output.
        """
        told = usage_of(PLAIN | {"num_cached_tokens": 99, "completion_tokens_details": {"reasoning_tokens": 99}})
        wanted = Usage(prompt_tokens=20, cached_tokens=20, completion_tokens=5, reasoning_tokens=5, total_tokens=25)
        self.assertEqual(wanted, told)

    def test_reasoning(self) -> None:
        """
        Chats tell the tokens of reasoning too.
        """
        told = usage_of(PLAIN | {"completion_tokens_details": {"reasoning_tokens": 3}})
        self.assertEqual(Usage(prompt_tokens=20, completion_tokens=5, reasoning_tokens=3, total_tokens=25), told)

    def test_responses(self) -> None:
        """
        Responses say input and output.
        """
        self.assertEqual(shapes.RESPONSES_USED, usage_of(shapes.RESPONSES_USAGE))

    def test_transcription(self) -> None:
        """
        Audio is in milliseconds, and the total stays what upstream says, which is more than the sum.
        """
        self.assertEqual(shapes.TRANSCRIPTION_USED, usage_of(shapes.TRANSCRIPTION_USAGE))
        told = usage_of({"prompt_audio_seconds": 1.2345})
        self.assertEqual(Usage(audio_ms=1234), told)

    def test_conversation(self) -> None:
        """
        Connectors put tokens into the input, and are paid by the call.
        """
        self.assertEqual(shapes.CONVERSATION_USED, usage_of(shapes.CONVERSATION_USAGE))
        told = usage_of(PLAIN | {"connector_tokens": None, "connectors": None})
        self.assertEqual(Usage(prompt_tokens=20, completion_tokens=5, total_tokens=25), told)

    def test_strange_connectors(self) -> None:
        """
        Connectors are of a bounded number, with names that can be shown.
        """
        many = {f"c{n}": 1 for n in range(1000)}
        told = usage_of(PLAIN | {"connectors": {"a\n": 2, "b": -1, "c": "1", "": 4} | many})
        assert told is not None
        self.assertEqual(2, told.connectors["a?"])
        self.assertEqual(set(), {"b", "c", ""} & set(told.connectors))
        self.assertLessEqual(len(told.connectors), MOST_CONNECTORS)

    def test_pages(self) -> None:
        """
        Pages cost more if they were annotated, and count as such.
        """
        info = {"pages_processed": 3, "doc_size_bytes": None}
        self.assertEqual(Usage(pages=3), usage_of(None, info))
        self.assertEqual(Usage(annotated_pages=3), usage_of(None, info, annotates=True))
        self.assertEqual(Usage(prompt_tokens=20, completion_tokens=5, total_tokens=25, pages=3), usage_of(PLAIN, info))

    def test_embeddings(self) -> None:
        """
        Embeddings have no output, and may not even mention it.
        """
        wanted = Usage(prompt_tokens=15, total_tokens=15)
        self.assertEqual(wanted, usage_of({"prompt_tokens": 15, "total_tokens": 15, "completion_tokens": 0}))
        self.assertEqual(wanted, usage_of({"prompt_tokens": 15, "total_tokens": 15}))

    def test_zero(self) -> None:
        """
        Nothing used is not the same as nothing told.
        """
        self.assertEqual(Usage(), usage_of(dict.fromkeys(PLAIN, 0)))
        strange: list[Any] = [None, {}, [], 5, "x", {"other": 3}, dict.fromkeys(PLAIN), {"prompt_tokens": "5"}]
        for told in strange:
            self.assertIsNone(usage_of(told), told)

    def test_absurd(self) -> None:
        """
        What can be no number of tokens is as if it were not there.
        """
        for absurd in (-1, 2**53 + 1, 10**400, float("inf"), float("nan"), -0.5, "5", True, [5], {"a": 5}):
            self.assertEqual(
                Usage(completion_tokens=5, total_tokens=25), usage_of(PLAIN | {"prompt_tokens": absurd}), absurd
            )

    def test_fractions(self) -> None:
        """
        Numbers with a point are taken, and a part of a token is one.
        """
        told = usage_of({"prompt_tokens": 20.0, "completion_tokens": 4.5, "total_tokens": 25.0})
        self.assertEqual(Usage(prompt_tokens=20, completion_tokens=5, total_tokens=25), told)


class SumTests(SynchronousTestCase):
    @given(usages(), usages())
    def test_sum(self, one: Usage, other: Usage) -> None:
        """
        Every quantity is added, up to what a number can sanely be.
        """
        both = added(one, other)
        for name in NUMBERS:
            self.assertEqual(min(getattr(one, name) + getattr(other, name), MOST), getattr(both, name))
        for name in "abc":
            calls = one.connectors.get(name, 0) + other.connectors.get(name, 0)
            self.assertEqual(min(calls, MOST), both.connectors.get(name, 0))
