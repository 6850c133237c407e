"""
The reactor that ``dheera_ai`` runs: Twisted's own for epoll, with a shorter way for bytes that have come, and an outbox
for what is sent while it is busy.

Twisted puts a log context around each event of each socket; our logs show nothing of it. Without that, an event of a
stream takes 42,000 instructions of ours and Twisted's in place of 62,000, which is 3 us of 23 in a loop of its own.
"""

from __future__ import annotations

import sys
from select import EPOLLIN
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.internet.tcp import Connection
from twisted.python import log

from dheera.wire.sending import Outbox

FEW = 2
"""
With no more events than these, nothing waits: little would be won, and streams flow like that.
"""
MOST_TOGETHER = 64
"""
After so many events, what is sent waits no longer for others: some milliseconds.
"""
_LEANT_ON = ("_poller", "_selectables", "_doReadOrWrite", "_disconnectSelectable")
"""
What Twisted does not promise to keep.
"""


class Reactor(EPollReactor):
    """
    As Twisted's, to all who use it.

    :ivar outbox: where what is sent waits for others while much happens at once.
    """

    def __init__(self) -> None:
        self.outbox = Outbox()
        super().__init__()  # type: ignore[no-untyped-call]  # untyped there

    def doPoll(self, timeout: float | None) -> None:  # noqa: N802 - Twisted's name
        """
        Wait until something has come, or can be sent, and see to it.

        :param timeout: seconds; ``None`` is for ever.
        """
        selectables, outbox = self._selectables, self.outbox
        events = self._poller.poll(timeout, len(selectables))
        outbox.is_open = len(events) > FEW
        for count, (number, event) in enumerate(events, 1):
            selectable = selectables.get(number)
            if event == EPOLLIN and isinstance(selectable, Connection):
                self._read(selectable)
            elif selectable is not None:
                log.callWithLogger(selectable, self._doReadOrWrite, selectable, number, event)
            if not count % MOST_TOGETHER:
                outbox.send()
        outbox.empty()

    doIteration = doPoll  # noqa: N815 - Twisted's name

    def _read(self, connection: Any) -> None:
        """
        What Twisted's `_doReadOrWrite` does where there is something to read and nothing else.
        """
        try:
            why = connection.doRead()
        except BaseException as error:  # noqa: BLE001 - as there: it is logged, and ends that connection alone
            log.err()
            why = error
        if why:
            log.callWithLogger(connection, self._disconnectSelectable, connection, why, isRead=True)

    def _disconnectSelectable(self, *args: Any, **kwargs: Any) -> None:  # noqa: N802 - Twisted's name
        """
        As there; but what waits leaves first: a peer that has sent all that it will may still read.
        """
        self.outbox.send()
        super()._disconnectSelectable(*args, **kwargs)  # type: ignore[no-untyped-call]  # untyped there


def install(make: type[EPollReactor] = Reactor) -> None:
    """
    Let this process run the reactor above; unless it has one already, or Twisted's is another inside than the one that
    is leant on: then it is as Twisted has it.
    """
    if "twisted.internet.reactor" not in sys.modules:
        ours = make()
        installReactor(ours if all(hasattr(ours, name) for name in _LEANT_ON) else EPollReactor())
