"""
One connection to PostgreSQL: what it is asked, what is heard on it, and how it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import psycopg2  # type: ignore[import-untyped]  # it has no types
from attrs import frozen
from psycopg2.extensions import TRANSACTION_STATUS_IDLE  # type: ignore[import-untyped]  # likewise
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from txpostgres.txpostgres import Connection, Cursor  # type: ignore[import-untyped]  # likewise

BROKEN = (psycopg2.Error, ConnectionDone)
"""
What a question fails with. ``ConnectionDone`` means that we have hung up ourselves.
"""


@frozen
class Answer:
    """
    What a statement gave, the last one if there were several.

    :param touched: the rows that it changed, or found.
    :param tag: what PostgreSQL says that it has done: ``COMMIT``.
    """

    rows: list[tuple[Any, ...]]
    touched: int
    tag: str


class _Watched:
    """
    Lets the reactor watch a socket only until libpq is called: libpq may close it, or take another one, and the reactor
    would be left with a number that soon belongs to somebody else. (txpostgres ends one sort of watching of two.)
    """

    reactor: Any

    def unwatch(self) -> None:
        self.reactor.removeReader(self)
        self.reactor.removeWriter(self)

    def doRead(self) -> None:  # noqa: N802 - Twisted's name
        self.unwatch()
        super().doRead()  # type: ignore[misc]  # of what it is mixed into

    def doWrite(self) -> None:  # noqa: N802 - Twisted's name
        self.unwatch()
        super().doWrite()  # type: ignore[misc]  # likewise


class _Question(_Watched, Cursor):  # type: ignore[misc]  # it has no types
    def _handleCancellation(self, failure: Failure) -> Failure:  # noqa: N802 - its name
        # PostgreSQL has ended the statement, for its own reasons; nobody has cancelled anything here.
        return failure


class Line(_Watched, Connection):  # type: ignore[misc]  # it has no types
    """
    A connection of txpostgres that may be lost at any time: that of an unused one is not logged as a fault, and what is
    heard is told at once.

    A Deferred of txpostgres must never be cancelled: psycopg2 would make another connection for that, and block all
    the while. Who has waited for long enough hangs up.

    :ivar idle_since: when it was last used, for its owner.
    :ivar heard: called with the channel and the payload of each notification.
    :ivar dropped: called when it was lost while nothing was asked.
    """

    cursorFactory = _Question  # noqa: N815 - its name

    def __init__(self, reactor: Any) -> None:
        Connection.__init__(self, reactor)
        self.idle_since = 0.0
        self.heard: Callable[[str, str], None] = lambda _, __: None
        self.dropped: Callable[[], None] = lambda: None

    def is_open(self) -> bool:
        """
        Whether it can be used, as far as is known.
        """
        return self._connection is not None and not self._connection.closed

    def is_idle(self) -> bool:
        """
        Whether it can be used for something new: it is within no transaction.
        """
        return self.is_open() and self._connection.info.transaction_status == TRANSACTION_STATUS_IDLE

    async def ask(self, sql: str, parameters: Mapping[str, object] | None = None) -> Answer:
        """
        Execute *sql*: one statement, or several with semicolons between them, in one round trip.

        :raises BROKEN: it could not be done, or the connection was lost.
        """
        cursor = self.cursor()
        self.unwatch()
        await cursor.execute(sql, parameters)
        rows = [] if cursor.description is None else cursor.fetchall()
        return Answer(rows, cursor.rowcount, cursor.statusmessage)

    def hang_up(self) -> None:
        """
        Close it, whatever it is about: who waits for an answer is told that there is none.
        """
        if self._connection is None:
            return
        for each in self._cursors:
            each.unwatch()
        self.close()
        # txpostgres takes one that was lost for closed; it still has its memory and perhaps its socket.
        self._connection.close()

    # What Twisted and txpostgres call.

    def doRead(self) -> None:  # noqa: N802 - Twisted's name
        """
        Something was received.
        """
        self.unwatch()
        if self.is_open():
            self.continuePolling()
        # While it is being made ``continuePolling`` knows what to watch; and when that fails there is nothing to watch.
        if self._pollingD is None and self.is_open() and self.fileno() >= 0:
            self.reactor.addReader(self)
            self.checkForNotifies()

    def poll(self) -> Deferred[Any]:
        """
        The connection is being made.
        """
        made: Deferred[Any] = Connection.poll(self)
        return made.addCallback(self._still_open)

    def _still_open(self, result: Any) -> Any:
        if not self.is_open():
            raise ConnectionDone
        return result

    def continuePolling(self, swallowErrors: bool = False) -> None:  # noqa: FBT001, FBT002, N802, N803 - its signature
        """
        Something was received, or may be sent.
        """
        waited_for = self._pollingD is not None
        try:
            Connection.continuePolling(self, swallowErrors)
        except psycopg2.Error:
            self.hang_up()
        if not waited_for and not self.is_open():
            self.hang_up()
            self.dropped()

    def checkForNotifies(self) -> None:  # noqa: N802 - its name
        """
        Notifications may have come.
        """
        # Not as txpostgres does it: its cooperator would leave calls behind in the reactor.
        notifications = self._connection.notifies
        while notifications and self.is_open():
            notification = notifications.pop(0)
            self.heard(notification.channel, notification.payload)
