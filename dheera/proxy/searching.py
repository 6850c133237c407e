"""
How what decides is found in a request: so strictly that no server could find something else in it. Whatever servers
could read in different ways, and whatever cannot be read, is `Unclear`.
"""

from __future__ import annotations

import re
from codecs import utf_8_decode
from collections.abc import Container, Mapping
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import unquote_plus

import msgspec
from attrs import define, field

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


class Unclear(Exception):
    """
    It cannot be told what is asked for: the reason, and what to do, to end a sentence that ends in "and".
    """


def kind_of_body(fields: Fields) -> bytes | None:
    """
    The one ``Content-Type``; ``None`` if there is none.

    :raises Unclear: there are two, or a coding, or a header that makes another method of it.
    """
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


def is_json(kind: bytes | None) -> bool:
    """
    Whether a body of this *kind* is taken for JSON in UTF-8.
    """
    return kind is None or kind == b"application/json" or _JSON.fullmatch(kind) is not None


async def gather(
    request: Asking, kind: bytes | None, limit: int, headroom: Headroom | None
) -> tuple[bytes, bytes | None]:
    """
    The body, and the boundary if it is a form; else it should be JSON. It is here afterwards for whoever takes it next.

    :raises Unclear: it is of another *kind*; then nothing of it was read.
    """
    form = None if kind is None or is_json(kind) else FORM.fullmatch(kind)
    if form is None and not is_json(kind):
        raise Unclear("only JSON in UTF-8, and simple multipart/form-data, can be searched for it: send one of these")
    content = b"" if request.body is None else await request.body.gather(limit, headroom)
    return content, None if form is None else form["boundary"]


# The query.


def models_of_query(query: bytes) -> list[str]:
    """
    The models that it names.

    :raises Unclear: servers would read it differently.
    """
    found = []
    for part in re.split(rb"[&;]", query) if query else ():
        name, _, value = part.partition(b"=")
        plain = _unquoted(name)
        if folded(plain.partition("[")[0]) == "model":
            if plain != "model" or b";" in query:
                raise Unclear("the query names it in a way that servers read differently: write ?model=... once")
            found.append(_unquoted(value))
    return found


def model_of_socket(query: bytes) -> str:
    """
    The model of a WebSocket.

    :raises Unclear: there is none, or more than one.
    """
    asked = models_of_query(query)
    if len(asked) != 1:
        raise Unclear("a WebSocket must name one: add ?model=... to its address, once")
    return asked[0]


def _unquoted(text: bytes) -> str:
    try:
        return unquote_plus(text.decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        raise Unclear("the query is not UTF-8: encode it as UTF-8") from None


# JSON.


class Name:  # no attrs: msgspec would look for an object's fields
    """
    A name in an object. No two are equal, so that a dict keeps all pairs of an object in which one stands twice.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


Pairs = dict[Name, msgspec.Raw]
_Read = TypeVar("_Read")

OTHER = Name("")
"""
Stands for all the names that do not tell: keeping them all would take time and room.
"""

LONGEST_VALUE = 2048
"""
Bytes of a model's name, as it is written.
"""

LONGEST_NAME = 1024
"""
Characters of a name in an object.
"""

MOST_NAMES = 10_000
"""
Names in an object.
"""

NOT_JSON = 'the body is not JSON that can be searched for it: send {"model": ...}, a simple object, in UTF-8'


@define(eq=False)
class Reader(Generic[_Read]):
    """
    Reads the names of objects, and steps over their values. These are looked at (by msgspec, which is strict), but
    never built: a body of many small things would take a second, and twenty times its size.

    :param telling: the names that are told apart, in small letters.
    :param most_names: in all that is read at once.
    """

    _kind: Any
    _telling: Container[str]
    _most_names: int
    _names_left: int = field(default=0, init=False)
    _decoder: msgspec.json.Decoder[_Read] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._decoder = msgspec.json.Decoder(self._kind, dec_hook=self._name)

    def read(self, content: bytes | msgspec.Raw, *, goes_on: bool = False) -> _Read:
        """
        What is in it, by name; names that never tell are not told apart.

        :param goes_on: it is a part of what was read last, and counts with it.
        :raises Unclear: it is not JSON, or of another kind, or there are too many names.
        """
        if not goes_on:
            self._names_left = self._most_names
        try:
            return self._decoder.decode(content)
        except (msgspec.DecodeError, RecursionError):
            raise Unclear(NOT_JSON) from None

    def _name(self, _kind: type, text: str) -> Name:
        self._names_left -= 1
        if self._names_left < 0 or len(text) > LONGEST_NAME:
            raise ValueError
        return Name(text) if folded(text) in self._telling else OTHER


def require_utf_8(content: bytes) -> None:
    """
    Refuse what is not UTF-8: msgspec does not look into what it steps over.
    """
    if content.isascii():
        return
    view, at = memoryview(content), 0
    try:
        while at < len(view):  # in slices: the text of all of it could take four times its size
            at += utf_8_decode(view[at : at + _SLICE], "strict", at + _SLICE >= len(view))[1]
    except UnicodeDecodeError:
        raise Unclear(NOT_JSON) from None


_SLICE = 65536


def told(pairs: Mapping[Name, Any], wanted: Container[str]) -> dict[str, Any]:
    """
    What an object has under the *wanted* names, each of which must be there once at most, in any case of letters.
    """
    found: dict[str, Any] = {}
    for name, value in pairs.items():
        if (plain := folded(name.text)) in wanted:
            if name.text != plain or plain in found:
                raise Unclear(f"the body has {plain} twice, or spelled otherwise: write {plain} once")
            found[plain] = value
    return found


def folded(name: str) -> str:
    """
    A name as the most careless of servers would take it: in any case of letters, and only up to a NUL.
    """
    return name.casefold().partition("\0")[0]


def has(found: Mapping[str, msgspec.Raw], name: str) -> bool:
    """
    Whether something is said under *name*, other than ``null``.
    """
    return name in found and not is_written(found[name], b"null")


def is_written(value: msgspec.Raw, text: bytes) -> bool:
    """
    Whether *value* is written as *text*; one that is long is not copied.
    """
    return len(memoryview(value)) == len(text) and bytes(value) == text


_: type[Asking] = Request


def named_in_form(content: bytes, boundary: bytes) -> Mapping[str, str]:
    """
    What a form says of ``model`` and ``agent_id``, as far as it does.

    :raises Unclear: servers could read it in different ways.
    """
    try:
        return texts_of_form(content, boundary, ("model", "agent_id"))
    except Ambiguous:
        raise Unclear(
            "the form is not one that all servers read alike: name each part simply, and model once"
        ) from None
