"""
Calls of each kind through the demo, with Mistral's own SDK: what they used and cost is in the ledger, on
``/spend/logs``, on ``/metrics`` and in each sink.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from unittest import TestCase

from mistralai.client import Mistral
from mistralai.client.models import AudioFormat, BatchRequest, File, UserMessage
from mistralai.extra.realtime import RealtimeTranscription

from dheera.money import NANO
from tests.process import databases
from tests.process.bearers import MASTER_KEY, Bearer, master
from tests.process.daemon import ANY_PORT, Daemon, environment, eventually
from tests.process.receivers import Receiver
from tests.process.witnesses import SETTINGS, Witnesses

# Names with a date in them: what they cost does not depend on the day of the test. In nano-dollars.
CHAT, PROMPT, COMPLETION = "mistral-small-2603", 150, 600
EMBED, EMBEDDED = "mistral-embed-2312", 100
OCR, PAGE, ANNOTATED_PAGE = "mistral-ocr-2512", 2_000_000, 3_000_000
HEAR, HEARD_MS = "voxtral-mini-2602", 50
REALTIME, REALTIME_MS = "voxtral-mini-transcribe-realtime-2602", 100
SPEAK, SPOKEN = "voxtral-mini-tts-2603", 16_000

END_USER = {"x-dheera-end-user": "eva"}
HELLO = [UserMessage(content="Hello")]
WAV = File(file_name="a.wav", content=bytes(64_000))
DOCUMENT: Any = {"type": "document_url", "document_url": "https://example.com/a.pdf"}


def price(usage: Any) -> int:
    """
    What a chat costs.
    """
    return int(PROMPT * usage.prompt_tokens + COMPLETION * usage.completion_tokens)


class DoneWhen(TestCase):
    """
    A daemon with a master key, a database, a file sink and a webhook sink. Each test has a key of its own.
    """

    daemon: ClassVar[Daemon]
    witnesses: ClassVar[Witnesses]

    @classmethod
    def begin(cls, url: str) -> None:
        """
        Start it on the database at *url*.
        """
        file = Path(cls.enterClassContext(TemporaryDirectory()), "calls.jsonl")
        receiver = cls.enterClassContext(Receiver())
        cls.enterClassContext(receiver.on())
        settings = SETTINGS.format(path=file, url=receiver.url, content="meta")
        said = {"DHEERA_AI_MASTER_KEY": MASTER_KEY, "DATABASE_URL": url}
        cls.daemon = cls.enterClassContext(Daemon("--demo", *ANY_PORT, settings=settings, said=said))
        cls.witnesses = Witnesses(daemon=cls.daemon, database=url, file=file, receiver=receiver)

    def setUp(self) -> None:
        self.alias = self.id().rpartition(".")[2]
        self.bearer = Bearer(self.daemon, master(self.daemon).issue(key_alias=self.alias))
        self.client = self.enterContext(Mistral(api_key=self.bearer.key, server_url=self.daemon.mistral))

    def assert_told(self, endpoint: str, model: str, cost: int, **usage: int) -> dict[str, Any]:
        """
        Assert that all who are told of the call say this; so does the key's own page, and so do the metrics.
        """
        record = self.witnesses.heard(self.alias, endpoint)
        self.assertEqual(
            (200, False, cost), (record["status"], record.get("estimated", False), record["cost_nano_usd"])
        )
        self.assertIn(record["outcome"], ("complete",))
        self.assertEqual(model, record.get("answered_model") or record["model"])
        self.assertEqual("eva", record["end_user"])
        self.assertEqual(usage, {name: record["usage"].get(name) for name in usage})
        own = self.bearer.look("/usage")
        self.assertEqual(cost, round(own["spend"] * NANO))
        self.assertEqual(cost, round(own["today"]["spend"] * NANO))
        of = {"key": self.alias, "model": model}
        self.assertAlmostEqual(cost / NANO, self.witnesses.counted("cost_usd_total", **of), places=9)
        self.assertEqual(1.0, self.witnesses.counted("requests_total", endpoint=endpoint, status="200", **of))
        for kind in "prompt", "completion":
            tokens = record["usage"].get(f"{kind}_tokens", 0)
            self.assertEqual(tokens, self.witnesses.counted("tokens_total", kind=kind, **of))
        return record


class ChatTests(DoneWhen):
    """
    Chats, on PostgreSQL.
    """

    @classmethod
    def setUpClass(cls) -> None:
        cls.begin(cls.enterClassContext(databases.postgres()))

    def test_json(self) -> None:
        """
        A chat that is answered at once. The end user is in its body.
        """
        whole = self.client.chat.complete(model=CHAT, messages=HELLO, metadata={"user_id": "eva"}, temperature=0.5)
        used = whole.usage
        record = self.assert_told(
            "chat/completions",
            CHAT,
            price(used),
            prompt_tokens=used.prompt_tokens or 0,
            completion_tokens=used.completion_tokens or 0,
            total_tokens=used.total_tokens or 0,
        )
        self.assertEqual({"temperature": 0.5}, {"temperature": record["parameters"]["temperature"]})

    def test_sse(self) -> None:
        """
        A chat in events.
        """
        with self.client.chat.stream(model=CHAT, messages=HELLO, http_headers=END_USER) as stream:
            used = [each.data for each in stream][-1].usage
        assert used is not None
        record = self.assert_told(
            "chat/completions",
            CHAT,
            price(used),
            prompt_tokens=used.prompt_tokens or 0,
            total_tokens=used.total_tokens or 0,
        )
        self.assertTrue(record["is_stream"])
        self.assertGreater(record["events"], 3)

    def test_sse_to_its_end(self) -> None:
        """
        The same for a client that reads all there is.
        """
        messages = [{"role": "user", "content": "Hello"}]
        body = {"model": CHAT, "messages": messages, "stream": True, "user": "eva"}
        content = self.bearer.ask("POST", "/mistral/v1/chat/completions", body).content
        *_, last, done = content.split(b"\n\n")[:-1]
        self.assertEqual(b"data: [DONE]", done)
        usage = json.loads(last.removeprefix(b"data: "))["usage"]
        cost = PROMPT * usage["prompt_tokens"] + COMPLETION * usage["completion_tokens"]
        record = self.assert_told("chat/completions", CHAT, cost, total_tokens=usage["total_tokens"])
        self.assertEqual("complete", record["outcome"])

    def test_header_lines(self) -> None:
        """
        Who asks is told what a call cost, where that is known before the answer goes out; what the key has spent; and
        what dheera itself took of the time.
        """
        body: dict[str, Any] = {"model": CHAT, "messages": [{"role": "user", "content": "Hello"}], "user": "eva"}
        first = self.bearer.ask("POST", "/mistral/v1/chat/completions", body)
        usage = first.document["usage"]
        cost = PROMPT * usage["prompt_tokens"] + COMPLETION * usage["completion_tokens"]
        self.assertEqual(cost, round(float(first.fields["x-dheera-response-cost"]) * NANO))
        self.assertEqual("0", first.fields["x-dheera-key-spend"])
        self.assertGreater(float(first.fields["x-dheera-overhead-ms"]), 0)
        self.assert_told("chat/completions", CHAT, cost, total_tokens=usage["total_tokens"])
        streamed = self.bearer.ask("POST", "/mistral/v1/chat/completions", {**body, "stream": True})
        self.assertNotIn("x-dheera-response-cost", streamed.fields)
        self.assertEqual(cost, round(float(streamed.fields["x-dheera-key-spend"]) * NANO))

    def test_spend(self) -> None:
        """
        ``dheera_ai spend`` tells the same, as a table, as CSV and as JSON.
        """
        used = self.client.chat.complete(model=CHAT, messages=HELLO, http_headers=END_USER).usage
        self.assert_told("chat/completions", CHAT, price(used))
        dollars = format(price(used) / NANO, ".7f")
        said = environment({"DHEERA_AI_MASTER_KEY": MASTER_KEY, "DHEERA_AI_URL": self.daemon.url})

        def run(*words: str) -> str:
            command = ["dheera_ai", "spend", *words, "--key", self.alias]
            done = subprocess.run(command, env=said, capture_output=True, text=True, check=True)
            return done.stdout

        table, sheet = run("--by", "end-user"), run("--by", "end-user", "--csv")
        self.assertRegex(table, rf"(?m)^eva +1 .* {dollars}$")
        self.assertRegex(table, r"(?m)^TOTAL +1 ")
        self.assertEqual(["eva", "1"], sheet.splitlines()[1].split(",")[:2])
        self.assertEqual(price(used), round(json.loads(run("--json"))["totals"]["spend"] * NANO))
        self.assertIn(CHAT, run("logs"))

    def test_unknown_model(self) -> None:
        """
        A model without a price has no cost, not 0; that is counted.
        """
        self.client.chat.complete(model="ft:open-mistral-7b:me:1", messages=HELLO)
        record = self.witnesses.heard(self.alias, "chat/completions")
        self.assertNotIn("cost_nano_usd", record)
        self.assertGreater(record["usage"]["total_tokens"], 0)
        self.assertGreaterEqual(self.witnesses.counted("unpriced_requests_total", model="other"), 1)
        today = self.bearer.look("/usage")["today"]
        self.assertEqual((1, 1, None), (today["requests"], today["unpriced_requests"], today["spend"]))


class KindTests(DoneWhen):
    """
    Calls of other kinds, on SQLite.
    """

    @classmethod
    def setUpClass(cls) -> None:
        cls.begin(cls.enterClassContext(databases.sqlite()))

    def test_embeddings(self) -> None:
        """
        Embeddings, by the token of input.
        """
        used = self.client.embeddings.create(model=EMBED, inputs=["a b c", "d"], http_headers=END_USER).usage
        tokens = used.prompt_tokens or 0
        self.assertGreater(tokens, 0)
        self.assert_told("embeddings", EMBED, EMBEDDED * tokens, prompt_tokens=tokens)

    def test_ocr(self) -> None:
        """
        OCR, by the page.
        """
        self.client.ocr.process(model=OCR, document=DOCUMENT, http_headers=END_USER)
        self.assert_told("ocr", OCR, PAGE, pages=1)

    def test_annotated_ocr(self) -> None:
        """
        A page that is annotated costs more, which only the request tells.
        """
        form: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
        self.client.ocr.process(model=OCR, document=DOCUMENT, document_annotation_format=form, http_headers=END_USER)
        self.assert_told("ocr", OCR, ANNOTATED_PAGE, annotated_pages=1)

    def test_transcription(self) -> None:
        """
        A recording, by its length.
        """
        self.client.audio.transcriptions.complete(model=HEAR, file=WAV, http_headers=END_USER)
        self.assert_told("audio/transcriptions", HEAR, 2000 * HEARD_MS, audio_ms=2000)

    def test_transcription_stream(self) -> None:
        """
        The same in events.
        """
        with self.client.audio.transcriptions.stream(model=HEAR, file=WAV, http_headers=END_USER) as stream:
            list(stream)
        record = self.assert_told("audio/transcriptions", HEAR, 2000 * HEARD_MS, audio_ms=2000)
        self.assertTrue(record["is_stream"])

    def test_speech(self) -> None:
        """
        Speech, by the character, which only the request tells.
        """
        self.client.audio.speech.complete(model=SPEAK, input="Hello there", http_headers=END_USER)
        self.assert_told("audio/speech", SPEAK, len("Hello there") * SPOKEN, characters=len("Hello there"))

    def test_conversation(self) -> None:
        """
        A conversation.
        """
        used = self.client.beta.conversations.start(model=CHAT, inputs="Hello", http_headers=END_USER).usage
        self.assert_told("conversations", CHAT, price(used), prompt_tokens=used.prompt_tokens or 0)

    def test_conversation_stream(self) -> None:
        """
        A conversation in events that have names.
        """
        with self.client.beta.conversations.start_stream(model=CHAT, inputs="Hello", http_headers=END_USER) as stream:
            last: Any = [each.data for each in stream][-1]
        self.assert_told("conversations", CHAT, price(last.usage), total_tokens=last.usage.total_tokens)

    def test_realtime(self) -> None:
        """
        A realtime session over a WebSocket, by the length of what was heard.
        """

        async def audio() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield bytes(16_000)

        async def listen() -> None:
            async with Mistral(api_key=self.bearer.key, server_url=self.daemon.mistral) as client:
                form = AudioFormat(encoding="pcm_s16le", sample_rate=16_000)
                realtime = RealtimeTranscription(client.sdk_configuration)
                async for _ in realtime.transcribe_stream(
                    audio(), model=REALTIME, audio_format=form, http_headers=END_USER
                ):
                    pass

        asyncio.run(listen())
        record = self.witnesses.heard(self.alias, "audio/transcriptions/realtime")
        self.assertEqual((2000, 2000 * REALTIME_MS), (record["usage"]["audio_ms"], record["cost_nano_usd"]))
        self.assertEqual(("eva", 101, "complete"), (record["end_user"], record["status"], record["outcome"]))

    def test_batch(self) -> None:
        """
        A batch costs half, is billed when its output is fetched, and once, however often that is done.
        """
        body = {"messages": [{"role": "user", "content": "Hello"}]}
        requests = [BatchRequest(custom_id=str(number), body=body) for number in range(3)]
        jobs = self.client.batch.jobs
        job = jobs.create(endpoint="/v1/chat/completions", model=CHAT, requests=requests)
        eventually(lambda: jobs.get(job_id=job.id).status == "SUCCESS", "the batch is done")
        output = jobs.get(job_id=job.id).output_file
        assert output is not None
        content = self.client.files.download(file_id=output, http_headers=END_USER).read()
        usages = [json.loads(line)["response"]["body"]["usage"] for line in content.splitlines()]
        cost = sum(PROMPT * each["prompt_tokens"] + COMPLETION * each["completion_tokens"] for each in usages) // 2
        record = self.witnesses.heard(self.alias, "files/content")
        self.assertEqual(
            (cost, sum(each["total_tokens"] for each in usages)),
            (record["cost_nano_usd"], record["usage"]["total_tokens"]),
        )
        self.client.files.download(file_id=output).read()
        lines = f"/spend/logs?key_alias={self.alias}&endpoint=files/content"
        eventually(lambda: len(self.witnesses.chief.look(lines)) == 2, "the other download is in the ledger")
        self.assertEqual(cost, round(self.bearer.look("/usage")["spend"] * NANO))

    def test_refusal_by_upstream(self) -> None:
        """
        What upstream refuses costs nothing, and is in all places.
        """
        told = self.bearer.ask("POST", "/mistral/v1/chat/completions", {"model": "no-such-model", "messages": []})
        self.assertGreaterEqual(told.status, 400)
        record = self.witnesses.heard(self.alias, "chat/completions")
        self.assertEqual((told.status, 0), (record["status"], record["cost_nano_usd"]))
        self.assertEqual(1, self.bearer.look("/usage")["today"]["failed_requests"])
