"""
What is logged while a test runs.
"""

from __future__ import annotations

from typing import Self

from attrs import define, field
from twisted.logger import ILogObserver, LogEvent, eventAsText, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer


@implementer(ILogObserver)
@define(eq=False)
class Logged:
    """
    All log events, as text and with all their fields.
    """

    _events: list[LogEvent] = field(factory=list)

    @classmethod
    def during(cls, test: TestCase) -> Self:
        """
        Collect them until *test* ends.
        """
        made = cls()
        globalLogPublisher.addObserver(made)
        test.addCleanup(globalLogPublisher.removeObserver, made)
        return made

    def __call__(self, event: LogEvent) -> None:
        self._events.append(event)

    @property
    def lines(self) -> list[str]:
        """
        The sentences that were logged so far.
        """
        return [formatEvent(event) for event in self._events]

    @property
    def text(self) -> str:
        """
        What was logged so far.
        """
        return "\n".join(f"{eventAsText(event)} {event!r}" for event in self._events)
