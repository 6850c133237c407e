"""
From the fields of a body to those of an entity, and back to those of an answer.

A noun says once how its names in JSON and in `entities` correspond; all else goes to the entity's ``rest``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen
from msgspec import NODEFAULT, UNSET, Struct, structs

from dheera.entities import Entity
from dheera.management.acts import plain
from dheera.management.shapes import utc


@frozen
class Names:
    """
    How the JSON of one noun corresponds to its entity.

    :param entity: what is kept.
    :param fields: a body with every field that is merged into it.
    :param renamed: names in JSON that the entity has under another one.
    :param apart: fields of the body that its verb looks after.
    :param unset: what is shown of fields in ``rest`` that are not set, where that is not ``null``.
    """

    entity: type[Entity]
    fields: type[Struct]
    renamed: Mapping[str, str] = field(factory=dict)
    apart: frozenset[str] = frozenset()
    unset: Mapping[str, Any] = field(factory=dict)

    def changes(self, body: Struct, rest: Mapping[str, Any]) -> dict[str, Any]:
        """
        What *body* changes in an entity: absent fields keep, ``null`` goes back to the default.

        :param rest: of the entity as it is; a new one is among the changes if it differs.
        """
        defaults = _defaults(self.entity)
        changed: dict[str, Any] = {}
        new_rest = dict(rest)
        for name in self._merged():
            value = getattr(body, name, UNSET)
            own = self.renamed.get(name, name)
            if value is UNSET:
                continue
            if own in defaults:
                changed[own] = defaults[own] if value is None else _kept(value)
            elif value is None:
                new_rest.pop(name, None)
            else:
                new_rest[name] = plain(_kept(value))
        if new_rest != rest:
            changed["rest"] = new_rest
        return changed

    def shown(self, entity: Entity) -> dict[str, Any]:
        """
        The fields of *entity* under their names in JSON, those in its ``rest`` among them.
        """
        rest: dict[str, Any] = getattr(entity, "rest", {})
        own = entity.__struct_fields__
        return {
            name: getattr(entity, self.renamed.get(name, name))
            if self.renamed.get(name, name) in own
            else rest.get(name, self.unset.get(name))
            for name in self._merged()
        }

    def _merged(self) -> list[str]:
        return [name for name in self.fields.__struct_fields__ if name not in self.apart]


def _defaults(sort: type[Struct]) -> dict[str, Any]:
    """
    The fields of *sort* that have a default, and what it is.
    """
    return {
        each.name: each.default if each.default is not NODEFAULT else each.default_factory()
        for each in structs.fields(sort)
        if not each.required
    }


def _kept(value: Any) -> Any:
    """
    A value as entities hold it: structs within a body as plain JSON, times in UTC.
    """
    if isinstance(value, datetime):
        return utc(value)
    return plain(value) if isinstance(value, list | dict) else value
