"""
Where a chunked body ends (RFC 9112 §7.1). llhttp decodes and judges; this only counts, so that llhttp can be given a
whole read at once and yet not a byte of the request that follows.
"""

from __future__ import annotations

import re

_SIZE_LINE = re.compile(rb"(0*[0-9A-Fa-f]{1,16})(?:;.*)?", re.DOTALL)


class ChunkCounter:
    """
    Follows one chunked body.

    :ivar done: the body has ended. Should llhttp be of another opinion, nobody knows where the body ends, and the
        request must be refused.
    """

    def __init__(self) -> None:
        self.done = False
        self._skip = 0
        self._line = b""
        self._last = False

    def end(self, data: bytes) -> int:
        """
        The length of the part of *data* that belongs to the body: all of it, unless the body ends before.
        """
        position, size = 0, len(data)
        while position < size:
            if self._skip:
                step = min(self._skip, size - position)
                self._skip -= step
                position += step
                continue
            # A line may be cut anywhere by the network, between CR and LF too.
            if self._line.endswith(b"\r") and data.startswith(b"\n", position):
                line, position = self._line[:-1], position + 1
            else:
                stop = data.find(b"\r\n", position)
                if stop < 0:
                    self._line += data[position:]
                    return size
                line, position = self._line + data[position:stop], stop + 2
            self._line = b""
            if self._last:
                if not line:
                    self.done = True
                    return position
                continue  # a trailer
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                return size  # llhttp will refuse it
            length = int(match[1], 16)
            self._last = length == 0
            self._skip = length + 2 if length else 0
        return size
