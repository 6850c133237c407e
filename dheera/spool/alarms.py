"""
What the spool tells a person: in the log, and as alerts. The same thing is told once a minute at most.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dheera.call_ids import new_call_id
from dheera.records import Alert

log = Logger()

_EVERY_SECONDS = 60


@define(eq=False)
class Alarms:
    """
    Those of one process.

    :param send: takes alerts.
    """

    _reactor: IReactorTime
    _now: Callable[[], datetime]
    _node: str
    _send: Callable[[Alert], None]
    _told: dict[str, float] = field(init=False, factory=dict)
    _going_on: set[str] = field(init=False, factory=set)

    def begin(self, subject: str, text: str, level: Literal["warning", "critical"]) -> None:
        """
        Something is wrong with *subject*, or still is.
        """
        now = self._reactor.seconds()
        if now - self._told.get(subject, -_EVERY_SECONDS) < _EVERY_SECONDS:
            return
        self._told[subject] = now
        self._going_on.add(subject)
        log.warn("{text}", text=text)
        self._alert(subject, text, level)

    def end(self, subject: str, text: str) -> None:
        """
        Nothing is wrong with *subject*; that is told if something was.
        """
        if subject in self._going_on:
            self._going_on.remove(subject)
            log.info("{text}", text=text)
            self._alert(subject, text, "resolved")

    def _alert(self, subject: str, text: str, level: Literal["warning", "critical", "resolved"]) -> None:
        alert = Alert(
            id=new_call_id(),
            at=self._now(),
            node=self._node,
            about="spool",
            subject=subject,
            text=text,
            level=level,
        )
        try:
            self._send(alert)
        except Exception:  # noqa: BLE001 - a bug there must reach nobody who writes down that a call is over
            log.failure("An alert could not be passed on")
