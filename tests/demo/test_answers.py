"""
Each endpoint answers in the shape that Mistral's own SDK reads.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

from mistralai.client import models
from mistralai.client.types.basemodel import Unset
from pydantic import BaseModel, TypeAdapter
from twisted.trial.unittest import SynchronousTestCase

from dheera.demo.audio import RECORDED_BYTES_PER_SECOND
from dheera.demo.words import tokens
from tests.demo.line import Heard, Standing, form

QUESTION = {"role": "user", "content": "I am going to Paris, what should I see?"}
CHAT: dict[str, Any] = {"model": "mistral-large-latest", "messages": [QUESTION]}


def misread(found: object) -> list[str]:
    """
    Fields that the SDK was sent and could not read: it takes an optional field of a wrong shape for one that is unset.
    """
    if isinstance(found, list):
        return [name for one in found for name in misread(one)]
    if not isinstance(found, BaseModel):
        return []
    wrong = [name for name in found.model_fields_set if isinstance(getattr(found, name), Unset)]
    return wrong + [name for inner in found.model_fields_set for name in misread(getattr(found, inner))]


class Answers(SynchronousTestCase):
    """
    A demo to ask.
    """

    def setUp(self) -> None:
        self.demo = Standing()

    def told(self, path: str, body: object = None) -> Heard:
        """
        The answer to a POST with *body*, or to a GET without.
        """
        heard = self.demo.ask("GET" if body is None else "POST", path, body)
        self.assertEqual(200, heard.status, heard.body)
        return heard

    def fits(self, heard: Heard, shape: type[BaseModel]) -> Any:
        """
        The answer as the SDK reads it.
        """
        self.assertEqual("application/json", heard.field("content-type"))
        found = shape.model_validate_json(heard.body)
        self.assertEqual([], misread(found))
        return found


class TestCompletions(Answers):
    """
    Chat, FIM, agents.
    """

    def test_chat(self) -> None:
        """
        A chat is answered by the model that was asked, says that it is a demo, and counts by the rule of four bytes.
        """
        found = self.fits(self.told("/v1/chat/completions", CHAT), models.ChatCompletionResponse)
        text = found.choices[0].message.content
        self.assertEqual("mistral-large-latest", found.model)
        self.assertIn("demo", text)
        self.assertIn("nothing was sent", text)
        self.assertEqual(tokens(QUESTION["content"]), found.usage.prompt_tokens)
        self.assertEqual(tokens(text), found.usage.completion_tokens)
        self.assertEqual("stop", found.choices[0].finish_reason)

    def test_parts(self) -> None:
        """
        Content may be a list of parts; the text among them counts.
        """
        image = {"type": "image_url", "image_url": "https://example.org/a.png"}
        content = [{"type": "text", "text": "What is it?"}, image]
        body = CHAT | {"messages": [{"role": "user", "content": content}]}
        found = self.fits(self.told("/v1/chat/completions", body), models.ChatCompletionResponse)
        self.assertIn("What is it?", found.choices[0].message.content)
        self.assertEqual(tokens("What is it?"), found.usage.prompt_tokens)

    def test_max_tokens(self) -> None:
        """
        An answer is cut where ``max_tokens`` says, and says so.
        """
        found = self.fits(self.told("/v1/chat/completions", CHAT | {"max_tokens": 3}), models.ChatCompletionResponse)
        self.assertEqual("Hello! This ", found.choices[0].message.content)
        self.assertEqual("length", found.choices[0].finish_reason)
        self.assertEqual(3, found.usage.completion_tokens)

    def test_fim(self) -> None:
        """
        A gap in a program is filled.
        """
        body = {"model": "codestral-latest", "prompt": "def f():", "suffix": "return 1"}
        found = self.fits(self.told("/v1/fim/completions", body), models.FIMCompletionResponse)
        self.assertIn("return 42", found.choices[0].message.content)

    def test_agent(self) -> None:
        """
        An agent answers.
        """
        body = {"agent_id": "ag_1", "messages": [QUESTION]}
        found = self.fits(self.told("/v1/agents/completions", body), models.ChatCompletionResponse)
        self.assertIn("Paris", found.choices[0].message.content)

    def test_responses(self) -> None:
        """
        The Responses API answers with its own kind of usage.
        """
        body = {"model": "mistral-small-latest", "input": "Hello", "instructions": "Be short"}
        found = self.fits(self.told("/v1/responses", body), models.CreateResponseResponse)
        self.assertEqual(tokens("Be short\nHello"), found.usage.input_tokens)
        self.assertIn("demo", found.output[0].content[0].text)

    def test_responses_cut(self) -> None:
        """
        A response that reaches its limit is incomplete.
        """
        body = {"model": "mistral-small-latest", "input": "Hello", "max_output_tokens": 1}
        found = self.fits(self.told("/v1/responses", body), models.CreateResponseResponse)
        self.assertEqual("incomplete", found.status)

    def test_lone_surrogate(self) -> None:
        """
        Half a character comes back as half a character, in valid JSON.
        """
        body = CHAT | {"messages": [{"role": "user", "content": "\ud83d"}]}
        text = self.told("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]
        self.assertIn("\ud83d", text)


class TestConversations(Answers):
    """
    Conversations are remembered.
    """

    def test_whole_life(self) -> None:
        """
        Start, append, look, restart from the first entry, delete.
        """
        body = {"model": "mistral-small-latest", "inputs": "One"}
        first = self.fits(self.told("/v1/conversations", body), models.ConversationResponse)
        path = f"/v1/conversations/{first.conversation_id}"
        second = self.fits(self.told(path, {"inputs": [QUESTION]}), models.ConversationResponse)
        self.assertGreater(second.usage.prompt_tokens, first.usage.prompt_tokens)
        history = self.fits(self.told(path + "/history"), models.ConversationHistory)
        self.assertEqual(4, len(history.entries))
        messages = self.fits(self.told(path + "/messages"), models.ConversationMessages)
        self.assertEqual("One", messages.messages[0].content)
        self.fits(self.told(path), models.ModelConversation)
        again = {"inputs": "Two", "from_entry_id": history.entries[0].id}
        third = self.fits(self.told(path + "/restart", again), models.ConversationResponse)
        self.assertNotEqual(first.conversation_id, third.conversation_id)
        kept = self.fits(self.told(f"/v1/conversations/{third.conversation_id}/history"), models.ConversationHistory)
        self.assertEqual(["One", "Two"], [e.content for e in kept.entries if e.role == "user"])
        self.assertEqual(2, len(self.told("/v1/conversations").json()))
        self.assertEqual(204, self.demo.ask("DELETE", path).status)
        self.assertEqual(404, self.demo.ask("GET", path).status)

    def test_not_stored(self) -> None:
        """
        ``store: false`` is obeyed.
        """
        body = {"model": "mistral-small-latest", "inputs": "One", "store": False}
        name = self.told("/v1/conversations", body).json()["conversation_id"]
        self.assertEqual(404, self.demo.ask("GET", f"/v1/conversations/{name}").status)

    def test_agent(self) -> None:
        """
        A conversation may be with an agent, which can be made, listed, looked at and deleted.
        """
        made = {"model": "mistral-medium-latest", "name": "Guide", "instructions": "Guide me"}
        agent = self.fits(self.told("/v1/agents", made), models.Agent)
        self.assertEqual([agent.id], [one["id"] for one in self.told("/v1/agents").json()])
        self.fits(self.told(f"/v1/agents/{agent.id}"), models.Agent)
        name = self.told("/v1/conversations", {"agent_id": agent.id, "inputs": "Hi"}).json()
        card = self.told(f"/v1/conversations/{name['conversation_id']}")
        self.assertEqual(agent.id, self.fits(card, models.AgentConversation).agent_id)
        self.assertEqual(204, self.demo.ask("DELETE", f"/v1/agents/{agent.id}").status)
        self.assertEqual(404, self.demo.ask("GET", f"/v1/agents/{agent.id}").status)

    def test_restart_from_nowhere(self) -> None:
        """
        An entry that is not of this conversation is not found.
        """
        started = self.told("/v1/conversations", {"model": "mistral-small-latest", "inputs": "One"})
        path = f"/v1/conversations/{started.json()['conversation_id']}/restart"
        heard = self.demo.ask("POST", path, {"inputs": "Two", "from_entry_id": "msg_none"})
        self.assertEqual(404, heard.status)


class TestJudgements(Answers):
    """
    Vectors and verdicts.
    """

    def test_embeddings(self) -> None:
        """
        The same text has the same vector, of length one; other texts have others.
        """
        body = {"model": "mistral-embed", "input": ["a", "b", "a"]}
        found = self.fits(self.told("/v1/embeddings", body), models.EmbeddingResponse)
        one, other, same = (item.embedding for item in found.data)
        self.assertEqual(one, same)
        self.assertNotEqual(one, other)
        self.assertEqual(1024, len(one))
        self.assertAlmostEqual(1.0, sum(number * number for number in one), 4)
        self.assertEqual(3, found.usage.total_tokens)

    def test_packed_embeddings(self) -> None:
        """
        As base64 a vector is the same numbers, as OpenAI's SDK unpacks them.
        """
        body = {"model": "mistral-embed", "input": "a", "output_dimension": 8}
        plain = self.told("/v1/embeddings", body).json()["data"][0]["embedding"]
        packed = self.told("/v1/embeddings", body | {"encoding_format": "base64"}).json()
        numbers = struct.unpack("<8f", base64.b64decode(packed["data"][0]["embedding"]))
        for expected, number in zip(plain, numbers, strict=True):
            self.assertAlmostEqual(expected, number, 6)

    def test_moderation(self) -> None:
        """
        A text that names a category is flagged for it, and for nothing else.
        """
        body = {"model": "mistral-moderation-latest", "input": ["a song", "violence"]}
        found = self.fits(self.told("/v1/moderations", body), models.ModerationResponse)
        flagged = [{k for k, v in result.categories.items() if v} for result in found.results]
        self.assertEqual([set(), {"violence_and_threats"}], flagged)

    def test_chat_moderation(self) -> None:
        """
        One conversation and several are taken.
        """
        for said, count in (([QUESTION], 1), ([[QUESTION], [QUESTION]], 2)):
            body = {"model": "mistral-moderation-latest", "input": said}
            found = self.fits(self.told("/v1/chat/moderations", body), models.ModerationResponse)
            self.assertEqual(count, len(found.results))

    def test_classification(self) -> None:
        """
        Texts and conversations are classified.
        """
        chat = {"messages": [QUESTION]}
        cases: list[tuple[str, object, int]] = [
            ("/v1/classifications", "a", 1),
            ("/v1/classifications", ["a", "b"], 2),
            ("/v1/chat/classifications", chat, 1),
            ("/v1/chat/classifications", [chat, chat], 2),
        ]
        for path, said, count in cases:
            body = {"model": "mistral-moderation-latest", "input": said}
            found = self.fits(self.told(path, body), models.ClassificationResponse)
            self.assertEqual(count, len(found.results))


class TestFiles(Answers):
    """
    Files, documents, recordings, batches.
    """

    def upload(self, name: str, content: bytes, purpose: str = "batch") -> Any:
        heard = self.demo.ask("POST", "/v1/files", *form({"purpose": purpose}, name, content))
        self.assertEqual(200, heard.status, heard.body)
        return self.fits(heard, models.CreateFileResponse)

    def test_whole_life(self) -> None:
        """
        What was uploaded is listed, looked at, downloaded as the same bytes, and deleted.
        """
        content = bytes(range(256)) * 1024
        file = self.upload("a.bin", content, "ocr")
        path = f"/v1/files/{file.id}"
        listed = self.fits(self.told("/v1/files?page=0&page_size=10"), models.ListFilesResponse)
        self.assertEqual([file.id], [one.id for one in listed.data])
        self.assertEqual([], self.told("/v1/files?purpose=batch").json()["data"])
        self.assertEqual(len(content), self.fits(self.told(path), models.GetFileResponse).size_bytes)
        self.fits(self.told(path + "/url"), models.GetSignedURLResponse)
        download = self.told(path + "/content")
        self.assertEqual("application/octet-stream", download.field("content-type"))
        self.assertEqual(content, download.body)
        deleted = self.fits(self.demo.ask("DELETE", path), models.DeleteFileResponse)
        self.assertTrue(deleted.deleted)
        self.assertEqual(404, self.demo.ask("GET", path).status)

    def test_ocr(self) -> None:
        """
        One page is read, whatever the document; its size is told when the document is here.
        """
        file = self.upload("a.pdf", b"x" * 30, "ocr")
        inside = "data:image/png;base64," + base64.b64encode(b"x" * 20).decode()
        cases: list[tuple[dict[str, object], int | None]] = [
            ({"type": "image_url", "image_url": "https://example.org/a.png"}, None),
            ({"type": "image_url", "image_url": {"url": inside}}, 20),
            ({"type": "document_url", "document_url": "https://example.org/a.pdf"}, None),
            ({"type": "file", "file_id": file.id}, 30),
        ]
        for document, size in cases:
            body = {"model": "mistral-ocr-latest", "document": document}
            found = self.fits(self.told("/v1/ocr", body), models.OCRResponse)
            self.assertEqual(1, found.usage_info.pages_processed)
            self.assertEqual(size, found.usage_info.doc_size_bytes)
            self.assertIn("nothing was fetched", found.pages[0].markdown)

    def test_transcription(self) -> None:
        """
        Seconds are counted from the bytes that came, in a form or in a file; the total holds the audio.
        """
        sound = b"\0" * (3 * RECORDED_BYTES_PER_SECOND)
        model = {"model": "voxtral-mini-latest"}
        path = "/v1/audio/transcriptions"
        in_form = self.demo.ask("POST", path, *form(model, "a.wav", sound))
        in_file = self.told(path, model | {"file_id": self.upload("a.wav", sound).id})
        linked = self.told(path, model | {"file_url": "https://example.org/a.mp3", "diarize": True})
        for heard, seconds in ((in_form, 3), (in_file, 3), (linked, 10)):
            found = self.fits(heard, models.TranscriptionResponse)
            self.assertEqual(seconds, found.usage.prompt_audio_seconds)
            parts = found.usage.prompt_tokens + found.usage.completion_tokens
            self.assertGreater(found.usage.total_tokens, parts)
        self.assertEqual(1, len(linked.json()["segments"]))

    def test_speech(self) -> None:
        """
        Text becomes sound that a player knows.
        """
        body = {"model": "voxtral-mini-tts-latest", "input": "Hello", "response_format": "wav"}
        found = self.fits(self.told("/v1/audio/speech", body), models.SpeechResponse)
        self.assertTrue(base64.b64decode(found.audio_data).startswith(b"RIFF"))
        raw = self.told("/v1/audio/speech", body | {"response_format": "pcm"}).json()
        self.assertFalse(base64.b64decode(raw["audio_data"]).startswith(b"RIFF"))

    def test_batch(self) -> None:
        """
        A batch of a file is answered line by line, a bad line for itself, and the answers are a file.
        """
        lines = [
            {"custom_id": "0", "body": {"messages": [QUESTION]}},
            {"custom_id": "1", "body": {"messages": []}},
            {"custom_id": "2"},
        ]
        source = self.upload("in.jsonl", "\n".join(map(json.dumps, lines)).encode())
        body = {
            "input_files": [source.id],
            "endpoint": "/v1/chat/completions",
            "model": "mistral-small-latest",
            "metadata": {"job": "test"},
        }
        created = self.fits(self.told("/v1/batch/jobs", body), models.BatchJob)
        self.assertEqual("QUEUED", created.status)
        self.demo.clock.pump([0.2] + [0] * 10)
        job = self.fits(self.told(f"/v1/batch/jobs/{created.id}"), models.BatchJob)
        self.assertEqual("SUCCESS", job.status)
        self.assertEqual((3, 1, 2), (job.total_requests, job.succeeded_requests, job.failed_requests))
        output = self.told(f"/v1/files/{job.output_file}/content").body
        good, empty, none = map(json.loads, output.splitlines())
        self.assertEqual(["0", "1", "2"], [good["custom_id"], empty["custom_id"], none["custom_id"]])
        self.assertEqual(200, good["response"]["status_code"])
        models.ChatCompletionResponse.model_validate(good["response"]["body"])
        self.assertEqual([422, 422], [x["response"]["status_code"] for x in (empty, none)])
        self.assertEqual(1, self.fits(self.told("/v1/batch/jobs"), models.ListBatchJobsResponse).total)
        gone = self.demo.ask("DELETE", f"/v1/batch/jobs/{job.id}")
        self.fits(gone, models.DeleteBatchJobResponse)

    def test_inline_batch(self) -> None:
        """
        Requests may be inside the call, for each endpoint that takes batches.
        """
        request = {"body": {"input": "a", "model": "mistral-embed"}}
        body = {"requests": [request], "endpoint": "/v1/embeddings"}
        created = self.told("/v1/batch/jobs", body).json()
        self.demo.clock.pump([0.2] + [0] * 5)
        job = self.told(f"/v1/batch/jobs/{created['id']}").json()
        line = json.loads(self.told(f"/v1/files/{job['output_file']}/content").body)
        models.EmbeddingResponse.model_validate(line["response"]["body"])

    def test_cancelled_batch(self) -> None:
        """
        A job that is cancelled before it has begun answers nothing.
        """
        body = {"requests": [{"body": CHAT}], "endpoint": "/v1/chat/completions"}
        created = self.told("/v1/batch/jobs", body).json()
        cancelled = self.demo.ask("POST", f"/v1/batch/jobs/{created['id']}/cancel")
        self.assertEqual("CANCELLED", self.fits(cancelled, models.BatchJob).status)
        self.demo.clock.advance(1)
        job = self.told(f"/v1/batch/jobs/{created['id']}").json()
        self.assertEqual(("CANCELLED", None), (job["status"], job["output_file"]))

    def test_models(self) -> None:
        """
        The models are listed, and each can be looked at, also one that was tuned.
        """
        found = self.fits(self.told("/v1/models"), models.ModelList)
        names = {card.id for card in found.data}
        self.assertIn("mistral-large-latest", names)
        card: TypeAdapter[Any] = TypeAdapter(models.BaseModelCard | models.FTModelCard)
        for name in [*names, "ft%3Aopen-mistral-7b%3Ame"]:
            heard = self.told(f"/v1/models/{name}")
            card.validate_python(heard.json())
        self.assertEqual(404, self.demo.ask("GET", "/v1/models/gpt").status)
