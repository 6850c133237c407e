"""
What a call is taken to have used when upstream never said: the written rule of ``docs/money.md``.

Imports no Twisted and does no I/O.
"""

from __future__ import annotations

from dheera.usage import Usage, Wanted

BYTES_PER_TOKEN = 4
"""
Of a request: English text and JSON around it come to about as many, and what is encoded as base64 to far more, so that
the model's context bounds it.
"""

_ANSWERED_IN_TOKENS = frozenset(
    {"chat/completions", "fim/completions", "agents/completions", "conversations", "responses"}
)
_READ_IN_TOKENS = frozenset(
    {"embeddings", "moderations", "chat/moderations", "classifications", "chat/classifications"}
)
_SPOKEN = "audio/speech"


def estimated(
    wanted: Wanted, endpoint: str, request_bytes: int | None, events: int, *, ceiling: int | None
) -> Usage | None:
    """
    The usage to be priced, and to be marked as an estimate, of a call that upstream took: it answered 2xx, or the
    client left while it was at work. ``None`` where there is nothing to go by: then the cost is unknown.

    :param endpoint: as in `dheera.records.Begun`.
    :param request_bytes: of the request's body; ``None`` if that is not known.
    :param events: that came with content, each taken for a token.
    :param ceiling: the model's context.
    """
    if endpoint == _SPOKEN:
        return Usage(characters=wanted.characters) if wanted.characters else None
    if request_bytes is None or endpoint not in _ANSWERED_IN_TOKENS | _READ_IN_TOKENS:
        return None
    prompt = -(-request_bytes // BYTES_PER_TOKEN)
    if ceiling is not None:
        prompt = min(prompt, ceiling)
    output = events if endpoint in _ANSWERED_IN_TOKENS else 0
    return Usage(prompt_tokens=prompt, completion_tokens=output, total_tokens=prompt + output)
