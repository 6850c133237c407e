"""
``docs/security.md`` names modules and tests that exist.
"""

from __future__ import annotations

import re
from pathlib import Path
from unittest import TestCase

from tests.test_conformance_table import defined

HOME = Path(__file__).parent
ROOT = HOME.parent
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = [
    row
    for row in re.findall(r"^\| (.*) \| (.*) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
    if row[0] not in ("threat", "---")
]
"""
Threat, what stands against it, modules, tests.
"""


def references(cell: str) -> list[tuple[str, str]]:
    """
    File and test of each reference in *cell*; a test without a file is in the one before it.
    """
    found = []
    file = ""
    for reference in re.findall(r"`([^`]+)`", cell):
        if reference.endswith(".py"):
            file = reference
        else:
            found.append((file, reference))
    return found


class SecurityPageTests(TestCase):
    def test_complete(self) -> None:
        """
        Nothing is claimed without a module and a test.
        """
        self.assertGreater(len(ROWS), 40)
        self.assertEqual([], [row[0] for row in ROWS if not re.search(r"`[^`]+`", row[2])])
        self.assertEqual([], [row[0] for row in ROWS if not references(row[3])])

    def test_modules(self) -> None:
        """
        Each module that stands against something is there; what is no module is named below the root.
        """
        named = {name for row in ROWS for name in re.findall(r"`([^`]+)`", row[2])}
        self.assertEqual(
            [], sorted(name for name in named if not any((place / name).is_file() for place in (ROOT / "dheera", ROOT)))
        )

    def test_tests(self) -> None:
        """
        Each test that is named is there, by its file, class and method.
        """
        named = {each for row in ROWS for each in references(row[3])}
        files = {file for file, _ in named}
        self.assertEqual([], sorted(file for file in files if not file or not (HOME / file).is_file()))
        known = {file: defined(HOME / file) for file in files}
        self.assertEqual([], sorted((file, test) for file, test in named if test not in known[file]))
