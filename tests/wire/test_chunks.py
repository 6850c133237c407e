"""
Where a chunked body ends.
"""

from __future__ import annotations

from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from dheera.wire.chunks import ChunkCounter

NEXT = b"GET / HTTP/1.1\r\n\r\n"

chunks = st.lists(st.binary(min_size=1, max_size=40) | st.just(b"\r\n0\r\n\r\n"), max_size=6)
extensions = st.sampled_from([b"", b";a", b';a="0"'])
trailers = st.lists(st.sampled_from([b"A: b\r\n", b"0: 0\r\n"]), max_size=2)


def encoded(pieces: list[bytes], extension: bytes, ending: list[bytes]) -> bytes:
    """
    A chunked body.
    """
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
    return body + b"00" + extension + b"\r\n" + b"".join(ending) + b"\r\n"


class ChunkCounterTests(TestCase):
    @given(chunks, extensions, trailers, st.lists(st.integers(1, 20), max_size=20))
    def test_any_cut(self, pieces: list[bytes], extension: bytes, ending: list[bytes], sizes: list[int]) -> None:
        """
        However the network cuts a body, and whatever it holds, its end is found, and nothing behind it is taken.
        """
        body = encoded(pieces, extension, ending)
        stream, taken, counter = body + NEXT, 0, ChunkCounter()
        for size in [*sizes, len(stream)]:
            part = stream[taken : taken + size]
            end = counter.end(part)
            taken += end
            if end < len(part) or taken == len(body):
                break
        self.assertEqual((len(body), True), (taken, counter.done))

    def test_lost(self) -> None:
        """
        Behind a size line that cannot be read, no end is found.
        """
        for line in (b"x\r\n", b"\r\n", b"-1\r\n", b"1" * 17 + b"\r\n", b" 1\r\n", b"1 \r\n"):
            counter = ChunkCounter()
            self.assertEqual(len(line), counter.end(line))
            self.assertFalse(counter.done, line)

    def test_many_lines(self) -> None:
        """
        What looks like an end within a chunk is passed over without a look: a read is one step, whatever it holds.
        """
        counter = ChunkCounter()
        content = b"\r\n" * 1000
        self.assertEqual(5 + len(content), counter.end(b"7d0\r\n" + content))
