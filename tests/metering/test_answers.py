"""
Which meter an answer gets, and what it reads from JSON.
"""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.metering.answers import FREE, Meter, make_meter
from dheera.metering.gathering import HELD_BYTES
from dheera.metering.requests import RequestMeter
from dheera.usage import Part, Reading, Usage, Wanted
from tests.metering import shapes
from tests.metering.shapes import CHAT, CHAT_READING, CHAT_STREAM, CHAT_STREAM_READING, CHAT_USED, MODEL, dumps, reading
from tests.strategies import chunkings

MEBIBYTE = 1024 * 1024
JSON = b"application/json"
SSE = b"text/event-stream; charset=utf-8"
KINDS = [JSON, SSE, b"application/x-ndjson", b"application/octet-stream", b"audio/wav", b""]
ENDPOINTS = ["chat/completions", "audio/speech", "files/content", "moderations", "ocr", "other"]
CONTENTS = [
    dumps(CHAT), CHAT_STREAM, gzip.compress(CHAT_STREAM), gzip.compress(dumps(CHAT)),
    dumps(CHAT | {"x": "y" * HELD_BYTES}),
    dumps({"response": {"status_code": 200, "body": CHAT}}), b"\n", b"}", b"\xff\x00",
]  # fmt: skip


def meter_of(  # noqa: PLR0917 - as its subject
    kind: bytes = JSON,
    coding: bytes = b"",
    endpoint: str = "chat/completions",
    method: bytes = b"POST",
    code: int = 200,
    wanted: Wanted = shapes.NOTHING,
) -> Meter | None:
    """
    The meter of an answer.
    """
    return make_meter(endpoint, method, code, kind, coding, wanted)


def told(body: Any, endpoint: str = "chat/completions", wanted: Wanted = shapes.NOTHING) -> Reading:
    """
    What a JSON answer tells.
    """
    return reading(meter_of(endpoint=endpoint, wanted=wanted), [dumps(body)])


def parts(usage: Usage, model: str | None = MODEL) -> Reading:
    """
    The reading of an answer that tells *usage*.
    """
    return Reading(model=model, parts=[Part(model=model, usage=usage)])


class ChoiceTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """
        Answers are told apart by their content type, however it is written.
        """
        for kind in (JSON, b"Application/JSON ; charset=utf-8", b"application/problem+json"):
            self.assertEqual(CHAT_READING, reading(meter_of(kind), [dumps(CHAT)]))
        for kind in (SSE, b"Text/Event-Stream"):
            self.assertEqual(CHAT_STREAM_READING, reading(meter_of(kind), [CHAT_STREAM]))
        line = dumps({"response": {"status_code": 200, "body": CHAT}})
        batch = Part(model=MODEL, usage=CHAT_USED, is_batch=True)
        for kind in (b"application/octet-stream", b"application/jsonl", JSON, b""):
            meter = meter_of(kind, endpoint="files/content", method=b"GET")
            self.assertEqual(Reading(model=MODEL, parts=[batch]), reading(meter, [line]))

    def test_nothing_to_read(self) -> None:
        """
        Errors, images, and what is only looked up are not read.
        """
        self.assertIsNone(meter_of(code=400))
        self.assertIsNone(meter_of(code=500, kind=SSE))
        self.assertIsNone(meter_of(code=304))
        self.assertIsNone(meter_of(b"image/png"))
        self.assertIsNone(meter_of(b"text/html"))
        self.assertIsNone(meter_of(b""))
        self.assertIsNone(meter_of(method=b"GET", endpoint="conversations"))
        self.assertIsNone(meter_of(b"application/octet-stream"))

    def test_looking_on(self) -> None:
        """
        A stream that is looked up is counted, but what it tells was used by others.
        """
        self.assertEqual(Reading(model=MODEL, events=3), reading(meter_of(SSE, method=b"GET"), [CHAT_STREAM]))

    def test_codings(self) -> None:
        """
        Compressed answers are read; what cannot be inflated is not.
        """
        packed = gzip.compress(dumps(CHAT))
        for coding in (b"gzip", b" GZIP "):
            self.assertEqual(CHAT_READING, reading(meter_of(coding=coding), [packed]))
        self.assertEqual(CHAT_READING, reading(meter_of(coding=b"identity"), [dumps(CHAT)]))
        for coding in (b"br", b"zstd", b"gzip, gzip"):
            self.assertIsNone(meter_of(coding=coding))


class JsonTests(SynchronousTestCase):
    def test_shapes(self) -> None:
        """
        Each kind of answer tells its usage.
        """
        self.assertEqual(CHAT_READING, told(CHAT))
        response = {"object": "response", "model": MODEL, "error": None, "usage": shapes.RESPONSES_USAGE}
        self.assertEqual(parts(shapes.RESPONSES_USED), told(response, "responses"))
        transcription = {"model": MODEL, "text": "so", "segments": [], "usage": shapes.TRANSCRIPTION_USAGE}
        self.assertEqual(parts(shapes.TRANSCRIPTION_USED), told(transcription, "audio/transcriptions"))
        vectors = {"data": [{"embedding": [0.5] * 9000, "index": n} for n in range(3)], "model": MODEL}
        usage = {"prompt_tokens": 15, "total_tokens": 15, "completion_tokens": 0}
        wanted = parts(Usage(prompt_tokens=15, total_tokens=15))
        self.assertEqual(wanted, told(vectors | {"usage": usage}, "embeddings"))

    def test_conversation(self) -> None:
        """
        A conversation names its model in its outputs, if at all.
        """
        outputs = [{"type": "tool.execution"}, {"type": "message.output", "model": MODEL, "content": "x"}]
        body = {"conversation_id": "conv_1", "outputs": outputs, "usage": shapes.CONVERSATION_USAGE}
        self.assertEqual(parts(shapes.CONVERSATION_USED), told(body))
        self.assertEqual(parts(shapes.CONVERSATION_USED, None), told(body | {"outputs": []}))
        self.assertEqual(parts(shapes.CONVERSATION_USED, None), told(body | {"outputs": ["x"]}))
        self.assertEqual(
            parts(shapes.CONVERSATION_USED), told(body | {"outputs": [{"text": "x" * HELD_BYTES}, *outputs]})
        )

    def test_pages(self) -> None:
        """
        Pages count as annotated if the request asked for that.
        """
        for filler in (10, HELD_BYTES):
            body = {"pages": [{"markdown": "x" * filler}], "model": MODEL, "usage_info": {"pages_processed": 3}}
            self.assertEqual(parts(Usage(pages=3)), told(body, "ocr"))
            self.assertEqual(parts(Usage(annotated_pages=3)), told(body, "ocr", Wanted(annotates=True)))

    def test_free(self) -> None:
        """
        Judgements tell no usage and use nothing; elsewhere an answer without usage tells nothing.
        """
        for endpoint in FREE:
            self.assertEqual(parts(Usage()), told({"id": "1", "model": MODEL, "results": []}, endpoint))
            self.assertEqual(Reading(), told({"id": "1", "results": []}, endpoint))
        self.assertEqual(Reading(model=MODEL), told({"id": "1", "model": MODEL, "results": []}))

    def test_cut(self) -> None:
        """
        Of an answer that is cut, what came before is known; usage only if all of it came.
        """
        body = dumps({"model": MODEL, "usage": shapes.CHAT_USAGE, "choices": ["x" * 100]})
        self.assertEqual(CHAT_READING, reading(meter_of(), [body[:-5]]))
        self.assertEqual(Reading(model=MODEL), reading(meter_of(), [body[:60]]))
        self.assertEqual(Reading(), reading(meter_of(), [body[:9]]))

    def test_no_json(self) -> None:
        """
        What is no JSON object tells nothing, nor does an answer that nests without end.
        """
        for body in (b"", b"oops", b"[]", b"null", b'{"usage":' + b'{"a":' * 50_000, b'{"a":' + b"[" * 50_000):
            self.assertEqual(Reading(), reading(meter_of(), [body]), body[:20])


class SpeechTests(SynchronousTestCase):
    WANTED = Wanted(model="tts", characters=12)
    SPOKEN = Reading(parts=[Part(model=None, usage=Usage(characters=12))])

    def meter(self, kind: bytes, coding: bytes = b"", code: int = 200, method: bytes = b"POST") -> Meter | None:
        """
        The meter of an answer that speaks.
        """
        return meter_of(kind, coding, "audio/speech", method, code, self.WANTED)

    def test_json(self) -> None:
        """
        Speech in JSON tells nothing: the characters of the request are what was used.
        """
        self.assertEqual(self.SPOKEN, reading(self.meter(JSON), [dumps({"audio_data": "A" * 2 * HELD_BYTES})]))

    def test_stream(self) -> None:
        """
        A stream of speech tells tokens, which go beside the characters.
        """
        delta = shapes.event({"type": "speech.audio.delta", "audio_data": "A" * 51_000}, "speech.audio.delta")
        done = shapes.event({"type": "speech.audio.done", "usage": shapes.SPEECH_USAGE}, "speech.audio.done")
        usage = Usage(prompt_tokens=250, completion_tokens=99840, total_tokens=100090, characters=12)
        wanted = Reading(parts=[Part(model=None, usage=usage)], events=3)
        self.assertEqual(wanted, reading(self.meter(SSE), [delta, delta, done]))

    def test_anything(self) -> None:
        """
        The characters were spoken whatever the answer is, and can be read or not; but not if it is an error.
        """
        for meter in (self.meter(b"audio/mpeg"), self.meter(JSON, b"br"), self.meter(JSON, b"gzip"), self.meter(b"")):
            self.assertEqual(self.SPOKEN, reading(meter, [b"\xff"]))
        self.assertIsNone(self.meter(JSON, code=422))
        self.assertIsNone(self.meter(JSON, method=b"GET"))


class WhateverTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(
        st.data(), st.sampled_from(KINDS), st.sampled_from([b"", b"gzip", b"deflate"]), st.sampled_from(ENDPOINTS),
        st.sampled_from([b"GET", b"POST"]),
    )  # fmt: skip
    def test_any_answer(self, data: st.DataObject, kind: bytes, coding: bytes, endpoint: str, method: bytes) -> None:
        """
        Whatever an answer is said to be and whatever it is, nothing raises, its cuts make no difference, and asking
        does not either.
        """
        content = b"".join(
            data.draw(st.lists(st.one_of(st.sampled_from(CONTENTS), st.binary(max_size=20)), max_size=4))
        )
        whole = meter_of(kind, coding, endpoint, method)
        if whole is None:
            return
        meter = meter_of(kind, coding, endpoint, method)
        assert meter is not None
        for piece in data.draw(chunkings(content)):
            meter.feed(piece)
            meter.reading()
        wanted = reading(whole, [content])
        self.assertEqual(wanted, meter.reading())
        self.assertEqual(wanted, meter.reading())


class MemoryTests(SynchronousTestCase):
    """
    What a meter keeps of two mebibytes is less than one.
    """

    def kept(self, make: Callable[[], Any], begin: bytes, again: bytes) -> int:
        """
        The bytes that what is made keeps after *begin*, and *again* for many times.
        """
        piece = again * (HELD_BYTES // len(again) + 1)
        meter = make()
        meter.feed(begin)
        tracemalloc.start()
        try:
            for _ in range(2 * MEBIBYTE // len(piece)):
                meter.feed(bytes(bytearray(piece)))
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    def worst(self) -> Iterator[tuple[Callable[[], Any], bytes, bytes]]:
        """
        Answers and requests that invite to keep things.
        """
        yield lambda: meter_of(JSON), b'{"choices":[', b'{"a":["x"],"finish_reason":"' + b"x" * 8000 + b'"},'
        yield lambda: meter_of(JSON), b'{"usage":{"a":[', b'{"prompt_tokens":[1,2,3]},'
        yield lambda: meter_of(JSON), b'{"outputs":[', b'{"model":"' + b"m" * 8000 + b'"},'
        yield lambda: meter_of(JSON), b'{"model":"', b"m"
        yield lambda: meter_of(JSON), b'{"', b"m"
        yield lambda: meter_of(SSE), b"", b"data"
        yield lambda: meter_of(SSE), b"", b"data: \n"
        yield lambda: meter_of(SSE), b"data: ", b"x"
        yield lambda: meter_of(SSE), b"", shapes.chunk("x" * 2000, usage=shapes.CHAT_USAGE)
        yield (
            lambda: meter_of(SSE),
            b"",
            shapes.event({"model": ["x" * 30_000], "usage": {"connectors": {"x" * 30_000: 1}}}),
        )
        yield self.batch, b"", b'{"response":{"status_code":200,"body":{"model":"'
        yield self.batch, b"", dumps({"response": {"status_code": 200, "body": CHAT}}) + b"\n"
        yield lambda: meter_of(b"application/x-ndjson"), b"", b"x"
        yield lambda: RequestMeter(JSON, "audio/speech"), b'{"input":"', b"\\u00e9"
        yield lambda: RequestMeter(JSON, "audio/speech"), b'{"metadata":{"tags":[', b'"tag",'

    def batch(self) -> Meter | None:
        """
        What reads the output of a batch.
        """
        return meter_of(endpoint="files/content", method=b"GET")

    def test_bounded(self) -> None:
        """
        No answer and no request makes its meter keep much.
        """
        for make, begin, again in self.worst():
            self.assertLess(self.kept(make, begin, again), MEBIBYTE, (begin, again[:40]))
