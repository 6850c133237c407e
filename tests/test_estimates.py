"""
What calls are taken to have used when nobody said.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.estimates import estimated
from dheera.usage import Usage, Wanted

SIZES = st.integers(0, 2**30)
TOKEN_ENDPOINTS = ("chat/completions", "fim/completions", "agents/completions", "conversations", "responses")


def estimate(
    endpoint: str = "chat/completions",
    *,
    size: int | None = 401,
    events: int = 7,
    ceiling: int | None = None,
    characters: int = 0,
) -> Usage | None:
    """
    The estimate of a call.
    """
    wanted = Wanted(model="m", characters=characters)
    return estimated(wanted, endpoint, size, events, ceiling=ceiling)


class EstimateTests(SynchronousTestCase):
    """
    ``estimated``.
    """

    def test_tokens(self) -> None:
        """
        Four bytes of a request are a token, a part of four too; an event of an answer is one.
        """
        for endpoint in TOKEN_ENDPOINTS:
            self.assertEqual(Usage(prompt_tokens=101, completion_tokens=7, total_tokens=108), estimate(endpoint))

    def test_nothing_came(self) -> None:
        """
        A client that left before anything came pays for the prompt, which upstream may have read.
        """
        self.assertEqual(Usage(prompt_tokens=101, total_tokens=101), estimate(events=0))

    def test_read_only(self) -> None:
        """
        An embedding has no output.
        """
        self.assertEqual(Usage(prompt_tokens=101, total_tokens=101), estimate("embeddings"))

    def test_speech(self) -> None:
        """
        Speech costs the characters that were to be spoken; without any there is nothing to go by.
        """
        self.assertEqual(Usage(characters=12), estimate("audio/speech", characters=12, size=None))
        self.assertIsNone(estimate("audio/speech"))

    def test_unknown_size(self) -> None:
        """
        How many pages or minutes there were cannot be told from bytes, nor anything where the bytes are not known.
        """
        for endpoint in ("ocr", "audio/transcriptions", "audio/transcriptions/realtime", "files", "other"):
            self.assertIsNone(estimate(endpoint))
        self.assertIsNone(estimate(size=None))

    @given(SIZES, SIZES, st.none() | st.integers(1, 10**7))
    def test_bounds(self, size: int, more: int, ceiling: int | None) -> None:
        """
        A prompt is never taken for more than fits into the model, nor a larger request for less than a smaller one.
        """
        small, large = estimate(size=size, ceiling=ceiling), estimate(size=size + more, ceiling=ceiling)
        assert small is not None
        assert large is not None
        self.assertLessEqual(small.prompt_tokens, large.prompt_tokens)
        self.assertLessEqual(large.prompt_tokens, size + more)
        if ceiling is not None:
            self.assertLessEqual(large.prompt_tokens, ceiling)
