"""
Forms with files (``multipart/form-data``, RFC 7578).

Parsed by ``multipart``, which treq brings along anyway: it counts parts and header bytes as it
goes, where the parser in the standard library's ``email`` knows no limits and guesses encodings.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen
from multipart import (  # type: ignore[import-untyped]  # it has hints, but no py.typed
    MultipartError,
    PushMultipartParser,
    parse_options_header,
)

from dheera.demo.calls import Asked
from dheera.demo.refusals import invalid

MOST_PARTS = 64
MOST_TEXT_BYTES = 64 * 1024


@frozen
class Upload:
    """
    One file of a form.
    """

    name: str
    content_type: str
    content: bytes


@frozen
class Form:
    """
    What a form holds; of a name that occurs twice, the last.
    """

    asked: Asked
    uploads: Mapping[str, Upload] = field(factory=dict)

    def upload(self, name: str) -> Upload:
        """
        A file that must be there.

        :raises Refused: 422, it is missing.
        """
        if name not in self.uploads:
            raise invalid("missing", [name], "Field required")
        return self.uploads[name]


def parsed(content_type: str, body: bytes) -> Form:
    """
    *body* as a form.

    :raises Refused: 422, it is none.
    """
    kind, options = parse_options_header(content_type)
    try:
        if kind != "multipart/form-data":
            raise invalid("missing", [], "Input should be multipart/form-data")
        return _parsed(options.get("boundary", ""), body)
    except (MultipartError, ValueError):
        raise invalid("form_invalid", [], "There was an error parsing the body") from None


def _parsed(boundary: str, body: bytes) -> Form:
    texts: dict[str, str] = {}
    uploads: dict[str, Upload] = {}
    parser = PushMultipartParser(boundary, len(body), max_segment_count=MOST_PARTS, strict=True)
    with parser:
        content: list[bytes] = []
        for found in parser.parse(body):
            if isinstance(found, (bytes, bytearray)):
                content.append(bytes(found))
            elif found is not None:
                part, content = found, []
            elif part.filename is not None:
                kind = part.content_type or "application/octet-stream"
                uploads[part.name or ""] = Upload(part.filename, kind, b"".join(content))
            elif part.size > MOST_TEXT_BYTES:
                raise invalid("string_too_long", [part.name or ""], "This field is too long")
            else:
                texts[part.name or ""] = b"".join(content).decode("utf-8")
    return Form(Asked(texts), uploads)
