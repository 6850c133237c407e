"""
How many pages of a document a request wants to have read.
"""

from __future__ import annotations

import re

import msgspec

from dheera.proxy.searching import MOST_NAMES, Pairs, Reader, Unclear, is_written

LONGEST = 65_536
"""
Bytes in which pages are named; of more, nobody knows how many there are.
"""

_PAGE = rb"\s{0,64}\d{1,9}"
_ONE = re.compile(_PAGE)
_LIST = re.compile(rb"\[%b(?:,%b)*\s{0,64}\]" % (_PAGE, _PAGE))
_RANGE = rb"%b(?:-%b)?" % (_PAGE, _PAGE)
_RANGES = re.compile(rb'"%b(?:,%b)*"' % (_RANGE, _RANGE))
_IMAGE = b'"image_url"'
_OF_IMAGE = frozenset({"type", "image_url"})
_document: Reader[Pairs] = Reader(Pairs, _OF_IMAGE, most_names=MOST_NAMES)


def count_pages(document: msgspec.Raw | None, pages: msgspec.Raw | None) -> int | None:
    """
    At most so many; ``None`` if that is not said. An image is one page, if nothing beside it could be a document.

    :param pages: as they are named: by a number, a list of numbers, or a text of numbers and ranges.
    """
    if document is not None and _is_image(document):
        return 1
    if pages is None or len(memoryview(pages)) > LONGEST:
        return None
    written = bytes(pages)
    if _ONE.fullmatch(written):
        return 1
    if _LIST.fullmatch(written):
        return written.count(b",") + 1
    if _RANGES.fullmatch(written):
        return sum(_length(each) for each in written.strip(b'"').split(b","))
    return None


def _length(pages: bytes) -> int:
    first, _, last = pages.partition(b"-")
    return max(1, int(last or first) - int(first) + 1)


def _is_image(document: msgspec.Raw) -> bool:
    try:
        members = _document.read(document)
    except Unclear:
        return False
    types = [value for name, value in members.items() if name.text == "type"]
    names_fit = all(name.text in _OF_IMAGE for name in members)
    return names_fit and bool(types) and all(is_written(each, _IMAGE) for each in types)
