"""
Secrets and what may be said of them; how virtual keys are made, and what is kept of them.

Imports no Twisted and does no I/O.
"""

from __future__ import annotations

import re
import secrets
from hashlib import sha256
from typing import NewType

from attrs import field, frozen

PREFIX = "sk-"
SHORTEST = 16
"""
Characters of a key that a user supplies, the prefix included.
"""
LONGEST = 256
DIGEST_PATTERN = "[0-9a-f]{64}"
ID_PATTERN = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
"""
Of a key that is kept; it names the key without opening anything.
"""
KEYS_AT_ONCE = 500
"""
How many keys one call of the management API is about, at most.
"""
HIDDEN = "[key]"
"""
What stands where a key was.
"""
LOOK_OF_KEYS = re.compile(r"(?<![A-Za-z0-9])sk-[!-~]{8,}")
"""
What dheera issues, and OpenAI and others too: ``sk-`` and visible ASCII characters.
"""
_RANDOM_BYTES = 24  # 192 bits; 32 characters

Digest = NewType("Digest", str)
"""
SHA-256 of a key in lower-case hexadecimal, as LiteLLM keeps it, so that its keys can be imported. A key has enough
random bits that neither salt nor slowness would add to it.
"""


@frozen(repr=False)
class Secret:
    """
    A text that must not be shown: its ``repr`` and ``str`` hide it.
    """

    _text: str = field()

    def __repr__(self) -> str:
        return "<secret>"

    def reveal(self) -> str:
        """
        The text itself, for the one place that sends it on.
        """
        return self._text


@frozen
class WeightedKey:
    """
    One of several keys that upstream knows.

    :param weight: its part of the calls, beside the weights of the others; 1 or more.
    :param name: what it is called in logs and records; never a part of it. Empty: it is told by its number.
    """

    key: Secret
    weight: int = 1
    name: str = ""


def mint() -> str:
    """
    A new virtual key that nobody can guess.
    """
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def digest(key: bytes) -> Digest:
    """
    What is kept, and looked up, of a key.
    """
    return Digest(sha256(key).hexdigest())


def masked(key: str) -> str:
    """
    A key as it may be shown: ``sk-...`` and its last four characters.
    """
    return f"sk-...{key[-4:]}" if len(key) >= SHORTEST else "sk-..."


def without_keys(text: str) -> str:
    """
    *text* without what looks like keys: clients write theirs in places where nobody expects them.
    """
    return LOOK_OF_KEYS.sub(HIDDEN, text) if PREFIX in text else text
