"""
The options that say which calls are meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from dheera.commands.connection import STANDARD_INPUT, Failed
from dheera.commands.references import sought
from dheera.keys import ID_PATTERN
from dheera.remote import Api

Command = TypeVar("Command", bound=Callable[..., Any])

_ID = re.compile(ID_PATTERN)
_OPTIONS: Mapping[str, tuple[str, str, str]] = {
    "key": ("--key", "KEY", "Only of this key: its alias, or its id."),
    "user_id": ("--user", "ID", "Only of this user."),
    "team_id": ("--team", "ID", "Only of this team."),
    "end_user": ("--end-user", "ID", "Only for this end user."),
    "model": ("--model", "NAME", "Only of this model."),
    "endpoint": ("--endpoint", "NAME", "Only of this kind: chat/completions."),
    "tag": ("--tag", "TAG", "Only with this tag."),
}


def filters(command: Command) -> Command:
    """
    *command* with an option for each thing that calls are told apart by.
    """
    decorated: Any = command
    for name, (flag, metavar, help_text) in reversed(list(_OPTIONS.items())):
        decorated = click.option(flag, name, metavar=metavar, help=help_text)(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep what they are given


def query(api: Api, given: Mapping[str, Any]) -> dict[str, str]:
    """
    What was *given* as the API has it.

    :raises Failed: there is no such key.
    """
    said = {name: str(value) for name, value in given.items() if value is not None}
    word = said.pop("key", None)
    if word is not None:
        said["api_key"] = _key_id(api, word)
    return said


def _key_id(api: Api, word: str) -> str:
    if _ID.fullmatch(word):
        return word  # that of a key which was deleted too
    rows = sought(api, [word])
    if len(rows) != 1:
        raise Failed(f"{STANDARD_INPUT} names {len(rows)} keys, and --key is about one.")
    return str(rows[0]["key_id"])
