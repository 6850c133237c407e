"""
Those who are told of changes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from attrs import define, field

from dheera.boundaries import Change


@define(eq=False)
class Watchers:
    """
    All who watch one store, each told in turn. One that fails keeps no other from being told; then its error is raised.
    """

    _all: list[tuple[Callable[[Change], None], Callable[[], None]]] = field(factory=list)

    def add(self, changed: Callable[[Change], None], lost: Callable[[], None]) -> None:
        """
        One more, as `Store.watch` says.
        """
        self._all.append((changed, lost))

    def tell(self, change: Change) -> None:
        """
        Something has changed.
        """
        with ExitStack() as telling:
            for changed, _ in reversed(self._all):  # the last that was pushed is called first
                telling.callback(changed, change)

    def lose(self) -> None:
        """
        Changes cannot be heard until they are told again.
        """
        with ExitStack() as telling:
            for _, lost in reversed(self._all):
                telling.callback(lost)
