"""
How one of several upstream keys fares: whether it rests, why, and for how long yet.

Knows no reactor: moments are monotonic seconds.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import define, field

from dheera.settings import BalanceSettings

LONGEST_SECONDS = 3600.0
"""
That a key rests at a stretch, unless the operator has set more.
"""
FIRST_LIMITED_SECONDS = 1.0
LONGEST_LIMITED_SECONDS = 30.0
"""
That a key rests after a 429 without ``retry-after``: twice as long each time.
"""
MOST_TIMES = 10
"""
How many times longer than the first time a key rests that fails, at most.
"""
TOLD_SECONDS = 600.0
"""
That pass at least between two alerts about one key.
"""
GOOD_SECONDS = 60.0
"""
That upstream has known a key again before anybody is told.
"""
_MOST_DOUBLINGS = 30

Cause: TypeAlias = Literal["refused", "limited", "failing"]
"""
Upstream does not know the key; it takes no more of its calls for now; it fails with it again and again.
"""


@define(eq=False)
class Health:
    """
    The health of one key. It outlives a reload.

    :ivar cause: why it rests, or has rested until it is tried; ``None`` if it is well.
    :ivar until: when its rest ends.
    :ivar probed: one call tries it just now.
    :ivar rests: how often it has begun to rest: what a call tells that was sent before is old.
    """

    cause: Cause | None = field(default=None, init=False)
    until: float = field(default=0.0, init=False)
    probed: bool = field(default=False, init=False)
    rests: int = field(default=0, init=False)
    _told_at: float | None = field(default=None, init=False)
    _is_told: bool = field(default=False, init=False)
    _good_since: float | None = field(default=None, init=False)
    _refusals: int = field(default=0, init=False)
    _limits: int = field(default=0, init=False)
    _failures: int = field(default=0, init=False)
    _ejections: int = field(default=0, init=False)

    def is_free(self, now: float) -> bool:
        """
        Calls may be sent with it.
        """
        return self.cause is None or (self.cause == "limited" and now >= self.until)

    def wants_probe(self, now: float) -> bool:
        """
        It has rested, and one call may try it.
        """
        return self.cause in ("refused", "failing") and now >= self.until and not self.probed

    def accepted(self, now: float) -> bool:
        """
        Upstream has answered a call as it should.

        :return: whether it shall be told that upstream knows the key again.
        """
        self._refusals = self._limits = self._failures = self._ejections = 0
        if self.cause != "limited":  # that is over when upstream has said
            self.cause = None
        return self._is_told and self._is_good(now)

    def refused(self, now: float, rules: BalanceSettings) -> bool:
        """
        Upstream does not know the key.

        :return: whether it shall be told.
        """
        self._good_since = None
        if self.cause == "refused" and now < self.until:
            return False
        self._refusals += 1
        longest = max(LONGEST_SECONDS, rules.benched_seconds)
        seconds = rules.benched_seconds * 2.0 ** min(self._refusals - 1, _MOST_DOUBLINGS)
        self._rest("refused", now + min(seconds, longest))
        if self._is_told or (self._told_at is not None and now < self._told_at + TOLD_SECONDS):
            return False
        self._is_told, self._told_at = True, now
        return True

    def limited(self, now: float, asked_seconds: float | None) -> bool:
        """
        Upstream takes no more for now.

        :param asked_seconds: how long it wants to be left alone, if it has said so.
        :return: as `accepted`: it knows the key.
        """
        is_resting = self.cause == "limited" and now < self.until
        self._refusals = self._failures = self._ejections = 0
        if asked_seconds is not None:
            until = now + min(asked_seconds, LONGEST_SECONDS)
            self._rest("limited", max(self.until, until) if is_resting else until)
        elif not is_resting:
            seconds = FIRST_LIMITED_SECONDS * 2.0 ** min(self._limits, _MOST_DOUBLINGS)
            self._limits += 1
            self._rest("limited", now + min(seconds, LONGEST_LIMITED_SECONDS))
        return self._is_told and self._is_good(now)

    def failed(self, now: float, rules: BalanceSettings) -> bool:
        """
        Upstream has failed in a way that is its own fault.

        :return: whether the key rests from now on for that.
        """
        self._failures += 1
        is_tried = self.cause in ("refused", "failing")
        if now < self.until or (not is_tried and self._failures < rules.failures):
            return False
        self._failures = 0
        self._ejections = min(self._ejections + 1, MOST_TIMES)
        self._rest("failing", now + rules.ejected_seconds * self._ejections)
        return True

    def _is_good(self, now: float) -> bool:
        """
        Whether upstream knows the key again, and has done so for a while.
        """
        if self._good_since is None:
            self._good_since = now
        self._is_told = now < self._good_since + GOOD_SECONDS
        return not self._is_told

    def _rest(self, cause: Cause, until: float) -> None:
        self.cause, self.until = cause, until
        self.rests += 1
