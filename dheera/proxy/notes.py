"""
Texts of a request as records hold them: short, printable, of a bounded number, and without keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IAddress

from dheera.keys import without_keys

LONGEST_PATH = 512
LONGEST_TEXT = 256
MOST_TAGS = 32


@lru_cache(maxsize=1024)
def noted(value: bytes, longest: int = LONGEST_TEXT) -> str:
    """
    What *value* says, as far as it can be shown: up to *longest* characters.
    """
    text = without_keys(value[:longest].decode("utf-8", "replace"))
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)


def tags(told: bytes, *others: Iterable[str]) -> list[str]:
    """
    The names in a header's value, separated by commas, and *others*; each once.
    """
    if not told and not any(others):
        return []
    words = [noted(each.strip()) for each in told.split(b",")] if told else []
    every = dict.fromkeys(words)
    for more in others:
        every.update(dict.fromkeys(each[:LONGEST_TEXT] for each in more))
    every.pop("", None)
    return list(every)[:MOST_TAGS] if every else []


def model_in(uri: bytes) -> str | None:
    """
    The model that a query names, as those of WebSockets do.
    """
    for part in uri.partition(b"?")[2].split(b"&"):
        if part.startswith(b"model="):
            return noted(unquote_to_bytes(part[6:].replace(b"+", b" "))) or None
    return None


def place(peer: IAddress) -> str:
    """
    The address of *peer*, without its port.
    """
    return str(getattr(peer, "host", "unix"))
