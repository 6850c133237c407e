"""
A table of the configuration read into a struct: all that is wrong with it at once, in sentences without a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, ValidationError
from msgspec.structs import FieldInfo, fields

from dheera.keys import Secret
from dheera.kinds import shown
from dheera.sinks.contract import SinkSettings

MOST_RECORDS = 100_000
MOST_SECONDS = 86_400.0

Settings = TypeVar("Settings", bound=SinkSettings)


def read_table(kind: type[Settings], table: Mapping[str, Any]) -> tuple[Settings | None, Sequence[str]]:
    """
    What *table* says; an empty text says nothing.

    :return: the settings, or ``None`` and what is wrong, a sentence for each.
    """
    known = {each.name: each for each in fields(kind)}
    problems, values = [], {}
    for name, value in table.items():
        if name not in known:
            problems.append(_unknown(name, list(known)))
        elif value != "":
            try:
                values[name] = _read(known[name], value)
            except (ValidationError, ValueError):
                problems.append(_unfit(known[name], value))
    said = values.keys() | {problem.partition(":")[0] for problem in problems}
    problems.extend(f"{each.name}: is not said, wanted {_wanted(each.type)}" for each in _missing(known, said))
    if not problems:
        try:
            settings = kind(**values)
        except ValueError as error:  # of a __post_init__
            problems.append(str(error))
        else:
            problems.extend(_out_of_bounds(settings))
    return (None, problems) if problems else (settings, [])


def _read(field: FieldInfo, value: Any) -> Any:
    return _hidden(field.type, msgspec.convert(value, _readable(field.type), dec_hook=_special))


def _readable(kind: Any) -> Any:
    """
    *kind* with texts in place of secrets: msgspec takes those for tables, as all classes of attrs.
    """
    origin, arguments = get_origin(kind), [_readable(each) for each in get_args(kind)]
    if kind is Secret:
        return str
    if origin in (Union, UnionType):
        return Union[tuple(arguments)]  # noqa: UP007 - of as many as there are
    return origin[tuple(arguments)] if origin in (dict, list, tuple, Mapping, Sequence) else kind


def _hidden(kind: Any, value: Any) -> Any:
    """
    *value* with secrets in place of those texts.
    """
    if not _is_secret(kind):
        return value
    if isinstance(value, str):
        if not value.isprintable():
            raise ValueError
        return Secret(value)
    if isinstance(value, dict):
        return {name: _hidden(kind, each) for name, each in value.items()}
    return [_hidden(kind, each) for each in value] if isinstance(value, list) else value


def _special(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str) and "\0" not in value:
        return Path(value)
    raise ValueError


def _missing(known: Mapping[str, FieldInfo], said: set[str]) -> Sequence[FieldInfo]:
    return [
        each
        for each in known.values()
        if each.name not in said and each.default is NODEFAULT and each.default_factory is NODEFAULT
    ]


def _out_of_bounds(settings: SinkSettings) -> Sequence[str]:
    """
    What the fields of every sink may be; here, so that those who write sinks need not think of it.
    """
    wanted = {
        "batch_records": (1 <= settings.batch_records <= MOST_RECORDS, f"a whole number from 1 to {MOST_RECORDS}"),
        "batch_seconds": (0 <= settings.batch_seconds <= MOST_SECONDS, "a number of seconds from 0 to a day"),
        "timeout_seconds": (0 < settings.timeout_seconds <= MOST_SECONDS, "a number of seconds above 0, at most a day"),
    }
    return [
        f"{name}: found {shown(getattr(settings, name))}, wanted {words}"
        for name, (fits, words) in wanted.items()
        if not fits
    ]


def _unknown(name: str, known: Sequence[str]) -> str:
    if near := get_close_matches(name, known, n=1):
        return f"{name}: found no such setting, did you mean {near[0]}?"
    return f"{name}: found no such setting, wanted one of {', '.join(known)}"


def _unfit(field: FieldInfo, value: Any) -> str:
    return f"{field.name}: found {shown(value, hidden=_is_secret(field.type))}, wanted {_wanted(field.type)}"


def _is_secret(kind: Any) -> bool:
    return kind is Secret or any(_is_secret(each) for each in get_args(kind))


_WORDS: Mapping[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Secret: "a text without line breaks",
    Path: "the name of a file",
    dict: "a table",
    list: "an array",
    tuple: "an array",
    Mapping: "a table",
    Sequence: "an array",
}


def _wanted(kind: Any) -> str:
    """
    A type in words for an operator.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _wanted(arguments[0]) + _bounds(arguments[1:])
    if origin is Literal:
        *most, last = [f'"{each}"' for each in arguments]
        return f"{', '.join(most)} or {last}" if most else last
    if origin in (Union, UnionType):
        return " or ".join(_wanted(each) for each in arguments if each is not NoneType)
    words = _WORDS.get(origin or kind, "something else")
    if words in ("a table", "an array") and arguments:
        return f"{words} of {_PLURALS.get(arguments[-1] if words == 'a table' else arguments[0], 'texts')}"
    return words


_PLURALS: Mapping[Any, str] = {int: "whole numbers", float: "numbers", bool: "true or false"}


def _bounds(metas: Sequence[Any]) -> str:
    for meta in metas:
        if isinstance(meta, msgspec.Meta):
            words = [
                f"{word} {bound}"
                for word, bound in (("above", meta.gt), ("at least", meta.ge), ("below", meta.lt), ("at most", meta.le))
                if bound is not None
            ]
            return " ".join(["", " and ".join(words)]) if words else ""
    return ""
