"""
SDKs with keys that have limits: what they make of a refusal, when they try again, and what they tell of what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest import TestCase

import httpx
import httpx2
import openai
from langchain_mistralai import ChatMistralAI
from mistralai.client import Mistral
from mistralai.client.errors import SDKError
from mistralai.client.models import UserMessage
from mistralai.client.utils import BackoffStrategy, RetryConfig
from openai import OpenAI

from dheera.money import NANO
from tests.process import callers, databases, ledgers
from tests.process.bearers import MASTER_KEY, MODEL, Bearer, master
from tests.process.daemon import ANY_PORT, Daemon, eventually

QUESTION: Any = [{"role": "user", "content": "Hello"}]
HELLO = [UserMessage(content="Hello")]
MOST = 50
SLOW_SECONDS = 30
"""
That the test may take.
"""
RETRIES = RetryConfig("backoff", BackoffStrategy(100, 1000, 1.5, 20_000), retry_connection_errors=False)


class Sdk(TestCase):
    """
    The demo, with keys that have limits.
    """

    daemon: ClassVar[Daemon]
    chief: ClassVar[Bearer]
    url: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.url = cls.enterClassContext(databases.sqlite())
        said = {"DATABASE_URL": cls.url, "DHEERA_AI_MASTER_KEY": MASTER_KEY}
        cls.daemon = cls.enterClassContext(Daemon("--demo", *ANY_PORT, said=said))
        cls.chief = master(cls.daemon)

    def setUp(self) -> None:
        self.statuses: list[int] = []

    def heard(self, *, at_refusal: Callable[[], None] | None = None) -> httpx2.Client:
        """
        What an SDK calls with; ``statuses`` has what it was answered.

        :param at_refusal: is told of each refusal before the SDK is.
        """

        def hear(response: httpx2.Response) -> None:
            self.statuses.append(response.status_code)
            if response.status_code == 429 and at_refusal is not None:
                at_refusal()

        return self.enterContext(httpx2.Client(event_hooks={"response": [hear]}))

    def openai(self, key: str, *, retries: int = 0, client: httpx2.Client | None = None) -> OpenAI:
        """
        OpenAI's.
        """
        base = self.daemon.mistral + "/v1"
        return self.enterContext(
            OpenAI(api_key=key, base_url=base, max_retries=retries, http_client=client or self.heard())
        )

    def mistral(self, key: str, *, client: httpx2.Client | None = None) -> Mistral:
        """
        Mistral's.
        """
        made: Mistral = self.enterContext(
            Mistral(api_key=key, server_url=self.daemon.mistral, client=client or self.heard())
        )
        return made

    def spent_key(self) -> str:
        """
        A key whose budget is too small for a call.
        """
        return self.chief.issue(max_budget=0.00001)

    def used_key(self) -> str:
        """
        A key that has made its one request of this minute.
        """
        key = self.chief.issue(rpm_limit=1)
        self.assertEqual(200, Bearer(self.daemon, key).chat().status)
        return key

    @contextmanager
    def busy_key(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """
        A key that may make one call at a time, and makes one inside ``with``, or until it is told to end it.
        """
        key = self.chief.issue(max_parallel_requests=1)
        with callers.taking_place(self.daemon, self.url, key) as end:
            yield key, end


class OpenAITests(Sdk):
    """
    ``openai``, and ``ChatMistralAI``.
    """

    def test_refused(self) -> None:
        """
        A refusal is a ``RateLimitError`` whose type tells which it is, in a stream too. The SDK waits by itself for a
        minute at most: of a rate nothing longer is said.
        """
        for key, sort, said in (
            (self.spent_key(), "budget_exceeded", "Budget has been exceeded!"),
            (self.used_key(), "rate_limit_error", "Limit type: requests"),
        ):
            completions = self.openai(key).chat.completions
            for stream in False, True:
                with self.assertRaisesRegex(openai.RateLimitError, said) as refused:
                    completions.create(model=MODEL, messages=QUESTION, max_tokens=MOST, stream=stream)
                self.assertEqual((sort, "429"), (refused.exception.type, refused.exception.code))
                headers = refused.exception.response.headers
                is_short = int(headers["retry-after"]) <= 60 and "x-should-retry" not in headers
                self.assertEqual(sort == "rate_limit_error", is_short)

    def test_not_retried(self) -> None:
        """
        Where waiting does not help, the SDK does not try again, though it would by itself.
        """
        completions = self.openai(self.spent_key(), retries=2).chat.completions
        with self.assertRaises(openai.RateLimitError) as refused:
            completions.create(model=MODEL, messages=QUESTION, max_tokens=MOST)
        self.assertEqual("false", refused.exception.response.headers["x-should-retry"])
        self.assertEqual([429], self.statuses)

    def test_retried(self) -> None:
        """
        Where waiting helps the SDK waits as it is told, and succeeds.
        """
        with self.busy_key() as (key, end):
            completions = self.openai(key, retries=2, client=self.heard(at_refusal=end)).chat.completions
            answer = completions.with_raw_response.create(model=MODEL, messages=QUESTION, max_tokens=MOST)
        self.assertEqual(1, answer.retries_taken)
        self.assertEqual([429, 200], self.statuses)

    def test_stream(self) -> None:
        """
        A stream's usage is what its budget has used when it is over, and what was held beyond it is free again. What is
        left is in the head of each answer.
        """
        key = self.chief.issue(max_budget=1, rpm_limit=9, user_id="streamer")
        completions = self.openai(key).chat.completions
        streamed = completions.with_raw_response.create(
            model=MODEL, messages=QUESTION, max_tokens=MOST, stream=True, stream_options={"include_usage": True}
        )
        self.assertEqual("8", streamed.headers["x-ratelimit-remaining-requests"])
        self.assertEqual("9", streamed.headers["x-ratelimit-limit-requests"])
        self.assertIn("x-ratelimit-remaining-tokens-minute", streamed.headers, "Mistral's own is disturbed")
        with streamed.parse() as stream:
            usage = [each.usage for each in stream][-1]
        assert usage is not None
        cost = 150 * usage.prompt_tokens + 600 * usage.completion_tokens
        [key_id] = self.key_ids("streamer")
        text = f"select used, held from allowances where subject = 'key/{key_id}' and kind = 'usd'"  # noqa: S608 - our own id
        eventually(lambda: ledgers.query(self.url, text) == [(cost, 0)], "what it cost is used, and nothing is held")
        [(spent,)] = ledgers.query(self.url, f"select cost from ledger where key_id = '{key_id}'")  # noqa: S608 - our own id
        self.assertEqual(cost, spent)
        whole = completions.with_raw_response.create(model=MODEL, messages=QUESTION, max_tokens=MOST)
        left = round(float(whole.headers["x-dheera-remaining-budget"]) * NANO)
        used = whole.parse().usage
        assert used is not None
        self.assertEqual(NANO - cost - 150 * used.prompt_tokens - 600 * used.completion_tokens, left)

    def key_ids(self, user: str) -> list[str]:
        """
        The ids of a user's keys.
        """
        return [str(id_) for (id_,) in ledgers.query(self.url, f"select id from keys where user_id = '{user}'")]  # noqa: S608 - our own id

    def test_chain(self) -> None:
        """
        With LangChain a refusal is raised with what dheera said, invoked and streamed.
        """
        settings: Any = {"model_name": MODEL, "api_key": self.spent_key(), "base_url": self.daemon.mistral + "/v1"}
        chat = ChatMistralAI(**settings)
        self.addCleanup(chat.client.close)
        for call in chat.invoke, lambda text: [*chat.stream(text)]:
            with self.assertRaises(httpx.HTTPStatusError) as refused:
                call("Hello")
            self.assertEqual(429, refused.exception.response.status_code)
            self.assertIn("Budget has been exceeded!", str(refused.exception))


class MistralTests(Sdk):
    """
    ``mistralai``.
    """

    def test_refused(self) -> None:
        """
        A refusal is an ``SDKError`` with what dheera said, in a stream too.
        """
        for key, said in (self.spent_key(), "Budget has been exceeded!"), (self.used_key(), "Limit type: requests"):
            client = self.mistral(key)
            for call in client.chat.complete, client.chat.stream:
                with self.assertRaises(SDKError) as refused:
                    call(model=MODEL, messages=HELLO, max_tokens=MOST)
                self.assertEqual(429, refused.exception.status_code)
                self.assertIn(said, refused.exception.message)
                self.assertGreaterEqual(int(refused.exception.headers["retry-after"]), 60 - SLOW_SECONDS)

    def test_retried(self) -> None:
        """
        Told to try again, it waits as it is told, and succeeds; at once and in a stream.
        """
        with self.busy_key() as (key, end):
            client = self.mistral(key, client=self.heard(at_refusal=end))
            self.assertTrue(client.chat.complete(model=MODEL, messages=HELLO, retries=RETRIES).choices)
            self.assertEqual([429, 200], self.statuses)
            with client.chat.stream(model=MODEL, messages=HELLO) as stream:
                self.assertGreater(len([*stream]), 3)
