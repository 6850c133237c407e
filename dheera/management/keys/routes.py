"""
Which routes a key has, and which type that makes it: the one is never to say what the other does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from dheera.entities import Key
from dheera.errors import BadRequest
from dheera.management.keys.shapes import KeyFields
from dheera.routes import GROUPS, INFO_GROUP, KEY_TYPES, MANAGEMENT_GROUP, Routes

_DEFAULT = "default"
_LOOKING, _MANAGING = "read_only", "management"


def routed(body: KeyFields, before: Key | None) -> dict[str, Any]:
    """
    What *body* changes in the routes and the type of a key.

    :param before: as it is; ``None`` if it is to be made.
    :raises BadRequest: a route is none, or the type is not one that the routes make.
    """
    if body.key_type is UNSET and body.allowed_routes is UNSET:
        return {}
    old_type, old_routes = (_DEFAULT, []) if before is None else (before.key_type, before.allowed_routes)
    key_type = old_type if body.key_type is UNSET else body.key_type or _DEFAULT
    routes = list(KEY_TYPES.get(key_type, ()))
    if isinstance(body.allowed_routes, list):
        routes = body.allowed_routes
        _check(routes)
    elif body.allowed_routes is UNSET and old_routes not in ([], list(KEY_TYPES.get(old_type, ()))):
        if key_type != _DEFAULT:
            raise _both("This key has routes of its own")
        routes = old_routes
    if over_us(routes) != _claimed(key_type):
        if body.key_type is not UNSET:
            raise _both("Its routes do not make this a key of this type")
        key_type = over_us(routes) or _DEFAULT
    return {"key_type": key_type, "allowed_routes": routes}


def over_us(routes: Sequence[str]) -> str | None:
    """
    The type of keys that have rights over our own API, if *routes* give such; ``None`` if they give none.
    """
    if MANAGEMENT_GROUP in routes:
        return _MANAGING
    return _LOOKING if INFO_GROUP in routes else None


def _claimed(key_type: str) -> str | None:
    return key_type if key_type in (_LOOKING, _MANAGING) else None


def _check(routes: Sequence[str]) -> None:
    for at, route in enumerate(routes):
        if not Routes.understands(route):
            raise BadRequest(
                f"allowed_routes.{at}: This is neither a path, which begins with / or *, nor a method and a path, nor "
                f"a group: {', '.join(sorted(GROUPS))}.",
                param="allowed_routes",
            )


def _both(why: str) -> BadRequest:
    return BadRequest(f"{why}: send key_type and allowed_routes together, so that they agree.", param="key_type")
