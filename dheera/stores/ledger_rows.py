"""
The row of the ledger that a record becomes, and the line that a row is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, TypeAlias

import msgspec
from msgspec import structs

from dheera.bookkeeping import LedgerLine
from dheera.money import LARGEST, NANO, Usd
from dheera.records import Record
from dheera.stores.ledger_texts import bounded_tags
from dheera.texts import are_bounded, bounded
from dheera.usage import Usage

BILLED_BEFORE = "billed-before"
"""
Said in place of a price list where something that is billed once only was billed with another line.
"""

COLUMNS = LedgerLine.__struct_fields__
"""
Those of the table, in the order of the fields; a field that is a time has another name there.
"""
COLUMN_OF = {name: {"started_at": "started_us"}.get(name, name) for name in COLUMNS}

Row: TypeAlias = tuple[object, ...]
"""
A value for each of `COLUMNS`.
"""

_LARGEST_NANO = LARGEST * NANO
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NOTHING = Usage()


def distinct(records: Iterable[Record]) -> list[Record]:
    """
    Of several *records* with the same call id the first.
    """
    result: dict[str, Record] = {}
    for record in records:
        result.setdefault(bounded(record.call_id), record)
    return list(result.values())


def billed_once(records: Sequence[Record], before: Iterable[str]) -> list[Record]:
    """
    *records*, where what is billed once only is billed with the first of them, and with none if it was billed *before*.
    What has no price was not billed.
    """
    billed = set(before)
    result = []
    for record in records:
        once = once_of(record)
        if once is not None and once in billed:
            result.append(structs.replace(record, cost_nano_usd=0, price_list=BILLED_BEFORE, usage=None, once=None))
        else:
            result.append(record)
            billed.add(once or "")
    return result


def once_of(record: Record) -> str | None:
    """
    What is billed with this record, and may be with no other one.
    """
    return bounded(record.once) if record.once and record.cost_nano_usd is not None else None


def row_of(record: Record) -> Row:
    """
    What the ledger keeps of *record*.

    :raises ValueError: its cost is none that can be counted.
    """
    cost = record.cost_nano_usd
    if cost is not None and not 0 <= cost <= _LARGEST_NANO:
        msg = f"the cost of the call {record.call_id} cannot be counted"
        raise ValueError(msg)
    # One look at all texts together takes a third of the time of a look at each.
    if not are_bounded("".join([text for text in _texts_of(record) if text])):
        record = _bounded(record)
    usage = record.usage
    return (
        record.call_id,
        microseconds(record.started_at),
        record.duration_us,
        record.first_byte_us,
        record.key_id or None,
        record.key_alias,
        record.user_id or None,
        record.team_id or None,
        record.end_user or None,
        record.answered_model or record.model or None,
        record.endpoint,
        record.outcome,
        record.status,
        record.error or None,
        record.failed,
        record.estimated,
        cost,
        record.price_list or None,
        None if usage is None or usage == _NOTHING else _encoder.encode(usage).decode(),
        "\n".join(["", *tags, ""]) if record.tags and (tags := bounded_tags(record.tags)) else None,
        record.client,
        record.node,
        record.upstream_id or None,
    )


def line_of(row: Sequence[Any]) -> LedgerLine:
    """
    What a row of the ledger says.
    """
    values = list(row)
    for place, load in _LOADS:
        values[place] = load(values[place])
    return LedgerLine(**dict(zip(COLUMNS, values, strict=True)))


def microseconds(time: datetime) -> int:
    """
    *time* as the ledger's tables have it.
    """
    return (time - _EPOCH) // _MICROSECOND


def _bounded(record: Record) -> Record:
    texts = zip(_TEXTS, _texts_of(record), strict=True)
    return structs.replace(record, **{name: bounded(text) for name, text in texts if text})


def _load_usage(text: str | None) -> Usage:
    return _NOTHING if text is None else _decoder.decode(text)


def _load_tags(text: str | None) -> list[str]:
    return text.split("\n")[1:-1] if text else []


def _load_cost(nano: int | None) -> Usd | None:
    return None if nano is None else Usd(nano)


def _load_time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Usage)
_TEXTS = (
    "call_id",
    "key_id",
    "key_alias",
    "user_id",
    "team_id",
    "end_user",
    "answered_model",
    "model",
    "endpoint",
    "error",
    "price_list",
    "client",
    "node",
    "upstream_id",
)
_texts_of = attrgetter(*_TEXTS)
_LOADED: dict[str, Callable[[Any], object]] = {
    "started_at": _load_time,
    "failed": bool,
    "estimated": bool,
    "cost": _load_cost,
    "usage": _load_usage,
    "tags": _load_tags,
}
_LOADS = [(COLUMNS.index(name), load) for name, load in _LOADED.items()]
