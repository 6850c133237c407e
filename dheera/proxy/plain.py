"""
Chats of the plainest kind, texts by known roles and settings without nested objects: most are. What bounds such a call
and what its record says of it is read in one go, a tenth of the work of `asking` and `metering.requests`; the answers
are the same. Whatever is out of the ordinary is left to these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct, defstruct

from dheera.bounds import Asked
from dheera.metering.gathering import HELD_BYTES
from dheera.metering.requests import PARAMETERS, Number, usually_wanted
from dheera.proxy.asking import MOST_CHOICES, MOST_DIGITS, OWN_WORDS, PLAIN, REASONING
from dheera.usage import Wanted

CHAT = "chat/completions"
LONGEST_MODEL = 128
"""
Characters of a model's name, each of which may be written with twelve bytes.
"""

_REASONING = REASONING.decode()
_QUOTE, _BACKSLASH = b'"\\'  # as numbers: to look for bytes of one takes five times as long
_QUOTES_OF_TEXT = 4
_QUOTES_OF_MESSAGE = 8
_MORE_TOKENS = 10**MOST_DIGITS


class _Message(Struct, forbid_unknown_fields=True, gc=False):
    """
    Text, which is all that its model is given to read.
    """

    role: Literal["user", "assistant", "system", "developer"]
    content: str


class _Chat(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """
    All that may stand in the body, but for settings.
    """

    messages: list[_Message] | None = None
    model: str | None = None
    user: str | None = None


_SETTINGS = [name for name in PARAMETERS if name in PLAIN | {"max_tokens", "n", "safe_prompt"}]
_decoder: msgspec.json.Decoder[_Chat] = msgspec.json.Decoder(
    defstruct(
        "_ChatWithSettings",
        [(name, Number, None) for name in _SETTINGS],
        bases=(_Chat,),
        forbid_unknown_fields=True,
        omit_defaults=True,
        gc=False,
    )
)


class Plain(Struct, frozen=True, gc=False):
    """
    What a plain chat asks for.
    """

    asked: Asked
    wanted: Wanted


def read_plain(content: bytes) -> Plain | None:
    """
    What *content* asks for, if it is a plain chat, and there is one way only to read it.
    """
    if len(content) > HELD_BYTES:
        return None
    try:
        chat = _decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    messages, model, user = chat.messages, chat.model, chat.user
    chat.messages = chat.model = chat.user = None
    settings = msgspec.to_builtins(chat)
    if messages is None or not _says_no_more(content, messages, model, user, len(settings)):
        return None
    choices, longest = settings.get("n", 1), settings.get("max_tokens")
    if type(choices) is not int or not 0 <= choices <= MOST_CHOICES or len(model or "") > LONGEST_MODEL:
        return None
    reasons = model is not None and model.startswith(_REASONING)
    asked = Asked(
        model=model,
        request_bytes=len(content),
        added_tokens=OWN_WORDS if reasons or settings.get("safe_prompt", False) is not False else 0,
        max_tokens=longest if type(longest) is int and 0 < longest < _MORE_TOKENS else None,
        choices=choices or 1,
    )
    return Plain(asked, usually_wanted(model, user, settings))


def _says_no_more(
    content: bytes, messages: Sequence[_Message], model: str | None, user: str | None, settings: int
) -> bool:
    """
    Whether *content* has as many quotes as what was read of it: where a name stands twice only its last value was, and
    all that is ``null`` is as if it were not there.

    :param settings: how many there are.
    """
    texts = (model is not None) + (user is not None)
    quotes = 2 * (1 + settings) + _QUOTES_OF_TEXT * texts + _QUOTES_OF_MESSAGE * len(messages)
    if _BACKSLASH in content:
        if content.find(rb"\u0022") >= 0:  # a quote that is none
            return False
        said = [model or "", user or "", *(each.content for each in messages)]
        quotes += sum([text.count('"') for text in said])
    return content.count(_QUOTE) == quotes
