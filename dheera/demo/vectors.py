"""
Embeddings. A text's vector is made from its hash: the same text has the same one, of length one,
and two texts that mean the same are as far apart as any others.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from math import sqrt
from typing import Any
from uuid import uuid4

from dheera.demo.calls import Answer, Asked, Call, answer
from dheera.demo.refusals import invalid, refused
from dheera.demo.words import tokens

DIMENSIONS = 1024
MOST_DIMENSIONS = 3072
MOST_INPUTS = 256


def embed(call: Call) -> Answer:
    """
    ``POST /v1/embeddings``
    """
    asked = call.json()
    model = asked.model()
    texts = texts_in(asked, "input")
    dimensions = asked.count("output_dimension") or DIMENSIONS
    if dimensions > MOST_DIMENSIONS:
        raise refused(400, "output_dimension is above 3072", "invalid_request_error", "3050")
    packed = asked.text("encoding_format") == "base64"
    used = sum(tokens(text) for text in texts)
    usage = {"prompt_tokens": used, "total_tokens": used, "completion_tokens": 0}
    vectors = [_vector(text, dimensions) for text in texts]
    return answer(
        {
            "id": uuid4().hex,
            "object": "list",
            "model": model,
            "data": [
                {"object": "embedding", "index": i, "embedding": _packed(v) if packed else v}
                for i, v in enumerate(vectors)
            ],
            "usage": usage,
        },
        tokens=used,
    )


def texts_in(asked: Asked, name: str) -> list[str]:
    """
    The one text, or the several, that a call is about.

    :raises Refused: there is none, it is no text, or there are too many.
    """
    value: Any = asked.needed(name)
    texts = [value] if isinstance(value, str) else asked.many(name)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise invalid("string_type", [name, index], "Input should be a valid string")
    refuse_too_many(texts)
    return texts


def refuse_too_many(inputs: list[Any]) -> None:
    """
    :raises Refused: 400, more inputs than the demo takes at once.
    """
    if len(inputs) > MOST_INPUTS:
        message = f"The demo takes at most {MOST_INPUTS} inputs in one call."
        raise refused(400, message, "invalid_request_error", "3210")


def _vector(text: str, dimensions: int) -> list[float]:
    noise = hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(2 * dimensions)
    numbers = struct.unpack(f"<{dimensions}h", noise)
    length = sqrt(sum(number * number for number in numbers)) or 1.0
    return [round(number / length, 7) for number in numbers]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
