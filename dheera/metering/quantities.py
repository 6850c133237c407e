"""
Upstream's many ways to say what was used, read into one.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, Final

from msgspec.structs import replace

from dheera.metering.texts import shown
from dheera.usage import Usage

MOST: Final = 2**53
"""
More than this of anything is taken for an error.
"""

MOST_CONNECTORS = 32

_Object = Mapping[str, Any]
_NOTHING: Final[dict[str, Any]] = {}


def usage_of(told: Any, pages: Any = None, *, annotates: bool = False) -> Usage | None:
    """
    What an answer tells.

    :param told: its ``usage``.
    :param pages: its ``usage_info``.
    :param annotates: the pages were annotated too.
    :return: ``None`` if it tells no quantity that we know.
    """
    read = pages_processed(pages)
    if not isinstance(told, dict):
        told = _NOTHING
    elif len(told) == len(_PLAIN) and pages is None and (plain := _plain(told)) is not None:
        return plain
    prompt = _first(told, "prompt_tokens", "input_tokens")
    completion = _first(told, "completion_tokens", "output_tokens")
    total = _count(told.get("total_tokens"))
    audio = _count(told.get("prompt_audio_seconds"), scale=1000)
    if prompt is None and completion is None and total is None and audio is None and read is None:
        return None
    return Usage(
        prompt_tokens=prompt or 0,
        cached_tokens=min(_cached(told), prompt or 0),
        completion_tokens=completion or 0,
        reasoning_tokens=min(_reasoning(told), completion or 0),
        total_tokens=total or 0,
        connector_tokens=_count(told.get("connector_tokens")) or 0,
        connectors=_connectors(told.get("connectors")),
        audio_ms=audio or 0,
        pages=0 if annotates else read or 0,
        annotated_pages=(read or 0) if annotates else 0,
    )


_PLAIN: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


def _plain(told: _Object) -> Usage | None:
    """
    What most answers tell, read in a third of the time.
    """
    counts: list[Any] = [told.get(name) for name in _PLAIN]
    if not all(type(count) is int and 0 <= count <= MOST for count in counts):
        return None
    return Usage(**dict(zip(_PLAIN, counts, strict=True)))


def pages_processed(told: Any) -> int | None:
    """
    Of a ``usage_info``, how many pages were read.
    """
    return _count(told.get("pages_processed")) if isinstance(told, dict) else None


def added(one: Usage, other: Usage) -> Usage:
    """
    The sum of both.
    """
    connectors = dict(one.connectors)
    for name, calls in other.connectors.items():
        if name in connectors or len(connectors) < MOST_CONNECTORS:
            connectors[name] = min(connectors.get(name, 0) + calls, MOST)
    sums = {name: min(getattr(one, name) + getattr(other, name), MOST) for name in _NUMBERS}
    return replace(one, connectors=connectors, **sums)


_NUMBERS = [name for name in Usage.__struct_fields__ if name != "connectors"]


def _count(told: Any, scale: int = 1) -> int | None:
    """
    A number of things, none of them cut in two; ``None`` if it is none, or absurd.
    """
    if type(told) is int:
        number = told * scale
    elif type(told) is float and 0 <= told <= MOST:
        number = ceil(told) if scale == 1 else round(told * scale)
    else:
        return None
    return number if 0 <= number <= MOST else None


def _first(told: _Object, *names: str) -> int | None:
    for name in names:
        number = _count(told.get(name))
        if number is not None:
            return number
    return None


def _detail(told: _Object, place: str, name: str) -> int | None:
    details = told.get(place)
    return _count(details.get(name)) if isinstance(details, dict) else None


def _cached(told: _Object) -> int:
    for place in ("prompt_tokens_details", None, "prompt_token_details", "input_tokens_details"):
        number = _count(told.get("num_cached_tokens")) if place is None else _detail(told, place, "cached_tokens")
        if number is not None:
            return number
    return 0


def _reasoning(told: _Object) -> int:
    inside = _detail(told, "completion_tokens_details", "reasoning_tokens")
    return inside or _detail(told, "output_tokens_details", "reasoning_tokens") or 0


def _connectors(told: Any) -> dict[str, int]:
    if not isinstance(told, dict):
        return {}
    calls = [(shown(name), _count(number)) for name, number in list(told.items())[: 2 * MOST_CONNECTORS]]
    return dict([(name, number) for name, number in calls if name and number][:MOST_CONNECTORS])
