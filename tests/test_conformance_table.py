"""
``docs/conformance.md`` names tests that exist.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

HOME = Path(__file__).parent
TABLES = HOME.parent / "docs" / "conformance.md"
DEFAULT = re.compile(r"[Ww]here no file is named it is `([a-z_/]+\.py)`")


def named(text: str) -> list[tuple[str, str]]:
    """
    File and test of each reference in the last column of the tables.
    """
    found = []
    for half in text.split("\n## ")[1:]:
        [usual] = DEFAULT.findall(half)
        for row in re.findall(r"^\|.*\| (.*) \|$", half, re.MULTILINE):
            file = usual
            for reference in re.findall(r"`([^`]+)`", row):
                if reference.endswith(".py"):
                    file = reference
                else:
                    found.append((file, reference))
    return found


def defined(file: Path) -> set[str]:
    """
    Classes and methods of a file, inherited ones of the same file too.
    """
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            own = {one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
            bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
            own |= {test.partition(".")[2] for test in found if test.partition(".")[0] in bases}
            found |= {node.name} | {f"{node.name}.{name}" for name in own}
    return found


class TestTable(SynchronousTestCase):
    """
    The tables of rules.
    """

    def test_named(self) -> None:
        """
        Each test that a rule names is there.
        """
        references = named(TABLES.read_text())
        self.assertGreater(len(references), 100)
        known = {file: defined(HOME / file) for file in {file for file, _ in references}}
        self.assertEqual([], [(file, test) for file, test in references if test not in known[file]])

    def test_complete(self) -> None:
        """
        Each rule names a test, a file at least.
        """
        rows = re.findall(r"^\| (.*) \| (.*) \| (.*) \|$", TABLES.read_text(), re.MULTILINE)
        rules = [row for row in rows if row[2] not in ("Test", "---")]
        self.assertEqual([], [row[0] for row in rules if not re.search(r"`[^`]+`", row[2])])
