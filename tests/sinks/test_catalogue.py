"""
From tables to sinks.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import fields
from twisted.trial.unittest import SynchronousTestCase

from dheera.config import ConfigurationError
from dheera.keys import Secret
from dheera.sinks.catalogue import KINDS, make_sinks
from dheera.sinks.contract import SinkFactory, SinkSettings, Tools
from dheera.sinks.file import FileSettings
from dheera.sinks.tables import read_table
from tests.sinks.records import NOON


def tools(name: str) -> Tools:
    courier: Any = None
    return Tools(reactor=None, name=name, courier=courier, environment={}, node="n", now=lambda: NOON)


class Catalogue(SynchronousTestCase):
    """
    What is found.
    """

    def problems(self, tables: Mapping[str, Mapping[str, Any]]) -> list[str]:
        return list(self.assertRaises(ConfigurationError, make_sinks, tables, tools).problems)

    def test_made(self) -> None:
        """
        The kind is said, or is the name; the order is that of the configuration.
        """
        made = make_sinks({"b": {"kind": "stdout"}, "stdout": {}, "a": {"kind": "file", "path": "/tmp/x"}}, tools)  # noqa: S108 - nothing is written
        self.assertEqual(
            [("b", "stdout"), ("stdout", "stdout"), ("a", "file")], [(each.name, each.factory.kind) for each in made]
        )
        self.assertEqual(FileSettings(kind="file", path=Path("/tmp/x")), made[2].settings)  # noqa: S108 - the same

    def test_problems(self) -> None:
        """
        All that is wrong is told at once, each with its place; what is unknown with the nearest that there is.
        """
        self.assertEqual(
            [
                '[sinks.a] kind: there is no "fiel", did you mean "file"?',
                "[sinks.b] batch_record: found no such setting, did you mean batch_records?",
                '[sinks.b] content: found "all" (a string), wanted "none", "meta" or "full"',
                "[sinks.b] timeout_seconds: found true (a boolean), wanted a number",
                "[sinks.c] batch_records: found 0 (a whole number), wanted a whole number from 1 to 100000",
                "[sinks.c] batch_seconds: found -1.0 (a decimal number), wanted a number of seconds from 0 to a day",
                "[sinks.d] path: is not said, wanted the name of a file",
                '[sinks.e] path: found "x" (a string), wanted one from the root on',
                "[sinks.e] keep: found -1 (a whole number), wanted a whole number, 0 or more",
                '[sinks."f g"] found no name, wanted 1 to 64 letters, digits, - and _',
                "[sinks.h] kind: found no text, wanted the kind of the sink",
            ],
            self.problems(
                {
                    "a": {"kind": "fiel"},
                    "b": {"kind": "stdout", "batch_record": 1, "content": "all", "timeout_seconds": True},
                    "c": {"kind": "stdout", "batch_records": 0, "batch_seconds": -1},
                    "d": {"kind": "file", "path": ""},
                    "e": {"kind": "file", "path": "x", "keep": -1},
                    "f g": {"kind": "stdout"},
                    "h": {"kind": 7},
                }
            ),
        )

    def test_problems_of_vendors(self) -> None:
        """
        Of a vendor's table, too, all that is wrong is told at once, and nothing that only follows from it.
        """
        nobody = {"username": "a:b", "password": "p"}
        tables: Mapping[str, tuple[Mapping[str, Any], list[str]]] = {
            "datadog": ({"site": "a b"}, ["site", "api_key"]),
            "elasticsearch": ({**nobody, "index": "A"}, ["url", "index", "username"]),
            "langfuse": ({"url": "ftp://h"}, ["public_key", "secret_key", "url"]),
            "langsmith": ({"url": "ftp://h", "workspace_id": "a b"}, ["workspace_id", "url", "api_key"]),
            "loki": ({**nobody, "labels": {"a b": "c"}, "tenant": "a b"}, ["labels", "tenant", "username", "url"]),
            "otlp": (
                {"endpoint": "h", "metrics_endpoint": "ftp://h", "headers": {"a b": "c"}},
                ["endpoint", "headers", "metrics_endpoint"],
            ),
            "s3": (
                {"bucket": "a b", "prefix": ".", "region": "a b"},
                ["bucket", "prefix", "region", "access_key_id", "secret_access_key"],
            ),
            "sentry": ({}, ["dsn"]),
            "slack": ({}, ["url"]),
            "splunk": ({}, ["url", "token"]),
        }
        for name, (table, expected) in tables.items():
            problems = self.problems({name: table})
            self.assertEqual([f"[sinks.{name}] {each}" for each in expected], [each.split(":")[0] for each in problems])

    def test_no_sinks(self) -> None:
        """
        Who looks for what is elsewhere is told where.
        """
        [problem] = self.problems({"postgres": {}})
        self.assertIn("DATABASE_URL", problem)
        [problem] = self.problems({"x": {"kind": "kafkaesque"}})
        self.assertIn("wanted one of datadog, elasticsearch, file", problem)

    def test_lazy(self) -> None:
        """
        The modules of kinds that nobody uses are not imported.
        """
        code = (
            "import sys, dheera.sinks.catalogue as c; c.make_sinks({'stdout': {}}, lambda name: c.Tools("
            "reactor=None, name=name, courier=None, environment={}, node='', now=None)); "
            "print(*[each for each in set(c.KINDS.values()) if each in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual("dheera.sinks.stdout\n", done.stdout)

    def test_factories(self) -> None:
        """
        Each kind has a factory whose settings are ours and more.
        """
        for kind, module in KINDS.items():
            factory: SinkFactory = import_module(module).FACTORY
            self.assertTrue(issubclass(factory.settings, SinkSettings), kind)
            self.assertIn(factory.takes, ("records", "alerts", "all"), kind)
            names = {each.name for each in fields(factory.settings)}
            self.assertLessEqual({each.name for each in fields(SinkSettings)}, names, kind)


class Tried(SinkSettings, frozen=True, kw_only=True):
    token: Secret | None = None
    headers: dict[str, Secret] = msgspec.field(default_factory=dict)
    tokens: list[Secret] = msgspec.field(default_factory=list)
    number: int | None = None
    file: Path | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.number == 13:
            raise ValueError("number: found 13, wanted luck")


class Tables(SynchronousTestCase):
    """
    How fields are read.
    """

    def read(self, **table: Any) -> Tried:
        settings, problems = read_table(Tried, table)
        self.assertEqual([], problems)
        assert settings is not None
        return settings

    def wrong(self, **table: Any) -> Sequence[str]:
        settings, problems = read_table(Tried, table)
        self.assertIsNone(settings)
        return problems

    def test_secrets(self) -> None:
        """
        Secrets are hidden, wherever they are in a field.
        """
        settings = self.read(token="canary-1", headers={"x": "canary-2"}, tokens=["canary-3"])
        assert settings.token is not None
        self.assertEqual(
            ["canary-1", "canary-2", "canary-3"],
            [each.reveal() for each in (settings.token, settings.headers["x"], settings.tokens[0])],
        )
        self.assertNotIn("canary", repr(settings))

    def test_hidden(self) -> None:
        """
        A secret that does not fit is not shown.
        """
        problems = [
            *self.wrong(token="canary\n"),
            *self.wrong(headers={"x": "can\x00ary"}),
            *self.wrong(tokens="canary"),
        ]
        self.assertEqual(3, len(problems))
        self.assertNotIn("canary", str(problems))
        self.assertEqual(
            "token: found a whole number (not shown), wanted a text without line breaks", *self.wrong(token=7)
        )

    def test_empty(self) -> None:
        """
        An empty text says nothing.
        """
        self.assertEqual(Tried(), self.read(token="", number="", file="", content=""))

    def test_others(self) -> None:
        """
        Files, numbers, tables; what they want is told in words.
        """
        settings = self.read(number=3, file="/x", labels={"a": "b"}, batch_seconds=1)
        self.assertEqual((3, Path("/x"), {"a": "b"}), (settings.number, settings.file, settings.labels))
        self.assertEqual(
            [
                'number: found "3" (a string), wanted a whole number',
                "file: found 1 (a whole number), wanted the name of a file",
                "labels: found a table, wanted a table of texts",
            ],
            self.wrong(number="3", file=1, labels={"a": 1}),
        )
        self.assertEqual(["number: found 13, wanted luck"], self.wrong(number=13))
