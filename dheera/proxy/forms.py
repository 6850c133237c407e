"""
Forms (``multipart/form-data``, RFC 7578), read so narrowly that no other reader could find something else in them.

Parsers of forms repair much: line ends, white space, quoting, repeated names, what stands before and behind. A parser
that repairs would tell what it makes of a form, not what upstream's will. So this one knows a single way of writing.
"""

from __future__ import annotations

import re
from collections.abc import Container

_CHARSET = rb'(?:;[ \t]*charset="?utf-?8"?[ \t]*)?'

FORM = re.compile(
    rb"multipart/form-data[ \t]*"
    + _CHARSET
    + rb";[ \t]*boundary=(?P<quote>\"?)(?P<boundary>[A-Za-z0-9'+_.^`|~!#$&*-]{1,70})(?P=quote)[ \t]*"
    + _CHARSET
    + rb";?",
    re.IGNORECASE,
)
"""
A ``Content-Type`` whose ``boundary`` has one meaning. Another charset could turn any name into another.
"""

MOST_PARTS = 1000
LONGEST_HEAD = 4096
LONGEST_TEXT = 1024
"""
Bytes of a part that is looked for.
"""

_NAMED = re.compile(
    rb"form-data;[ \t]*name=(?P<quote>\"?)(?P<name>[A-Za-z0-9_.-]+(?:\[[A-Za-z0-9_]*\])*)(?P=quote)"
    rb"(?P<file>;[ \t]*filename=(?:\"[^\"\\;\x00-\x1f\x7f]*\"|[A-Za-z0-9_.-]+))?"
    rb"(?P<coded_file>;[ \t]*filename\*=[A-Za-z0-9!#$&+.^_`|~%'-]+)?",
    re.IGNORECASE,
)
_LINE = re.compile(rb"(content-(?:disposition|type|length|transfer-encoding)):[ \t]*([^\x00-\x1f\x7f]*)", re.IGNORECASE)
_AS_IT_IS = frozenset({b"7bit", b"8bit", b"binary"})
_PLAIN_TEXT = re.compile(rb'text/plain[ \t]*(?:;[ \t]*charset="?utf-?8"?)?', re.IGNORECASE)


class Ambiguous(Exception):
    """
    Another reader might find something else in this form.
    """


def texts_of_form(content: bytes, boundary: bytes, wanted: Container[str]) -> dict[str, str]:
    """
    The texts that a form has under the *wanted* names, each there once at most and no file. Files are passed over, not
    copied.

    :raises Ambiguous: another reader might find others.
    """
    delimiter = b"--" + boundary
    _require(content.startswith(delimiter))
    texts: dict[str, str] = {}
    at = len(delimiter)
    for _ in range(MOST_PARTS):
        if content.startswith(b"--", at):
            _require(content[at + 2 : at + 5] in (b"", b"\r\n"))
            return texts
        # The next boundary must be one: another reader might take for one what is not preceded by a line's end.
        end = content.find(delimiter, at)
        head_end = content.find(b"\r\n\r\n", at, at + LONGEST_HEAD)
        _require(content.startswith(b"\r\n", at) and content.startswith(b"\r\n", end - 2))
        _require(at < head_end <= end - 6)
        start, stop = head_end + 4, end - 2
        name, is_text = _read_head(content[at + 2 : head_end], stop - start)
        base = name.partition("[")[0].lower()
        if base in wanted:
            _require(is_text and base == name and base not in texts and stop - start <= LONGEST_TEXT)
            texts[name] = _decoded(content[start:stop])
        at = end + len(delimiter)
    raise Ambiguous


def _read_head(head: bytes, size: int) -> tuple[str, bool]:
    """
    The name of a part of *size* bytes, and whether it is a text without a file's name, type or coding.
    """
    lines: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        match = _LINE.fullmatch(line)
        if match is None or match[1].lower() in lines:
            raise Ambiguous
        lines[match[1].lower()] = match[2]
    named = _NAMED.fullmatch(lines.get(b"content-disposition", b""))
    kind = lines.get(b"content-type", b"text/plain")
    if named is None or named["name"].lower() == b"_charset_":  # RFC 7578 §4.6: changes how the others are read
        raise Ambiguous
    _require(lines.get(b"content-length", b"%d" % size) == b"%d" % size)
    _require(lines.get(b"content-transfer-encoding", b"8bit").lower() in _AS_IT_IS)
    _require(not kind.lower().startswith((b"multipart/", b"message/")))
    is_file = named["file"] is not None or named["coded_file"] is not None
    return named["name"].decode("ascii"), not is_file and _PLAIN_TEXT.fullmatch(kind) is not None


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise Ambiguous from None


def _require(condition: bool) -> None:  # noqa: FBT001 - it is all that there is
    if not condition:
        raise Ambiguous
