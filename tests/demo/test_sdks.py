"""
The real SDKs, over a real socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from mistralai.client import Mistral
from mistralai.client.models import AudioFormat, TranscriptionStreamDone, TranscriptionStreamTextDelta
from mistralai.extra.realtime import RealtimeTranscription
from openai import OpenAI
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dheera.demo import demo_root
from dheera.wire.limits import ServerLimits
from dheera.wire.server import Server

USER = "Hello"


class TestSdks(TestCase):
    """
    One session of each SDK; the answers' details are tested in memory.
    """

    timeout = 60

    def setUp(self) -> None:
        """
        A demo on a free port.
        """
        from twisted.internet import reactor

        loop: Any = reactor
        server = Server(loop, demo_root(loop), ServerLimits())
        port = loop.listenTCP(0, server, interface="127.0.0.1")
        self.addCleanup(server.drain)
        self.addCleanup(port.stopListening)
        self.url = f"http://127.0.0.1:{port.getHost().port}"

    async def in_thread(self, check: Callable[[], None]) -> None:
        """
        The SDKs block: they run beside the reactor.
        """
        await deferToThread(check)

    async def test_mistral(self) -> None:
        """
        What people try first with ``mistralai``.
        """
        await self.in_thread(self._mistral)

    def _mistral(self) -> None:
        with Mistral(api_key="anything", server_url=self.url) as client:
            messages: Any = [{"role": "user", "content": USER}]
            assert len(client.models.list().data or []) > 20
            assert client.models.retrieve(model_id="mistral-large-latest") is not None
            whole = client.chat.complete(model="mistral-small-latest", messages=messages)
            assert "demo" in str(whole.choices[0].message)
            with client.chat.stream(model="mistral-small-latest", messages=messages) as stream:
                chunks = list(stream)
            usage = chunks[-1].data.usage
            assert usage is not None
            assert usage.total_tokens == whole.usage.total_tokens
            with client.fim.stream(model="codestral-latest", prompt="def f():") as stream:
                assert list(stream)[-1].data.usage is not None
            assert client.agents.complete(agent_id="ag", messages=messages).choices
            talk = client.beta.conversations.start(model="mistral-small-latest", inputs=USER)
            with client.beta.conversations.append_stream(conversation_id=talk.conversation_id, inputs="And?") as named:
                assert [*named][-1].event == "conversation.response.done"
            embedded = client.embeddings.create(model="mistral-embed", inputs=["a", "b"])
            assert len(embedded.data) == 2
            document: Any = {"type": "image_url", "image_url": "https://example.org/a.png"}
            read = client.ocr.process(model="mistral-ocr-latest", document=document)
            assert read.usage_info.pages_processed == 1
            file = client.files.upload(file={"file_name": "a.jsonl", "content": b"{}\n"}, purpose="batch")
            assert client.files.download(file_id=file.id).read() == b"{}\n"
            assert client.files.delete(file_id=file.id).deleted
            sound: Any = {"file_name": "a.wav", "content": bytes(9)}
            heard = client.audio.transcriptions.complete(model="voxtral-mini-latest", file=sound)
            assert heard.usage.prompt_audio_seconds == 1
            with client.audio.transcriptions.stream(model="voxtral-mini-latest", file=sound) as events:
                assert [*events][-1].event == "transcription.done"

    async def test_openai(self) -> None:
        """
        What people try first with ``openai``.
        """
        await self.in_thread(self._openai)

    def _openai(self) -> None:
        with OpenAI(api_key="anything", base_url=self.url + "/v1", max_retries=0) as client:
            assert len(client.models.list().data) > 20
            messages: Any = [{"role": "user", "content": USER}]
            model = "mistral-small-latest"
            whole = client.chat.completions.create(model=model, messages=messages)
            assert whole.usage is not None
            chunks: Any = [*client.chat.completions.create(model=model, messages=messages, stream=True)]
            assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
            vectors = client.embeddings.create(model="mistral-embed", input="a")
            assert len(vectors.data[0].embedding) == 1024
            with client.responses.stream(model=model, input=USER) as events:
                assert [*events][-1].type == "response.completed"
                assert "demo" in events.get_final_response().output_text
            file = client.files.create(file=("a.jsonl", b"{}\n"), purpose="batch")
            assert client.files.content(file.id).read() == b"{}\n"
            heard: Any = client.audio.transcriptions.create(model="voxtral-mini-latest", file=("a.wav", bytes(9)))
            assert "demo" in heard.text

    async def test_realtime(self) -> None:
        """
        The realtime client of ``mistralai`` hears a word for each piece, and the usage at the end.
        """
        await self.in_thread(lambda: asyncio.run(self._realtime()))

    async def _realtime(self) -> None:
        client = Mistral(api_key="anything", server_url=self.url)
        realtime = RealtimeTranscription(client.sdk_configuration)

        async def audio() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield bytes(3200)

        events = [
            event
            async for event in realtime.transcribe_stream(
                audio(),
                model="voxtral-mini-transcribe-realtime-latest",
                audio_format=AudioFormat(encoding="pcm_s16le", sample_rate=16000),
            )
        ]
        words = [event for event in events if isinstance(event, TranscriptionStreamTextDelta)]
        assert len(words) == 3
        assert isinstance(events[-1], TranscriptionStreamDone)
