"""
The description of the management API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import TestCase

from dheera.management import openapi
from dheera.management.catalogue import ROUTES
from dheera.management.openapi import describe
from dheera.management.routes import Nothing

KEPT = Path(__file__).parent.parent.parent / "docs" / "openapi.json"


def references(value: Any) -> Iterator[str]:
    """
    All that a document refers to within itself.
    """
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


class Description(TestCase):
    def setUp(self) -> None:
        self.document = describe(ROUTES)

    def test_kept(self) -> None:
        """
        ``docs/openapi.json`` is what the routes say. If it is not:
        ``python -m dheera.management.openapi > docs/openapi.json``
        """
        self.assertEqual(json.loads(json.dumps(self.document)), json.loads(KEPT.read_text()))

    def test_printed(self) -> None:
        """
        The module prints the document.
        """
        out = StringIO()
        openapi.main(out)
        self.assertEqual(KEPT.read_text(), out.getvalue())

    def test_every_route(self) -> None:
        """
        Each route is described, under a name of its own, with every status that it can answer.
        """
        names = set()
        for route in ROUTES:
            for method in route.methods:
                operation = self.document["paths"][route.path][method.lower()]
                names.add(operation["operationId"])
                statuses = {"200", "400", "401", "403", "408", "413", "414", "422", "429", "431", "500", "503"}
                self.assertLessEqual(
                    statuses | {str(each.status) for each in route.refusals}, set(operation["responses"])
                )
                in_path = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
                self.assertEqual(route.parameters, in_path)
                self.assertEqual(route.body is not Nothing, "requestBody" in operation)
        self.assertEqual(sum(len(route.methods) for route in ROUTES), len(names))

    def test_references(self) -> None:
        """
        What the document refers to is there, and all that is there is referred to.
        """
        components = self.document["components"]
        there = {f"#/components/{sort}/{name}" for sort in ("schemas", "responses") for name in components[sort]}
        self.assertEqual(there, set(references(self.document)))

    def test_unambiguous(self) -> None:
        """
        No two routes answer the same, and types of the same name are the same type.
        """
        places = [(method, re.sub(r"\{\w+\}", "{}", route.path)) for route in ROUTES for method in route.methods]
        self.assertEqual(len(places), len(set(places)))
        queries = {route.query for route in ROUTES} - {Nothing}
        self.assertEqual(len(queries), len({query.__name__ for query in queries}))

    def test_said_once(self) -> None:
        """
        Fields which are kept but not acted on say so.
        """
        fields = self.document["components"]["schemas"]["GenerateKey"]["properties"]
        for name in ("guardrails", "policies", "router_settings", "send_invite_email"):
            self.assertIn("not acted on", fields[name]["description"])
        self.assertFalse("not enforce" in json.dumps(self.document))
        self.assertIn("in any minute", json.dumps(fields["rpm_limit"]))
        self.assertEqual(
            {"type": "number", "minimum": 0, "maximum": 9_000_000_000},
            {name: value for name, value in fields["max_budget"]["anyOf"][0].items() if name != "description"},
        )
