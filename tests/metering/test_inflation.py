"""
What is read from compressed answers.
"""

from __future__ import annotations

import gzip
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.metering.events import EventMeter
from dheera.metering.gist import Gist
from dheera.metering.inflation import CODINGS, MOST_BYTES, Inflated
from dheera.usage import Reading
from tests.metering.shapes import CHAT_STREAM, CHAT_STREAM_READING, MODEL, chunk, reading
from tests.strategies import chunkings


def raw(content: bytes) -> bytes:
    """
    *content*, deflated without a frame.
    """
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(content) + deflater.flush()


PACKED = [
    (b"gzip", gzip.compress(CHAT_STREAM)),
    (b"x-gzip", gzip.compress(CHAT_STREAM[:100]) + gzip.compress(CHAT_STREAM[100:])),
    (b"gzip", gzip.compress(CHAT_STREAM) + b"\0\0\0"),
    (b"deflate", zlib.compress(CHAT_STREAM)),
    (b"deflate", raw(CHAT_STREAM)),
    (b"deflate", zlib.compress(CHAT_STREAM) + b"rest"),
]


class InflationTests(SynchronousTestCase):
    def read(self, coding: bytes, *pieces: bytes) -> Reading:
        """
        What is read from *pieces*.
        """
        self.assertIn(coding, CODINGS)
        return reading(Inflated(EventMeter(Gist()), coding), pieces)

    def test_formats(self) -> None:
        """
        Each coding is read, in one member or several, with and without a frame, whatever comes after it.
        """
        for coding, packed in PACKED:
            self.assertEqual(CHAT_STREAM_READING, self.read(coding, packed), packed)
            self.assertEqual(
                CHAT_STREAM_READING, self.read(coding, *[packed[at : at + 1] for at in range(len(packed))]), packed
            )

    def test_as_they_come(self) -> None:
        """
        Events are seen when they come, not when the answer ends.
        """
        deflater = zlib.compressobj(wbits=31)
        meter = Inflated(EventMeter(Gist()), b"gzip")
        for count in range(1, 4):
            meter.feed(deflater.compress(chunk("a")) + deflater.flush(zlib.Z_SYNC_FLUSH))
            self.assertEqual(Reading(model=MODEL, events=count), meter.reading())

    def test_bomb(self) -> None:
        """
        An answer that grows too long is not read on, and nothing is known of it.
        """
        deflater = zlib.compressobj(wbits=31)
        packed = deflater.compress(CHAT_STREAM) + deflater.flush(zlib.Z_SYNC_FLUSH)
        meter = Inflated(EventMeter(Gist()), b"gzip")
        meter.feed(packed)
        self.assertEqual(CHAT_STREAM_READING, meter.reading())
        zeros = bytes(MOST_BYTES // 16)
        for _ in range(17):
            meter.feed(deflater.compress(zeros) + deflater.flush(zlib.Z_SYNC_FLUSH))
        self.assertEqual(Reading(), meter.reading())
        meter.feed(b"more")
        self.assertEqual(Reading(), meter.reading())

    def test_long(self) -> None:
        """
        One that is long, and no bomb, is read to its end: so is the output of a large batch.
        """
        deflater = zlib.compressobj(level=0, wbits=31)
        meter = Inflated(EventMeter(Gist()), b"gzip")
        comment = b":" + bytes(MOST_BYTES // 16) + b"\n\n"
        for _ in range(17):
            meter.feed(deflater.compress(comment) + deflater.flush(zlib.Z_SYNC_FLUSH))
        meter.feed(deflater.compress(CHAT_STREAM) + deflater.flush())
        self.assertEqual(CHAT_STREAM_READING, meter.reading())

    def test_damaged(self) -> None:
        """
        Of an answer that is damaged nothing is known; of one that is cut, what came.
        """
        packed = gzip.compress(CHAT_STREAM)
        self.assertEqual(Reading(), self.read(b"gzip", packed[:-8] + b"\1" + packed[-7:]))
        self.assertEqual(Reading(), self.read(b"gzip", CHAT_STREAM))
        self.assertEqual(CHAT_STREAM_READING, self.read(b"gzip", packed[:-8]))
        self.assertEqual(Reading(), self.read(b"gzip"))

    @settings(deadline=None)
    @given(st.data())
    def test_any_cut(self, data: st.DataObject) -> None:
        """
        However a compressed answer is cut, damaged or not, the reading is the same.
        """
        coding, packed = data.draw(st.sampled_from(PACKED))
        at = data.draw(st.integers(0, len(packed)))
        packed = packed[:at] + data.draw(st.binary(max_size=3)) + packed[at + data.draw(st.integers(0, 2)) :]
        self.assertEqual(self.read(coding, packed), self.read(coding, *data.draw(chunkings(packed))))
