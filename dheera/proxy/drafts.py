"""
What the records of calls with the same head and the same key have in common. It is put together once, and filled in for
each call: a record has 46 fields, and to name them all takes 37,000 instructions, a tenth of a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import structs

from dheera.allowances.hold import Hold
from dheera.boundaries import Admission
from dheera.proxy.notes import tags
from dheera.records import Begun, Record
from dheera.usage import Wanted

_NEVER = datetime.min.replace(tzinfo=UTC)


class Draft:
    """
    The records of such calls, as far as they are the same.

    :param notes: what the head and upstream say in them, by their names in `dheera.records.Begun`.
    :param end_user: whom the calls are for, as a header says.
    :param told: their tags, as a header says.
    :param node: as in `dheera.records.Begun`.
    """

    def __init__(
        self, notes: Mapping[str, Any], end_user: str | None, told: bytes, admission: Admission, node: str
    ) -> None:
        self._admission = admission
        self._node = node
        key = admission.key
        said: dict[str, Any] = {**notes, **admission.whose}
        self._begun = Begun(
            **said,
            call_id="",
            started_at=_NEVER,
            node=node,
            end_user=end_user,
            tags=tags(told, (key.tags or ()) if key else ()),
        )
        self._record = Record(**structs.asdict(self._begun), outcome="complete")

    def is_for(self, admission: Admission, node: str) -> bool:
        """
        Whether it would be the same if it were made now.
        """
        return self._admission is admission and self._node == node

    def begun(
        self, call_id: str, started_at: datetime, wanted: Wanted, request_bytes: int | None, hold: Hold | None
    ) -> Begun:
        """
        That one of the calls begins.
        """
        draft = self._begun
        return structs.replace(
            draft,
            call_id=call_id,
            started_at=started_at,
            model=wanted.model,
            end_user=draft.end_user or wanted.end_user,
            tags=tags(b"", draft.tags, wanted.tags) if wanted.tags else draft.tags,
            request_bytes=request_bytes,
            held_nano_usd=None if hold is None else hold.nano,
            lease=None if hold is None else hold.lease,
        )

    def ended(self, begun: Begun, request_bytes: int, response_bytes: int) -> Record:
        """
        That it is over; how, is still to be said.
        """
        return structs.replace(
            self._record,
            call_id=begun.call_id,
            started_at=begun.started_at,
            model=begun.model,
            end_user=begun.end_user,
            tags=begun.tags,
            request_bytes=request_bytes,
            response_bytes=response_bytes,
            held_nano_usd=begun.held_nano_usd,
            lease=begun.lease,
        )
