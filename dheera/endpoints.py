"""
Short names for the kinds of calls, of a bounded number: what records, sums and metrics tell calls apart by.

Imports no Twisted and does no I/O.
"""

from __future__ import annotations

import re
from functools import lru_cache

OTHER = "other"

_VERSION = re.compile(r"/v\d+(?=/|$)")
_NAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"/((?:chat|fim|agents)/completions)", r"\1"),
        (r"/(chat/(?:moderations|classifications)|moderations|classifications|embeddings|ocr|responses)", r"\1"),
        (r"/(audio/(?:transcriptions|speech)(?:/realtime)?)", r"\1"),
        (r"/conversations(?:/[^/]+(?:/restart)?)?", "conversations"),
        (r"/files/[^/]+/content", "files/content"),
        (r"/batch/jobs(?:/.*)?", "batch/jobs"),
        (r"/(files|models|agents|libraries|fine_tuning|conversations|workflows|observability)(?:/.*)?", r"\1"),
        (r"/(connectors|connectors-gateway|context|prompts|skills|mcp|telemetry)(?:/.*)?", r"\1"),
        (r"/(audio)(?:/.*)?", r"\1"),
    )
)

PRICED = frozenset(
    {
        "chat/completions",
        "fim/completions",
        "agents/completions",
        "chat/moderations",
        "chat/classifications",
        "moderations",
        "classifications",
        "embeddings",
        "ocr",
        "responses",
        "conversations",
        "audio/transcriptions",
        "audio/transcriptions/realtime",
        "audio/speech",
        "audio/speech/realtime",
    }
)
"""
Where each call that is answered costs something, unless its model is free.
"""

_SESSIONS = frozenset({"audio/transcriptions/realtime", "audio/speech/realtime"})
_LOOKING = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})

FREE = frozenset({"files", "files/content", "models", "agents", "batch/jobs", "prompts", "skills", "mcp"})
"""
Where a call costs nothing by itself, whatever its method. A batch is billed when its output is fetched.
"""


ENDPOINTS = (
    PRICED
    | FREE
    | {"audio", "connectors", "connectors-gateway", "context", "fine_tuning", "libraries", "observability", "telemetry"}
    | {"workflows", OTHER}
)
"""
All names that there are.
"""


@lru_cache(maxsize=4096)
def endpoint_of(path: str) -> str:
    """
    The name for a canonical path of the API, without its query: ``chat/completions`` for ``/v1/chat/completions``.
    """
    rest = _VERSION.sub("", path, count=1)
    for pattern, name in _NAMES:
        if match := pattern.fullmatch(rest):
            return match.expand(name)
    return OTHER


def is_free(endpoint: str, method: str) -> bool:
    """
    Whether a call is known to cost nothing by itself: what looks or deletes does, but for sessions, which begin with
    a GET.
    """
    return endpoint in FREE or (method in _LOOKING and endpoint not in _SESSIONS)
