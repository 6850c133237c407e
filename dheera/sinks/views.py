"""
What a sink may see of a record: its ``only``, its kind, and its policy of content.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from attrs import frozen
from msgspec.structs import replace

from dheera.bookkeeping import Entry
from dheera.records import Record, to_line
from dheera.sinks.contract import ContentPolicy


@frozen
class View:
    """
    How one sink sees what the spool holds.

    :param takes: as of `dheera.sinks.contract.SinkFactory`.
    """

    content: ContentPolicy
    only: Literal["all", "failures"]
    takes: Literal["records", "alerts", "all"]

    def of(self, entries: Sequence[Entry]) -> list[Entry]:
        """
        Those of *entries* that it sees, as it sees them. An entry of which nothing is to be hidden is the same, its
        line too.
        """
        records, alerts, failures = self.takes != "alerts", self.takes != "records", self.only == "failures"
        bodies, settings = self.content == "full", self.content != "none"
        seen = []
        for entry in entries:
            value = entry.value
            if not isinstance(value, Record):
                if alerts:
                    seen.append(entry)
            elif records and (not failures or value.failed):
                hides = (not bodies and (value.request is not None or value.response is not None)) or (
                    not settings and value.parameters
                )
                seen.append(_without(entry, value, settings=settings) if hides else entry)
        return seen


def _without(entry: Entry, record: Record, *, settings: bool) -> Entry:
    less = replace(record, request=None, response=None, parameters=record.parameters if settings else {})
    return Entry(position=entry.position, line=to_line(less), value=less)
