"""
The keys that were offered lately, as the store knows them: bounded, told of changes, and good for a while without it.

A key that nobody has issued is never kept here, so that a flood of them drives nothing out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeAlias, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dheera.boundaries import Change, Grant, Store
from dheera.errors import StoreAway
from dheera.keys import Digest

LOOKS = 5
"""
How often the store is asked again because the answer was overtaken by a change. After that it is used, but not kept.
"""

Made = TypeVar("Made")
Thing: TypeAlias = tuple[str, str]
"""
A kind and an id.
"""


@define(eq=False)
class _Kept(Generic[Made]):
    """
    What was made of a grant, and how far it can be trusted. The grant itself is not kept: it may be large.

    :param concerns: kinds and ids of what it was made of.
    :param usable_until: by the reactor's clock; ``None`` while changes are heard. Once set, the store is asked first,
        and this serves only when it does not answer.
    """

    made: Made
    concerns: tuple[Thing, ...]
    usable_until: float | None


@define(eq=False)
class _Asking(Generic[Made]):
    """
    A look into the store that is under way: who waits for it, and what has changed since it began.
    """

    waiting: list[Deferred[Made | None]] = field(factory=list)
    heard: list[Change] = field(factory=list)


@define(eq=False)
class Keyring(Generic[Made]):
    """
    Finds what a digest opens.

    :param make: makes of a grant what the gate works with; done once for many requests.
    :param size: how many keys are kept.
    :param away_seconds: how long a key that was used before goes on working while the store is away.
    """

    _reactor: IReactorTime
    _store: Store
    _now: Callable[[], datetime]
    _make: Callable[[Grant], Made]
    _size: int
    _away_seconds: float
    _kept: OrderedDict[Digest, _Kept[Made]] = field(factory=OrderedDict)
    _concerned: dict[Thing, set[Digest]] = field(factory=dict)
    _asking: dict[Digest, _Asking[Made]] = field(factory=dict)
    _hearing: bool = True

    def __attrs_post_init__(self) -> None:
        self._store.watch(self._changed, self._lost)

    def held(self, digest: Digest) -> Made | None:
        """
        What *digest* opens, if that is known here and now.
        """
        kept = self._kept.get(digest)
        if kept is None or kept.usable_until is not None:
            return None
        self._kept.move_to_end(digest)
        return kept.made

    def knows(self, digest: Digest) -> bool:
        """
        Whether *digest* opened something not long ago, though that may have changed.
        """
        return digest in self._kept

    def look_up(self, digest: Digest) -> Deferred[Made | None]:
        """
        What *digest* opens, from the store; many who ask for the same at once are answered by one look.

        :return: ``None`` if it opens nothing; fails with `StoreAway` if that is not known.
        """
        answer: Deferred[Made | None] = Deferred()
        asking = self._asking.get(digest)
        if asking is not None:
            asking.waiting.append(answer)
            return answer
        asking = self._asking[digest] = _Asking([answer])
        looking = Deferred.fromCoroutine(self._look(digest, asking))
        looking.addBoth(self._tell, digest, asking)
        return answer

    async def _look(self, digest: Digest, asking: _Asking[Made]) -> Made | None:
        looks = 0
        while True:
            looks += 1
            asking.heard.clear()
            try:
                grant = await self._store.look_up(digest, self._now())
            except StoreAway:
                kept = self._kept.get(digest)
                if kept is None or self._reactor.seconds() >= (kept.usable_until or self._good_until()):
                    raise
                return kept.made
            if grant is None:
                self._drop(digest)
                return None
            if not any(not change.kind or (change.kind, change.id) in _things(grant) for change in asking.heard):
                return self._keep(digest, grant)
            # What was read may be what was changed meanwhile, and must not be kept.
            if looks == LOOKS:
                return self._make(grant)

    def _tell(self, outcome: Made | Failure | None, digest: Digest, asking: _Asking[Made]) -> None:
        del self._asking[digest]
        for answer in asking.waiting:
            if not answer.called:  # who left has cancelled it
                answer.callback(outcome)

    def _keep(self, digest: Digest, grant: Grant) -> Made:
        self._drop(digest)
        made, things = self._make(grant), _things(grant)
        self._kept[digest] = _Kept(made, things, None if self._hearing else self._good_until())
        for thing in things:
            self._concerned.setdefault(thing, set()).add(digest)
        if len(self._kept) > self._size:
            self._drop(next(iter(self._kept)))
        return made

    def _drop(self, digest: Digest) -> None:
        kept = self._kept.pop(digest, None)
        for thing in () if kept is None else kept.concerns:
            self._concerned[thing].discard(digest)
            if not self._concerned[thing]:
                del self._concerned[thing]

    def _good_until(self) -> float:
        return self._reactor.seconds() + self._away_seconds

    def _changed(self, change: Change) -> None:
        for asking in self._asking.values():
            asking.heard.append(change)
        if not change.kind:
            self._hearing = True
            self._doubt()
        for digest in list(self._concerned.get((change.kind, change.id), ())):
            self._drop(digest)

    def _lost(self) -> None:
        self._hearing = False
        self._doubt()

    def _doubt(self) -> None:
        """
        Anything may have changed: ask the store before each is used again.
        """
        until = self._good_until()
        for kept in self._kept.values():
            if kept.usable_until is None:
                kept.usable_until = until


def _things(grant: Grant) -> tuple[Thing, ...]:
    key = grant.key
    named = (("key", key.id), ("team", key.team_id), ("user", key.user_id), ("budget", key.budget_id))
    return tuple((kind, name) for kind, name in named if name is not None)
