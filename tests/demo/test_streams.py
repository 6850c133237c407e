"""
Streams: the order of events, their pace, and what ends them.
"""

from __future__ import annotations

import json
from typing import Any

from mistralai.client import models
from twisted.trial.unittest import SynchronousTestCase

from dheera.demo.flows import EVENT_SECONDS, SLICE_BYTES
from tests.demo.line import AUTHORIZATION, Heard, Standing, form, leave
from tests.demo.test_answers import CHAT, misread


class TestStreams(SynchronousTestCase):
    """
    What a client sees that reads to the end.
    """

    def setUp(self) -> None:
        self.demo = Standing()

    def streamed(self, path: str, body: dict[str, Any]) -> list[tuple[str | None, Any]]:
        """
        All events of a stream.
        """
        heard = self.demo.ask("POST", path, body | {"stream": True})
        self.assertEqual(200, heard.status, heard.body)
        self.assertEqual("text/event-stream; charset=utf-8", heard.field("content-type"))
        return heard.events()

    def test_completions(self) -> None:
        """
        Chat, FIM and agents: word by word what the JSON answer says, the usage in the last chunk alone, then the end.
        """
        cases: list[tuple[str, dict[str, Any]]] = [
            ("/v1/chat/completions", CHAT),
            ("/v1/fim/completions", {"model": "codestral-latest", "prompt": "def f():"}),
            ("/v1/agents/completions", {"agent_id": "a", "messages": CHAT["messages"]}),
        ]
        for path, body in cases:
            whole = self.demo.ask("POST", path, body).json()
            events = self.streamed(path, body)
            self.assertEqual((None, "[DONE]"), events.pop())
            self.assertEqual({None}, {name for name, _ in events})
            chunks = [models.CompletionChunk.model_validate(chunk) for _, chunk in events]
            text = "".join(str(chunk.choices[0].delta.content) for chunk in chunks)
            self.assertEqual(whole["choices"][0]["message"]["content"], text)
            self.assertEqual([len(events) - 1], [i for i, (_, c) in enumerate(events) if "usage" in c])
            self.assertEqual(whole["usage"], events[-1][1]["usage"])
            self.assertEqual("stop", chunks[-1].choices[0].finish_reason)

    def test_conversations(self) -> None:
        """
        A conversation's events have names; the first has its id, the last its usage.
        """
        events = self.streamed("/v1/conversations", {"model": "mistral-small-latest", "inputs": "Hi"})
        names = [name for name, _ in events]
        self.assertEqual("conversation.response.started", names[0])
        self.assertEqual({"message.output.delta"}, set(names[1:-1]))
        self.assertEqual("conversation.response.done", names[-1])
        for name, data in events:
            self.assertEqual([], misread(models.ConversationEvents.model_validate({"event": name, "data": data})))
        path = f"/v1/conversations/{events[0][1]['conversation_id']}"
        self.assertEqual(events[-1][0], self.streamed(path, {"inputs": "And?"})[-1][0])

    def test_responses(self) -> None:
        """
        The events of the Responses API count from zero and end with the whole response, usage included.
        """
        events = self.streamed("/v1/responses", {"model": "mistral-small-latest", "input": "Hi"})
        self.assertEqual([*range(len(events))], [data["sequence_number"] for _, data in events])
        for name, data in events:
            self.assertEqual(name, data["type"])
            self.assertEqual([], misread(models.ResponsesStreamFrame.model_validate({"event": name, "data": data})))
        self.assertEqual("response.created", events[0][0])
        self.assertEqual("response.completed", events[-1][0])
        self.assertGreater(events[-1][1]["response"]["usage"]["output_tokens"], 0)

    def test_transcription(self) -> None:
        """
        A transcription streams its language, its words, its segment, and itself.
        """
        sent = form({"model": "voxtral-mini-latest", "stream": "true"}, "a.wav", b"\0" * 9)
        events = self.demo.ask("POST", "/v1/audio/transcriptions", *sent).events()
        for name, data in events:
            self.assertEqual(
                [], misread(models.TranscriptionStreamEvents.model_validate({"event": name, "data": data}))
            )
        words = [data["text"] for name, data in events if name == "transcription.text.delta"]
        self.assertEqual(events[-1][1]["text"], "".join(words))
        self.assertEqual("transcription.language", events[0][0])
        self.assertEqual(["transcription.segment", "transcription.done"], [n for n, _ in events[-2:]])

    def test_speech(self) -> None:
        """
        Speech comes in pieces, and its usage with the last event.
        """
        events = self.streamed("/v1/audio/speech", {"input": "Good morning, all of you"})
        self.assertEqual({"speech.audio.delta"}, {name for name, _ in events[:-1]})
        self.assertGreater(len(events), 3)
        for _, data in events[:-1]:
            models.SpeechStreamAudioDelta.model_validate(data)
        models.SpeechStreamDone.model_validate(events[-1][1])


class TestPace(SynchronousTestCase):
    """
    How a stream flows.
    """

    def setUp(self) -> None:
        self.demo = Standing()
        body = json.dumps(CHAT | {"stream": True}).encode()
        self.transport, self.heard = self.demo.send("POST", "/v1/chat/completions", body, AUTHORIZATION)
        self.producer: Any = self.transport.producer

    def arrived(self) -> int:
        """
        How many events are here by now.
        """
        return len(self.demo.hear(self.transport, self.heard).events())

    def flowing(self) -> bool:
        """
        Whether another event is on its way.
        """
        return any(0 < call.getTime() - self.demo.clock.seconds() < 1 for call in self.demo.clock.getDelayedCalls())

    def test_one_by_one(self) -> None:
        """
        The first event leaves at once, and each further one after its time.
        """
        for count in range(1, 6):
            self.assertEqual(count, self.arrived())
            self.demo.clock.advance(EVENT_SECONDS / 2)
            self.assertEqual(count, self.arrived())
            self.demo.clock.advance(EVENT_SECONDS / 2)

    def test_client_leaves(self) -> None:
        """
        When the client leaves, nothing more is scheduled.
        """
        self.demo.clock.advance(EVENT_SECONDS)
        self.assertTrue(self.flowing())
        leave(self.transport)
        self.assertEqual([], self.demo.clock.getDelayedCalls())

    def test_client_does_not_read(self) -> None:
        """
        A client that takes no more is sent no more, until it does again.
        """
        self.demo.clock.advance(EVENT_SECONDS)
        self.producer.pauseProducing()
        self.demo.clock.pump([EVENT_SECONDS] * 10)
        self.assertEqual(2, self.arrived())
        self.producer.resumeProducing()
        self.demo.clock.pump([EVENT_SECONDS] * 10)
        self.assertEqual(12, self.arrived())

    def test_big_download(self) -> None:
        """
        A file is sent in pieces: of one that nobody reads, no more than one is in the way.
        """
        content = bytes(3 * SLICE_BYTES)
        file = self.demo.ask("POST", "/v1/files", *form({}, "a.bin", content)).json()
        transport, heard = self.demo.send("GET", f"/v1/files/{file['id']}/content", b"", AUTHORIZATION)
        producer: Any = transport.producer
        producer.pauseProducing()
        self.demo.clock.pump([0] * 10)
        self.assertEqual(SLICE_BYTES, len(self.demo.hear(transport, heard).body))
        producer.resumeProducing()
        self.demo.clock.pump([0] * 10)
        self.assertEqual(content, self.demo.hear(transport, heard).body)


class TestEdge(SynchronousTestCase):
    """
    The header lines around an answer.
    """

    def setUp(self) -> None:
        self.demo = Standing()

    def chat(self) -> Heard:
        return self.demo.ask("POST", "/v1/chat/completions", CHAT)

    def test_lines(self) -> None:
        """
        An answer carries what Mistral's does, also what a proxy must strip.
        """
        heard = self.chat()
        for name in (
            "mistral-correlation-id",
            "x-envoy-upstream-service-time",
            "set-cookie",
            "strict-transport-security",
            "alt-svc",
        ):
            self.assertIsNotNone(heard.field(name), name)
        cost = heard.json()["usage"]["total_tokens"]
        self.assertEqual(str(cost), heard.field("x-ratelimit-tokens-query-cost"))

    def test_window(self) -> None:
        """
        What remains of a minute goes down with each call, and is whole again in the next.
        """
        remaining = [int(self.chat().field("x-ratelimit-remaining-req-minute") or "") for _ in range(3)]
        self.assertEqual([599, 598, 597], remaining)
        self.demo.clock.advance(60)
        self.assertEqual("599", self.chat().field("x-ratelimit-remaining-req-minute"))

    def test_no_limits_on_models(self) -> None:
        """
        The list of models costs nothing.
        """
        heard = self.demo.ask("GET", "/v1/models")
        self.assertIsNone(heard.field("x-ratelimit-remaining-req-minute"))
