"""
SDKs with a virtual key in place of the real one, and what they make of a key that is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar
from unittest import IsolatedAsyncioTestCase, TestCase

import httpx
import openai
from langchain_mistralai import ChatMistralAI
from mistralai.client import Mistral
from mistralai.client.errors import SDKError
from mistralai.client.models import AudioFormat, UserMessage
from mistralai.extra.exceptions import RealtimeTranscriptionException
from mistralai.extra.realtime import RealtimeTranscription
from openai import OpenAI
from websockets.exceptions import InvalidStatus

from tests.process.bearers import MASTER_KEY, MODEL, master
from tests.process.daemon import ANY_PORT, Daemon

HELLO = [UserMessage(content="Hello")]
QUESTION: Any = [{"role": "user", "content": "Hello"}]
REALTIME_MODEL = "voxtral-mini-transcribe-realtime-latest"
EMBEDDING_MODEL = "mistral-embed"

BLOCKED = "Key is blocked. Ask whoever runs this dheera to unblock it."
NO_MODEL = "is not among the models of this API key"


class Keys:
    """
    A daemon, and its keys.

    :ivar good: may do everything.
    :ivar narrow: may embed, and nothing else.
    :ivar blocked: nothing.
    """

    def __init__(self, daemon: Daemon) -> None:
        chief = master(daemon)
        self.daemon = daemon
        self.good = chief.issue()
        self.narrow = chief.issue(models=[EMBEDDING_MODEL])
        self.blocked = chief.issue(blocked=True)


def demo() -> Daemon:
    """
    The demo, where keys are needed.
    """
    return Daemon("--demo", *ANY_PORT, said={"DHEERA_AI_MASTER_KEY": MASTER_KEY})


class MistralTests(IsolatedAsyncioTestCase):
    """
    ``mistralai``.
    """

    keys: ClassVar[Keys]

    @classmethod
    def setUpClass(cls) -> None:
        cls.keys = Keys(cls.enterClassContext(demo()))

    def client(self, key: str) -> Mistral:
        """
        A client that offers *key*.
        """
        client: Mistral = self.enterContext(Mistral(api_key=key, server_url=self.keys.daemon.mistral))
        return client

    def test_chat(self) -> None:
        """
        The same text at once and in a stream.
        """
        client = self.client(self.keys.good)
        whole = client.chat.complete(model=MODEL, messages=HELLO)
        with client.chat.stream(model=MODEL, messages=HELLO) as stream:
            text = "".join(str(each.data.choices[0].delta.content) for each in stream)
        assert whole.choices[0].message is not None
        self.assertEqual(whole.choices[0].message.content, text)

    def test_listed_model(self) -> None:
        """
        A key with a list of models may use those.
        """
        embedded = self.client(self.keys.narrow).embeddings.create(model=EMBEDDING_MODEL, inputs=["a"])
        self.assertEqual(1, len(embedded.data))

    def test_refused(self) -> None:
        """
        A blocked key, and a model that is not on the list, are the SDK's exceptions, with what dheera said; at once and
        in a stream.
        """
        for key, status, said in (self.keys.blocked, 401, BLOCKED), (self.keys.narrow, 403, NO_MODEL):
            client = self.client(key)
            for call in client.chat.complete, client.chat.stream:
                with self.assertRaises(SDKError) as raised:
                    call(model=MODEL, messages=HELLO)
                self.assertEqual(status, raised.exception.status_code)
                self.assertIn(said, raised.exception.message)
                self.assertEqual("dheera", raised.exception.headers["x-dheera-error-source"])

    async def transcribed(self, key: str) -> list[Any]:
        """
        The events of a realtime session.
        """

        async def audio() -> AsyncIterator[bytes]:
            for _ in range(2):
                yield bytes(16_000)

        async with Mistral(api_key=key, server_url=self.keys.daemon.mistral) as client:
            stream = RealtimeTranscription(client.sdk_configuration).transcribe_stream(
                audio(), model=REALTIME_MODEL, audio_format=AudioFormat(encoding="pcm_s16le", sample_rate=16_000)
            )
            return [each async for each in stream]

    async def test_realtime(self) -> None:
        """
        A realtime session from its beginning to its usage.
        """
        events = await self.transcribed(self.keys.good)
        self.assertEqual("session.created", events[0].type)
        self.assertEqual("transcription.done", events[-1].type)
        self.assertEqual(1, events[-1].usage.prompt_audio_seconds)

    async def test_refused_realtime(self) -> None:
        """
        A blocked key, and a model that is not on the list, begin no session; the SDK tells the status, and keeps what
        dheera said.
        """
        for key, status, said in (self.keys.blocked, 401, BLOCKED), (self.keys.narrow, 403, NO_MODEL):
            with self.assertRaisesRegex(RealtimeTranscriptionException, f"HTTP {status}") as raised:
                await self.transcribed(key)
            cause = raised.exception.__cause__
            assert isinstance(cause, InvalidStatus)
            self.assertIn(said.encode(), cause.response.body)


class OpenAITests(TestCase):
    """
    ``openai``, and ``ChatMistralAI``.
    """

    keys: ClassVar[Keys]

    @classmethod
    def setUpClass(cls) -> None:
        cls.keys = Keys(cls.enterClassContext(demo()))

    def client(self, key: str) -> OpenAI:
        """
        A client that offers *key*.
        """
        return self.enterContext(OpenAI(api_key=key, base_url=self.keys.daemon.mistral + "/v1", max_retries=0))

    def chain(self, key: str) -> Any:
        """
        LangChain's, with *key*.
        """
        settings: Any = {"model_name": MODEL, "api_key": key, "base_url": self.keys.daemon.mistral + "/v1"}
        chat = ChatMistralAI(**settings)
        self.addCleanup(chat.client.close)
        return chat

    def test_chat(self) -> None:
        """
        The same text at once and in a stream.
        """
        completions = self.client(self.keys.good).chat.completions
        whole = completions.create(model=MODEL, messages=QUESTION)
        with completions.create(model=MODEL, messages=QUESTION, stream=True) as stream:
            text = "".join(each.choices[0].delta.content or "" for each in stream)
        self.assertEqual(whole.choices[0].message.content, text)

    def test_refused(self) -> None:
        """
        A blocked key is an ``AuthenticationError``, a model that is not on the list a ``PermissionDeniedError``; the
        message is what dheera said, and the type tells programs which it is.
        """
        completions = self.client(self.keys.blocked).chat.completions
        for stream in False, True:
            with self.assertRaisesRegex(openai.AuthenticationError, f"401 - {BLOCKED}") as refused:
                completions.create(model=MODEL, messages=QUESTION, stream=stream)
            self.assertEqual("auth_error", refused.exception.type)
        completions = self.client(self.keys.narrow).chat.completions
        for stream in False, True:
            with self.assertRaisesRegex(
                openai.PermissionDeniedError, f'403 - The model "{MODEL}" {NO_MODEL}'
            ) as denied:
                completions.create(model=MODEL, messages=QUESTION, stream=stream)
            self.assertEqual(("key_model_access_denied", "model"), (denied.exception.type, denied.exception.param))

    def test_chain(self) -> None:
        """
        With LangChain: the same text, invoked and streamed; refusals are raised with what dheera said.
        """
        chat = self.chain(self.keys.good)
        self.assertEqual(chat.invoke("Hello").content, "".join(str(each.content) for each in chat.stream("Hello")))
        for key, status, said in (self.keys.blocked, 401, BLOCKED), (self.keys.narrow, 403, NO_MODEL):
            chat = self.chain(key)
            for call in chat.invoke, lambda text, chat=chat: [*chat.stream(text)]:
                with self.assertRaises(httpx.HTTPStatusError) as raised:
                    call("Hello")
                self.assertEqual(status, raised.exception.response.status_code)
                self.assertIn(said, str(raised.exception))
