"""
What the demo says, and the rule by which it counts.

The rule: a token is four bytes of UTF-8, the last one possibly shorter; only text counts. It is
not Mistral's tokenizer, but anyone can recompute it from what was sent and received.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

BYTES_PER_TOKEN = 4
_DEEPEST = 6
"""
Message lists hold messages that hold parts that hold text: deeper is not looked at, so that a
nest of ten thousand brackets costs nothing.
"""
_QUOTED_CHARACTERS = 80
_PIECE = re.compile(r"\s*\S+\s*")


def tokens(text: str) -> int:
    """
    How many tokens *text* has.
    """
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def usage(prompt: str, completion: str) -> dict[str, Any]:
    """
    The ``usage`` of chat, FIM and agents.
    """
    asked, said = tokens(prompt), tokens(completion)
    return {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def text_of(content: object, _depth: int = 0) -> str:
    """
    All text in a message, a list of messages, or parts of either; images and files have none.
    """
    if isinstance(content, str):
        return content
    if _depth < _DEEPEST:
        if isinstance(content, list):
            return "\n".join(filter(None, (text_of(part, _depth + 1) for part in content)))
        if isinstance(content, Mapping):
            names = ("text", "content", "thinking", "result")
            return "\n".join(filter(None, (text_of(content.get(n), _depth + 1) for n in names)))
    return ""


def last_text(messages: object) -> str:
    """
    What was said last: the end of a list, or the whole of anything else.
    """
    return text_of(messages[-1:] if isinstance(messages, list) else messages)


def reply(question: str) -> str:
    """
    The demo's answer to *question*.
    """
    quoted = " ".join(question[: 4 * _QUOTED_CHARACTERS].split())
    if len(quoted) > _QUOTED_CHARACTERS:
        quoted = quoted[: _QUOTED_CHARACTERS - 3] + "..."
    return (
        "Hello! This is the built-in demo of dheera. I am not a real model, and nothing was sent "
        f'anywhere. You wrote: "{quoted}". To hear the real answer, set MISTRAL_API_KEY and start '
        "dheera_ai without --demo."
    )


def filling() -> str:
    """
    The demo's answer to every gap in a program.
    """
    return "    return 42  # from the built-in demo of dheera: nothing was sent anywhere\n"


def page() -> str:
    """
    What the demo reads on every document, in Markdown.
    """
    return (
        "# The built-in demo of dheera\n\nThis page was not read from your document: "
        "nothing was fetched and nothing was sent anywhere.\n\n"
        "| item | amount |\n| --- | --- |\n| coffee | 2.40 |\n| total | 2.40 |\n"
    )


def transcript() -> str:
    """
    What the demo hears in every recording.
    """
    return "This is the built-in demo of dheera. It did not listen to your recording, and nothing was sent anywhere."


def cut(text: str, most_tokens: int | None) -> tuple[str, str]:
    """
    *text* with at most so many tokens, and the ``finish_reason`` that goes with it.
    """
    if most_tokens is None or tokens(text) <= most_tokens:
        return text, "stop"
    shorter = text.encode("utf-8", "replace")[: most_tokens * BYTES_PER_TOKEN]
    return shorter.decode("utf-8", "ignore"), "length"


def pieces(text: str) -> list[str]:
    """
    *text* word by word; joined again they are *text*.
    """
    return _PIECE.findall(text)
