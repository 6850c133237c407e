"""
How a batch is brought to a sink: again while the sink is away, in halves when it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.logger import Logger

from dheera.bookkeeping import Entry, Reader
from dheera.records import Alert
from dheera.sinks.absence import Absence
from dheera.sinks.backoff import Backoff
from dheera.sinks.catalogue import Configured
from dheera.sinks.contract import SinkAway, SinkRefuses
from dheera.sinks.pauses import Pauses

log = Logger()

PATIENCE = 10
"""
A sink that does not keep to its ``timeout_seconds`` is given up after so many of them.
"""


class NotNow(Exception):
    """
    The sink is away, and there is no time to wait for it.
    """


@define(eq=False)
class Delivery:
    """
    Brings batches to one sink, one after another.

    :ivar sent: entries that have arrived.
    :ivar refused: entries that were given up, since the sink does not take them.
    :ivar retries: batches, or parts of them, that were sent again.
    """

    _reactor: Any
    _configured: Configured
    _reader: Reader
    _absence: Absence
    _pauses: Pauses
    _now: Callable[[], datetime]
    _backoff: Backoff
    sent: int = field(default=0, init=False)
    refused: int = field(default=0, init=False)
    retries: int = field(default=0, init=False)
    last_sent_at: datetime | None = field(default=None, init=False)

    async def deliver(self, entries: Sequence[Entry]) -> None:
        """
        Bring *entries* to the sink, in order; the reader advances with them.

        :raises NotNow: there is closing, and the sink is away.
        """
        parts = [entries]
        given_up: list[Entry] = []
        reason = ""
        while parts:
            part = parts.pop()
            try:
                await self._send_until_arrived(part)
            except SinkRefuses as error:
                if len(part) > 1:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
                    continue
                reason = str(error)
                given_up += part
                self.refused += 1
            else:
                self.sent += len(part)
                self.last_sent_at = self._now()
            self._reader.advance(part[-1].position)
        if given_up:
            log.warn(
                "Sink {sink} refuses {count} entries, which are given up; the last is {call_id}: {reason}",
                sink=self._configured.name,
                count=len(given_up),
                call_id=_id(given_up[-1]),
                reason=reason,
            )

    async def _send_until_arrived(self, entries: Sequence[Entry]) -> None:
        while True:
            asked = None
            try:
                await self._send(entries)
            except SinkRefuses:
                self._back()
                raise
            except CancelledError:  # there is no more time
                raise
            except SinkAway as error:
                self._absence.begin(str(error))
                asked = error.retry_after_seconds
            except Exception as error:  # noqa: BLE001 - whatever a sink does, its records are kept
                if self._absence.begin(f"a bug of the sink: {type(error).__name__}"):
                    log.failure("Sink {sink} failed in a way that it should not", sink=self._configured.name)
            else:
                self._back()
                return
            if not self._pauses.is_closing:
                await self._pauses.sleep(self._backoff.next_seconds(asked))
            if self._pauses.is_closing:
                raise NotNow
            self.retries += 1

    async def _send(self, entries: Sequence[Entry]) -> None:
        seconds = self._configured.settings.timeout_seconds * PATIENCE
        sending = maybeDeferred(self._configured.sink.send, entries)
        watch = self._reactor.callLater(seconds, sending.cancel)
        try:
            await sending
        except CancelledError:
            if self._pauses.is_over:
                raise
            raise SinkAway(f"it did not end within {seconds:g} seconds, or gave up.") from None
        finally:
            if watch.active():
                watch.cancel()

    def _back(self) -> None:
        self._backoff.reset()
        if self._absence.since is not None:
            self._absence.end(self._reader.lag().waiting_bytes)


def _id(entry: Entry) -> str:
    return entry.value.id if isinstance(entry.value, Alert) else entry.value.call_id
