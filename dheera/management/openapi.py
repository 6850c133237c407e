"""
The description of the management API, made from its routes: ``python -m dheera.management.openapi`` prints it.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO, get_args, get_origin

import msgspec
from msgspec import Struct

from dheera import __version__
from dheera.errors import (
    BadRequest,
    BodyTooLarge,
    Invalid,
    MalformedRequest,
    NotAllowed,
    NotAuthenticated,
    Refusal,
    StoreAway,
    TooManyRequests,
)
from dheera.management.routes import Access, AnyRoute, Nothing
from dheera.management.shapes import Name, schema_of

_ABOUT = """\
Keys for developers, and what belongs to them. Field names are those that users of such gateways already script against.

In the body of an update, a field that is absent is kept and `null` goes back to the default. Numbers may be written as
texts. Fields that are not described are ignored, or faults if `strict_fields` is set in dheera's configuration.
"""
_EVERYWHERE: tuple[type[Refusal], ...] = (
    BadRequest,
    NotAuthenticated,
    NotAllowed,
    BodyTooLarge,
    Invalid,
    TooManyRequests,
    Refusal,
    StoreAway,
)
_OF_THE_WIRE = (408, 414, 431)
"""
What is answered before a route is looked for.
"""
_BEFORE = {
    408: ("RequestTimeout", "The request did not arrive in time."),
    414: ("UriTooLong", "The path and query are too long."),
    417: ("ExpectationFailed", "Another expectation than 100-continue."),
    431: ("HeadTooLarge", "The header lines are too many, or too long."),
}
"""
What is answered before the route is known.
"""
_REF = "#/components/schemas/{name}"


class Fault(Struct):
    """
    What is wrong with a body or a query.

    :param loc: where: `body`, `query` or `path`, and the way from there.
    """

    loc: list[str | int]
    msg: str
    type: str


class ErrorFacts(Struct):
    """
    An error in the shape that users of such gateways know; `code` is the status as a text.
    """

    message: str
    type: str
    param: str | None
    code: str


class Error(Struct):
    """
    An answer of dheera's own that is not what was asked for.
    """

    error: ErrorFacts
    message: str
    detail: str | list[Fault]


def describe(routes: Sequence[AnyRoute]) -> dict[str, Any]:
    """
    The OpenAPI document of *routes*.
    """
    shapes = [Error, *(shape for route in routes for shape in (route.body, route.query, route.answer))]
    unique = list(dict.fromkeys(shapes))
    made, components = msgspec.json.schema_components(unique, schema_hook=schema_of, ref_template=_REF)
    schemas = dict(zip(unique, made, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dheera",
            "version": __version__,
            "summary": "The management API of dheera, a gateway in front of the Mistral API.",
            "description": _ABOUT,
        },
        "security": [{"bearer": []}],
        "paths": _paths(routes, schemas, components),
        "components": {
            "schemas": {name: schema for name, schema in components.items() if not _is_query(name, routes)},
            "responses": _responses(routes),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths(
    routes: Iterable[AnyRoute], schemas: dict[type, dict[str, Any]], components: dict[str, Any]
) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for route in routes:
        for method in route.methods:
            paths.setdefault(route.path, {})[method.lower()] = _operation(route, method, schemas, components)
    return dict(sorted(paths.items()))


def _operation(
    route: AnyRoute, method: str, schemas: dict[type, dict[str, Any]], components: dict[str, Any]
) -> dict[str, Any]:
    who = "For the master key, and keys that may manage." if route.access is Access.ADMIN else "For any valid key."
    operation: dict[str, Any] = {
        "operationId": f"{method.lower()}{route.path}".replace("/", "_").replace("{", "").replace("}", ""),
        "tags": [next(part for part in route.path.split("/") if part and part != "v2")],
        "summary": route.summary,
        "description": f"{route.description}\n\n{who}".strip(),
        "parameters": [*_path_parameters(route), *_query_parameters(route, components)],
    }
    if route.body is not Nothing:
        schema = schemas[route.body]
        required = components[schema["$ref"].rpartition("/")[2]].get("required", [])
        operation["requestBody"] = {"required": bool(required), "content": _json(schema)}
    operation["responses"] = {
        "200": {"description": _first_line(route.answer), "content": _json(schemas[route.answer])},
        **_refusals(route),
    }
    return operation


def _refusals(route: AnyRoute) -> dict[str, dict[str, str]]:
    """
    The answers of *route* that are not what was asked for, by status.
    """
    sorts = {sort.status: sort.__name__ for sort in (*route.refusals, *_EVERYWHERE)}
    sorts |= dict.fromkeys(_OF_THE_WIRE, MalformedRequest.__name__)
    return {str(status): {"$ref": f"#/components/responses/{sorts[status]}"} for status in sorted(sorts)}


def _responses(routes: Iterable[AnyRoute]) -> dict[str, Any]:
    """
    All that is referred to by `_refusals`.
    """
    sorts = dict.fromkeys([*_EVERYWHERE, MalformedRequest, *(sort for route in routes for sort in route.refusals)])
    return {
        sort.__name__: {
            "description": "Something failed inside dheera." if sort is Refusal else _first_line(sort),
            "content": _json({"$ref": _REF.format(name="Error")}),
        }
        for sort in sorts
    }


def _path_parameters(route: AnyRoute) -> Iterator[dict[str, Any]]:
    for name in route.parameters:
        yield {"name": name, "in": "path", "required": True, "schema": msgspec.json.schema(Name)}


def _query_parameters(route: AnyRoute, components: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if route.query is Nothing:
        return
    shape = components[route.query.__name__]
    for name, schema in shape["properties"].items():
        yield {"name": name, "in": "query", "required": name in shape.get("required", []), "schema": schema}


def _is_query(name: str, routes: Iterable[AnyRoute]) -> bool:
    return name == Nothing.__name__ or any(route.query.__name__ == name for route in routes)


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _first_line(sort: type) -> str:
    if get_origin(sort) is list:
        return f"A list. {_first_line(get_args(sort)[0])}"
    return (inspect.getdoc(sort) or "").partition("\n\n")[0].replace("\n", " ").replace("``", "`")


def main(out: TextIO) -> None:
    """
    Print the description.
    """
    from dheera.management.catalogue import ROUTES  # noqa: PLC0415 - it knows every noun, which this module does not

    out.write(json.dumps(describe(ROUTES), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.stdout)
