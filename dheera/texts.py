"""
Texts that come from outside, as they can be kept. No Twisted, no I/O.
"""

from __future__ import annotations

from hashlib import sha256

LONGEST_TEXT_BYTES = 256
"""
Of what comes from outside. Several such texts together are a key of an index, of which PostgreSQL takes 2,700 bytes.
"""

_SHORT = 64


def bounded(text: str) -> str:
    """
    *text* as any database can keep it: no NUL, which PostgreSQL has not, and no half of a surrogate pair; cut where it
    is too long, with a mark by which two that were cut differ.
    """
    if len(text) <= _SHORT and text.isascii() and "\0" not in text:
        return text
    data = text.replace("\0", "\ufffd").encode(errors="replace")
    if len(data) <= LONGEST_TEXT_BYTES:
        return data.decode()
    mark = f"~{sha256(data).hexdigest()[:12]}"
    return data[: LONGEST_TEXT_BYTES - len(mark)].decode(errors="ignore") + mark


def are_bounded(texts: str) -> bool:
    """
    Whether `bounded` would surely leave each part of *texts* as it is.
    """
    return len(texts) <= LONGEST_TEXT_BYTES and texts.isascii() and "\0" not in texts


def can_be_kept(text: str) -> bool:
    """
    Whether a database can have *text* as it is: no NUL, and no half of a surrogate pair.
    """
    if text.isascii():
        return "\0" not in text
    return "\0" not in text and text.encode(errors="replace").decode() == text
