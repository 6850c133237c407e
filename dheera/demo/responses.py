"""
The Responses API: stateless, JSON or events, its usage inside ``response.completed``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any
from uuid import uuid4

from attrs import frozen

from dheera.demo.calls import Answer, Call, Stream, answer, event
from dheera.demo.words import cut, last_text, pieces, reply, text_of, tokens


def respond(call: Call) -> Answer | Stream:
    """
    ``POST /v1/responses``
    """
    asked = call.json()
    said = asked.needed("input")
    prompt = text_of([asked.text("instructions"), said])
    text, finish_reason = cut(reply(last_text(said)), asked.count("max_output_tokens"))
    response = Response(
        id=f"resp_{uuid4().hex}",
        item_id=f"msg_{uuid4().hex}",
        model=asked.model(),
        created=call.now,
        prompt_tokens=tokens(prompt),
        text=text,
        complete=finish_reason == "stop",
    )
    used = response.prompt_tokens + tokens(text)
    if asked.flag("stream"):
        return Stream(events=response.events(), tokens=used)
    return answer(response.written(done=True), tokens=used)


@frozen(kw_only=True)
class Response:
    """
    One answer, before it is written as JSON or as events.
    """

    id: str
    item_id: str
    model: str
    created: float
    prompt_tokens: int
    text: str
    complete: bool

    @property
    def status(self) -> str:
        """
        How it ended.
        """
        return "completed" if self.complete else "incomplete"

    def written(self, *, done: bool) -> dict[str, Any]:
        """
        The object itself, at its beginning or at its end.
        """
        said = tokens(self.text)
        used = {
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": said,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.prompt_tokens + said,
        }
        cut_off = done and not self.complete
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "model": self.model,
            "status": self.status if done else "in_progress",
            "output": [self._item(done=True)] if done else [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut_off else None,
            "usage": used if done else None,
        }

    def events(self) -> Iterator[bytes]:
        """
        Word by word, in the order of the OpenAI SDK's state machine.
        """
        numbers = count()
        place = {"item_id": self.item_id, "output_index": 0, "content_index": 0}

        def one(name: str, **more: object) -> bytes:
            return event({"type": name, "sequence_number": next(numbers), **more}, name)

        yield one("response.created", response=self.written(done=False))
        yield one("response.in_progress", response=self.written(done=False))
        yield one("response.output_item.added", output_index=0, item=self._item(done=False))
        yield one("response.content_part.added", **place, part=self._part(""))
        for piece in pieces(self.text):
            yield one("response.output_text.delta", **place, delta=piece, logprobs=[])
        yield one("response.output_text.done", **place, text=self.text, logprobs=[])
        yield one("response.content_part.done", **place, part=self._part(self.text))
        yield one("response.output_item.done", output_index=0, item=self._item(done=True))
        yield one(f"response.{self.status}", response=self.written(done=True))

    def _item(self, *, done: bool) -> dict[str, Any]:
        return {
            "id": self.item_id,
            "type": "message",
            "role": "assistant",
            "status": self.status if done else "in_progress",
            "content": [self._part(self.text)] if done else [],
        }

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
