"""
Answers of the usual shape, read at once: most are, and it takes a third of the time.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from dheera.metering.quantities import MOST
from dheera.metering.texts import shown
from dheera.usage import Part, Reading, Usage

_Count = Annotated[int, Meta(ge=0, le=MOST)]


class _Details(Struct, forbid_unknown_fields=True, gc=False):
    cached_tokens: _Count = 0


class _Usage(Struct, forbid_unknown_fields=True, gc=False):
    prompt_tokens: _Count
    total_tokens: _Count
    completion_tokens: _Count = 0
    prompt_tokens_details: _Details | None = None


class _Answer(Struct, gc=False):
    """
    What else may tell of use must not be there.
    """

    model: str
    usage: _Usage
    usage_info: None = None
    response: None = None


_decoder = msgspec.json.Decoder(_Answer)


def usual(content: bytes) -> Reading | None:
    """
    What *content* says, if it is a whole answer of the usual shape.
    """
    try:
        answer = _decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    model, told = shown(answer.model), answer.usage
    if model is None:
        return None
    details = told.prompt_tokens_details
    used = Usage(
        prompt_tokens=told.prompt_tokens,
        cached_tokens=0 if details is None else min(details.cached_tokens, told.prompt_tokens),
        completion_tokens=told.completion_tokens,
        total_tokens=told.total_tokens,
    )
    return Reading(model=model, parts=[Part(model=model, usage=used)])
