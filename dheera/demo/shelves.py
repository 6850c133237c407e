"""
Where the demo keeps what clients leave with it: in memory, and never more than a stated amount.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from attrs import define, field

from dheera.demo.refusals import not_found, too_large

Thing = TypeVar("Thing")


@define(eq=False)
class Shelf(Generic[Thing]):
    """
    Things by their id, oldest first.

    :param what: what they are called in a message.
    :param most: how many there may be.
    :param most_bytes: how large all of them together may be, by the sizes given.
    :param forgets: when it is full the oldest make room; otherwise new things are refused.
    """

    what: str
    most: int
    most_bytes: int
    forgets: bool = False
    taken_bytes: int = field(init=False, default=0)
    _things: dict[str, tuple[Thing, int]] = field(init=False, factory=dict)

    def put(self, name: str, thing: Thing, size: int) -> None:
        """
        Keep *thing* as the newest, in place of what *name* meant before.

        :raises Refused: 413, there is no room; nothing has changed then.
        """
        _, old = self._things.get(name, (None, 0))
        others = len(self._things) - (name in self._things)
        alone = self.forgets and size <= self.most_bytes
        if not alone and (others >= self.most or self.taken_bytes - old + size > self.most_bytes):
            raise too_large(
                f"The demo keeps at most {self.most} of these in {self.most_bytes} bytes in all: "
                f"{self.what}. Delete some, or send less."
            )
        self.drop(name)
        while self._things and (len(self._things) >= self.most or self.taken_bytes + size > self.most_bytes):
            self.drop(next(iter(self._things)))
        self._things[name] = (thing, size)
        self.taken_bytes += size

    def drop(self, name: str) -> None:
        """
        Keep *name* no longer.
        """
        _, size = self._things.pop(name, (None, 0))
        self.taken_bytes -= size

    def get(self, name: str) -> Thing:
        """
        The thing called *name*.

        :raises Refused: 404, there is none.
        """
        if name not in self._things:
            raise not_found(self.what)
        return self._things[name][0]

    def __len__(self) -> int:
        return len(self._things)

    def __iter__(self) -> Iterator[Thing]:
        return (thing for thing, _ in reversed(self._things.values()))
