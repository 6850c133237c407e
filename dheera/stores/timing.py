"""
How long a database takes, told to whoever counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from dheera.boundaries import Change
from dheera.stores.database import AnyStep, Database, Rows

Observer: TypeAlias = Callable[[str, float], None]
"""
Told what was done, and how many seconds that took; waiting, and failing, included: ``look-up``, ``search``, ``write``;
and ``turn``, which need not outlive a loss of power.
"""


def unobserved(_work: str, _seconds: float) -> None:
    """
    Nobody counts.
    """


@define(eq=False)
class TimedDatabase:
    """
    A database whose transactions are timed.
    """

    _database: Database
    _reactor: IReactorTime
    _observe: Observer

    def open(self) -> Deferred[None]:
        """
        As `Database.open`.
        """
        return self._database.open()

    def close(self) -> Deferred[None]:
        """
        As `Database.close`.
        """
        return self._database.close()

    def is_away(self) -> bool:
        """
        As `Database.is_away`.
        """
        return self._database.is_away()

    def watch(self, changed: Callable[[Change], None], lost: Callable[[], None]) -> Callable[[], None]:
        """
        As `Database.watch`.
        """
        return self._database.watch(changed, lost)

    def run(
        self,
        steps: Sequence[AnyStep],
        *,
        changes: Sequence[Change] | None = None,
        slow: bool = False,
        lasting: bool = True,
    ) -> Deferred[list[Rows]]:
        """
        As `Database.run`.
        """
        reading, writing = "search" if slow else "look-up", "write" if lasting else "turn"
        work = reading if changes is None else writing
        began = self._reactor.seconds()

        def tell(result: Any) -> Any:
            self._observe(work, self._reactor.seconds() - began)
            return result

        return self._database.run(steps, changes=changes, slow=slow, lasting=lasting).addBoth(tell)


_: type[Database] = TimedDatabase
