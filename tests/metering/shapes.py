"""
Answers as upstream writes them, and what is in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Protocol

from dheera.usage import Part, Reading, Usage, Wanted

MODEL = "mistral-small-latest"

CHAT_USAGE = {
    "prompt_tokens": 1013,
    "completion_tokens": 30,
    "total_tokens": 1043,
    "prompt_tokens_details": {"cached_tokens": 1008},
}
CHAT_USED = Usage(prompt_tokens=1013, cached_tokens=1008, completion_tokens=30, total_tokens=1043)

CHAT = {
    "id": "cmpl-1",
    "object": "chat.completion",
    "model": MODEL,
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": 'He said "usage": {}'}, "finish_reason": "stop"}
    ],
    "usage": CHAT_USAGE,
}
CHAT_READING = Reading(model=MODEL, parts=[Part(model=MODEL, usage=CHAT_USED)])

RESPONSES_USAGE = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 19,
}
RESPONSES_USED = Usage(prompt_tokens=12, cached_tokens=4, completion_tokens=7, reasoning_tokens=3, total_tokens=19)

TRANSCRIPTION_USAGE = {
    "prompt_audio_seconds": 203,
    "prompt_tokens": 4,
    "total_tokens": 3264,
    "completion_tokens": 635,
    "prompt_tokens_details": {"audio_tokens": 2625, "cached_tokens": 0},
}
TRANSCRIPTION_USED = Usage(prompt_tokens=4, completion_tokens=635, total_tokens=3264, audio_ms=203_000)

CONVERSATION_USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 40,
    "connector_tokens": 25,
    "connectors": {"web_search": 1},
}
CONVERSATION_USED = Usage(
    prompt_tokens=10, completion_tokens=5, total_tokens=40, connector_tokens=25, connectors={"web_search": 1}
)

SPEECH_USAGE = {"prompt_tokens": 250, "completion_tokens": 99840, "total_tokens": 100090, "num_cached_tokens": None}
SPEECH_USED = Usage(prompt_tokens=250, completion_tokens=99840, total_tokens=100090)

NOTHING = Wanted()


def dumps(value: Any) -> bytes:
    """
    *value* as JSON, without spaces, as upstream writes it.
    """
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def event(value: Any, name: str | None = None, end: bytes = b"\n") -> bytes:
    """
    A server-sent event.
    """
    head = b"" if name is None else b"event: " + name.encode() + end
    return head + b"data: " + dumps(value) + end + end


def chunk(text: str, **more: Any) -> bytes:
    """
    An event of a chat.
    """
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return event({"id": "cmpl-1", "object": "chat.completion.chunk", "model": MODEL, "choices": [choice], **more})


DONE = b"data: [DONE]\n\n"
CHAT_STREAM = chunk("Hel") + chunk("lo, error usage") + chunk("", usage=CHAT_USAGE) + DONE
CHAT_STREAM_READING = Reading(model=MODEL, parts=[Part(model=MODEL, usage=CHAT_USED)], events=3)


class Feeding(Protocol):
    """
    Whatever takes pieces and tells what it has read.
    """

    def feed(self, piece: bytes) -> None: ...

    def reading(self) -> Reading: ...


def reading(meter: Feeding | None, pieces: Iterable[bytes]) -> Reading:
    """
    What *meter* reads from *pieces*.
    """
    assert meter is not None
    for piece in pieces:
        meter.feed(piece)
    return meter.reading()
