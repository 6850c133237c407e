"""
How many bytes of request bodies may be kept at once, by all requests together.
"""

from __future__ import annotations

from attrs import define, field

from dheera.errors import Unavailable

RETRY_SECONDS = 1


@define(eq=False)
class Headroom:
    """
    Room for the bodies that must be here as a whole before they go on. Each has a bound of its own; this is the one of
    all of them.

    :param room_bytes: that many at most.
    :ivar taken_bytes: that many now.
    """

    room_bytes: int
    taken_bytes: int = field(default=0, init=False)

    def has_spare(self, size: int) -> bool:
        """
        Whether *size* bytes more leave half of it to those who cannot do without.
        """
        return (self.taken_bytes + size) * 2 <= self.room_bytes

    def hold(self) -> Holding:
        """
        A share of nothing yet.
        """
        return Holding(self)


@define(eq=False)
class Holding:
    """
    The share of one body.
    """

    _headroom: Headroom
    _size: int = field(default=0, init=False)

    def grow(self, size: int) -> None:
        """
        Have room for *size* bytes at least.

        :raises Unavailable: others have it. What was had before stays.
        """
        more = size - self._size
        if more <= 0:
            return
        if self._headroom.taken_bytes + more > self._headroom.room_bytes:
            raise Unavailable(
                "Too many large requests are being read at once: try again soon.", retry_after_seconds=RETRY_SECONDS
            )
        self._headroom.taken_bytes += more
        self._size = size

    def give_back(self) -> None:
        """
        Have nothing any more. Harmless when repeated.
        """
        self._headroom.taken_bytes -= self._size
        self._size = 0
