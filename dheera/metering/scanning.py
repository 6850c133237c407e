"""
Looks for a few values in a JSON document that is too long to be held. What is between them is stepped over, which
regular expressions do at a hundred megabytes a second and more.
"""

from __future__ import annotations

from collections.abc import Mapping

from dheera.metering.finds import EACH, Catch, Found, Kept, Tree
from dheera.metering.lengths import Length
from dheera.metering.stepping import QUOTE, Broken, Cursor, Steps

MOST_MEMBERS = 200_000
"""
Of what is looked into: each takes a microsecond or more.
"""

MOST_BRACKETS = 300_000
"""
Opening ones, those in texts included: each takes up to a microsecond.
"""

_MOST_ELEMENTS = 8
_COLON, _COMMA, _OBJECT, _END_OF_OBJECT, _ARRAY, _END_OF_ARRAY = b":,{}[]"


class Scanner:
    """
    Reads one document in any pieces.

    :ivar complete: the document has ended, and nothing but white space came after it.
    :ivar broken: it is not JSON, or has too many members. What is not looked for is not examined closely.
    """

    def __init__(self, tree: Tree) -> None:
        self.complete = False
        self.broken = False
        self._found: Found = {}
        self._members_left = MOST_MEMBERS
        self._brackets_left = MOST_BRACKETS
        self._cursor = Cursor()
        self._steps = self._document(tree)
        next(self._steps)

    @property
    def found(self) -> Found:
        """
        What there is so far; nothing, if it is broken.
        """
        return self._found

    def feed(self, piece: bytes) -> None:
        """
        Take what comes next.
        """
        if self.broken or not piece:
            return
        self._cursor.piece, self._cursor.at = piece, 0
        self._brackets_left -= piece.count(b"{") + piece.count(b"[")
        self.broken = self._brackets_left < 0
        try:
            if not self.broken:
                next(self._steps)
        except Broken:
            self.broken = True
        if self.broken:
            self.complete = False
            self._found = {}
        self._cursor.piece = b""

    def _document(self, tree: Tree) -> Steps:
        yield
        if (yield from self._cursor.ahead()) != _OBJECT:
            raise Broken
        yield from self._object(tree, self._found)
        self.complete = True
        yield from self._cursor.ahead()
        raise Broken

    def _object(self, tree: Tree, found: Found) -> Steps:
        cursor = self._cursor
        cursor.at += 1
        byte = yield from cursor.ahead()
        while byte != _END_OF_OBJECT:
            if byte != QUOTE:
                raise Broken
            self._members_left -= cursor.members(tree)
            name = yield from cursor.name()
            if (yield from cursor.ahead()) != _COLON:
                raise Broken
            cursor.at += 1
            yield from self._member(tree.get(name), name, found)
            byte = yield from cursor.ahead()
            if byte == _COMMA:
                cursor.at += 1
                byte = yield from cursor.ahead()
                if byte == _END_OF_OBJECT:
                    raise Broken
            elif byte != _END_OF_OBJECT:
                raise Broken
        cursor.at += 1

    def _array(self, each: Tree, found: list[Found]) -> Steps:
        """
        Of the elements that hold what is looked for, the first few.
        """
        cursor = self._cursor
        cursor.at += 1
        byte = yield from cursor.ahead()
        while byte != _END_OF_ARRAY:
            element: Found = {}
            yield from self._member(each, EACH, element)
            if element.get(EACH) and len(found) < _MOST_ELEMENTS:
                found.append(element[EACH])
            byte = yield from cursor.ahead()
            if byte == _COMMA:
                cursor.at += 1
            elif byte != _END_OF_ARRAY:
                raise Broken
        cursor.at += 1

    def _member(self, wanted: Kept | Tree | None, name: str, found: Found) -> Steps:
        self._members_left -= 1
        if self._members_left < 0:
            raise Broken
        byte = yield from self._cursor.ahead()
        if isinstance(wanted, Mapping) and byte == _OBJECT and EACH not in wanted:
            child: Found = {}
            found[name] = child
            yield from self._object(wanted, child)
        elif isinstance(wanted, Mapping) and byte == _ARRAY and EACH in wanted:
            elements: list[Found] = []
            found[name] = elements
            each = wanted[EACH]
            yield from self._array(each if isinstance(each, Mapping) else {}, elements)
        elif wanted is Kept.LENGTH and byte == QUOTE:
            length = Length()
            yield from self._cursor.string(length.feed)
            found[name] = length
        elif isinstance(wanted, Kept):
            catch = Catch()
            yield from self._cursor.value(catch.take)
            catch.put(found, name, wanted)
        else:
            yield from self._cursor.value()
