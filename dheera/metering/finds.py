"""
What is looked for in a JSON document, and what is found of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeAlias, Union

import msgspec

LONGEST_VALUE = 8192
"""
Bytes of a value that is kept; a longer one counts as absent.
"""


class Kept(Enum):
    """
    What is kept of a value: all of it, whether it is there and not null, or how many characters a string has.
    """

    VALUE = 1
    PRESENCE = 2
    LENGTH = 3


Tree: TypeAlias = Mapping[str, Union[Kept, "Tree"]]
"""
What is looked for, by name; in the elements of an array by the name `EACH`, alone.
"""

EACH = "[]"
Found: TypeAlias = dict[str, Any]
"""
The same, as it was found: values as they are written (``bytes``), ``True``, a `Length`, and dicts and lists of these.
Values that are null are not in it.
"""


class Catch:
    """
    A value as it is written; nothing of it, if it is longer than *most* bytes.
    """

    def __init__(self, most: int = LONGEST_VALUE) -> None:
        self._most = most
        self.written = b""
        self.is_long = False

    def take(self, piece: bytes) -> None:
        """
        Take what comes next.
        """
        self.is_long = self.is_long or len(self.written) + len(piece) > self._most
        self.written = b"" if self.is_long else self.written + piece

    def put(self, found: Found, name: str, wanted: Kept) -> None:
        """
        Keep of it in *found* what is *wanted*.
        """
        is_there = self.is_long or self.written != b"null"
        if wanted is Kept.PRESENCE and is_there:
            found[name] = True
        elif wanted is Kept.VALUE and is_there and not self.is_long:
            found[name] = self.written
        else:
            found.pop(name, None)


def decoded(written: bytes) -> Any:
    """
    What *written* says; ``None`` if it is not JSON.
    """
    try:
        return msgspec.json.decode(written)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
