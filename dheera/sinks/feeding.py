"""
Carries what happened from the spool to one sink: in batches, one at a time, and not past what has not arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dheera.bookkeeping import Lag, Reader
from dheera.records import Alert
from dheera.sinks.absence import Absence
from dheera.sinks.backoff import Backoff
from dheera.sinks.catalogue import Configured
from dheera.sinks.delivery import Delivery, NotNow
from dheera.sinks.pauses import Pauses
from dheera.sinks.views import View

log = Logger()

FULL_BYTES = 256 * 1024
"""
Of the lines of a batch: it need not wait for more.
"""
HURRIED_SECONDS = 1.0
"""
For what is there to arrive, when there is a hurry.
"""
RELEASE_SECONDS = 2.0
"""
For a sink to let go of what is open.
"""


@frozen(kw_only=True)
class SinkState:
    """
    How a sink does.

    :param since: when it went away; ``None`` if it is not.
    :param reason: why it is away, or was last; empty if it never was.
    :param sent: entries that have arrived since the start.
    :param refused: entries that were given up, since it does not take them.
    :param retries: batches, or parts of them, that were sent again.
    """

    name: str
    kind: str
    is_away: bool
    since: datetime | None
    reason: str
    sent: int
    refused: int
    retries: int
    last_sent_at: datetime | None
    lag: Lag


@define(eq=False)
class Feeder:
    """
    Feeds one sink from its own reader. What does not arrive stays in the spool.

    :param alert: takes an alert: that the sink has been away for a while, and that it is back.
    :param node: this dheera's name.
    :param now: the time of day.
    """

    _reactor: Any
    _reader: Reader
    _configured: Configured
    _alert: Callable[[Alert], None]
    _node: str
    _now: Callable[[], datetime]
    _backoff: Backoff = field(factory=Backoff)
    _view: View = field(init=False)
    _pauses: Pauses = field(init=False)
    _absence: Absence = field(init=False)
    _delivery: Delivery = field(init=False)
    _running: Deferred[None] | None = field(default=None, init=False)
    _closing: Deferred[None] | None = field(default=None, init=False)
    _limit: IDelayedCall | None = field(default=None, init=False)
    _is_backlog: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        configured = self._configured
        self._view = View(configured.settings.content, configured.settings.only, configured.factory.takes)
        self._pauses = Pauses(self._reactor)
        self._absence = Absence(self._reactor, configured.name, self._alert, self._node, self._now)
        self._delivery = Delivery(
            self._reactor, configured, self._reader, self._absence, self._pauses, self._now, self._backoff
        )

    def start(self) -> None:
        """
        Begin, and go on until `close`.
        """
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._stopped)

    def close(self, seconds: float) -> Deferred[None]:
        """
        Send what is there, unless the sink is away, and let the sink go. Who asks again waits for the same.

        :param seconds: how long that may take; the rest stays in the spool.
        """
        if self._closing is None:
            self._closing = Deferred.fromCoroutine(self._close(seconds))
        return self._closing

    def hurry(self) -> None:
        """
        While it is being closed: wait only a moment for what is there to arrive.
        """
        if self._limit is not None and self._limit.active():
            self._limit.reset(min(HURRIED_SECONDS, self._limit.getTime() - self._reactor.seconds()))

    def state(self) -> SinkState:
        """
        How the sink does now.
        """
        return SinkState(
            name=self._configured.name,
            kind=self._configured.factory.kind,
            is_away=self._absence.since is not None,
            since=self._absence.since,
            reason=self._absence.reason,
            sent=self._delivery.sent,
            refused=self._delivery.refused,
            retries=self._delivery.retries,
            last_sent_at=self._delivery.last_sent_at,
            lag=self._reader.lag(),
        )

    async def _run(self) -> None:
        pauses = self._pauses
        while not pauses.is_over:
            try:
                if self._is_backlog:
                    await pauses.sleep(0)  # others have their turn, however much there is
                elif not pauses.is_closing:
                    await self._gathered()
                if not await self._feed() and pauses.is_closing:
                    return
            except NotNow:
                return
            except CancelledError:
                if not pauses.is_closing:
                    raise
                return
            except Exception:  # noqa: BLE001 - of the spool, or ours: it must not end the feeding
                await self._stumble()
                if pauses.is_closing:
                    return

    async def _gathered(self) -> None:
        """
        Wait until there is something, and then as long as the first of a batch waits for others.
        """
        await self._pauses.wait(self._reader.wait)
        if self._configured.settings.batch_seconds and not self._pauses.is_closing:
            await self._pauses.sleep(self._configured.settings.batch_seconds)

    async def _feed(self) -> bool:
        """
        Bring one batch to the sink.

        :return: whether there was one.
        """
        most = self._configured.settings.batch_records
        entries = self._reader.read(most)
        self._is_backlog = len(entries) >= most or sum(len(each.line) for each in entries) >= FULL_BYTES
        if not entries:
            return False
        seen = self._view.of(entries)
        if seen:
            await self._delivery.deliver(seen)
        self._reader.advance(entries[-1].position)
        return True

    async def _stumble(self) -> None:
        if self._absence.begin("what is for it cannot be read."):
            log.failure("Sink {sink} cannot be fed", sink=self._configured.name)
        if not self._pauses.is_closing:
            await self._pauses.sleep(self._backoff.next_seconds(None))

    async def _close(self, seconds: float) -> None:
        running = self._running
        if running is not None:
            self._pauses.hurry()
            self._limit = self._reactor.callLater(seconds, self._end, running)
            await running
            if self._limit.active():
                self._limit.cancel()
        self._absence.forget()
        releasing = maybeDeferred(self._configured.sink.close)
        releasing.addTimeout(RELEASE_SECONDS, self._reactor)
        await releasing.addErrback(self._not_released)

    def _end(self, running: Deferred[None]) -> None:
        self._pauses.is_over = True
        running.cancel()

    def _stopped(self, failure: Failure) -> None:
        if not (self._pauses.is_closing and failure.check(CancelledError)):
            log.failure("Sink {sink} is fed no more", failure, sink=self._configured.name)

    def _not_released(self, failure: Failure) -> None:
        log.failure("Sink {sink} could not be closed in order", failure, sink=self._configured.name)
