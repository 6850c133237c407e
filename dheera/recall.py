"""
What the store was asked lately, and has answered: bounded, told of changes, and good for a while without it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeAlias, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dheera.boundaries import Change, Store
from dheera.errors import StoreAway

LOOKS = 5
"""
How often the store is asked again because the answer was overtaken by a change. After that it is used, but not kept.
"""

Name = TypeVar("Name", bound=Hashable)
Made = TypeVar("Made")
Thing: TypeAlias = tuple[str, str]
"""
A kind and an id.
"""


@frozen
class Found(Generic[Made]):
    """
    What the store has answered.

    :param made: what is made of it, once for many who ask.
    :param concerns: kinds and ids of what it was made of.
    :param lasts: it may be kept.
    """

    made: Made
    concerns: Sequence[Thing] = ()
    lasts: bool = True


@define(eq=False)
class _Kept(Generic[Made]):
    """
    What was made, and how far it can be trusted.

    :param usable_until: by the reactor's clock; ``None`` while changes are heard. Once set, the store is asked first,
        and this serves only when it does not answer.
    """

    made: Made
    concerns: Sequence[Thing]
    usable_until: float | None


@define(eq=False)
class _Asking(Generic[Made]):
    """
    A look into the store that is under way: who waits for it, and what has changed since it began.
    """

    waiting: list[Deferred[Made]] = field(factory=list)
    heard: list[Change] = field(factory=list)


@define(eq=False)
class Recall(Generic[Name, Made]):
    """
    Looks into the store, and remembers.

    :param store: of whose changes it wants to be told.
    :param look: asks the store; fails with `StoreAway`.
    :param size: how much is kept: what was asked for last.
    :param away_seconds: how long what was found before can be had while the store is away.
    """

    _reactor: IReactorTime
    _store: Store
    _look: Callable[[Name], Awaitable[Found[Made]]]
    _size: int
    _away_seconds: float
    _kept: OrderedDict[Name, _Kept[Made]] = field(init=False, factory=OrderedDict)
    _concerned: dict[Thing, set[Name]] = field(init=False, factory=dict)
    _asking: dict[Name, _Asking[Made]] = field(init=False, factory=dict)
    _hearing: bool = field(init=False, default=True)
    _unwatch: Callable[[], None] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._unwatch = self._store.watch(self._changed, self._lost)

    def close(self) -> None:
        """
        Be told of nothing any more; it is of no use then.
        """
        self._unwatch()

    def resize(self, size: int, away_seconds: float) -> None:
        """
        Keep so many from now on, and so long.
        """
        self._size, self._away_seconds = size, away_seconds
        self._shrink()

    def doubt(self) -> None:
        """
        Anything may have changed: ask the store before each is used again. While it is away, what was found before is
        used all the same.
        """
        for asking in self._asking.values():
            asking.heard.append(Change("", ""))
        self._doubt()

    def held(self, name: Name) -> Made | None:
        """
        What is known of *name* here and now; ``None`` if nothing is.
        """
        kept = self._kept.get(name)
        if kept is None or kept.usable_until is not None:
            return None
        self._kept.move_to_end(name)
        return kept.made

    def knows(self, name: Name) -> bool:
        """
        Whether something was known of *name* not long ago, though that may have changed.
        """
        return name in self._kept

    def look_up(self, name: Name) -> Deferred[Made]:
        """
        What the store knows; many who ask for the same at once are answered by one look.

        :return: fails with `StoreAway` if that is not known.
        """
        answer: Deferred[Made] = Deferred()
        asking = self._asking.get(name)
        if asking is not None:
            asking.waiting.append(answer)
            return answer
        asking = self._asking[name] = _Asking([answer])
        looking = Deferred.fromCoroutine(self._find(name, asking))
        looking.addBoth(self._tell, name, asking)
        return answer

    async def _find(self, name: Name, asking: _Asking[Made]) -> Made:
        looks = 0
        while True:
            looks += 1
            asking.heard.clear()
            try:
                found = await self._look(name)
            except StoreAway:
                kept = self._kept.get(name)
                if kept is None or self._reactor.seconds() >= (kept.usable_until or self._good_until()):
                    raise
                return kept.made
            if not found.lasts:
                self._drop(name)
                return found.made
            if not any(not change.kind or (change.kind, change.id) in found.concerns for change in asking.heard):
                self._keep(name, found)
                return found.made
            # What was read may be what was changed meanwhile, and must not be kept.
            if looks == LOOKS:
                return found.made

    def _tell(self, outcome: Made | Failure, name: Name, asking: _Asking[Made]) -> None:
        del self._asking[name]
        for answer in asking.waiting:
            if not answer.called:  # who left has cancelled it
                answer.callback(outcome)

    def _keep(self, name: Name, found: Found[Made]) -> None:
        self._drop(name)
        self._kept[name] = _Kept(found.made, found.concerns, None if self._hearing else self._good_until())
        for thing in found.concerns:
            self._concerned.setdefault(thing, set()).add(name)
        self._shrink()

    def _shrink(self) -> None:
        while len(self._kept) > self._size:
            self._drop(next(iter(self._kept)))

    def _drop(self, name: Name) -> None:
        kept = self._kept.pop(name, None)
        for thing in () if kept is None else kept.concerns:
            self._concerned[thing].discard(name)
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
        for name in list(self._concerned.get((change.kind, change.id), ())):
            self._drop(name)

    def _lost(self) -> None:
        self._hearing = False
        self._doubt()

    def _doubt(self) -> None:
        until = self._good_until()
        for kept in self._kept.values():
            if kept.usable_until is None:
                kept.usable_until = until
