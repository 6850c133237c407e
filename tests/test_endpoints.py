"""
The short names of calls.
"""

from __future__ import annotations

from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from dheera.endpoints import ENDPOINTS, OTHER, PRICED, endpoint_of, is_free

WORDS = st.sampled_from(sorted({word for name in ENDPOINTS for word in name.split("/")} | {"v1", "restart"}))


class EndpointTests(TestCase):
    """
    Names are few, whatever the paths.
    """

    def test_names(self) -> None:
        """
        Each kind of call that costs something has a name of its own; ids in a path are in no name.
        """
        for path, name in (
            ("/v1/chat/completions", "chat/completions"),
            ("/v1/fim/completions", "fim/completions"),
            ("/v1/agents/completions", "agents/completions"),
            ("/v1/agents/ag_1", "agents"),
            ("/v1/chat/moderations", "chat/moderations"),
            ("/v1/embeddings", "embeddings"),
            ("/v1/ocr", "ocr"),
            ("/v1/conversations", "conversations"),
            ("/v1/conversations/conv_1", "conversations"),
            ("/v1/conversations/conv_1/restart", "conversations"),
            ("/v1/audio/transcriptions", "audio/transcriptions"),
            ("/v1/audio/transcriptions/realtime", "audio/transcriptions/realtime"),
            ("/v1/audio/speech", "audio/speech"),
            ("/v1/audio/voices/v_1", "audio"),
            ("/v1/files", "files"),
            ("/v1/files/f_1", "files"),
            ("/v1/files/f_1/content", "files/content"),
            ("/v1/batch/jobs/b_1/cancel", "batch/jobs"),
            ("/v2/prompts/p_1", "prompts"),
            ("/mcp", "mcp"),
            ("/v1/no-such-thing", OTHER),
            ("/v1/chat/completions/more", OTHER),
        ):
            self.assertEqual(name, endpoint_of(path), path)

    @given(st.lists(st.text(alphabet="/abcdefv12.-", max_size=9) | WORDS, max_size=5).map("/".join))
    def test_bounded(self, rest: str) -> None:
        """
        No path makes a name that is not one of a few.
        """
        self.assertIn(endpoint_of("/" + rest), ENDPOINTS)

    def test_each_is_made(self) -> None:
        """
        There is a path for each of them.
        """
        for name in ENDPOINTS:
            path = "/v1/files/f_1/content" if name == "files/content" else f"/v1/{name}"
            self.assertEqual(name, endpoint_of(path))

    def test_free(self) -> None:
        """
        Looking and deleting is free, whatever it is that is looked at, and so is what a batch or a file is made with; a
        call of a model is not, nor a session, and of what nobody knows it is not said.
        """
        self.assertTrue(is_free("libraries", "GET"))
        self.assertTrue(is_free("files", "POST"))
        self.assertTrue(is_free("batch/jobs", "POST"))
        self.assertFalse(is_free("libraries", "POST"))
        self.assertFalse(is_free("fine_tuning", "POST"))
        self.assertFalse(is_free(OTHER, "POST"))
        for endpoint in PRICED:
            self.assertFalse(is_free(endpoint, "POST"))
            self.assertEqual(not endpoint.endswith("/realtime"), is_free(endpoint, "GET"))
