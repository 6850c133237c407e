"""
Which models a request asks for, where its key may not use all. Whatever servers could read in different ways, and
whatever cannot be read, is refused; what passes goes up as it came, byte for byte.
"""

from __future__ import annotations

import re
from codecs import utf_8_decode
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Annotated, Any, Generic, Protocol, TypeVar
from urllib.parse import unquote_plus

import msgspec
from attrs import define, field

from dheera.errors import ModelNotAllowed
from dheera.models import Models
from dheera.proxy.forms import FORM, Ambiguous, texts_of_form
from dheera.wire.body import RequestBody
from dheera.wire.headroom import Headroom
from dheera.wire.heads import Fields
from dheera.wire.request import Request

MODELLESS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"DELETE"})
"""
Methods that look up and delete, and use no model.
"""

_OVERRIDES = frozenset({b"x-http-method", b"x-http-method-override", b"x-method-override"})
_JSON = re.compile(rb"application/(?:[a-z0-9.-]+\+)?json[ \t]*(?:;[ \t]*charset=\"?utf-?8\"?[ \t]*)?;?", re.IGNORECASE)


class Asking(Protocol):
    """
    Of a request, what is looked at.
    """

    @property
    def method(self) -> bytes: ...  # noqa: D102 - as in `Request`
    @property
    def fields(self) -> Fields: ...  # noqa: D102
    @property
    def body(self) -> RequestBody | None: ...  # noqa: D102
    @property
    def upgrade_to(self) -> bytes | None: ...  # noqa: D102


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


class Unclear(Exception):
    """
    It cannot be told which model is asked for: the reason, and what to do, to end a sentence that ends in "and".
    """


async def _named(request: Asking, query: bytes, limit: int, headroom: Headroom | None) -> Iterable[str]:
    kind = _kind_of_body(request.fields)
    if request.upgrade_to is not None:
        asked = _of_query(query)
        if len(asked) != 1:
            raise Unclear("a WebSocket must name one: add ?model=... to its address, once")
        return asked
    if request.method in MODELLESS:
        return ()
    is_json = kind is None or kind == b"application/json" or _JSON.fullmatch(kind)
    form = None if is_json else FORM.fullmatch(kind or b"")
    if not is_json and form is None:
        raise Unclear("only JSON in UTF-8, and simple multipart/form-data, can be searched for it: send one of these")
    content = b"" if request.body is None else await request.body.gather(limit, headroom)
    names = _of_json(content) if form is None else _of_form(content, form["boundary"])
    return [*names, *_of_query(query)]


def _kind_of_body(fields: Fields) -> bytes | None:
    kind: bytes | None = None
    for name, value in fields:
        lowered = name.lower().replace(b"_", b"-")  # upstreams of the CGI kind see no difference
        if lowered == b"content-type":
            if kind is not None:
                raise Unclear("there are two Content-Type headers: send one")
            kind = value.strip()
        elif lowered == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise Unclear("a body in a Content-Encoding cannot be searched for it: send it plain")
        elif lowered in _OVERRIDES:
            raise Unclear("a header that overrides the method is not taken: send the method that is meant")
    return kind


# The query.


def _of_query(query: bytes) -> list[str]:
    found = []
    for part in re.split(rb"[&;]", query) if query else ():
        name, _, value = part.partition(b"=")
        plain = _unquoted(name)
        if _folded(plain.partition("[")[0]) == "model":
            if plain != "model" or b";" in query:
                raise Unclear("the query names it in a way that servers read differently: write ?model=... once")
            found.append(_unquoted(value))
    return found


def _unquoted(text: bytes) -> str:
    try:
        return unquote_plus(text.decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        raise Unclear("the query is not UTF-8: encode it as UTF-8") from None


# JSON.


class _Name:  # no attrs: msgspec would look for an object's fields
    """
    A name in an object. No two are equal, so that a dict keeps all pairs of an object in which one stands twice.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


_Pairs = dict[_Name, msgspec.Raw]
_Text = Annotated[str, msgspec.Meta(max_length=1024)]
_Line = Annotated[dict[_Name, _Pairs | _Text | int | float | bool | None], msgspec.Meta(min_length=1)]
_Read = TypeVar("_Read")

_TELLING = frozenset({"model", "agent_id", "requests", "input_files", "body"})
_OTHER = _Name("")
"""
Stands for all the names that are none of these: keeping them all would take time and room.
"""

_EMPTY_LIST = re.compile(rb"\[[ \t\r\n]*\]")

LONGEST_VALUE = 2048
"""
Bytes of a model's name, as it is written.
"""

LONGEST_NAME = 1024
"""
Characters of a name in an object.
"""

MOST_NAMES = 10_000
MOST_NAMES_OF_BATCH = 60_000
"""
Names in an object, and in all the requests of a batch and their bodies: it may have 10,000 requests. More would keep
everybody else waiting for a third of a second.
"""


@define(eq=False)
class _Reader(Generic[_Read]):
    """
    Reads the names of objects, and steps over their values. These are looked at (by msgspec, which is strict), but
    never built: a body of many small things would take a second, and twenty times its size.

    :param most_names: in all that is read at once.
    """

    _kind: Any
    _most_names: int
    _names_left: int = field(default=0, init=False)
    _decoder: msgspec.json.Decoder[_Read] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._decoder = msgspec.json.Decoder(self._kind, dec_hook=self._name)

    def read(self, content: bytes | msgspec.Raw) -> _Read:
        """
        What is in it, by name; names that never tell are not told apart.

        :raises Unclear: it is not JSON, or of another kind, or there are too many names.
        """
        self._names_left = self._most_names
        try:
            return self._decoder.decode(content)
        except (msgspec.DecodeError, RecursionError):
            raise Unclear(NOT_JSON) from None

    def _name(self, _kind: type, text: str) -> _Name:
        self._names_left -= 1
        if self._names_left < 0 or len(text) > LONGEST_NAME:
            raise ValueError
        return _Name(text) if _folded(text) in _TELLING else _OTHER


NOT_JSON = 'the body is not JSON that can be searched for it: send {"model": ...}, a simple object, in UTF-8'
_calls: _Reader[_Pairs] = _Reader(_Pairs, most_names=MOST_NAMES)
_lines: _Reader[list[dict[_Name, Any]]] = _Reader(list[_Line], most_names=MOST_NAMES_OF_BATCH)  # type: ignore[valid-type, unused-ignore]


def _of_json(content: bytes) -> Iterable[str]:
    """
    The model of a call; those of all calls of a batch (``POST /v1/batch/jobs``). That is told by what it holds and not
    by the path, so that no spelling of a path leads round it.
    """
    _require_utf_8(content)
    told = _told(_calls.read(content), ("model", "agent_id", "requests", "input_files"))
    if _lists(told, "input_files"):
        raise Unclear("the files of a batch are not searched for it: send the requests of the batch in its body")
    if not _lists(told, "requests"):
        return [_model(told)]
    return _of_batch(told)


def _require_utf_8(content: bytes) -> None:
    if content.isascii():
        return
    view, at = memoryview(content), 0
    try:
        while at < len(view):  # in slices: the text of all of it could take four times its size
            at += utf_8_decode(view[at : at + _SLICE], "strict", at + _SLICE >= len(view))[1]
    except UnicodeDecodeError:
        raise Unclear(NOT_JSON) from None


_SLICE = 65536


def _of_batch(job: Mapping[str, msgspec.Raw]) -> Iterable[str]:
    """
    The job's own model, and that of each of its requests: which one wins is not documented.
    """
    own = _has(job, "model")
    names = [_model(job)] if own or _has(job, "agent_id") else []
    for request in _lines.read(job["requests"]):
        line = _told(request, ("model", "agent_id", "body"))
        if "model" in line or "agent_id" in line:
            raise Unclear("a request of the batch names it beside its body: name it in the body")
        if not isinstance(line.get("body"), dict):
            raise Unclear("a request of the batch has no body: give it one, an object")
        body = _told(line["body"], ("model", "agent_id"))
        if not own or _has(body, "model") or _has(body, "agent_id"):
            names.append(_model(body))
    return dict.fromkeys(names)


def _told(pairs: Mapping[_Name, Any], wanted: Container[str]) -> dict[str, Any]:
    """
    What an object has under the *wanted* names, each of which must be there once at most, in any case of letters.
    """
    told: dict[str, Any] = {}
    for name, value in pairs.items():
        if (folded := _folded(name.text)) in wanted:
            if name.text != folded or folded in told:
                raise Unclear(f"the body has {folded} twice, or spelled otherwise: write {folded} once")
            told[folded] = value
    return told


def _folded(name: str) -> str:
    """
    A name as the most careless of servers would take it: in any case of letters, and only up to a NUL.
    """
    return name.casefold().partition("\0")[0]


def _has(told: Mapping[str, msgspec.Raw], name: str) -> bool:
    return name in told and bytes(told[name]) != b"null"


def _lists(told: Mapping[str, msgspec.Raw], name: str) -> bool:
    return _has(told, name) and _EMPTY_LIST.fullmatch(told[name]) is None


def _model(told: Mapping[str, msgspec.Raw]) -> str:
    if _has(told, "agent_id"):
        raise Unclear("an agent brings its own: name a model, and no agent")
    written = told.get("model")
    if written is None or len(memoryview(written)) > LONGEST_VALUE or not bytes(written).startswith(b'"'):
        raise Unclear("the body does not name one as a text: add it, or call this endpoint with a key that has no list")
    return msgspec.json.decode(written, type=str)


# Forms.


def _of_form(content: bytes, boundary: bytes) -> Sequence[str]:
    try:
        texts = texts_of_form(content, boundary, ("model", "agent_id"))
    except Ambiguous:
        raise Unclear(
            "the form is not one that all servers read alike: name each part simply, and model once"
        ) from None
    if "model" not in texts or "agent_id" in texts:
        raise Unclear("the form must name a model, and no agent: add a part that is called model")
    return [texts["model"]]


_: type[Asking] = Request
