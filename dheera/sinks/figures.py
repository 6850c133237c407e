"""
What the sinks of vendors want to know of a record, in the units that others have.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from dheera.money import Usd
from dheera.records import Record


def uuid_of(call_id: str) -> UUID:
    """
    The call's id as the 128 bits that others want: itself, or, of one that is no UUID, always the same others.
    """
    try:
        return UUID(call_id)
    except ValueError:
        return UUID(bytes=sha256(call_id.encode()).digest()[:16])


def cost_of(record: Record) -> float | None:
    """
    US dollars, for those who take nothing but floats; ``None`` if there is no price.
    """
    return None if record.cost_nano_usd is None else float(Usd(record.cost_nano_usd).dollars())


def ended_at(record: Record) -> datetime:
    """
    When the exchange was over.
    """
    return record.started_at + timedelta(microseconds=record.duration_us)


def first_byte_at(record: Record) -> datetime | None:
    """
    When the head of upstream's answer came, if it did.
    """
    return None if record.first_byte_us is None else record.started_at + timedelta(microseconds=record.first_byte_us)


def error_type(record: Record) -> str | None:
    """
    One word of a bounded number for what went wrong; ``None`` if nothing did.
    """
    if not record.failed:
        return None
    return record.error or (record.outcome if record.outcome != "complete" else str(record.status or "unknown"))
