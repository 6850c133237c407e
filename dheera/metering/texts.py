"""
Texts that others wrote, as records hold them: short, printable, and without keys.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from dheera.keys import without_keys

LONGEST = 256
"""
Characters.
"""


def shown(value: Any) -> str | None:
    """
    *value*, as far as it can be shown; ``None`` if it is no text, or an empty one.
    """
    if not isinstance(value, str) or not value:
        return None
    return _shown(value[:LONGEST])


@lru_cache(maxsize=1024)
def _shown(value: str) -> str:
    text = without_keys(value)
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)
