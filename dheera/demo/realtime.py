"""
The two realtime sessions: audio in and text out, and the other way round.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from attrs import define, field

from dheera.demo.audio import recorded_seconds, speech_usage, spoken, transcription_usage
from dheera.demo.calls import Asked
from dheera.demo.refusals import Refused, refused
from dheera.demo.sockets import Speaker
from dheera.demo.words import pieces, transcript

MOST_WORDS = 5000
"""
A session that goes on for longer is still counted, but nothing more is said.
"""
MOST_SPOKEN_CHARACTERS = 4096
"""
In a whole session: each one becomes three kilobytes of sound.
"""
_WORDS = pieces(transcript() + " ")


def _request_id() -> str:
    return str(uuid4())


@define(eq=False)
class Listener:
    """
    ``/v1/audio/transcriptions/realtime``: one more word for each piece of audio.
    """

    _model: str
    _id: str = field(init=False, factory=_request_id)
    _settings: dict[str, Any] = field(init=False, factory=dict)
    _heard_bytes: int = field(init=False, default=0)
    _words: int = field(init=False, default=0)
    _over: bool = field(init=False, default=False)

    @property
    def over(self) -> bool:
        """
        The audio has ended.
        """
        return self._over

    def opening(self) -> dict[str, Any]:
        """
        The session, which the client waits for.
        """
        return self._session("session.created")

    def hear(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """
        Take settings or audio.
        """
        match message.get("type"):
            case "session.update":
                self._settings |= _settings(message)
                yield self._session("session.updated")
            case "input_audio.append":
                self._heard_bytes += len(_decoded(Asked(message).needed_text("audio")))
                if self._words < MOST_WORDS:
                    self._words += 1
                    yield {"type": "transcription.text.delta", "text": _word(self._words - 1)}
            case "input_audio.flush":
                pass
            case "input_audio.end":
                self._over = True
                yield self._done()
            case _:
                raise _unknown_type()

    def _session(self, kind: str) -> dict[str, Any]:
        form = self._settings.get("audio_format")
        session = {
            "request_id": self._id,
            "model": self._model,
            "audio_format": form or {"encoding": "pcm_s16le", "sample_rate": 16_000},
            "target_streaming_delay_ms": self._settings.get("target_streaming_delay_ms"),
        }
        return {"type": kind, "session": session}

    def _done(self) -> dict[str, Any]:
        text = "".join(_word(number) for number in range(self._words))
        usage = transcription_usage(recorded_seconds(self._heard_bytes), text)
        return {
            "type": "transcription.done",
            "model": self._model,
            "text": text,
            "language": "en",
            "segments": [],
            "usage": usage,
        }


@define(eq=False)
class Narrator:
    """
    ``/v1/audio/speech/realtime``: a tone for each piece of text.
    """

    _model: str
    _id: str = field(init=False, factory=_request_id)
    _texts: list[str] = field(init=False, factory=list)
    _characters: int = field(init=False, default=0)
    _over: bool = field(init=False, default=False)

    @property
    def over(self) -> bool:
        """
        The text has ended.
        """
        return self._over

    def opening(self) -> dict[str, Any]:
        """
        The session, which the client waits for.
        """
        return self._session("session.created")

    def hear(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """
        Take settings or text.
        """
        match message.get("type"):
            case "session.update":
                yield self._session("session.updated")
            case "input_text.append":
                yield from self._spoken(Asked(message).needed_text("text"))
            case "input_text.flush":
                yield from self._spoken(Asked(message).text("text") or "")
            case "input_text.end":
                self._over = True
                yield {"type": "speech.audio.done", "usage": speech_usage("".join(self._texts))}
            case _:
                raise _unknown_type()

    def _spoken(self, text: str) -> Iterator[dict[str, Any]]:
        self._characters += len(text)
        if self._characters > MOST_SPOKEN_CHARACTERS:
            raise refused(413, "At most 4096 characters in a session", "request_too_large")
        if text:
            self._texts.append(text)
            audio = base64.b64encode(spoken(text)).decode("ascii")
            yield {"type": "speech.audio.delta", "audio_data": audio}

    def _session(self, kind: str) -> dict[str, Any]:
        session = {
            "request_id": self._id,
            "model": self._model,
            "is_ref_audio": False,
            "streaming_mode": "responsive",
            "response_format": "pcm",
            "expressiveness": 0.5,
            "voice": None,
        }
        return {"type": kind, "session": session}


def _word(number: int) -> str:
    return _WORDS[number % len(_WORDS)]


def _settings(message: dict[str, Any]) -> dict[str, Any]:
    """
    The settings that are told back: numbers and short names only, so that they stay small.
    """
    session = Asked(message).inner("session")
    kept: dict[str, Any] = {}
    form = session.inner("audio_format")
    encoding, rate = form.text("encoding"), form.count("sample_rate")
    if encoding is not None and rate is not None:
        kept["audio_format"] = {"encoding": encoding[:32], "sample_rate": rate}
    if "target_streaming_delay_ms" in session.fields:
        kept["target_streaming_delay_ms"] = session.count("target_streaming_delay_ms")
    return kept


def _decoded(audio: str) -> bytes:
    try:
        return base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError):
        raise refused(400, "audio is not base64", "invalid_request_error") from None


def _unknown_type() -> Refused:
    return refused(400, "Unknown message type", "invalid_request_error")


_listens: type[Speaker] = Listener
_narrates: type[Speaker] = Narrator
