"""
The models that the demo lists. They are names only: each endpoint answers for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_CHAT = ("completion_chat", "function_calling")
_MODELS: tuple[tuple[Sequence[str], int, tuple[str, ...]], ...] = (
    (("mistral-large-latest", "mistral-large-2512"), 262_144, (*_CHAT, "vision")),
    (("mistral-medium-latest", "mistral-medium-2604"), 262_144, (*_CHAT, "vision")),
    (("mistral-small-latest", "mistral-small-2603"), 262_144, (*_CHAT, "vision")),
    (("ministral-14b-latest", "ministral-14b-2512"), 262_144, _CHAT),
    (("ministral-8b-latest", "ministral-8b-2512"), 262_144, _CHAT),
    (("ministral-3b-latest", "ministral-3b-2512"), 131_072, _CHAT),
    (("magistral-medium-latest",), 262_144, (*_CHAT, "reasoning")),
    (("magistral-small-latest",), 262_144, (*_CHAT, "reasoning")),
    (("devstral-latest", "devstral-medium-latest"), 256_000, _CHAT),
    (("devstral-small-latest",), 256_000, _CHAT),
    (("codestral-latest", "codestral-2508"), 128_000, (*_CHAT, "completion_fim")),
    (("open-mistral-nemo",), 128_000, _CHAT),
    (("pixtral-large-latest",), 128_000, (*_CHAT, "vision")),
    (("mistral-embed", "mistral-embed-2312"), 8192, ()),
    (("codestral-embed", "codestral-embed-2505"), 8192, ()),
    (("mistral-moderation-latest", "mistral-moderation-2603"), 131_072, ("moderation",)),
    (("mistral-ocr-latest", "mistral-ocr-4-1", "mistral-ocr-2512"), 16_384, ("ocr",)),
    (("voxtral-small-latest", "voxtral-small-2507"), 32_768, (*_CHAT, "audio")),
    (("voxtral-mini-latest", "voxtral-mini-2602"), 16_384, ("audio_transcription",)),
    (
        (
            "voxtral-mini-transcribe-realtime-latest",
            "voxtral-mini-transcribe-realtime-2602",
            "voxtral-mini-realtime-latest",
        ),
        16_384,
        ("audio_transcription_realtime",),
    ),
    (("voxtral-mini-tts-latest", "voxtral-mini-tts-2603"), 4096, ("audio_speech",)),
)
_ABILITIES = (
    "completion_chat",
    "completion_fim",
    "function_calling",
    "fine_tuning",
    "vision",
    "ocr",
    "classification",
    "moderation",
    "audio",
    "audio_transcription",
    "audio_transcription_realtime",
    "audio_speech",
    "reasoning",
)
_TUNED = "ft:"


def _card(name: str, among: Sequence[str], length: int, able: Sequence[str]) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 1_763_769_600,
        "owned_by": "mistralai",
        "capabilities": {ability: ability in able for ability in _ABILITIES},
        "name": among[-1],
        "description": "A name that the built-in demo of dheera answers to",
        "max_context_length": length,
        "aliases": [other for other in among if other != name],
        "deprecation": None,
        "deprecation_replacement_model": None,
        "default_model_temperature": 0.3,
        "type": "base",
    }


CARDS = {name: _card(name, names, size, able) for names, size, able in _MODELS for name in names}
"""
The entry of each model in ``GET /v1/models``, by its name.
"""


def is_known(name: str) -> bool:
    """
    Whether the demo has *name*: it is listed, or it is the name of some fine-tuned model.
    """
    return name in CARDS or name.startswith(_TUNED)


def card_of(name: str) -> dict[str, Any] | None:
    """
    The entry of *name*, made up for a fine-tuned one; None for an unknown name.
    """
    if name.startswith(_TUNED):
        tuned = {"type": "fine-tuned", "job": "demo", "root": "open-mistral-nemo", "archived": False}
        return _card(name, [name], 128_000, _CHAT) | tuned
    return CARDS.get(name)
