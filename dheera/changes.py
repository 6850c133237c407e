"""
What a configuration that is read anew changes, and which of that wants a new start.

Imports no Twisted and does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from attrs import frozen

from dheera.definitions import FIXED, TABLES, Place, written
from dheera.settings import Config


@frozen(kw_only=True)
class Changes:
    """
    From one configuration to another.

    :param config: the new one, as far as it can be used now: what only a new start changes is as it was.
    :param made: what has changed and can be used now, as it is written in the file; never a value.
    :param postponed: likewise, what wants a new start.
    """

    config: Config
    made: Sequence[str]
    postponed: Sequence[str]


def compare(before: Config, after: Config) -> Changes:
    """
    What *after* changes.
    """
    places = list(_changed(before, after))
    fixed = FIXED
    if (before.listen.tls_certificate is None) != (after.listen.tls_certificate is None):
        fixed |= {("listen", "tls_certificate"), ("listen", "tls_key")}  # a listener speaks TLS, or it does not
    if before.master_key is not None and after.master_key is None:
        fixed |= {("", "master_key")}  # by mistake, it would let everybody in
    postponed = [place for place in places if place in fixed]
    config = after
    for table, key in postponed:
        name = TABLES[table][0] if table else ""
        if name:
            old = getattr(getattr(before, name), key)
            config = attrs.evolve(config, **{name: attrs.evolve(getattr(config, name), **{key: old})})
        else:
            config = attrs.evolve(config, **{key: getattr(before, key)})
    return Changes(
        config=config,
        made=[_written(place) for place in places if place not in fixed],
        postponed=[_written(place) for place in postponed],
    )


def _changed(before: Config, after: Config) -> Iterator[Place]:
    tables = {name: table for table, (name, _) in TABLES.items()}
    for each in attrs.fields(Config):
        old, new = getattr(before, each.name), getattr(after, each.name)
        if old == new:
            continue
        if each.name in tables:
            yield from ((tables[each.name], key) for key in _differing(old, new))
        elif isinstance(old, dict) and isinstance(new, dict):
            # A table of tables, such as [sinks.NAME].
            yield from ((each.name, name) for name in sorted({*old, *new}) if old.get(name) != new.get(name))
        else:
            yield "", each.name


def _differing(old: Any, new: Any) -> Iterator[str]:
    return (each.name for each in attrs.fields(type(old)) if getattr(old, each.name) != getattr(new, each.name))


def _written(place: Place) -> str:
    table, key = place
    return f"[{table}.{key}]" if table and table not in TABLES else written(place)
