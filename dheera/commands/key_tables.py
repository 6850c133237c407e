"""
Keys as people want to see them: many in a table, one in a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from dheera.commands.references import called
from dheera.commands.tables import NOTHING, Column, amount, count, listing, table, when
from dheera.entities import now
from dheera.remote import to_json

Cell = TypeVar("Cell")

COLUMNS = (
    Column(title="KEY", least=12),
    Column(title="SHOWN AS", spare=True),
    Column(title="TEAM", least=6),
    Column(title="USER", least=6),
    Column(title="TYPE"),
    Column(title="SPEND USD", right=True),
    Column(title="BUDGET USD", right=True),
    Column(title="EXPIRES (UTC)"),
    Column(title="STATE"),
)


_TYPE = next(nth for nth, column in enumerate(COLUMNS) if column.title == "TYPE")
_USUAL = "default"


def overview(rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """
    The lines of a table of keys. Their types are told where one is not the usual.

    :param rows: the `cells` of each.
    :param width: of the terminal, if it is one.
    """
    if any(row[_TYPE] != _USUAL for row in rows):
        return table(COLUMNS, rows, width)
    return table(_without_type(COLUMNS), [_without_type(row) for row in rows], width)


def cells(row: Mapping[str, Any]) -> list[str]:
    """
    What stands of a key in a table.
    """
    return [
        called(row),
        str(row["key_name"]),
        _word(row.get("team_id")),
        _word(row.get("user_id")),
        str(row.get("key_type") or _USUAL),
        amount(row.get("spend")),
        amount(row.get("max_budget")),
        when(row.get("expires")),
        state(row),
    ]


def state(row: Mapping[str, Any]) -> str:
    """
    Whether the key opens anything, in a word.
    """
    if row.get("deleted_at"):
        return "deleted"
    if row.get("blocked"):
        return "blocked"
    expires = row.get("expires")
    return "expired" if expires and datetime.fromisoformat(expires) <= now() else "active"


def details(row: Mapping[str, Any]) -> Iterator[str]:
    """
    All that a person may want to know of one key.
    """
    pairs = [
        ("alias", _word(row.get("key_alias"))),
        ("id", str(row["key_id"])),
        ("shown as", str(row["key_name"])),
        ("state", state(row)),
        ("expires", _utc(row.get("expires"))),
        ("team", _word(row.get("team_id"))),
        ("user", _word(row.get("user_id"))),
        ("type", _word(row.get("key_type"))),
        ("models", _words(row.get("models"), "all")),
        ("routes", _words(row.get("allowed_routes"), "all but sensitive ones")),
        ("spend", _dollars(row.get("spend"))),
        ("budget", _budget(row)),
        ("shared budget", _word(row.get("budget_id"))),
        ("requests a minute", count(row.get("rpm_limit"))),
        ("tokens a minute", count(row.get("tpm_limit"))),
        ("requests at once", count(row.get("max_parallel_requests"))),
        ("tags", _words(row.get("tags"), NOTHING)),
        ("metadata", to_json(row["metadata"]).decode() if row.get("metadata") else NOTHING),
        ("created", f"{_utc(row.get('created_at'))} by {_word(row.get('created_by'))}"),
        ("updated", f"{_utc(row.get('updated_at'))} by {_word(row.get('updated_by'))}"),
    ]
    yield from listing(pairs)


def _without_type(row: Sequence[Cell]) -> list[Cell]:
    return [*row[:_TYPE], *row[_TYPE + 1 :]]


def _word(value: object) -> str:
    return str(value) if value else NOTHING


def _words(values: Sequence[str] | None, none: str) -> str:
    return ", ".join(values) if values else none


def _utc(value: object) -> str:
    return f"{when(value)} UTC" if value else NOTHING


def _dollars(value: object) -> str:
    return f"{amount(value)} USD" if value is not None else NOTHING


def _budget(row: Mapping[str, Any]) -> str:
    if row.get("max_budget") is None:
        return NOTHING
    told = _dollars(row["max_budget"])
    if row.get("budget_duration"):
        told += f" each {row['budget_duration']}"
    if row.get("budget_reset_at"):
        told += f", anew at {_utc(row['budget_reset_at'])}"
    return told
