"""
All sinks that are configured, each fed by itself: a part of the house that is opened and closed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults

from dheera.bookkeeping import Spool
from dheera.lifecycle import Hurry
from dheera.sinks.catalogue import Configured
from dheera.sinks.feeding import Feeder, SinkState

CLOSE_SECONDS = 5.0
READER = "sink-"
"""
What the name of a sink's reader begins with.
"""


class Feeders:
    """
    Feeds each sink from a reader of its own, named after it. To be made before the spool opens, opened after it, and
    closed before it.

    :param close_seconds: how long a stop waits for what is there to arrive; the rest stays in the spool.
    :param hurry: a stop does not wait at all.
    """

    def __init__(
        self,
        reactor: Any,
        spool: Spool,
        configured: Sequence[Configured],
        *,
        node: str,
        now: Callable[[], datetime],
        close_seconds: float = CLOSE_SECONDS,
        hurry: Hurry | None = None,
    ) -> None:
        self.configured = configured
        self._close_seconds = close_seconds
        self._hurry = hurry or Hurry()
        self._spool = spool
        self._make = lambda each: Feeder(reactor, spool.reader(f"{READER}{each.name}"), each, spool.alert, node, now)
        self._feeders = {each.name: self._make(each) for each in configured}
        self._is_open = False

    async def open(self) -> None:
        """
        Begin to feed them.
        """
        self._is_open = True
        for each in self._feeders.values():
            each.start()

    async def change(self, configured: Sequence[Configured], same: Collection[str]) -> None:
        """
        Feed these from now on. What is there for those that go, or are made anew under their name, is sent to them
        first, as at a stop; what does not arrive goes to the new one of that name.

        :param same: names of those that go on as they are.
        """
        self.configured = configured
        await gatherResults([self._let_go(name) for name in self._feeders if name not in same], consumeErrors=True)
        if not self._is_open:
            return  # closed meanwhile; what is left is sent after the next start
        before, self._feeders = self._feeders, {}
        for each in configured:
            feeder = before.get(each.name)
            if feeder is None or each.name not in same:
                feeder = self._make(each)
                feeder.start()
            self._feeders[each.name] = feeder
        for name in before.keys() - self._feeders.keys():
            self._spool.dismiss(f"{READER}{name}")

    async def close(self) -> None:
        """
        Send what is there, all at the same time, and let the sinks go.
        """
        self._is_open = False
        await gatherResults([self._let_go(name) for name in self._feeders], consumeErrors=True)

    def _let_go(self, name: str) -> Deferred[None]:
        feeder = self._feeders[name]
        closed = feeder.close(self._close_seconds)
        hurried = self._hurry.wait()
        hurried.addCallbacks(lambda _: feeder.hurry(), lambda failure: failure.trap(CancelledError))

        def over(result: object) -> object:
            hurried.cancel()
            return result

        return closed.addBoth(over)

    def states(self) -> Sequence[SinkState]:
        """
        How each does now, in the order of the configuration.
        """
        return [each.state() for each in self._feeders.values()]
