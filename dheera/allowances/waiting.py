"""
What waits for the next turn of the store. No Twisted, no I/O.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from attrs import define, field

from dheera.holding import Claim, Release, Turn, Verdict, repeated

MOST_CLAIMS = 256
MOST_RELEASES = 1024
"""
In one turn: other processes want to have theirs, too.
"""
MOST_KEPT = 100_000
"""
Releases that are kept while the store is away; then the oldest go. The ledger puts budgets right, and time the rest.
"""


class Asking(Protocol):
    """
    Somebody with a claim; hears of it once, by one of the methods.

    :ivar is_gone: it waits no longer. It hears all the same of what it got.
    """

    claim: Claim
    is_gone: bool

    def hear(self, verdict: Verdict, at_us: int) -> None:
        """
        The store has decided, at that time of its clock.
        """
        ...

    def fail(self, error: Exception) -> None:
        """
        It has not; what it may have done is undone.
        """
        ...


@define(eq=False)
class Waiting:
    """
    Claims and releases, in the order in which they came.

    :ivar extends: the holds of this process are to last on.
    :ivar is_wary: the store will not take one of the releases: they go one by one, and nothing else with them, until
        they are `cleared`.
    """

    _owner: str
    _lasts_us: int
    extends: bool = field(init=False, default=False)
    _asking: deque[Asking] = field(init=False, factory=deque)
    _releases: deque[Release] = field(init=False, factory=lambda: deque(maxlen=MOST_KEPT))
    _doubtful: deque[Release] = field(init=False, factory=lambda: deque(maxlen=MOST_KEPT))
    _suspects: int = field(init=False, default=0)
    _wary_of: int = field(init=False, default=0)
    _claims_next: bool = field(init=False, default=False)

    @property
    def is_urgent(self) -> bool:
        """
        Whether somebody waits for an answer, or holds may end.
        """
        return bool(self._asking) or self.extends

    @property
    def has_releases(self) -> bool:
        """
        Whether something is to be given back.
        """
        return bool(self._releases)

    @property
    def is_in_doubt(self) -> bool:
        """
        Whether there are claims of which nobody knows whether they were taken.
        """
        return bool(self._doubtful)

    @property
    def is_wary(self) -> bool:
        """
        See above.
        """
        return self._wary_of > 0

    def ask(self, asking: Asking, *, again: bool = False) -> None:
        """
        Somebody claims.

        :param again: and is served before all others.
        """
        if again:
            self._asking.appendleft(asking)
        else:
            self._asking.append(asking)

    def release(self, release: Release) -> None:
        """
        Something is given back.
        """
        self._releases.append(release)

    def doubt(self, asking: Asking) -> None:
        """
        Nobody knows whether a claim was taken: it is given back in any case, and once more later, since a turn may be
        done only after its answer was waited for in vain.
        """
        release = Release(call_id=asking.claim.call_id)
        self._releases.append(release)
        self._doubtful.append(release)

    def remind(self) -> None:
        """
        Now is later: what may have been taken is given back once more.
        """
        self._releases += self._doubtful
        self._doubtful.clear()

    def next(self, *, probing: bool = False) -> tuple[Turn, list[Asking]]:
        """
        The next turn, and who claims in it.

        :param probing: it is to find out whether the store is there: with nothing that it may have refused for itself.
        """
        if self.is_wary and not self._suspects:
            return self._next_warily(probing=probing)
        asking = self._next_asking(1 if self._suspects else MOST_CLAIMS)
        releases: list[Release] = []
        extends = False
        if asking and self._suspects:
            self._suspects -= 1
        else:
            self._suspects = 0
            extends, self.extends = self.extends, False
            releases = [self._releases.popleft() for _ in range(min(len(self._releases), MOST_RELEASES))]
        return self._turn(asking, releases, extends=extends)

    def _next_warily(self, *, probing: bool) -> tuple[Turn, list[Asking]]:
        # In turns: who claims waits for one release, and no release for all claims.
        self._claims_next = not self._claims_next
        if not probing and self._releases and not (self._claims_next and self.is_urgent):
            return self._turn([], [self._releases.popleft()], extends=False)
        extends, self.extends = self.extends, False
        return self._turn(self._next_asking(MOST_CLAIMS), [], extends=extends)

    def _turn(self, asking: list[Asking], releases: list[Release], *, extends: bool) -> tuple[Turn, list[Asking]]:
        claims = [each.claim for each in asking]
        return Turn(
            owner=self._owner, extends=extends, lasts_us=self._lasts_us, releases=releases, claims=claims
        ), asking

    def put_back(self, turn: Turn, *, undone: bool = False) -> None:
        """
        The turn has failed: but for its claims, all of it is to be said again.

        :param undone: it is known that nothing of it was done.
        """
        room = MOST_KEPT - len(self._releases)
        releases = turn.releases[-room:] if room else []
        self._releases.extendleft(reversed(releases if undone else [repeated(each) for each in releases]))
        self.extends = self.extends or turn.extends

    def suspect_releases(self, turn: Turn) -> None:
        """
        There is something wrong with one of those that were put back with *turn*.
        """
        self._wary_of = max(self._wary_of, len(turn.releases))

    def cleared(self, turn: Turn) -> None:
        """
        Its releases are said, or given up.
        """
        self._wary_of = max(0, self._wary_of - len(turn.releases))

    def suspect(self, asking: list[Asking]) -> None:
        """
        There is something wrong with one of them: they go one by one, and nothing else with them.
        """
        self._asking.extendleft(reversed(asking))
        self._suspects = len(asking)

    def leave(self) -> list[Asking]:
        """
        All who claim; nobody does any more.
        """
        return self._next_asking(len(self._asking))

    def _next_asking(self, most: int) -> list[Asking]:
        asking: list[Asking] = []
        while self._asking and len(asking) < most:
            each = self._asking.popleft()
            if not each.is_gone:
                asking.append(each)
        return asking
