"""
When a call is sent again: how many of them may be, and how long is waited before.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime

from attrs import define, field

from dheera.settings import BalanceSettings
from dheera.sinks.answers import retry_after
from dheera.wire.heads import Fields

MOST_SAVED = 10
"""
Calls that may be sent again at once, after a time in which none was.
"""
FIRST_PAUSE_SECONDS = 0.1
"""
Before a call is sent again to an upstream that could not be reached; twice as long each time.
"""


@define(eq=False)
class RetryBudget:
    """
    How many calls may be sent again: a part of all of them, so that an upstream in trouble is not asked yet more.

    :ivar is_full: so many are saved up that it makes no difference to `count` one more.
    """

    _rules: BalanceSettings
    _uniform: Callable[[float, float], float] = random.uniform
    is_full: bool = field(default=True, init=False)
    _saved_percent: int = field(default=MOST_SAVED * 100, init=False)

    def count(self) -> None:
        """
        A call is sent the first time.
        """
        self._saved_percent = min(MOST_SAVED * 100, self._saved_percent + self._rules.retry_percent)
        self.is_full = self._saved_percent == MOST_SAVED * 100

    def allows(self, tries: int) -> bool:
        """
        Whether a call may be sent once more.

        :param tries: how often it was.
        """
        rules = self._rules
        return tries <= rules.retries and self._saved_percent >= 100 and rules.retry_percent > 0  # noqa: PLR2004 - percent

    def take(self) -> None:
        """
        It is.
        """
        self._saved_percent = max(0, self._saved_percent - 100)
        self.is_full = False

    @property
    def longest_pause(self) -> float:
        """
        Seconds that are waited for, as long as nothing else helps.
        """
        return self._rules.retry_wait_seconds

    def pause(self, tries: int) -> float:
        """
        How long to wait before an upstream is tried again that could not be reached: drawn from half to all of it, so
        that those who failed together do not come together.
        """
        most = FIRST_PAUSE_SECONDS * 2.0 ** (tries - 1)
        return min(self._uniform(most / 2, most), self.longest_pause)


def asked_seconds(fields: Fields, now: datetime) -> float | None:
    """
    How long an answer asks to be left alone (``Retry-After``, RFC 9110 §10.2.3), if it does.

    :param now: aware.
    """
    for name, value in fields:
        if name.lower() == b"retry-after":
            try:
                return retry_after(value, now)
            except OverflowError:  # a date in a time zone that is days away
                return None
    return None
