"""
Speech in both directions. What was said is always the same; what is spoken is a tone.

The rules: a second of recording is 32000 bytes (16 kHz, 16 bits, one channel), counted from the
bytes that came and at least one; a second of audio is 12.5 tokens, which appear in the total only,
as upstream; spoken text takes 60 ms a character, and never more than ten seconds.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from math import pi, sin
from typing import Any

from attrs import define

from dheera.demo.calls import Answer, Asked, Call, Stream, answer, event
from dheera.demo.files import Files
from dheera.demo.forms import parsed
from dheera.demo.refusals import invalid
from dheera.demo.words import pieces, tokens, transcript

RECORDED_BYTES_PER_SECOND = 32_000
SAMPLE_RATE = 24_000
_SPOKEN_BYTES_PER_SECOND = 2 * SAMPLE_RATE
_MOST_SPOKEN_SECONDS = 10.0
_SECONDS_PER_CHARACTER = 0.06
_EVENT_BYTES = _SPOKEN_BYTES_PER_SECOND // 4
_WAVE = struct.pack("<60h", *(int(6000 * sin(2 * pi * i / 60)) for i in range(60)))
"""
One period of 400 Hz.
"""
_LINKED_BYTES = 10 * RECORDED_BYTES_PER_SECOND
"""
How large a recording is taken to be that is only linked to.
"""
_TIMED = "timestamp_granularities"
"""
OpenAI's SDK writes brackets behind the name.
"""


@define(eq=False)
class Transcriptions:
    """
    The endpoint ``/v1/audio/transcriptions``.
    """

    _files: Files

    def transcribe(self, call: Call) -> Answer | Stream:
        """
        ``POST /v1/audio/transcriptions``, a form or JSON.
        """
        if call.content_type.lower().startswith("multipart/"):
            form = parsed(call.content_type, call.body)
            asked, upload = form.asked, form.uploads.get("file")
        else:
            asked, upload = call.json(), None
        model = asked.model()
        size = self._named_size(asked) if upload is None else len(upload.content)
        seconds = recorded_seconds(size)
        text = transcript()
        usage = transcription_usage(seconds, text)
        segment = {"text": text, "start": 0.0, "end": float(seconds), "score": None}
        segment |= {"speaker_id": "speaker_1" if asked.flag("diarize") else None}
        timed = asked.flag("diarize") or any(name.startswith(_TIMED) for name in asked.fields)
        whole = {
            "model": model,
            "text": text,
            "language": asked.text("language") or "en",
            "segments": [segment | {"type": "transcription_segment"}] if timed else [],
            "usage": usage,
        }
        if asked.flag("stream"):
            return Stream(events=_heard(whole, segment), tokens=usage["total_tokens"])
        return answer(whole, tokens=usage["total_tokens"])

    def _named_size(self, asked: Asked) -> int:
        """
        Bytes of a recording that is not in the call.
        """
        name = asked.text("file_id")
        if name is not None:
            return len(self._files.shelf.get(name).content)
        if asked.text("file_url") is None:
            raise invalid("missing", ["file"], "Field required")
        return _LINKED_BYTES


def speak(call: Call) -> Answer | Stream:
    """
    ``POST /v1/audio/speech``. ``pcm`` is 16 bits at 24 kHz; every other format is answered with a
    WAV file, since the demo has no encoder.
    """
    asked = call.json()
    asked.model("voxtral-mini-tts-latest")
    text = asked.needed_text("input")
    audio = spoken(text)
    if asked.text("response_format") != "pcm":
        audio = _wav(audio)
    usage = speech_usage(text)
    if asked.flag("stream"):
        return Stream(events=_spoken_events(audio, usage), tokens=usage["total_tokens"])
    return answer({"audio_data": base64.b64encode(audio).decode("ascii")})


def recorded_seconds(size: int) -> int:
    """
    The length of a recording of *size* bytes.
    """
    return max(1, -(-size // RECORDED_BYTES_PER_SECOND))


def transcription_usage(seconds: int, text: str) -> dict[str, Any]:
    """
    The usage of a transcription: the total is more than its parts.
    """
    said = tokens(text)
    return {
        "prompt_audio_seconds": seconds,
        "prompt_tokens": 4,
        "completion_tokens": said,
        "total_tokens": 4 + said + int(12.5 * seconds),
    }


def speech_usage(text: str) -> dict[str, Any]:
    """
    The usage of spoken *text*.
    """
    asked, said = tokens(text), int(12.5 * _spoken_seconds(text))
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def spoken(text: str) -> bytes:
    """
    *text* as a tone: 16-bit samples at 24 kHz.
    """
    size = int(_spoken_seconds(text) * _SPOKEN_BYTES_PER_SECOND)
    return _WAVE * (size // len(_WAVE) + 1)


def _spoken_seconds(text: str) -> float:
    return min(_MOST_SPOKEN_SECONDS, _SECONDS_PER_CHARACTER * len(text))


def _wav(samples: bytes) -> bytes:
    shape = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE, _SPOKEN_BYTES_PER_SECOND, 2, 16)
    head = b"WAVEfmt " + struct.pack("<I", len(shape)) + shape
    body = head + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _heard(whole: dict[str, Any], segment: dict[str, Any]) -> Iterator[bytes]:
    yield _named({"type": "transcription.language", "audio_language": whole["language"]})
    for piece in pieces(whole["text"]):
        yield _named({"type": "transcription.text.delta", "text": piece})
    yield _named({"type": "transcription.segment"} | segment)
    yield _named({"type": "transcription.done"} | whole)


def _spoken_events(audio: bytes, usage: dict[str, Any]) -> Iterator[bytes]:
    for start in range(0, len(audio), _EVENT_BYTES):
        piece = base64.b64encode(audio[start : start + _EVENT_BYTES]).decode("ascii")
        yield _named({"type": "speech.audio.delta", "audio_data": piece})
    yield _named({"type": "speech.audio.done", "usage": usage})


def _named(value: dict[str, Any]) -> bytes:
    return event(value, value["type"])
