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
    _is_lost: bool = field(default=False)

    def add(self, changed: Callable[[Change], None], lost: Callable[[], None]) -> Callable[[], None]:
        """
        One more, as `Store.watch` says.
        """
        watcher = (changed, lost)
        self._all.append(watcher)
        if self._is_lost:
            lost()
        return lambda: self._all.remove(watcher)

    def tell(self, change: Change) -> None:
        """
        Something has changed.
        """
        if not change.kind:
            self._is_lost = False
        with ExitStack() as telling:
            for changed, _ in reversed(self._all):  # the last that was pushed is called first
                telling.callback(changed, change)

    def lose(self) -> None:
        """
        Changes cannot be heard until they are told again.
        """
        self._is_lost = True
        with ExitStack() as telling:
            for _, lost in reversed(self._all):
                telling.callback(lost)
