"""
LiteLLM's ``LiteLLM_VerificationToken``: what its columns hold, however a tool has written them, as ``/key/import``
takes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from dheera.keys import DIGEST_PATTERN

TOKEN = "token"  # noqa: S105 - the name of a column

_NULLS = ("", "NULL", r"\N")
_DIGEST = re.compile(DIGEST_PATTERN)
_FLAGS = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}
_WITHIN_METADATA = ("model_rpm_limit", "model_tpm_limit", "tag_rpm_limit", "mcp_rpm_limit", "tags")
_ELEMENT = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|((?:[^",{}\\]|\\.)*))\s*(,|$)', re.DOTALL)


class Unusable(Exception):
    """
    A row cannot be imported. The text says why, without a token.
    """


def token_row(cells: Mapping[str, Any]) -> dict[str, Any]:
    """
    A row as the API takes it; columns that say nothing, and those that mean nothing here, are left out.

    :raises Unusable: it has no token, or a value that its column cannot have.
    """
    row: dict[str, Any] = {}
    for name, read in _COLUMNS.items():
        value = cells.get(name)
        if value is None or value in _NULLS:
            continue
        try:
            row[name] = read(value)
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
            raise Unusable(f"{name}: this is not {_WANTED[read]}") from None
    if TOKEN not in row:
        raise Unusable("there is no token")
    if not _DIGEST.fullmatch(row[TOKEN]):
        raise Unusable("token: this is not the SHA-256 of a key, in lower-case hexadecimal")
    metadata = row.get("metadata")
    if isinstance(metadata, dict):
        # LiteLLM takes these as fields of a key, and keeps them there.
        row = {name: metadata[name] for name in _WITHIN_METADATA if metadata.get(name)} | row
    return row


def shown(cells: Mapping[str, Any]) -> str:
    """
    What people know the key of a row by; empty if that is not told.
    """
    for name in ("key_alias", "key_name"):
        value = cells.get(name)
        if isinstance(value, str) and value not in _NULLS:
            return value
    return ""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    return value if isinstance(value, bool) else _FLAGS[str(value).lower()]


def _whole(value: Any) -> int:
    number = Decimal(str(value))
    if isinstance(value, bool) or number != int(number):
        raise ValueError
    return int(number)


def _amount(value: Any) -> Decimal:
    number = Decimal(str(value))
    if isinstance(value, bool) or not number.is_finite():
        raise ValueError
    return number


def _instant(value: Any) -> str:
    """
    A time with its zone; LiteLLM keeps UTC, and PostgreSQL does not write it.
    """
    instant = datetime.fromisoformat(_text(value))
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return instant.isoformat()


def _names(value: Any) -> list[Any]:
    """
    A list of texts: of JSON, or as PostgreSQL writes arrays (``{a,"b c"}``).
    """
    if isinstance(value, str):
        value = json.loads(value) if value.startswith("[") else _array(value)
    if not isinstance(value, list):
        raise TypeError
    return value


def _array(text: str) -> list[str]:
    if not (text.startswith("{") and text.endswith("}")):
        raise ValueError
    within = text[1:-1]
    found: list[str] = []
    at = 0
    while at < len(within):
        match = _ELEMENT.match(within, at)
        if match is None or (match[1] is None and not match[2]):
            raise ValueError
        element = match[2].strip() if match[1] is None else match[1]
        if match[1] is not None or element != "NULL":
            found.append(re.sub(r"(?s)\\(.)", r"\1", element))
        at = match.end()
    if within.rstrip().endswith(",") and not within.rstrip().endswith("\\,"):
        raise ValueError
    return found


def _document(value: Any) -> Any:
    return json.loads(value, parse_float=Decimal) if isinstance(value, str) else value


_COLUMNS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys((TOKEN, "key_name", "key_alias", "user_id", "team_id", "agent_id", "project_id"), _text),
    **dict.fromkeys(("organization_id", "budget_id", "budget_duration", "rotation_interval"), _text),
    **dict.fromkeys(("key_type", "created_by"), _text),
    **dict.fromkeys(("blocked", "auto_rotate"), _flag),
    **dict.fromkeys(("tpm_limit", "rpm_limit", "max_parallel_requests"), _whole),
    **dict.fromkeys(("spend", "max_budget"), _amount),
    **dict.fromkeys(("expires", "budget_reset_at", "created_at"), _instant),
    **dict.fromkeys(("models", "allowed_routes", "allowed_cache_controls", "policies", "access_group_ids"), _names),
    **dict.fromkeys(("aliases", "config", "permissions", "metadata", "model_max_budget"), _document),
    **dict.fromkeys(("router_settings", "budget_limits", "budget_fallbacks"), _document),
}
"""
The columns that have a meaning here, and how each is read.
"""
_WANTED: Mapping[Callable[[Any], Any], str] = {
    _text: "a text",
    _flag: "true or false (t or f)",
    _whole: "a whole number",
    _amount: "an amount of dollars",
    _instant: "a time",
    _names: "an array",
    _document: "JSON",
}
