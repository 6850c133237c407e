"""
Which settings there are: where each stands in the file, what it wants, and how the environment and the command line
call it. The parser (`dheera.config`) and the reference (docs/configuration.md) are made from these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias, cast

import attrs

from dheera import kinds
from dheera.settings import (
    AllowanceSettings,
    BalanceSettings,
    Config,
    KeySettings,
    LedgerSettings,
    LimitSettings,
    Listen,
    MetricSettings,
    Mistral,
    OtherUpstream,
    RecordSettings,
    SpoolSettings,
    Storage,
)
from dheera.wire.limits import ClientLimits, ServerLimits

Place: TypeAlias = tuple[str, str]
"""
Where a setting stands in the file: its table ("" is the top) and its key.
"""

TABLES: Mapping[str, tuple[str, type[Any]]] = {
    "listen": ("listen", Listen),
    "mistral": ("mistral", Mistral),
    "balance": ("balance", BalanceSettings),
    "keys": ("keys", KeySettings),
    "store": ("store", Storage),
    "records": ("records", RecordSettings),
    "spool": ("spool", SpoolSettings),
    "ledger": ("ledger", LedgerSettings),
    "metrics": ("metrics", MetricSettings),
    "allowances": ("allowances", AllowanceSettings),
    "proxy_limits": ("proxy_limits", LimitSettings),
    "end_user_limits": ("end_user_limits", LimitSettings),
    "limits": ("server_limits", ServerLimits),
    "upstream_limits": ("client_limits", ClientLimits),
}
"""
Each table of the file: the attribute of `Config` that it fills, and with what.
"""
UPSTREAMS = "upstreams"
"""
Holds a table for each upstream beside Mistral's; in a `Place` that is ``upstreams.NAME``.
"""
CONFIG_VARIABLE = "DHEERA_AI_CONFIG"
ENVIRONMENT: Mapping[str, Place] = {
    "MISTRAL_API_KEY": ("mistral", "api_key"),
    "MISTRAL_API_KEYS": ("mistral", "api_keys"),
    "MISTRAL_API_BASE": ("mistral", "api_base"),
    "DHEERA_AI_MASTER_KEY": ("", "master_key"),
    "DATABASE_URL": ("store", "url"),
    "DHEERA_AI_STATE_DIR": ("store", "state_dir"),
    "DHEERA_AI_HOST": ("listen", "host"),
    "DHEERA_AI_PORT": ("listen", "port"),
}
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
"""
Where systemd puts what ``LoadCredential=`` names (systemd.exec(5), Credentials).
"""
OPTIONS: Mapping[str, Place] = {
    "host": ("listen", "host"),
    "port": ("listen", "port"),
    "listen": ("listen", "endpoints"),
    "demo": ("", "demo"),
    "workers": ("", "workers"),
    "log_format": ("", "log_format"),
}


def kind_of(place: Place) -> kinds.Kind | None:
    """
    What the setting at *place* wants; ``None`` if there is no such setting.
    """
    table, key = place
    return SETTINGS.get((f"{UPSTREAMS}.*" if table.startswith(UPSTREAMS + ".") else table, key))


def written(place: Place) -> str:
    """
    *place* as somebody finds it in the file.
    """
    table, key = place
    if not re.fullmatch(r"[A-Za-z0-9_-]+", key):
        key = json.dumps(key)
    return f"[{table}] {key}" if table else key


def unknown(place: Place, value: object) -> str:
    """
    What is wrong with a place that is none, and what was probably meant: the nearest name there, or else
    the nearest anywhere.
    """
    table, key = place
    if (key in TABLES or key == UPSTREAMS) and not table:
        # A text may be a key.
        return f"found {kinds.shown(value, hidden=isinstance(value, str))}, wanted a table"
    pattern = f"{UPSTREAMS}.*" if table.startswith(UPSTREAMS) else table
    beside = [(each[1], written((table, each[1]))) for each in SETTINGS if each[0] == pattern]
    if not table:
        beside += [(each, f"[{each}]") for each in TABLES]
    anywhere = [(each[1], written(each)) for each in SETTINGS if not each[0].startswith(UPSTREAMS)]
    for candidates in beside, anywhere:
        if near := get_close_matches(key, [name for name, _ in candidates], n=1):
            meant = " or ".join(shown for name, shown in candidates if name == near[0])
            return f"found no such setting, did you mean {meant}?"
    return f"found no such setting, wanted one of {', '.join(shown for _, shown in beside)}"


def _kind(attribute: attrs.Attribute[Any]) -> kinds.Kind:
    # The limits are values of the wire, which knows no configuration: name and default tell.
    if kind := attribute.metadata.get("kind"):
        return cast("kinds.Kind", kind)
    if attribute.name.endswith("_seconds"):
        return kinds.SECONDS
    return kinds.COUNT if isinstance(attribute.default, int) else kinds.AMOUNT


SETTINGS: Mapping[Place, kinds.Kind] = {
    (table, each.name): _kind(each)
    for table, value in [
        ("", Config),
        (f"{UPSTREAMS}.*", OtherUpstream),
        *((of, value) for of, (_, value) in TABLES.items()),
    ]
    for each in attrs.fields(value)
    if table or each.name not in {UPSTREAMS, *(name for name, _ in TABLES.values())}
}
"""
Each setting, and what it wants. Those of ``upstreams.*`` are of each upstream beside Mistral's.
"""
FIXED = frozenset(
    (table, each.name)
    for table, value in [("", Config), *((of, value) for of, (_, value) in TABLES.items())]
    for each in attrs.fields(value)
    if each.metadata.get("fixed")
)
"""
Settings that only a new start changes; all others change with a reload.
"""
