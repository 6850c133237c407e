"""
The rows of a table, read from a file as CSV or JSON, one after another: a file may be larger than memory.

What the columns mean is told in `token_rows`.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import chain
from typing import IO, Any, TypeAlias

from attrs import field, frozen

LONGEST_ROW = 1024 * 1024
"""
Characters, or bytes of a line: no key has as much to say, and the API takes no more.
"""

_CHUNK_BYTES = 64 * 1024
_DELIMITERS = ",;\t|"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BETWEEN = re.compile(r"[\s,]*")
_NOT_UTF8 = "this is not UTF-8: export the table again with that encoding"


class Unreadable(Exception):
    """
    The file cannot be read any further.

    :param line: where; the first is 1.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")


@frozen(kw_only=True)
class Record:
    """
    A row as it was written.

    :param line: where it begins.
    :param cells: by the names of the columns.
    """

    line: int
    cells: dict[str, Any] = field(repr=False)


@frozen(kw_only=True)
class Misfit:
    """
    A row that cannot be used; those after it can.

    :param line: where it begins.
    :param name: the key as people know it, if that could be read.
    """

    line: int
    reason: str
    name: str = ""


Records: TypeAlias = Iterator[Record | Misfit]


def records(file: IO[bytes], column: str, form: str | None = None) -> Records:
    """
    The rows in *file*.

    :param column: one that must be there; by it the right delimiter, and the right table, is known.
    :param form: ``csv`` or ``json``; ``None`` looks at how the file begins.
    :raises Unreadable: while it iterates.
    """
    start = file.read(_CHUNK_BYTES)
    if start.startswith(_UTF16):
        raise Unreadable(1, _NOT_UTF8)
    chunks = chain([start], iter(lambda: file.read(_CHUNK_BYTES), b""))
    if form is None:
        form = "json" if start.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"[", b"{") else "csv"
    return _json(chunks) if form == "json" else _csv(_lines(chunks), column)


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """
    Lines with their ends.
    """
    rest = b""
    number = 1
    for chunk in chain(chunks, [b""]):
        lines = (rest + chunk).splitlines(keepends=True) if chunk else [rest]
        # A chunk may end between CR and LF.
        rest = lines.pop() if chunk and lines else b""
        if len(rest) > LONGEST_ROW:
            raise Unreadable(
                number + len(lines), f"longer than {LONGEST_ROW} bytes: this is no CSV, or not of this table"
            )
        for line in lines:
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise Unreadable(number, _NOT_UTF8) from None
            number += 1


def _csv(lines: Iterator[str], column: str) -> Records:
    head = next(lines, "")
    if not head:
        raise Unreadable(1, "the file is empty")
    names, delimiter = _head(head, column)
    csv.field_size_limit(LONGEST_ROW)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 2  # the head is not counted
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise Unreadable(line, f"not valid CSV ({error})") from None
        if not row:
            continue
        if len(row) == len(names):
            yield Record(line=line, cells=dict(zip(names, row, strict=True)))
        else:
            yield Misfit(line=line, reason=f"{len(row)} fields, where the head has {len(names)}")


def _head(head: str, column: str) -> tuple[Sequence[str], str]:
    """
    The names of the columns, and what is between them.
    """
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader([head], delimiter=delimiter, strict=True), [])
        except csv.Error:
            continue
        if column in names:
            return names, delimiter
    raise Unreadable(
        1,
        f"there is no column {column}: wanted LiteLLM_VerificationToken with the names of its columns in the first "
        "line, as psql writes it with \\copy ... csv header",
    )


def _json(chunks: Iterator[bytes]) -> Records:
    """
    An array of objects, or objects one after another.
    """
    decoder = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse_constant)
    text = _Text(chunks)
    array = text.skip(_BETWEEN).startswith("[")
    if array:
        text.take(1)
    while ahead := text.skip(_BETWEEN):
        if array and ahead[0] == "]":
            text.take(1)
            array = False
            continue
        value, length = text.value(decoder)
        if isinstance(value, dict):
            yield Record(line=text.line, cells=value)
        else:
            raise Unreadable(text.line, "wanted an array of objects, or objects one after another, each a row")
        text.take(length)
    if array:
        raise Unreadable(text.line, "the array has no end: the file is cut off")


class _Text:
    """
    What is ahead in a file, no more than is needed of it.

    :ivar line: where that begins.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._ahead = ""
        self._at = 0
        self.line = 1

    def skip(self, pattern: re.Pattern[str]) -> str:
        """
        Go on behind what matches.

        :return: some of what follows; empty at the end.
        """
        while True:
            match = pattern.match(self._ahead, self._at)
            self.take(match.end() - self._at if match else 0)
            if self._at < len(self._ahead) or not self._more():
                return self._ahead[self._at : self._at + 1]

    def take(self, length: int) -> None:
        """
        Go on behind as many characters.
        """
        self.line += self._ahead.count("\n", self._at, self._at + length)
        self._at += length

    def value(self, decoder: json.JSONDecoder) -> tuple[Any, int]:
        """
        The JSON value that follows, and how long it is.

        :raises Unreadable: there is none.
        """
        while True:
            try:
                value, end = decoder.raw_decode(self._ahead, self._at)
            except json.JSONDecodeError as error:
                if len(self._ahead) - self._at > LONGEST_ROW or not self._more():
                    line = self.line + self._ahead.count("\n", self._at, error.pos)
                    raise Unreadable(line, f"not valid JSON ({error.msg})") from None
            except (ValueError, RecursionError):
                raise Unreadable(
                    self.line, "there is what cannot be kept: NaN, a number without end, or values nested too deep"
                ) from None
            else:
                return value, end - self._at

    def _more(self) -> bool:
        """
        Read on; false at the end.
        """
        chunk = next(self._chunks, b"")
        try:
            read = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError:
            line = self.line + self._ahead.count("\n", self._at)
            raise Unreadable(line, _NOT_UTF8) from None
        self._ahead = self._ahead[self._at :] + read
        self._at = 0
        return bool(chunk)


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)
