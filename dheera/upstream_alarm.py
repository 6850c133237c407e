"""
Tells somebody when upstream fails again and again, and when that is over.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from attrs import define, field

from dheera.call_ids import new_call_id
from dheera.records import Alert, Record

FAILURES = 10
"""
So many calls must fail one after the other,
"""
SPAN = timedelta(seconds=30)
"""
over so long a time.
"""
FIRST_SERVER_ERROR = 500
OUR_FAULTS = frozenset({401, 402})
"""
Below that, what is about the real key or its bill, and none of the caller's doing.
"""


@define(eq=False)
class UpstreamAlarm:
    """
    Looks at records.

    :param alert: told once when it begins, and once when it is over.
    """

    _alert: Callable[[Alert], None]
    _node: str
    _now: Callable[[], datetime]
    _failures: int = field(default=0, init=False)
    _since: datetime | None = field(default=None, init=False)
    _told: bool = field(default=False, init=False)

    def look(self, record: Record) -> None:
        """
        At one that was sent to upstream; others say nothing of it.
        """
        if record.attempts == 0 or record.outcome in ("refused", "client_left", "interrupted"):
            return
        status = record.status or 0
        if record.outcome == "complete" and status < FIRST_SERVER_ERROR and status not in OUR_FAULTS:
            self._recover()
            return
        self._failures += 1
        self._since = self._since or self._now()
        if not self._told and self._failures >= FAILURES and self._now() - self._since >= SPAN:
            self._told = True
            reason = record.error or f"it answers {record.status}"
            self._tell(f"Upstream has failed the last {self._failures} calls: {reason}.", is_over=False)

    def _recover(self) -> None:
        if self._told:
            self._tell("Upstream answers again.", is_over=True)
        self._failures, self._since, self._told = 0, None, False

    def _tell(self, text: str, *, is_over: bool) -> None:
        self._alert(
            Alert(
                id=new_call_id(),
                at=self._now(),
                node=self._node,
                about="upstream",
                subject="upstream",
                text=text,
                level="resolved" if is_over else "critical",
            )
        )
