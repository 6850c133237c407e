"""
The keys that were offered lately, as the store knows them: bounded, told of changes, and good for a while without it.

A key that nobody has issued is never kept here, so that a flood of them drives nothing out.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from dheera.boundaries import Grant, Store
from dheera.keys import Digest
from dheera.recall import Found, Recall, Thing

Made = TypeVar("Made")


@define(eq=False)
class Keyring(Generic[Made]):
    """
    Finds what a digest opens.

    :param make: makes of a grant what the gate works with; done once for many requests. The grant itself is not kept:
        it may be large.
    :param size: how many keys are kept.
    :param away_seconds: how long a key that was used before goes on working while the store is away.
    """

    _reactor: IReactorTime
    _store: Store
    _now: Callable[[], datetime]
    _make: Callable[[Grant], Made]
    _size: int
    _away_seconds: float
    _recall: Recall[Digest, Made | None] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._recall = Recall(self._reactor, self._store, self._look, self._size, self._away_seconds)

    def close(self) -> None:
        """
        As `Recall.close`.
        """
        self._recall.close()

    def resize(self, size: int, away_seconds: float) -> None:
        """
        As `Recall.resize`.
        """
        self._recall.resize(size, away_seconds)

    def held(self, digest: Digest) -> Made | None:
        """
        What *digest* opens, if that is known here and now.
        """
        return self._recall.held(digest)

    def knows(self, digest: Digest) -> bool:
        """
        Whether *digest* opened something not long ago, though that may have changed.
        """
        return self._recall.knows(digest)

    def look_up(self, digest: Digest) -> Deferred[Made | None]:
        """
        What *digest* opens, from the store; many who ask for the same at once are answered by one look.

        :return: ``None`` if it opens nothing; fails with `StoreAway` if that is not known.
        """
        return self._recall.look_up(digest)

    async def _look(self, digest: Digest) -> Found[Made | None]:
        grant = await self._store.look_up(digest, self._now())
        return Found(None, lasts=False) if grant is None else Found(self._make(grant), _things(grant))


def _things(grant: Grant) -> tuple[Thing, ...]:
    key = grant.key
    named = (("key", key.id), ("team", key.team_id), ("user", key.user_id), ("budget", key.budget_id))
    return tuple((kind, name) for kind, name in named if name is not None)
