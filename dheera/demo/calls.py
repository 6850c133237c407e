"""
One call as an endpoint of the demo sees it, and what the endpoint answers. No I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import field, frozen

from dheera.demo.models import is_known
from dheera.demo.refusals import Refused, invalid, too_large, unknown_model

MOST_PARTS = 500_000
"""
Commas and brackets in a JSON body: each may begin a value, which takes fifty bytes once it is parsed and a microsecond
to look at. Text with that many commas is refused as well.
"""


def dumps(value: object) -> bytes:
    """
    *value* as JSON. A lone surrogate leaves as it came, as an escape.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


@frozen(kw_only=True)
class Answer:
    """
    A complete answer.

    :param tokens: what it used, for the rate-limit headers.
    """

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    tokens: int | None = None


@frozen(kw_only=True)
class Stream:
    """
    An answer of server-sent events, made as they leave.
    """

    events: Iterator[bytes]
    tokens: int | None = None


def answer(value: object, *, status: int = 200, tokens: int | None = None) -> Answer:
    """
    *value* as a JSON answer.
    """
    return Answer(body=dumps(value), status=status, tokens=tokens)


def event(value: object, name: str | None = None) -> bytes:
    """
    *value* as one server-sent event.
    """
    head = b"" if name is None else b"event: %b\n" % name.encode()
    return b"%bdata: %b\n\n" % (head, dumps(value))


@frozen
class Asked:
    """
    The JSON object that a client sent, narrowed one field at a time.
    """

    fields: Mapping[str, Any]

    def needed(self, name: str) -> Any:
        """
        A field that must be there.

        :raises Refused: 422, it is missing or null.
        """
        value = self.fields.get(name)
        if value is None:
            raise invalid("missing", [name], "Field required")
        return value

    def text(self, name: str) -> str | None:
        """
        A string, or None when it is absent.
        """
        value = self.fields.get(name)
        if value is not None and not isinstance(value, str):
            raise invalid("string_type", [name], "Input should be a valid string")
        return value

    def needed_text(self, name: str) -> str:
        """
        A string that must be there.
        """
        self.needed(name)
        return self.text(name) or ""

    def count(self, name: str) -> int | None:
        """
        A whole number above zero, or None when it is absent.
        """
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise invalid("int_type", [name], "Input should be a valid integer")
        if value < 1:
            raise invalid("greater_than_equal", [name], "Input should be greater than or equal to 1")
        return value

    def flag(self, name: str) -> bool:
        """
        Whether *name* is set: ``true``, or its text, which is how a form says it.
        """
        return self.fields.get(name) in (True, "true", "True", "1")

    def inner(self, name: str) -> Asked:
        """
        An object inside this one; an empty one when it is absent.
        """
        value = self.fields.get(name)
        if value is None:
            return Asked({})
        if not isinstance(value, dict):
            raise invalid("dict_type", [name], "Input should be a valid dictionary")
        return Asked(value)

    def many(self, name: str) -> list[Any]:
        """
        A list that must be there and hold something.
        """
        value = self.needed(name)
        if not isinstance(value, list):
            raise invalid("list_type", [name], "Input should be a valid list")
        if not value:
            raise invalid("too_short", [name], "List should have at least 1 item")
        return value

    def model(self, otherwise: str | None = None) -> str:
        """
        The model asked for, which must be one that the demo lists.

        :param otherwise: the model of a call that may leave it out.
        :raises Refused: 422 when it is missing, 400 when it is unknown.
        """
        name = self.text("model") or otherwise
        if name is None:
            raise invalid("missing", ["model"], "Field required")
        if not is_known(name):
            raise unknown_model(name)
        return name


@frozen(kw_only=True)
class Call:
    """
    One call whose body is complete.

    :param now: Unix seconds.
    :param names: the parts of the path that its route leaves open.
    """

    now: float
    names: tuple[str, ...] = ()
    query: Mapping[str, str] = field(factory=dict)
    content_type: str = "application/json"
    body: bytes = b""

    def json(self) -> Asked:
        """
        The body as a JSON object.

        :raises Refused: 422, it is none.
        """
        return Asked(parsed_object(self.body))


def parsed_object(body: bytes) -> Mapping[str, Any]:
    """
    *body* as a JSON object.

    :raises Refused: 422 in the shape of a validation error, with the place of the fault; 413, it has too many parts.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_PARTS:
        raise too_large(f"The demo takes JSON of at most {MOST_PARTS} commas and brackets.")
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _not_json(error.pos, error.msg) from None
    except UnicodeDecodeError as error:
        raise _not_json(error.start, "Invalid UTF-8") from None
    except (ValueError, RecursionError):
        # A number of too many digits, NaN and its kin, or a nest too deep: where is not said.
        raise _not_json(0, "Expecting value") from None
    if not isinstance(value, dict):
        raise invalid("model_attributes_type", [], "Input should be a valid dictionary")
    return value


def _not_json(where: int, why: str) -> Refused:
    more = {"input": {}, "ctx": {"error": why}}
    return invalid("json_invalid", [where], "JSON decode error", **more)


def _no_constant(name: str) -> None:
    raise ValueError(name)
