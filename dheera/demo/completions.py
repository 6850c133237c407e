"""
Chat, fill-in-the-middle and agent completions: JSON, or events of which the last has the usage.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from attrs import frozen

from dheera.demo.calls import Answer, Asked, Call, Stream, answer, event
from dheera.demo.words import cut, filling, last_text, pieces, reply, text_of, usage

AGENTS_MODEL = "mistral-medium-latest"
DONE = b"data: [DONE]\n\n"


@frozen(kw_only=True)
class Completion:
    """
    One answer, before it is written as JSON or as events.
    """

    id: str
    model: str
    created: int
    text: str
    finish_reason: str
    usage: dict[str, Any]

    def whole(self) -> dict[str, Any]:
        """
        All of it.
        """
        message = {
            "role": "assistant",
            "content": self.text,
            "tool_calls": None,
            "prefix": False,
        }
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [choice],
            "usage": self.usage,
        }

    def events(self) -> Iterator[bytes]:
        """
        Word by word.
        """
        yield self._chunk({"role": "assistant", "content": ""})
        for piece in pieces(self.text):
            yield self._chunk({"content": piece})
        yield self._chunk({"content": ""}, finish_reason=self.finish_reason, usage=self.usage)
        yield DONE

    def _chunk(self, delta: dict[str, str], finish_reason: str | None = None, **more: object) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return event(
            {
                "id": self.id,
                "object": "chat.completion.chunk",
                "created": self.created,
                "model": self.model,
                "choices": [choice],
                **more,
            }
        )


def chat(call: Call) -> Answer | Stream:
    """
    ``POST /v1/chat/completions``
    """
    asked = call.json()
    messages = asked.many("messages")
    return _completed(call, asked, asked.model(), text_of(messages), reply(last_text(messages)))


def agent(call: Call) -> Answer | Stream:
    """
    ``POST /v1/agents/completions``: any agent answers, also one that nobody has made.
    """
    asked = call.json()
    asked.needed_text("agent_id")
    messages = asked.many("messages")
    return _completed(call, asked, AGENTS_MODEL, text_of(messages), reply(last_text(messages)))


def fim(call: Call) -> Answer | Stream:
    """
    ``POST /v1/fim/completions``
    """
    asked = call.json()
    prompt = asked.needed_text("prompt") + (asked.text("suffix") or "")
    return _completed(call, asked, asked.model(), prompt, filling())


def _completed(call: Call, asked: Asked, model: str, prompt: str, text: str) -> Answer | Stream:
    text, finish_reason = cut(text, asked.count("max_tokens"))
    used = usage(prompt, text)
    completion = Completion(
        id=uuid4().hex,
        model=model,
        created=int(call.now),
        text=text,
        finish_reason=finish_reason,
        usage=used,
    )
    if asked.flag("stream"):
        return Stream(events=completion.events(), tokens=used["total_tokens"])
    return answer(completion.whole(), tokens=used["total_tokens"])
