"""
Limits as keys have them.
"""

from __future__ import annotations

from typing import Any

from dheera.holding import Kind
from dheera.limits import Limit


def limit(kind: Kind, cap: int, **said: Any) -> Limit:
    """
    One of the key ``ada``, unless something else is said.
    """
    return Limit(**{"subject": "key/1", "whose": "key", "name": "ada", "kind": kind, "cap": cap, **said})
