"""
Keys as people want to see them: many in a table, one in a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from dheera.commands.references import called
from dheera.commands.tables import NOTHING, Column, amount, count, listing, table, when
from dheera.entities import now
from dheera.remote import to_json

COLUMNS = (
    Column(title="KEY", least=12),
    Column(title="SHOWN AS", spare=True),
    Column(title="TEAM", least=6),
    Column(title="USER", least=6),
    Column(title="TYPE"),
    Column(title="SPEND USD", right=True),
    Column(title="BUDGET USD", right=True),
    Column(title="ANEW (UTC)"),
    Column(title="EXPIRES (UTC)"),
    Column(title="STATE"),
)


_USUAL = "default"
_AS_USUAL = {"TYPE": _USUAL, "ANEW (UTC)": NOTHING}
"""
What stands in columns that are left out where nothing else does.
"""


def overview(rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """
    The lines of a table of keys. Their types are told where one is not the usual, and when their budgets begin anew
    where one does.

    :param rows: the `cells` of each.
    :param width: of the terminal, if it is one.
    """
    told = [
        nth
        for nth, column in enumerate(COLUMNS)
        if column.title not in _AS_USUAL or any(row[nth] != _AS_USUAL[column.title] for row in rows)
    ]
    return table([COLUMNS[nth] for nth in told], [[row[nth] for nth in told] for row in rows], width)


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
        when(row.get("budget_reset_at")) if row.get("max_budget") is not None else NOTHING,
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
        *_held(row),
        ("budget", _budget(row)),
        *_soft(row),
        *_more_budgets(row),
        ("shared budget", _shared(row)),
        ("requests a minute", count(row.get("rpm_limit"))),
        ("tokens a minute", count(row.get("tpm_limit"))),
        ("requests at once", count(row.get("max_parallel_requests"))),
        *_limits_of_models(row),
        ("tags", _words(row.get("tags"), NOTHING)),
        ("metadata", to_json(row["metadata"]).decode() if row.get("metadata") else NOTHING),
        ("created", f"{_utc(row.get('created_at'))} by {_word(row.get('created_by'))}"),
        ("updated", f"{_utc(row.get('updated_at'))} by {_word(row.get('updated_by'))}"),
    ]
    yield from listing(pairs)


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
    told = _each(row["max_budget"], row.get("budget_duration"))
    if row.get("budget_reset_at"):
        told += f", anew at {_utc(row['budget_reset_at'])}"
    return told


def _each(dollars: object, span: object) -> str:
    return f"{_dollars(dollars)} each {span}" if span else _dollars(dollars)


def _held(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if row.get("held"):
        yield "held", f"{_dollars(row['held'])} by calls that are under way"


def _soft(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if row.get("soft_budget") is not None:
        yield "alert at", _dollars(row["soft_budget"])


def _limits_of_models(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """
    Requests and tokens of single models in a minute, wherever they are said.
    """
    found = [
        (model, counts[model], what)
        for name, what in (("model_rpm_limit", "requests"), ("model_tpm_limit", "tokens"))
        for counts in (row.get(name), (row.get("metadata") or {}).get(name))
        if isinstance(counts, Mapping)
        for model in counts
    ]
    for model, each in (row.get("model_max_budget") or {}).items():
        if isinstance(each, Mapping):
            found += [(model, each.get("rpm_limit"), "requests"), (model, each.get("tpm_limit"), "tokens")]
    return (
        ("for a model", f"{count(much)} {what} a minute: {model}") for model, much, what in found if much is not None
    )


def _more_budgets(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """
    Budgets beside the usual one, where there are any.
    """
    for each in row.get("budget_limits") or ():
        yield "and", _each(each.get("max_budget"), each.get("budget_duration"))
    for model, each in (row.get("model_max_budget") or {}).items():
        said = each if isinstance(each, Mapping) else {"budget_limit": each}
        dollars = said.get("budget_limit") if said.get("budget_limit") is not None else said.get("max_budget")
        dollars = Decimal(dollars) if isinstance(dollars, str) else dollars
        if dollars is not None:
            yield "for a model", f"{_each(dollars, said.get('time_period') or said.get('budget_duration'))}: {model}"


def _shared(row: Mapping[str, Any]) -> str:
    budget = row.get("litellm_budget_table")
    if not budget:
        return _word(row.get("budget_id"))
    return f"{budget['budget_id']}: {_budget(budget)}" if budget.get("max_budget") is not None else budget["budget_id"]
