"""
From the bytes of a request to the types of a route, and from what is wrong with them to a refusal that says where.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Struct
from msgspec.inspect import DictType, ListType, LiteralType, Metadata, StructType, UnionType, type_info

from dheera.entities import decoded
from dheera.errors import BadRequest, Invalid
from dheera.management.budget_shapes import misfits
from dheera.management.shapes import DEEPEST, WANTED, utc
from dheera.money import Usd

Place = tuple[str | int, ...]
Fault = tuple[Place, str, str]
Shape = TypeVar("Shape")

NAMED_FAULTS = 20
"""
How many unknown fields are named; more say nothing new.
"""

_AT = re.compile(r"(?s)(.*?) - at `(key` in `)?\$(.*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.{3})\]")
_ANY = "..."  # what msgspec says for the value of a key which it does not tell
_PLAIN_NAME = re.compile(r"(?!sk-)[A-Za-z0-9_.\[\]-]{1,64}")
_LEAST, _MOST = -(2**63), 2**64 - 1


def read_body(content: bytes, shape: type[Shape], *, strict_fields: bool) -> Shape:
    """
    The body as a *shape*. None at all is an empty object.

    :raises Invalid: it is not one.
    """
    return fitted(_parsed(content) if content else {}, shape, ("body",), strict_fields=strict_fields)


def read_query(text: bytes, shape: type[Shape], *, strict_fields: bool) -> Shape:
    """
    The query of a URL as a *shape*. Some clients write ``[]`` behind the name of what may come more than once.

    :raises Invalid: it is not one.
    """
    given: dict[str, list[str]] = {}
    for pair in text.split(b"&"):
        name, _, value = pair.partition(b"=")
        if pair:
            given.setdefault(_text(name).removesuffix("[]"), []).append(_text(value))
    lists = {field.encode_name: _holds_list(field.type) for field in _fields(shape)}
    faults: list[Fault] = [
        (("query", _told(name)), "Given more than once", "value_error")
        for name, values in given.items()
        if len(values) > 1 and not lists.get(name, True)
    ]
    if faults:
        raise Invalid(faults[:NAMED_FAULTS])
    raw = {name: values if lists.get(name) else values[0] for name, values in given.items()}
    return fitted(raw, shape, ("query",), strict_fields=strict_fields)


def fitted(raw: object, shape: type[Shape], place: Place, *, strict_fields: bool) -> Shape:
    """
    What was parsed as JSON, as a *shape*. Numbers may be written as texts.

    :param place: where it stands in the request.
    :raises Invalid: it does not fit.
    :raises BadRequest: an amount is negative.
    """
    if strict_fields and (faults := _unknown(raw, type_info(shape), place)):
        raise Invalid(faults[:NAMED_FAULTS])
    try:
        made = msgspec.convert(raw, shape, strict=False, dec_hook=decoded)
    except msgspec.ValidationError as error:
        raise Invalid([_fault(str(error), place, shape)]) from None
    _check(made, place)
    return made


def _parsed(content: bytes) -> object:
    try:
        raw = msgspec.json.decode(content)
    except RecursionError:
        raise Invalid([(("body",), _TOO_DEEP, "value_error")]) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid([(("body",), _json_fault(str(error)), "json_invalid")]) from None
    _look_through(raw)
    return raw


_TOO_DEEP = f"Nested more than {DEEPEST} levels deep"


def _json_fault(message: str) -> str:
    """
    What msgspec says of bytes that are not JSON, without what it may quote of them.
    """
    where = re.search(r"\(byte (\d+)\)", message)
    if "out of range" in message:
        return "A number is out of range"
    return f"Not valid JSON{f', at byte {where[1]}' if where else ''}: the body must be a JSON object in UTF-8"


def _look_through(raw: object) -> None:
    """
    Refuse what would parse but not everywhere be kept: deep nesting, and whole numbers beyond 64 bits.
    """
    level = [raw]
    for _ in range(DEEPEST + 1):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, int) and not _LEAST <= value <= _MOST:
                raise Invalid([(("body",), "A whole number is beyond 64 bits", "value_error")])
        if not below:
            return
        level = below
    raise Invalid([(("body",), _TOO_DEEP, "value_error")])


def _text(quoted: bytes) -> str:
    try:
        return unquote_to_bytes(quoted.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise Invalid([(("query",), "Not UTF-8 behind its percent-encoding", "value_error")]) from None


def _fault(message: str, place: Place, shape: Any) -> Fault:
    """
    Where and what msgspec found wrong, and what was wanted. Values that it quotes are left out: they may be secrets.
    """
    match = _AT.fullmatch(message)
    text, of_key, path = (match[1], match[2], match[3]) if match else (message, None, "")
    way = [name or (index if index == _ANY else int(index)) for name, index in _STEP.findall(path)]
    steps: Place = tuple(step for step in way if step != _ANY)
    sort = "type_error"
    if "missing required field" in text:
        name = text.split("`")[1]
        return (*place, *steps, name), "This field is required", "missing"
    if text.startswith("Invalid enum value"):
        text, sort = f"Expected {_wanted(shape, way, of_key=bool(of_key))}", "enum"
    elif "matching regex" in text:
        text, sort = f"Expected {_wanted(shape, way, of_key=bool(of_key))}", "value_error"
    elif not text.startswith("Expected") or any(sign in text for sign in ("<", ">", "length")):
        sort = "value_error"
    return (*place, *steps), text, sort


def _wanted(shape: Any, way: Sequence[str | int], *, of_key: bool) -> str:
    """
    In words, what *shape* wants at the end of a *way* into it.

    :param of_key: of a name there, not of a value.
    """
    there = _plain(type_info(shape))
    for step in way:
        there = [each for one in there for inner in _within(one, step) for each in _plain(inner)]
    if of_key:
        there = [each for one in there if isinstance(one[0], DictType) for each in _plain(one[0].key_type)]
    values = [value for sort, _ in there if isinstance(sort, LiteralType) for value in sort.values]
    if values:
        return f"one of {', '.join(f'`{value}`' for value in values)}"
    return next((words for _, words in there if words), "a value of another form")


def _plain(sort: Any, words: str = "") -> list[tuple[Any, str]]:
    """
    The types that a type may stand for, each with what it says of the texts that it wants.
    """
    if isinstance(sort, Metadata):
        return _plain(sort.type, (sort.extra or {}).get(WANTED) or words)
    if isinstance(sort, UnionType):
        return [each for one in sort.types for each in _plain(one, words)]
    return [(sort, words)]


def _within(found: tuple[Any, str], step: str | int) -> list[Any]:
    sort, _ = found
    if isinstance(sort, StructType):
        return [field.type for field in sort.fields if field.encode_name == step]
    if isinstance(sort, ListType) and isinstance(step, int):
        return [sort.item_type]
    return [sort.value_type] if isinstance(sort, DictType) and step == _ANY else []


def _unknown(raw: object, shape: Any, place: Place) -> list[Fault]:
    """
    The fields in *raw* that *shape* does not have.
    """
    if isinstance(shape, Metadata):
        return _unknown(raw, shape.type, place)
    if isinstance(shape, UnionType):
        return [fault for each in shape.types for fault in _unknown(raw, each, place)]
    if isinstance(shape, ListType) and isinstance(raw, list):
        return [fault for at, each in enumerate(raw) for fault in _unknown(each, shape.item_type, (*place, at))]
    if isinstance(shape, StructType) and isinstance(raw, dict):
        known = {field.encode_name: field.type for field in shape.fields}
        return [
            fault
            for name, value in raw.items()
            for fault in (
                _unknown(value, known[name], (*place, name))
                if name in known
                else [((*place, _told(name)), "There is no such field here", "extra_forbidden")]
            )
        ]
    return []


def _told(name: str) -> str:
    """
    A name that the client made up, if it can be said aloud.
    """
    return name if _PLAIN_NAME.fullmatch(name) else "..."


def _check(made: object, place: Place) -> None:
    """
    What types do not say. Times have a place in the calendar; limits can be held to; and no amount that somebody may
    spend is negative: the one fault of a field that is answered with 400, as scripts expect it.
    """
    if isinstance(made, list):
        for at, each in enumerate(made):
            _check(each, (*place, at))
    elif isinstance(made, Struct):
        for name in made.__struct_fields__:
            _check(getattr(made, name), (*place, name))
        if wrong := [
            ((*place, *(_told(each) if isinstance(each, str) else each for each in way)), text, "value_error")
            for way, text in misfits(made)
        ]:
            raise Invalid(wrong[:NAMED_FAULTS])
    elif isinstance(made, Usd) and made < Usd():
        raise BadRequest(f"{place[-1]} must not be negative.", param=str(place[-1]))
    elif isinstance(made, datetime):
        try:
            utc(made)
        except OverflowError:
            raise Invalid([(place, "Not a time between the years 1 and 9999", "value_error")]) from None


def _fields(shape: type) -> tuple[Any, ...]:
    info = type_info(shape)
    return info.fields if isinstance(info, StructType) else ()


def _holds_list(shape: Any) -> bool:
    if isinstance(shape, Metadata):
        return _holds_list(shape.type)
    return isinstance(shape, ListType) or (isinstance(shape, UnionType) and any(map(_holds_list, shape.types)))
