"""
Bodies, where they may be shown, in the shape that the GenAI semantic conventions have for messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from dheera.records import Content, Record

_INPUT = "gen_ai.input.messages"
_OUTPUT = "gen_ai.output.messages"
_OTHER_INPUT = "dheera.request.body"
_OTHER_OUTPUT = "dheera.response.body"


def content_attributes(record: Record) -> Iterator[tuple[str, str]]:
    """
    What the call was about, as JSON in attributes: messages where they are messages, or else the body as it is. Nothing
    if the record has no bodies.
    """
    asked = body_of(record.request)
    if isinstance(asked, dict) and isinstance(asked.get("messages"), list):
        yield _INPUT, as_text([_message(each) for each in asked["messages"]])
    elif asked is not None:
        yield _OTHER_INPUT, as_text(asked)
    answered = body_of(record.response)
    if isinstance(answered, dict) and isinstance(answered.get("choices"), list):
        yield _OUTPUT, as_text([_choice(each) for each in answered["choices"]])
    elif answered is not None:
        yield _OTHER_OUTPUT, as_text(answered)


def body_of(content: Content | None) -> Any:
    """
    What may be shown of a body; ``None`` for nothing.
    """
    return None if content is None else content.body


def as_text(value: Any) -> str:
    """
    A text as it is, other values as JSON.
    """
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return _message(choice)
    return {**_message(choice.get("message")), "finish_reason": choice.get("finish_reason") or "unknown"}


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        return {"role": "unknown", "parts": list(_parts(message))}
    content, calls = message.get("content"), message.get("tool_calls")
    if message.get("role") == "tool":
        answer = {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}
        return {"role": "tool", "parts": [answer]}
    parts = [*_parts(content), *(_call(each) for each in (calls if isinstance(calls, list) else ()))]
    return {"role": message.get("role") or "assistant", "parts": parts}


def _parts(content: Any) -> Iterator[dict[str, Any]]:
    for piece in content if isinstance(content, list) else [content]:
        if isinstance(piece, dict) and piece.get("type") == "text":
            yield {"type": "text", "content": piece.get("text")}
        elif isinstance(piece, dict):
            yield {**piece, "type": str(piece.get("type") or "unknown")}
        elif piece is not None:
            yield {"type": "text", "content": piece}


def _call(call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return {"type": "tool_call", "name": "unknown", "arguments": call}
    name, arguments = function.get("name"), function.get("arguments")
    return {"type": "tool_call", "id": call.get("id"), "name": name, "arguments": arguments}
