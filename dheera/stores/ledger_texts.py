"""
What the ledger keeps of texts that come from outside.
"""

from __future__ import annotations

from collections.abc import Sequence

from dheera.texts import bounded

MOST_TAGS = 16


def bounded_tags(tags: Sequence[str]) -> list[str]:
    """
    The first of *tags*, each once, none with a line break.
    """
    return list(dict.fromkeys(tag for tag in map(bounded_tag, tags) if tag))[:MOST_TAGS]


def bounded_tag(tag: str) -> str:
    """
    *tag* as the ledger keeps it.
    """
    return bounded(tag.replace("\n", " "))


def needle(tag: str) -> str:
    """
    What is in the column of the tags if, and only if, *tag* is among them.
    """
    return f"\n{bounded_tag(tag)}\n"
