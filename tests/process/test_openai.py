"""
OpenAI's SDK and LangChain, pointed at dheera.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar
from unittest import TestCase

import openai
from langchain_mistralai import ChatMistralAI
from openai import OpenAI

from tests.process.daemon import ANY_PORT, Daemon

MODEL = "mistral-small-latest"
HELLO: Any = [{"role": "user", "content": "Hello"}]
MASTER_KEY = "sk-master"
MEGABYTES = os.urandom(2 << 20)


class OpenAITests(TestCase):
    """
    ``openai`` with ``base_url`` at ``/mistral/v1``.
    """

    client: ClassVar[OpenAI]

    @classmethod
    def setUpClass(cls) -> None:
        daemon = cls.enterClassContext(Daemon("--demo", *ANY_PORT))
        cls.client = cls.enterClassContext(OpenAI(api_key="anything", base_url=daemon.mistral + "/v1", max_retries=0))

    def test_models(self) -> None:
        """
        The models.
        """
        self.assertIn(MODEL, [model.id for model in self.client.models.list()])

    def test_chat(self) -> None:
        """
        The same text at once and in a stream.
        """
        whole = self.client.chat.completions.create(model=MODEL, messages=HELLO)
        with self.client.chat.completions.create(model=MODEL, messages=HELLO, stream=True) as stream:
            chunks = [*stream]
        text = "".join(each.choices[0].delta.content or "" for each in chunks)
        self.assertEqual(whole.choices[0].message.content, text)
        assert whole.usage is not None
        assert chunks[-1].usage is not None
        self.assertEqual(whole.usage.total_tokens, chunks[-1].usage.total_tokens)

    def test_embeddings(self) -> None:
        """
        A vector.
        """
        embedded = self.client.embeddings.create(model="mistral-embed", input="Hello")
        self.assertEqual(1024, len(embedded.data[0].embedding))

    def test_responses(self) -> None:
        """
        A response, at once and in a stream.
        """
        whole = self.client.responses.create(model=MODEL, input="Hello")
        with self.client.responses.stream(model=MODEL, input="Hello") as stream:
            kinds = [each.type for each in stream]
            self.assertEqual(whole.output_text, stream.get_final_response().output_text)
        self.assertEqual("response.completed", kinds[-1])

    def test_files(self) -> None:
        """
        A file comes back byte for byte, until it is deleted.
        """
        file = self.client.files.create(file=("a.bin", MEGABYTES), purpose="batch")
        self.assertEqual(MEGABYTES, self.client.files.content(file.id).read())
        self.assertTrue(self.client.files.delete(file.id).deleted)
        with self.assertRaises(openai.NotFoundError):
            self.client.files.retrieve(file.id)

    def test_transcription(self) -> None:
        """
        A recording is transcribed.
        """
        heard = self.client.audio.transcriptions.create(model="voxtral-mini-latest", file=("a.wav", bytes(32_000)))
        self.assertTrue(heard.text)

    def test_errors(self) -> None:
        """
        Upstream's refusals are the SDK's exceptions.
        """
        with self.assertRaises(openai.BadRequestError) as unknown_model:
            self.client.chat.completions.create(model="no-such-model", messages=HELLO)
        self.assertEqual("invalid_model", unknown_model.exception.type)
        with self.assertRaises(openai.UnprocessableEntityError):
            self.client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=-1)
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("no-such-model")


class OurErrorTests(TestCase):
    """
    What dheera itself refuses.
    """

    def test_wrong_key(self) -> None:
        """
        A wrong key is the SDK's own exception, and it shows what dheera says.
        """
        with (
            Daemon("--demo", *ANY_PORT, said={"DHEERA_AI_MASTER_KEY": MASTER_KEY}) as daemon,
            OpenAI(api_key="sk-nobody", base_url=daemon.mistral + "/v1", max_retries=0) as client,
        ):
            with self.assertRaises(openai.AuthenticationError) as refused:
                client.models.list()
            self.assertIn("This API key is not known here", refused.exception.message)
            self.assertEqual("token_not_found_in_db", refused.exception.type)
            self.assertEqual("401", refused.exception.code)
            self.assertTrue([*client.with_options(api_key=MASTER_KEY).models.list()])

    def test_upstream_unreachable(self) -> None:
        """
        An upstream that cannot be reached is a 502, with upstream's address and no key.
        """
        said = {"MISTRAL_API_BASE": "http://127.0.0.1:9", "MISTRAL_API_KEY": "sk-upstream"}
        with (
            Daemon(*ANY_PORT, said=said) as daemon,
            OpenAI(api_key="anything", base_url=daemon.mistral + "/v1", max_retries=0) as client,
        ):
            with self.assertRaises(openai.InternalServerError) as refused:
                client.models.list()
            self.assertEqual(502, refused.exception.status_code)
            self.assertIn("127.0.0.1:9", refused.exception.message)

    def test_no_upstream_key(self) -> None:
        """
        Without a key for upstream it is a 503 which says what to set.
        """
        with (
            Daemon(*ANY_PORT) as daemon,
            OpenAI(api_key="anything", base_url=daemon.mistral + "/v1", max_retries=0) as client,
        ):
            with self.assertRaises(openai.InternalServerError) as refused:
                client.models.list()
            self.assertEqual(503, refused.exception.status_code)
            self.assertIn("MISTRAL_API_KEY", refused.exception.message)


class LangChainTests(TestCase):
    """
    ``ChatMistralAI``.
    """

    def test_chat(self) -> None:
        """
        The same text, invoked and streamed.
        """
        with Daemon("--demo", *ANY_PORT) as daemon:
            settings: Any = {"model_name": MODEL, "api_key": "anything", "base_url": daemon.mistral + "/v1"}
            chat = ChatMistralAI(**settings)
            try:
                whole = chat.invoke("Hello")
                pieces = [*chat.stream("Hello")]
            finally:
                chat.client.close()
        self.assertEqual(whole.content, "".join(str(each.content) for each in pieces))
        self.assertGreater(len(pieces), 3)
        self.assertTrue(whole.usage_metadata)
