"""
All sinks that are configured, each fed by itself: a part of the house that is opened and closed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from twisted.internet.defer import gatherResults

from dheera.bookkeeping import Spool
from dheera.sinks.catalogue import Configured
from dheera.sinks.feeding import Feeder, SinkState

CLOSE_SECONDS = 5.0


class Feeders:
    """
    Feeds each sink from a reader of its own, named after it. To be made before the spool opens, opened after it, and
    closed before it.

    :param close_seconds: how long a stop waits for what is there to arrive; the rest stays in the spool.
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
    ) -> None:
        self.configured = configured
        self._close_seconds = close_seconds
        self._feeders = [
            Feeder(reactor, spool.reader(f"sink-{each.name}"), each, spool.alert, node, now) for each in configured
        ]

    async def open(self) -> None:
        """
        Begin to feed them.
        """
        for each in self._feeders:
            each.start()

    async def close(self) -> None:
        """
        Send what is there, all at the same time, and let the sinks go.
        """
        await gatherResults([each.close(self._close_seconds) for each in self._feeders], consumeErrors=True)

    def states(self) -> Sequence[SinkState]:
        """
        How each does now, in the order of the configuration.
        """
        return [each.state() for each in self._feeders]
