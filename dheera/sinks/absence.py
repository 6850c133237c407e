"""
That a sink is away: told in the log when it begins and ends, and as an alert when it lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from dheera.call_ids import new_call_id
from dheera.records import Alert

log = Logger()

ALERT_SECONDS = 300.0


@define(eq=False)
class Absence:
    """
    Whether one sink is away.

    :ivar since: when it went; ``None`` while it is there.
    :ivar reason: the last one that was given.
    """

    _reactor: Any
    _name: str
    _alert: Callable[[Alert], None]
    _node: str
    _now: Callable[[], datetime]
    since: datetime | None = field(default=None, init=False)
    reason: str = field(default="", init=False)
    _alerting: IDelayedCall | None = field(default=None, init=False)
    _is_told: bool = field(default=False, init=False)

    def begin(self, reason: str) -> bool:
        """
        It is away.

        :return: whether that is news.
        """
        self.reason = reason
        if self.since is not None:
            return False
        self.since = self._now()
        log.warn("Sink {sink} is away; what is for it waits in the spool: {reason}", sink=self._name, reason=reason)
        self._alerting = self._reactor.callLater(ALERT_SECONDS, self._tell)
        return True

    def end(self, waiting_bytes: int) -> None:
        """
        It is back.

        :param waiting_bytes: what is there for it now.
        """
        if self.since is None:
            return
        seconds = (self._now() - self.since).total_seconds()
        log.info(
            "Sink {sink} is back after {seconds:.0f} seconds; {bytes} bytes have waited for it",
            sink=self._name,
            seconds=seconds,
            bytes=waiting_bytes,
        )
        self.since = None
        self.forget()
        if self._is_told:
            self._is_told = False
            self._say(f"It is back after {seconds:.0f} seconds.", "resolved")

    def forget(self) -> None:
        """
        Nobody needs to know any more.
        """
        if self._alerting is not None and self._alerting.active():
            self._alerting.cancel()
        self._alerting = None

    def _tell(self) -> None:
        self._alerting = None
        self._is_told = True
        self._say(f"It has been away for {ALERT_SECONDS:.0f} seconds: {self.reason}", "warning")

    def _say(self, text: str, level: Literal["warning", "resolved"]) -> None:
        self._alert(
            Alert(
                id=new_call_id(),
                at=self._now(),
                node=self._node,
                about="sink",
                subject=f"sink {self._name}",
                text=text,
                level=level,
            )
        )
