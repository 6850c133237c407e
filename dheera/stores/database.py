"""
What a database does for the directory and the ledger: transactions, and news of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from attrs import field, frozen
from twisted.internet.defer import Deferred

from dheera.boundaries import Change

Rows: TypeAlias = list[tuple[Any, ...]]
"""
What one statement gave.
"""


@frozen
class Step:
    """
    One statement of a transaction.

    :param sql: with placeholders ``:name``; it holds no other colon, and no per cent sign.
    :param parameters: texts, whole numbers, booleans, ``None`` and aware times; there may be more than the text names.
    :param touching: rows that it must change; any other number undoes the transaction and is told as `Outdated`.
    """

    sql: str
    parameters: Mapping[str, object] = field(factory=dict, repr=False)
    touching: int | None = None


@frozen
class Filling:
    """
    Rows that are put into a table, in one go: each database has its own way to take many.

    :param columns: those of the table that the rows have, in their order.
    :param rows: values as those of a `Step`, but for times.
    :param added: of the columns, those that are added to what the row that is there already has; by the others it is
        known. Empty if it must not be there.
    """

    table: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[object, ...]] = field(repr=False)
    added: tuple[str, ...] = ()

    def sql(self, source: str) -> str:
        """
        The statement that puts there what *source* gives.
        """
        statement = f"insert into {self.table} ({', '.join(self.columns)}) {source}"
        if not self.added:
            return statement
        name = ", ".join(column for column in self.columns if column not in self.added)
        sums = ", ".join(f"{column} = {self.table}.{column} + excluded.{column}" for column in self.added)
        return f"{statement} on conflict ({name}) do update set {sums}"


@frozen
class Procedure:
    """
    Work that is more than a statement, and that each database does in its own way, in one go.

    :param name: ``turn``, ``settle``, ...: what it is for is said where it is asked for (`stores.allowances`).
    :param argument: a JSON text.
    :param again: in its place, where it is done once more since nobody knows whether it was done; the same if empty.
    :return: of a run: one row with one JSON text.
    """

    name: str
    argument: str = field(repr=False)
    again: str = field(repr=False, default="")


AnyStep: TypeAlias = Step | Filling | Procedure
"""
Of a transaction.
"""


class Database(Protocol):
    """
    What `SqlStore` and `SqlBooks` stand on: transactions, and news of them.
    """

    def open(self) -> Deferred[None]:
        """
        As `Store.open`.
        """
        ...

    def close(self) -> Deferred[None]:
        """
        As `Store.close`.
        """
        ...

    def is_away(self) -> bool:
        """
        As `Store.is_away`.
        """
        ...

    def watch(self, changed: Callable[[Change], None], lost: Callable[[], None]) -> Callable[[], None]:
        """
        As `Store.watch`.
        """
        ...

    def run(
        self,
        steps: Sequence[AnyStep],
        *,
        changes: Sequence[Change] | None = None,
        slow: bool = False,
        lasting: bool = True,
    ) -> Deferred[list[Rows]]:
        """
        Do *steps* in one transaction.

        :param changes: what is published with it, in the same transaction, and told to the watcher of this process
            before the Deferred fires; empty if nobody need be told what is written; ``None`` if it only reads.
        :param slow: it reads, and may take long: others must not wait for it.
        :param lasting: what it writes outlives a loss of power. Without, it is sooner done.
        :return: the rows that each step gave. Fails with `StoreAway`, `Outdated` or `Taken`, and then
            nothing was done.
        """
        ...
