"""
Tells somebody when upstream fails again and again, and when that is over.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from attrs import define, field

from dheera.call_ids import new_call_id
from dheera.records import MISTRAL, Alert, Record

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
class _Row:
    """
    Failures of one upstream in a row.
    """

    failures: int = 0
    since: datetime | None = None
    told: bool = False


@define(eq=False)
class UpstreamAlarm:
    """
    Looks at records, those of each upstream for itself.

    :param alert: told once when it begins, and once when it is over.
    """

    _alert: Callable[[Alert], None]
    _node: str
    _now: Callable[[], datetime]
    _rows: dict[str, _Row] = field(factory=dict, init=False)

    def look(self, record: Record) -> None:
        """
        At one that was sent to upstream; others say nothing of it.
        """
        if record.attempts == 0 or record.outcome in ("refused", "client_left", "interrupted"):
            return
        status = record.status or 0
        if record.outcome == "complete" and status < FIRST_SERVER_ERROR and status not in OUR_FAULTS:
            if self._rows:
                self._recover(record.upstream)
            return
        row = self._rows.setdefault(record.upstream, _Row())
        row.failures += 1
        row.since = row.since or self._now()
        if not row.told and row.failures >= FAILURES and self._now() - row.since >= SPAN:
            row.told = True
            reason = record.error or f"it answers {record.status}"
            self._tell(record.upstream, f"has failed the last {row.failures} calls: {reason}", is_over=False)

    def _recover(self, upstream: str) -> None:
        row = self._rows.pop(upstream, None)
        if row is not None and row.told:
            self._tell(upstream, "answers again", is_over=True)

    def _tell(self, upstream: str, what: str, *, is_over: bool) -> None:
        name = "upstream" if upstream == MISTRAL else f"upstream {upstream}"
        self._alert(
            Alert(
                id=new_call_id(),
                at=self._now(),
                node=self._node,
                about="upstream",
                subject=name,
                text=f"{name[0].upper()}{name[1:]} {what}.",
                level="resolved" if is_over else "critical",
            )
        )
