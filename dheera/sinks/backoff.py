"""
How long to wait before somebody who was away is asked again.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from attrs import define

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 60.0
LONGEST_ASKED_SECONDS = 600.0
"""
What the other side may ask for.
"""


@define(eq=False)
class Backoff:
    """
    Waits that double, each drawn anew from nothing to all of it: so those who went away together do not come back
    together.
    """

    _uniform: Callable[[float, float], float] = random.uniform
    _times: int = 0

    def next_seconds(self, asked: float | None) -> float:
        """
        How long to wait now.

        :param asked: how long the other side asked us to wait at least.
        """
        most = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self._times, 16))
        self._times += 1
        return self._uniform(0.0, most) + min(asked or 0.0, LONGEST_ASKED_SECONDS)

    def reset(self) -> None:
        """
        They are back.
        """
        self._times = 0
