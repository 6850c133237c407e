"""
How often a call was sent to upstream, with which key, and what came of it: for its record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import structs

from dheera.errors import AnswerCut
from dheera.records import Try

MICRO = 1_000_000


class Tries:
    """
    The tries of one call. Most go well the first time: so what is seldom set is set only then.

    :param clock: monotonic seconds.
    :ivar count: how often it was sent.
    :ivar first_sent: when it was sent the first time.
    :ivar key: the name of the key that it was sent with; ``None`` where there is only one.
    :ivar before: all that were in vain. If it was to be sent again and was not, since its client left, the last is one.
    :ivar is_out: it was sent, and is not waiting to be sent again: upstream may do something for it.
    :ivar is_plain: it was sent once, where there is only one key. Records need not say so.
    """

    count = 0
    first_sent = 0.0
    key: str | None = None
    before: Sequence[Try] = ()
    is_out = False
    is_plain = False
    _sent = 0.0
    _dropped_at = 0.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def begin(self) -> None:
        """
        It is sent the first time.
        """
        self.count = 1
        self.is_out = self.is_plain = True
        self.first_sent = self._sent = self._clock()

    def use(self, key: str) -> None:
        """
        It is sent with one of several keys.
        """
        self.key = key
        self.is_plain = False

    def seconds(self) -> float:
        """
        How long ago it was sent, the last time.
        """
        return self._clock() - self._sent

    def drop(self, status: int | None, error: str | None) -> None:
        """
        It was sent in vain, and will be sent again.

        :param status: of the answer, if there was one.
        :param error: why there was none.
        """
        self._dropped_at = self._clock()
        took = int((self._dropped_at - self._sent) * MICRO)
        self.before = [*self.before, Try(key=self.key, status=status, error=error, duration_us=took)]
        self.is_out = self.is_plain = False

    def again(self, key: str | None) -> None:
        """
        Now it is.
        """
        now = self._clock()
        *before, dropped = self.before
        self.before = [*before, structs.replace(dropped, waited_us=int((now - self._dropped_at) * MICRO))]
        self.count += 1
        self._sent, self.key, self.is_out = now, key, True

    def anew(self) -> None:
        """
        The connection was stale: it is sent on another one.
        """
        self.drop(None, AnswerCut.__name__)
        self.again(self.key)
