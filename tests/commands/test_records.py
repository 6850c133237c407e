"""
Rows from CSV and JSON.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import IO, Any, cast
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from dheera.commands.records import LONGEST_ROW, Misfit, Record, Unreadable, records


class Trickle(io.RawIOBase):
    """
    A file that gives few bytes at a time, and counts how much was taken ahead of its reader.
    """

    def __init__(self, content: Iterator[bytes]) -> None:
        self._content = content
        self.taken = 0

    def read(self, _size: int = -1) -> bytes:
        chunk = next(self._content, b"")
        self.taken += len(chunk)
        return chunk


def read(content: bytes | Iterator[bytes], form: str | None = None) -> list[Record | Misfit]:
    """
    All rows of a file.
    """
    file = io.BytesIO(content) if isinstance(content, bytes) else Trickle(content)
    return list(records(cast("IO[bytes]", file), "token", form))


def cells(content: bytes, form: str | None = None) -> list[dict[str, Any]]:
    """
    The cells of all rows, each of which can be used.
    """
    return [each.cells for each in read(content, form) if isinstance(each, Record)]


class RecordsCase(TestCase):
    def unreadable(self, content: bytes, *words: str, form: str | None = None) -> None:
        """
        That *content* is refused, and with these words.
        """
        with self.assertRaises(Unreadable) as caught:
            read(content, form)
        for each in words:
            self.assertIn(each, str(caught.exception))


class CsvTests(RecordsCase):
    """
    CSV.
    """

    def test_rows(self) -> None:
        """
        Cells by the names of their columns, whatever ends the lines and stands in quotes; a row's line is its first.
        """
        for end in "\n", "\r\n":
            content = end.join(["token,metadata,key_alias", 'a,"{""x"":', '1}",ä', "", 'b,,"c,d"', ""]).encode()
            first, second = read(content)
            self.assertEqual(
                Record(line=2, cells={"token": "a", "metadata": f'{{"x":{end}1}}', "key_alias": "ä"}), first
            )
            self.assertEqual(Record(line=5, cells={"token": "b", "metadata": "", "key_alias": "c,d"}), second)

    def test_no_rows(self) -> None:
        """
        A head alone is a table without rows; so is one without an end of line.
        """
        self.assertEqual([], read(b"key_alias,token"))
        self.assertEqual([{"token": "a"}], cells(b"token\na"))

    def test_other_delimiters(self) -> None:
        """
        Semicolons, tabs and bars are found by the head.
        """
        for delimiter in ";", "\t", "|":
            content = f"key_alias{delimiter}token\nx,y{delimiter}a\n".encode()
            self.assertEqual([{"key_alias": "x,y", "token": "a"}], cells(content))

    def test_byte_order_mark(self) -> None:
        """
        The mark that some tools put in front of UTF-8 is no part of the first name.
        """
        self.assertEqual([{"token": "a"}], cells(b"\xef\xbb\xbftoken\na\n"))

    def test_no_token(self) -> None:
        """
        Another table, an empty file and a file without a head are refused with what is wanted.
        """
        self.unreadable(b"", "line 1: the file is empty")
        for content in b"id,name\n1,2\n", b"\n", b'"', b"tokens,x\n":
            self.unreadable(content, "line 1:", "no column token", "LiteLLM_VerificationToken")

    def test_number_of_fields(self) -> None:
        """
        A row with too few or too many fields is a misfit, and those after it are read.
        """
        short, long, good = read(b"token,a\nx\nx,1,2\nx,1\n")
        assert isinstance(short, Misfit)
        assert isinstance(long, Misfit)
        assert isinstance(good, Record)
        self.assertEqual((2, "1 fields, where the head has 2"), (short.line, short.reason))
        self.assertEqual((3, 4), (long.line, good.line))

    def test_encoding(self) -> None:
        """
        What is not UTF-8 is told with its line.
        """
        self.unreadable(b"token,a\nx,1\ny,\xe4\n", "line 3:", "UTF-8")
        self.unreadable("token\nx\n".encode("utf-16"), "line 1:", "UTF-8")

    def test_quotes(self) -> None:
        """
        Quotes that do not end, or do not surround, are told with the line where the row begins.
        """
        self.unreadable(b'token,a\nx,1\ny,"2\n', "line 3:", "not valid CSV")
        self.unreadable(b'token,a\ny,"2"3\n', "line 2:", "not valid CSV")

    def test_endless_lines(self) -> None:
        """
        A line, or a field over many lines, that is longer than any row can be is refused.
        """
        self.unreadable(b"token,a\n" + b"x" * (LONGEST_ROW + 2) + b"\n" * 9, "line 2:", form="csv")
        self.unreadable(b'token,a\nx,"' + b"y\n" * LONGEST_ROW, "line 2:")

    @given(
        st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\0")), min_size=3, max_size=3)),
        st.integers(1, 7),
    )
    def test_any_chunking(self, rows: list[list[str]], size: int) -> None:
        """
        Whatever stands in the cells, and however the file arrives, the rows are what was written.
        """
        text = io.StringIO(newline="")
        csv.writer(text, quoting=csv.QUOTE_ALL).writerows([["a", "token", "b"], *rows])
        content = text.getvalue().encode()
        chunks = (content[start : start + size] for start in range(0, len(content), size))
        # The form is told: the first chunk may be too short to show it.
        found = read(chunks, "csv")
        self.assertEqual(
            [dict(zip(["a", "token", "b"], row, strict=True)) for row in rows],
            [c.cells for c in found if isinstance(c, Record)],
        )


class JsonTests(RecordsCase):
    """
    JSON.
    """

    def test_forms(self) -> None:
        """
        An array, one object a line, or objects however they stand; each with the line where it begins.
        """
        for content, lines in (
            (b'[{"token":"a"},{"token":"b"}]', [1, 1]),
            (b'[\n {"token":\n"a"}\n,\n{"token":"b"}]\n', [2, 5]),
            (b'{"token":"a"}\n{"token":"b"}\n', [1, 2]),
            (b'\xef\xbb\xbf\n{"token":"a"}{"token":"b"}', [2, 2]),
        ):
            found = read(content)
            self.assertEqual(["a", "b"], [each.cells["token"] for each in found if isinstance(each, Record)])
            self.assertEqual(lines, [each.line for each in found])
        self.assertEqual([], read(b"[]"))

    def test_not_rows(self) -> None:
        """
        What holds no rows is refused with its line.
        """
        self.unreadable(b"[\n1]", "line 2:", "array of objects")
        self.unreadable(b'{"token":"a"}\n"b"', "line 2:", "array of objects")
        self.unreadable(b'{"token":"a"}\nb', "line 2:", "not valid JSON")
        self.unreadable(b'[{"token":"a"},\n{"token" "b"}]', "line 2:", "not valid JSON")

    def test_cut_off(self) -> None:
        """
        A file that breaks off is not taken for a whole one.
        """
        self.unreadable(b'[{"token":"a"}', "cut off")
        self.unreadable(b'{"token":"a"}\n{"token":"b', "line 2:", "not valid JSON")

    def test_encoding(self) -> None:
        """
        What is not UTF-8 is told with its line, also when it ends within a letter.
        """
        self.unreadable(b'{"token":"a"}\n{"token":"\xff"}', "UTF-8")
        self.unreadable(b'{"token":"a"}\n\xc3', "UTF-8")

    def test_not_to_be_kept(self) -> None:
        """
        Numbers that are none, or have no end, and values nested too deep.
        """
        for value in b"NaN", b"-Infinity", b"9" * 5000, b"[" * 100_000:
            self.unreadable(b'{"token":"a","x":' + value + b"}", "line 1:")

    def test_endless_value(self) -> None:
        """
        An object that has no end is not looked for to the end of the file.
        """

        def content() -> Iterator[bytes]:
            yield b'{"token":"'
            while True:
                yield b"x" * 65536

        file = Trickle(content())
        with self.assertRaises(Unreadable):
            list(records(cast("IO[bytes]", file), "token"))
        self.assertLess(file.taken, 3 * LONGEST_ROW)

    @given(
        st.lists(st.dictionaries(st.text(), st.text() | st.integers(-(2**63), 2**63) | st.none() | st.booleans())),
        st.integers(1, 7),
        st.sampled_from([None, 1]),
        st.booleans(),
    )
    def test_any_chunking(self, rows: list[dict[str, Any]], size: int, indent: int | None, array: bool) -> None:  # noqa: FBT001 - hypothesis names it
        """
        Whatever stands in the rows, and however the file arrives, they are what was written.
        """
        text = json.dumps(rows, indent=indent) if array else "\n".join(json.dumps(row, indent=indent) for row in rows)
        content = text.encode()
        chunks = (content[start : start + size] for start in range(0, len(content), size))
        found = read(chunks, "json")
        self.assertEqual(rows, [each.cells for each in found if isinstance(each, Record)])


class MemoryTests(TestCase):
    """
    Files larger than memory.
    """

    def test_streams(self) -> None:
        """
        Rows come while the file is read: no more of it is taken than was asked for, and some.
        """
        for start, row, form in (
            (b"token,x\n", b"a,b\n", "csv"),
            (b"[", b'{"token":"a"},', "json"),
            (b"", b'{"token":"a"}\n', "json"),
        ):

            def content(start: bytes = start, row: bytes = row) -> Iterator[bytes]:
                yield start
                while True:
                    yield row * 1000

            file = Trickle(content())
            rows = records(cast("IO[bytes]", file), "token", form)
            for _ in range(10_000):
                next(rows)
            self.assertLess(file.taken, len(row) * 12_000)
