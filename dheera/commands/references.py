"""
Which key is meant: by its alias, its id, its digest, or by itself.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from dheera.commands.connection import STANDARD_INPUT, Failed, note
from dheera.commands.tables import clean
from dheera.keys import DIGEST_PATTERN, ID_PATTERN, PREFIX, digest
from dheera.remote import Api, Refused

_MASKED = f"{PREFIX}..."
_DIGEST = re.compile(DIGEST_PATTERN, re.IGNORECASE)
_ID = re.compile(ID_PATTERN)


def sought(api: Api, words: Sequence[str]) -> list[dict[str, Any]]:
    """
    The keys that *words* name, as the API has them, each once; none is changed or deleted before all are found.

    :param words: ``-`` stands for the lines of standard input.
    :raises Failed: one is not there.
    """
    if any(word.startswith(PREFIX) and not word.startswith(_MASKED) for word in words):
        note(
            "Warning: a key on the command line can be read by others on this machine, and stays in the shell's "
            "history. Name it by its alias or id, or send it on standard input: KEY is - then."
        )
    rows = [_row(api, word) for word in _spread(words)]
    return list({row["key_id"]: row for row in rows}.values())


def called(row: Mapping[str, Any]) -> str:
    """
    What a person calls the key: its alias, or else its id. Either names it on the command line.
    """
    return str(row.get("key_alias") or row["key_id"])


def _spread(words: Sequence[str]) -> Iterable[str]:
    for word in words:
        if word == STANDARD_INPUT:
            for line in sys.stdin.buffer:
                if said := line.decode("utf-8", "replace").strip():
                    yield said
        else:
            yield word


def _row(api: Api, word: str) -> dict[str, Any]:
    if word.startswith(_MASKED):
        raise Failed(f"{word} is only how a key is shown. Name it by its alias or id: see dheera_ai keys list.")
    if word.startswith(PREFIX):
        # The API would take the key itself, but URLs are written to logs.
        return _info(api, digest(word.encode()), "There is no such key.")
    if _DIGEST.fullmatch(word):
        return _info(api, word.lower(), "There is no key with this digest.")
    row = (_found(api, word) if _ID.fullmatch(word) else None) or _named(api, word)
    if row is None:
        raise Failed(f"There is no key with the alias or id {clean(word)}. See dheera_ai keys list.")
    return row


def _info(api: Api, token: str, nobody: str) -> dict[str, Any]:
    row = _found(api, token)
    if row is None:
        raise Failed(f"{nobody} See dheera_ai keys list.")
    return row


def _found(api: Api, reference: str) -> dict[str, Any] | None:
    """
    The key with this digest or id.
    """
    try:
        return dict(api.call("GET", "/key/info", query={"key": reference})["info"])
    except Refused as refused:
        if refused.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def _named(api: Api, alias: str) -> dict[str, Any] | None:
    """
    The key with this alias.
    """
    page = api.call("GET", "/key/list", query={"key_alias": alias, "return_full_object": "true", "size": "1"})
    return dict(page["keys"][0]) if page["keys"] else None
