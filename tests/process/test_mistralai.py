"""
Mistral's own SDK, which knows nothing of dheera but its address.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Semaphore
from typing import Any, ClassVar
from unittest import IsolatedAsyncioTestCase, TestCase

import httpx2
import trustme
from mistralai.client import Mistral
from mistralai.client.errors import HTTPValidationError, SDKError
from mistralai.client.models import AudioFormat, BatchRequest, File, UserMessage
from mistralai.extra.realtime import RealtimeSpeech, RealtimeTranscription

from tests.process.daemon import ANY_PORT, PATIENCE_SECONDS, Daemon, in_front_of
from tests.process.peers import STREAM_HEAD, Peer, Upstream, chunk

MODEL = "mistral-small-latest"
HELLO = [UserMessage(content="Hello")]
WAV = File(file_name="a.wav", content=bytes(64_000))
MEGABYTES = os.urandom(3 << 20)
MASTER_KEY = "sk-master"


class CallTests(TestCase):
    """
    The synchronous client, against the demo.
    """

    client: ClassVar[Mistral]

    @classmethod
    def setUpClass(cls) -> None:
        daemon = cls.enterClassContext(Daemon("--demo", *ANY_PORT))
        cls.client = cls.enterClassContext(Mistral(api_key="anything", server_url=daemon.mistral))

    def test_models(self) -> None:
        """
        The models, all and one.
        """
        models: Any = self.client.models.list().data
        self.assertIn(MODEL, [model.id for model in models])
        model: Any = self.client.models.retrieve(model_id=MODEL)
        self.assertEqual(MODEL, model.id)

    def test_chat(self) -> None:
        """
        A chat gives the same text and the same usage whether it comes at once or in a stream.
        """
        whole = self.client.chat.complete(model=MODEL, messages=HELLO)
        with self.client.chat.stream(model=MODEL, messages=HELLO) as stream:
            chunks = [each.data for each in stream]
        assert whole.choices[0].message is not None
        text = "".join(str(each.choices[0].delta.content) for each in chunks)
        self.assertEqual(whole.choices[0].message.content, text)
        self.assertGreater(len(chunks), 3)
        self.assertEqual(whole.usage, chunks[-1].usage)

    def test_fim(self) -> None:
        """
        Fill in the middle, at once and in a stream.
        """
        whole = self.client.fim.complete(model="codestral-latest", prompt="def f(", suffix="return a")
        with self.client.fim.stream(model="codestral-latest", prompt="def f(", suffix="return a") as stream:
            chunks = [each.data for each in stream]
        assert whole.choices[0].message is not None
        text = "".join(str(each.choices[0].delta.content) for each in chunks)
        self.assertEqual(whole.choices[0].message.content, text)

    def test_agents(self) -> None:
        """
        An agent is made, completes, streams, and is deleted.
        """
        agent = self.client.beta.agents.create(model=MODEL, name="Guide")
        self.assertEqual("Guide", self.client.beta.agents.get(agent_id=agent.id).name)
        messages: Any = HELLO
        self.assertTrue(self.client.agents.complete(agent_id=agent.id, messages=messages).choices)
        with self.client.agents.stream(agent_id=agent.id, messages=messages) as stream:
            self.assertIsNotNone([*stream][-1].data.usage)
        self.client.beta.agents.delete(agent_id=agent.id)  # 204
        with self.assertRaises(SDKError) as raised:
            self.client.beta.agents.get(agent_id=agent.id)
        self.assertEqual(404, raised.exception.status_code)

    def test_conversations(self) -> None:
        """
        A conversation is begun, goes on in a stream of named events, and is remembered.
        """
        conversations = self.client.beta.conversations
        begun = conversations.start(model=MODEL, inputs="Hello")
        with conversations.append_stream(conversation_id=begun.conversation_id, inputs="And then?") as stream:
            names = [each.event for each in stream]
        self.assertEqual("conversation.response.started", names[0])
        self.assertEqual("conversation.response.done", names[-1])
        with conversations.start_stream(model=MODEL, inputs="Hello") as stream:
            self.assertEqual("conversation.response.done", [*stream][-1].event)
        history = conversations.get_history(conversation_id=begun.conversation_id)
        self.assertEqual(4, len(history.entries))

    def test_embeddings(self) -> None:
        """
        One vector for each text.
        """
        embedded = self.client.embeddings.create(model="mistral-embed", inputs=["a", "b"])
        self.assertEqual([1024, 1024], [len(each.embedding or []) for each in embedded.data])

    def test_judgements(self) -> None:
        """
        Moderation and classification, of texts and of chats.
        """
        classifiers = self.client.classifiers
        moderated = classifiers.moderate(model="mistral-moderation-latest", inputs=["all about health"])
        assert moderated.results[0].categories is not None
        self.assertTrue(moderated.results[0].categories["health"])
        chat: Any = [{"role": "user", "content": "Hello"}]
        self.assertEqual(1, len(classifiers.moderate_chat(model="mistral-moderation-latest", inputs=chat).results))
        self.assertEqual(1, len(classifiers.classify(model="mistral-moderation-latest", inputs="Hello").results))

    def test_ocr(self) -> None:
        """
        A document that is inside the call, of some megabytes as they are usual there.
        """
        url = "data:application/pdf;base64," + base64.b64encode(MEGABYTES).decode()
        read = self.client.ocr.process(
            model="mistral-ocr-latest", document={"type": "document_url", "document_url": url}
        )
        self.assertEqual(len(MEGABYTES), read.usage_info.doc_size_bytes)

    def test_files(self) -> None:
        """
        A file of some megabytes comes back byte for byte; it is listed until it is deleted.
        """
        files = self.client.files
        file = files.upload(file={"file_name": "å b.bin", "content": MEGABYTES}, purpose="ocr")
        self.assertEqual(len(MEGABYTES), file.size_bytes)
        self.assertIn(file.id, [each.id for each in files.list(purpose="ocr").data])
        self.assertEqual("å b.bin", files.retrieve(file_id=file.id).filename)
        self.assertEqual(MEGABYTES, files.download(file_id=file.id).read())
        self.assertTrue(files.delete(file_id=file.id).deleted)
        with self.assertRaises(SDKError) as raised:
            files.retrieve(file_id=file.id)
        self.assertEqual(404, raised.exception.status_code)

    def test_batch(self) -> None:
        """
        A batch job is made, is listed by repeated query keys, and is cancelled.
        """
        jobs = self.client.batch.jobs
        requests = [BatchRequest(custom_id="1", body={"messages": [{"role": "user", "content": "Hello"}]})]
        job = jobs.create(endpoint="/v1/chat/completions", model=MODEL, requests=requests, metadata={"a": "b"})
        listed = jobs.list(status=["QUEUED", "RUNNING", "SUCCESS"]).data
        self.assertIn(job.id, [each.id for each in listed or []])
        self.assertEqual({"a": "b"}, jobs.get(job_id=job.id).metadata)
        self.assertEqual(job.id, jobs.cancel(job_id=job.id).id)

    def test_transcription(self) -> None:
        """
        A recording is transcribed, at once and in a stream.
        """
        transcriptions = self.client.audio.transcriptions
        whole = transcriptions.complete(model="voxtral-mini-latest", file=WAV)
        self.assertEqual(2, whole.usage.prompt_audio_seconds)
        with transcriptions.stream(model="voxtral-mini-latest", file=WAV) as stream:
            events: list[Any] = [each.data for each in stream]
        self.assertEqual(whole.text, "".join(each.text for each in events if each.type == "transcription.text.delta"))
        self.assertEqual(whole.usage, events[-1].usage)

    def test_speech(self) -> None:
        """
        A text is spoken, at once and in a stream.
        """
        spoken: Any = self.client.audio.speech.complete(input="Hello there", response_format="pcm")
        stream: Any = self.client.audio.speech.complete(input="Hello there", response_format="pcm", stream=True)
        with stream:
            events = [each.data for each in stream]
        heard = b"".join(base64.b64decode(each.audio_data) for each in events if each.type == "speech.audio.delta")
        self.assertEqual(base64.b64decode(spoken.audio_data), heard)
        self.assertEqual("speech.audio.done", events[-1].type)

    def test_errors(self) -> None:
        """
        Upstream's refusals are the exceptions that they would be without us, with upstream's own words.
        """
        with self.assertRaises(SDKError) as unknown_model:
            self.client.chat.complete(model="no-such-model", messages=HELLO)
        self.assertEqual(400, unknown_model.exception.status_code)
        self.assertIn("Invalid model: no-such-model", unknown_model.exception.body)
        with self.assertRaises(HTTPValidationError) as invalid:
            self.client.chat.complete(model=MODEL, messages=HELLO, max_tokens=-1)
        self.assertEqual("greater_than_equal", (invalid.exception.data.detail or [])[0].type)
        with self.assertRaises(SDKError) as no_route:
            self.client.models.archive(model_id="ft:x")
        self.assertEqual(404, no_route.exception.status_code)
        self.assertEqual("upstream", no_route.exception.headers["x-dheera-error-source"])


class AsynchronousTests(IsolatedAsyncioTestCase):
    """
    The asynchronous client and the realtime clients, against the demo.
    """

    daemon: ClassVar[Daemon]

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = cls.enterClassContext(Daemon("--demo", *ANY_PORT))

    async def asyncSetUp(self) -> None:
        self.client = Mistral(api_key="anything", server_url=self.daemon.mistral)
        await self.enterAsyncContext(self.client)

    async def test_chats_at_once(self) -> None:
        """
        Twenty streams at once, each whole.
        """

        async def chat(number: int) -> str:
            messages = [UserMessage(content=f"number {number}")]
            async with await self.client.chat.stream_async(model=MODEL, messages=messages) as stream:
                return "".join([str(each.data.choices[0].delta.content) async for each in stream])

        texts = await asyncio.gather(*(chat(number) for number in range(20)))
        self.assertEqual(20, len(set(texts)))
        for number, text in enumerate(texts):
            self.assertIn(f"number {number}", text)

    async def test_calls(self) -> None:
        """
        A call of each kind.
        """
        models = (await self.client.models.list_async()).data
        self.assertTrue(models)
        self.assertTrue((await self.client.chat.complete_async(model=MODEL, messages=HELLO)).choices)
        file = await self.client.files.upload_async(file={"file_name": "a.bin", "content": MEGABYTES}, purpose="ocr")
        download = await self.client.files.download_async(file_id=file.id)
        self.assertEqual(MEGABYTES, await download.aread())
        await self.client.files.delete_async(file_id=file.id)
        with self.assertRaises(SDKError):
            await self.client.files.retrieve_async(file_id=file.id)

    async def test_realtime_transcription(self) -> None:
        """
        The realtime session: created, updated by the client's settings, text for each piece of audio, and the usage.
        """
        realtime = RealtimeTranscription(self.client.sdk_configuration)

        async def audio() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield bytes(16_000)

        stream = realtime.transcribe_stream(
            audio(),
            model="voxtral-mini-transcribe-realtime-latest",
            audio_format=AudioFormat(encoding="pcm_s16le", sample_rate=16_000),
        )
        events: list[Any] = [each async for each in stream]
        kinds = [each.type for each in events]
        self.assertEqual("session.created", kinds[0])
        self.assertIn("session.updated", kinds)
        self.assertEqual(4, kinds.count("transcription.text.delta"))
        self.assertEqual("transcription.done", kinds[-1])
        self.assertEqual(2, events[-1].usage.prompt_audio_seconds)

    async def test_realtime_speech(self) -> None:
        """
        The other way round: text goes in, audio comes out.
        """
        realtime = RealtimeSpeech(self.client.sdk_configuration)

        async def text() -> AsyncIterator[str]:
            for word in "Good", " ", "morning":
                yield word

        events: list[Any] = [each async for each in realtime.speak_stream(text(), model="voxtral-mini-tts-latest")]
        self.assertTrue(any(each.type == "speech.audio.delta" for each in events))
        self.assertEqual("speech.audio.done", events[-1].type)


class GuardedTests(TestCase):
    """
    With a master key, behind TLS.
    """

    daemon: ClassVar[Daemon]
    trust: ClassVar[ssl.SSLContext]

    @classmethod
    def setUpClass(cls) -> None:
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        authority = trustme.CA()
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        cls.trust = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        settings = f'[listen]\nhost = "127.0.0.1"\nport = 0\ntls_certificate = "{folder / "server.pem"}"\n'
        cls.daemon = cls.enterClassContext(
            Daemon("--demo", settings=settings, said={"DHEERA_AI_MASTER_KEY": MASTER_KEY})
        )

    def client(self, key: str | None) -> Mistral:
        """
        A client that offers *key*.
        """
        http = self.enterContext(httpx2.Client(verify=self.trust))
        client: Mistral = self.enterContext(Mistral(api_key=key, server_url=self.daemon.mistral, client=http))
        return client

    def test_right_key(self) -> None:
        """
        Chats, streams, and uploads of some megabytes.
        """
        self.assertTrue(self.daemon.mistral.startswith("https://"))
        client = self.client(MASTER_KEY)
        self.assertTrue(client.chat.complete(model=MODEL, messages=HELLO).choices)
        with client.chat.stream(model=MODEL, messages=HELLO) as stream:
            self.assertIsNotNone([*stream][-1].data.usage)
        file = client.files.upload(file={"file_name": "a.bin", "content": MEGABYTES}, purpose="ocr")
        self.assertEqual(MEGABYTES, client.files.download(file_id=file.id).read())

    def test_wrong_key(self) -> None:
        """
        Any other key is 401, and the exception tells that dheera refused it and what to do; so is none.
        """
        for key, said in ("sk-nobody", "This API key is not known here"), (None, "No api key passed in"):
            client = self.client(key)
            with self.assertRaises(SDKError) as raised:
                client.chat.complete(model=MODEL, messages=HELLO)
            self.assertEqual(401, raised.exception.status_code)
            self.assertEqual("dheera", raised.exception.headers["x-dheera-error-source"])
            self.assertIn(said, raised.exception.body)

    def test_wrong_key_for_upload(self) -> None:
        """
        Who sends megabytes with a wrong key gets to read the 401 all the same.
        """
        client = self.client("sk-nobody")
        with self.assertRaises(SDKError) as raised:
            client.files.upload(file={"file_name": "a.bin", "content": MEGABYTES}, purpose="ocr")
        self.assertEqual(401, raised.exception.status_code)


class LeavingTests(TestCase):
    """
    A client that leaves in the middle of a stream.
    """

    def test_upstream_is_told(self) -> None:
        """
        The upstream's connection is closed at once, so that it stops generating what nobody reads.
        """
        told = Semaphore(0)
        event = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'

        def script(peer: Peer) -> None:
            peer.message()
            peer.send(STREAM_HEAD + chunk(event))
            peer.gone()
            told.release()

        with (
            Upstream(script) as upstream,
            in_front_of(upstream.url) as daemon,
            Mistral(api_key="anything", server_url=daemon.mistral) as client,
        ):
            with client.chat.stream(model=MODEL, messages=HELLO) as stream:
                self.assertEqual("1", next(iter(stream)).data.id)
            self.assertTrue(told.acquire(timeout=PATIENCE_SECONDS))

    def test_task_is_cancelled(self) -> None:
        """
        So it is when a task that waits for an answer is cancelled before there is any.
        """
        asked, told = Semaphore(0), Semaphore(0)

        def script(peer: Peer) -> None:
            peer.message()
            asked.release()
            peer.gone()
            told.release()

        async def ask_and_leave(url: str) -> None:
            async with Mistral(api_key="anything", server_url=url) as client:
                task = asyncio.create_task(client.chat.complete_async(model=MODEL, messages=HELLO))
                await asyncio.to_thread(asked.acquire, timeout=PATIENCE_SECONDS)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task

        with Upstream(script) as upstream, in_front_of(upstream.url) as daemon:
            asyncio.run(ask_and_leave(daemon.mistral))
            self.assertTrue(told.acquire(timeout=PATIENCE_SECONDS))

    def test_upstream_breaks_off(self) -> None:
        """
        A stream that upstream breaks off raises, it does not just end.
        """
        event = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'

        def script(peer: Peer) -> None:
            peer.message()
            peer.send(STREAM_HEAD + chunk(event))

        with (
            Upstream(script) as upstream,
            in_front_of(upstream.url) as daemon,
            Mistral(api_key="anything", server_url=daemon.mistral) as client,
            client.chat.stream(model=MODEL, messages=HELLO) as stream,
        ):
            with self.assertRaises(httpx2.TransportError):
                list(stream)
            daemon.wait_for_log("in the middle of its answer")
