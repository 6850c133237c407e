"""
The house: imports only go down, the list of rooms is true, and rules that no linter knows.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from unittest import TestCase

ROOT = Path(__file__).parent.parent
HOUSE = ROOT / "dheera"
PACKAGES = (
    "allowances",
    "commands",
    "web",
    "management",
    "proxy",
    "sinks",
    "spool",
    "stores",
    "metering",
    "supervisor",
    "wire",
)

LAYERS = [
    {"__init__", "errors", "keys", "call_ids", "money", "durations", "wildcards", "usage", "texts"},
    {"windows", "entities", "records", "metering", "redaction", "endpoints", "estimates"},
    {"routes", "models", "terms"},
    {"wire", "kinds"},
    {"settings"},
    {"definitions"},
    {"config", "lifecycle", "logs", "reactor", "run", "notify", "sockets", "sparing", "descriptors", "trust"},
    {"price_rows", "holding", "changes", "ports"},
    {"children"},
    {"limits"},
    {"boundaries", "bookkeeping", "prices", "content"},
    {"recall"},
    {"stores", "spool", "keyring", "attempts", "customers"},
    {"settlement", "upstream_alarm", "series", "workers", "bounds"},
    {"ledger", "pruning", "sinks", "metrics", "allowances"},
    {"gate", "open_gate", "choices"},
    {"management", "proxy"},
    {"web", "demo"},
    {"rooms", "accounts", "succession"},
    {"supervisor", "furnishing"},
    {"daemon"},
    {"crew"},
    {"service", "remote"},
    {"tap"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
"""
From the ground up. A room may import from its own layer's siblings only within its own package.
"""


def rooms() -> Iterator[tuple[str, str, ast.Module]]:
    """
    Each module: its room (top-level name), its dotted name, its tree.
    """
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(HOUSE).with_suffix("").parts
        yield parts[0], ".".join(parts), ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """
    The rooms that a module imports when it runs; what only the type checker reads does not count.
    """
    for node in tree.body + [each for one in tree.body if isinstance(one, ast.FunctionDef) for each in ast.walk(one)]:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "dheera":
            names = node.module.split(".")[1:]
            yield from [names[0]] if names else [alias.name for alias in node.names]


def layer(room: str) -> int:
    """
    How high a room is.
    """
    return next(height for height, names in enumerate(LAYERS) if room in names)


class HouseTests(TestCase):
    def test_imports_go_down(self) -> None:
        """
        No module imports from its own layer or one above, but from its own package.
        """
        upward = [
            f"{name} imports {other}"
            for room, name, tree in rooms()
            for other in imported(tree)
            if other not in (room, "__version__") and layer(other) >= layer(room)
        ]
        self.assertEqual([], upward)

    def test_wire_knows_nothing_of_ours(self) -> None:
        """
        The wire imports nothing of the house but its errors.
        """
        strange = {other for room, _, tree in rooms() if room == "wire" for other in imported(tree)}
        self.assertEqual({"errors", "wire"}, strange)

    def test_values_know_no_twisted(self) -> None:
        """
        Values import no Twisted, so they can be used and tested anywhere.
        """
        for room, name, tree in rooms():
            if any(room in names for names in LAYERS[:3]):
                modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
                self.assertEqual([], [module for module in modules if module.startswith("twisted")], name)

    def test_every_room_is_on_the_plan(self) -> None:
        """
        ``docs/architecture.md`` names each module, and none that is not there.
        """
        plan = (ROOT / "docs" / "architecture.md").read_text()
        drawing = plan.split("```")[1]
        drawn = {line.split()[0] for line in drawing.splitlines()[2:] if line.strip()}
        files = [*HOUSE.glob("*.py"), *(path for name in PACKAGES for path in (HOUSE / name).rglob("*.py"))]
        there = {path.name for path in files if not path.name.startswith("__")} | {"demo/"}
        there |= {f"{path.parent.name}/" for path in files if path.name == "__init__.py" and path.parent != HOUSE}
        self.assertEqual(there, drawn)
