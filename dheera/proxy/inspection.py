"""
Which models a request asks for, where its key may not use all. Whatever servers could read in different ways, and
whatever cannot be read, is refused; what passes goes up as it came, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from dheera.errors import ModelNotAllowed
from dheera.models import Models
from dheera.proxy.searching import (
    LONGEST_VALUE,
    MODELLESS,
    MOST_NAMES,
    Asking,
    Name,
    Pairs,
    Reader,
    Unclear,
    gather,
    has,
    kind_of_body,
    model_of_socket,
    models_of_query,
    named_in_form,
    require_utf_8,
    told,
)
from dheera.wire.headroom import Headroom


async def inspect(request: Asking, target: bytes, models: Models, limit: int, headroom: Headroom | None = None) -> None:
    """
    Let a request pass that uses no model, or none but *models*. Its body, if that had to be read, is here afterwards
    for whoever takes it next.

    :param target: the request's, or upstream's, with the query.
    :param limit: bytes of a body that is read.
    :param headroom: where the body counts until it is released.
    :raises ModelNotAllowed: it names another model; or none, where one may be used; or it is not clear which.
    :raises BodyTooLarge: it has more than *limit* bytes.
    :raises Unavailable: there is no headroom for its body.
    :raises ClientLeft: the client went before all of it had come.
    """
    try:
        names = await _named(request, target.partition(b"?")[2], limit, headroom)
    except Unclear as unclear:
        raise ModelNotAllowed(f"This API key may use certain models only, and {unclear}.", whose=models.whose) from None
    for name in names:
        models.check(name)


async def _named(request: Asking, query: bytes, limit: int, headroom: Headroom | None) -> Iterable[str]:
    kind = kind_of_body(request.fields)
    if request.upgrade_to is not None:
        return [model_of_socket(query)]
    if request.method in MODELLESS:
        return ()
    content, boundary = await gather(request, kind, limit, headroom)
    names = _of_json(content) if boundary is None else _of_form(content, boundary)
    return [*names, *models_of_query(query)]


# JSON.


_Text = Annotated[str, msgspec.Meta(max_length=1024)]
_Line = Annotated[dict[Name, Pairs | _Text | int | float | bool | None], msgspec.Meta(min_length=1)]

_TELLING = frozenset({"model", "agent_id", "requests", "input_files", "body"})
_EMPTY_LIST = re.compile(rb"\[[ \t\r\n]*\]")

MOST_NAMES_OF_BATCH = 60_000
"""
Names in all the requests of a batch and their bodies: it may have 10,000 requests. More would keep everybody else
waiting for a third of a second.
"""

_calls: Reader[Pairs] = Reader(Pairs, _TELLING, most_names=MOST_NAMES)
_lines: Reader[list[dict[Name, Any]]] = Reader(list[_Line], _TELLING, most_names=MOST_NAMES_OF_BATCH)  # type: ignore[valid-type, unused-ignore]


def _of_json(content: bytes) -> Iterable[str]:
    """
    The model of a call; those of all calls of a batch (``POST /v1/batch/jobs``). That is told by what it holds and not
    by the path, so that no spelling of a path leads round it.
    """
    require_utf_8(content)
    found = told(_calls.read(content), ("model", "agent_id", "requests", "input_files"))
    if _lists(found, "input_files"):
        raise Unclear("the files of a batch are not searched for it: send the requests of the batch in its body")
    if not _lists(found, "requests"):
        return [_model(found)]
    return _of_batch(found)


def _of_batch(job: Mapping[str, msgspec.Raw]) -> Iterable[str]:
    """
    The job's own model, and that of each of its requests: which one wins is not documented.
    """
    own = has(job, "model")
    names = [_model(job)] if own or has(job, "agent_id") else []
    for request in _lines.read(job["requests"]):
        line = told(request, ("model", "agent_id", "body"))
        if "model" in line or "agent_id" in line:
            raise Unclear("a request of the batch names it beside its body: name it in the body")
        if not isinstance(line.get("body"), dict):
            raise Unclear("a request of the batch has no body: give it one, an object")
        body = told(line["body"], ("model", "agent_id"))
        if not own or has(body, "model") or has(body, "agent_id"):
            names.append(_model(body))
    return dict.fromkeys(names)


def _lists(found: Mapping[str, msgspec.Raw], name: str) -> bool:
    return has(found, name) and _EMPTY_LIST.fullmatch(found[name]) is None


def _model(found: Mapping[str, msgspec.Raw]) -> str:
    if has(found, "agent_id"):
        raise Unclear("an agent brings its own: name a model, and no agent")
    written = found.get("model")
    if written is None or len(memoryview(written)) > LONGEST_VALUE or not bytes(written).startswith(b'"'):
        raise Unclear("the body does not name one as a text: add it, or call this endpoint with a key that has no list")
    return msgspec.json.decode(written, type=str)


# Forms.


def _of_form(content: bytes, boundary: bytes) -> Sequence[str]:
    texts = named_in_form(content, boundary)
    if "model" not in texts or "agent_id" in texts:
        raise Unclear("the form must name a model, and no agent: add a part that is called model")
    return [texts["model"]]
