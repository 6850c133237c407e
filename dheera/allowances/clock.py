"""
What time it is for the store, as far as is known here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@define(eq=False)
class StoreClock:
    """
    Goes on from what the store has said last. Until it has said anything, it is the machine's clock.
    """

    _reactor: IReactorTime
    _now: Callable[[], datetime]
    _at_us: int | None = field(default=None, init=False)
    _heard_seconds: float = field(default=0.0, init=False)

    def hear(self, at_us: int) -> None:
        """
        The store says that it is *at_us*, in microseconds since the epoch.
        """
        self._at_us, self._heard_seconds = at_us, self._reactor.seconds()

    def at_us(self) -> int:
        """
        What it would say now, about. The one who counts on it is told by the store if it is wrong.
        """
        if self._at_us is None:
            return microseconds(self._now())
        return self._at_us + int((self._reactor.seconds() - self._heard_seconds) * 1_000_000)


def microseconds(time: datetime) -> int:
    """
    Since the epoch.
    """
    return (time - _EPOCH) // _MICROSECOND


def time_of(at_us: int) -> datetime:
    """
    The same, the other way round: aware and in UTC; at most the end of the calendar.
    """
    try:
        return _EPOCH + timedelta(microseconds=at_us)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def whole_seconds(span_us: int) -> int:
    """
    Rounded up: who waits so long has not come too early. Never below 0.
    """
    return max(0, -(-span_us // 1_000_000))
