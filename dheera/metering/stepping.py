"""
Steps through JSON that comes in pieces: over white space, strings, and values that nobody looks into.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Generator
from typing import TypeAlias

from dheera.metering.finds import Catch, decoded

Steps: TypeAlias = Generator[None, None, None]
"""
They begin where a thing begins, end after it, and wait where the piece ends.
"""

Take: TypeAlias = Callable[[bytes], None]
"""
Takes what is stepped over.
"""

QUOTE = ord('"')
OPENING = b"{["
_BACKSLASH = ord("\\")
_LONGEST_NAME = 256

_SPACE = re.compile(rb"[ \t\r\n]*+")
_TEXT = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]*+")
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_NAME = re.compile(_STRING + rb"(?=[ \t\r\n]*+:)", re.DOTALL)
_ATOM = rb'[^"{}\[\]]++|' + _STRING
_INNERMOST = rb"[{\[](?:" + _ATOM + rb")*+[}\]]"
_FLAT = re.compile(rb"(?:" + _ATOM + rb"|" + _INNERMOST + rb")*+", re.DOTALL)
"""
Everything up to a bracket that opens more than one level, closes this one, or belongs to what goes on elsewhere.
"""

_ANY = rb"(?:" + _STRING + rb"|" + _INNERMOST + rb"|[-+.0-9A-Za-z]++)"
_WHOLE = re.compile(_ANY + rb"(?=[ \t\r\n,}\]])", re.DOTALL)
_WHOLE_MEMBER = re.compile(
    rb"(" + _STRING + rb")[ \t\r\n]*+:[ \t\r\n]*+" + _ANY + rb'[ \t\r\n]*+,[ \t\r\n]*+(?=")', re.DOTALL
)


class Broken(Exception):
    """
    This is not JSON, or not such as anybody would send.
    """


class Cursor:
    """
    A place in the piece that came last.
    """

    def __init__(self) -> None:
        self.piece = b""
        self.at = 0

    def ahead(self) -> Generator[None, None, int]:
        """
        The next byte that is not white space. It stays where it is.
        """
        while True:
            self._pass(_SPACE)
            if self.at < len(self.piece):
                return self.piece[self.at]
            yield

    def name(self) -> Generator[None, None, str]:
        """
        The name of a member; nothing, if it is longer than any that is looked for.
        """
        whole = _NAME.match(self.piece, self.at)
        if whole is not None:
            self.at = whole.end()
            return _text(whole[0])
        catch = Catch(_LONGEST_NAME)
        yield from self.string(catch.take)
        return _text(catch.written)

    def members(self, wanted: Container[str]) -> int:
        """
        Step over the members ahead that are in this piece and not *wanted*.

        :return: how many there were.
        """
        count = 0
        while (member := _WHOLE_MEMBER.match(self.piece, self.at)) and _text(member[1]) not in wanted:
            count += 1
            self.at = member.end()
        return count

    def value(self, take: Take | None = None) -> Steps:
        """
        A value of any kind.
        """
        whole = _WHOLE.match(self.piece, self.at)
        if whole is not None:
            self.at = whole.end()
            if take is not None:
                take(whole[0])
        elif self.piece[self.at] == QUOTE:
            yield from self.string(take)
        elif self.piece[self.at] in OPENING:
            yield from self._nested(take)
        else:
            yield from self._scalar(take)

    def string(self, take: Take | None) -> Steps:
        """
        A string, its quotes included.
        """
        start = self.at
        self.at += 1
        is_escaped = False
        while True:
            if is_escaped and self.at < len(self.piece):
                self.at += 1
                is_escaped = False
            self._to_end_of_text()
            if self.at < len(self.piece):
                if self.piece[self.at] == QUOTE:
                    self.at += 1
                    break
                is_escaped = True  # the piece ends with a backslash
            if take is not None:
                take(self.piece[start:])
            yield
            start = self.at = 0
        if take is not None:
            take(self.piece[start : self.at])

    def _to_end_of_text(self) -> None:
        """
        Up to the quote, the end of the piece, or a backslash that is the last byte of it.
        """
        quote = self.piece.find(QUOTE, self.at)
        end = len(self.piece) if quote < 0 else quote
        if self.piece.find(_BACKSLASH, self.at, end) >= 0:
            self._pass(_TEXT)
        else:
            self.at = end

    def _nested(self, take: Take | None) -> Steps:
        """
        An object or array, of which only the brackets are looked at.
        """
        start = self.at
        self.at += 1
        depth = 1
        while depth:
            self._pass(_FLAT)
            if self.at == len(self.piece):
                if take is not None:
                    take(self.piece[start:])
                yield
                start = self.at = 0
            elif self.piece[self.at] == QUOTE:
                if take is not None:
                    take(self.piece[start : self.at])
                yield from self.string(take)
                start = self.at
            else:
                depth += 1 if self.piece[self.at] in OPENING else -1
                self.at += 1
        if take is not None:
            take(self.piece[start : self.at])

    def _scalar(self, take: Take | None) -> Steps:
        is_empty = True
        while True:
            start = self.at
            self._pass(_SCALAR)
            is_empty = is_empty and self.at == start
            if take is not None:
                take(self.piece[start : self.at])
            if self.at < len(self.piece):
                break
            yield
            self.at = 0
        if is_empty:
            raise Broken

    def _pass(self, pattern: re.Pattern[bytes]) -> None:
        found = pattern.match(self.piece, self.at)
        self.at = self.at if found is None else found.end()


def _text(written: bytes) -> str:
    text = decoded(written) if len(written) <= _LONGEST_NAME else None
    return text if isinstance(text, str) else ""
