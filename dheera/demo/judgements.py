"""
Moderation and classification: neither has a usage, upstream or here.

A moderation category is flagged when the first word of its name occurs in the text, so that both
outcomes can be tried; a classification is always the same.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from dheera.demo.calls import Answer, Asked, Call, answer
from dheera.demo.refusals import invalid
from dheera.demo.vectors import refuse_too_many, texts_in
from dheera.demo.words import text_of

_CATEGORIES = (
    "sexual",
    "hate_and_discrimination",
    "violence_and_threats",
    "dangerous_and_criminal_content",
    "selfharm",
    "health",
    "financial",
    "law",
    "pii",
)
_SCORES = {"positive": 0.9, "neutral": 0.08, "negative": 0.02}


def moderate(call: Call) -> Answer:
    """
    ``POST /v1/moderations``
    """
    asked = call.json()
    return _judged(asked, [_moderated(text) for text in texts_in(asked, "input")])


def moderate_chat(call: Call) -> Answer:
    """
    ``POST /v1/chat/moderations``: one conversation, or a list of them.
    """
    asked = call.json()
    said = asked.many("input")
    chats = said if isinstance(said[0], list) else [said]
    refuse_too_many(chats)
    return _judged(asked, [_moderated(text_of(chat)) for chat in chats])


def classify(call: Call) -> Answer:
    """
    ``POST /v1/classifications``
    """
    asked = call.json()
    return _judged(asked, [_classified() for _ in texts_in(asked, "input")])


def classify_chat(call: Call) -> Answer:
    """
    ``POST /v1/chat/classifications``: ``input`` is one ``{"messages": ...}``, or a list of them.
    """
    asked = call.json()
    chats = [asked.needed("input")] if isinstance(asked.needed("input"), dict) else None
    chats = asked.many("input") if chats is None else chats
    refuse_too_many(chats)
    for index, one in enumerate(chats):
        if not isinstance(one, dict) or not isinstance(one.get("messages"), list):
            raise invalid("missing", ["input", index, "messages"], "Field required")
    return _judged(asked, [_classified() for _ in chats])


def _judged(asked: Asked, results: list[dict[str, Any]]) -> Answer:
    return answer({"id": uuid4().hex, "model": asked.model(), "results": results})


def _moderated(text: str) -> dict[str, Any]:
    lower = text.lower()
    flags = {name: name.partition("_")[0] in lower for name in _CATEGORIES}
    scores = {name: 0.97 if flag else 0.0001 for name, flag in flags.items()}
    return {"categories": flags, "category_scores": scores}


def _classified() -> dict[str, Any]:
    return {"sentiment": {"scores": _SCORES}}
