"""
The lock files: what the image is made of, named down to the byte.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from unittest import TestCase

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# One entry: name, version, perhaps for whom; then its digests, each on a line of its own.
ENTRY = re.compile(
    r"^([a-z0-9-]+)==([^ ;]+)(?: ; [^\\\n]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)
COMMENT = re.compile(r"^ *#.*\n", re.MULTILINE)


def versions(lock: str) -> Mapping[str, str]:
    """
    What a lock file pins, by name.

    :raises AssertionError: it says anything else; the text begins where it does.
    """
    text = COMMENT.sub("", (ROOT / lock).read_text(encoding="utf-8"))
    rest = ENTRY.sub("", text)
    assert not rest, rest[:200]
    return {match[1]: match[2] for match in ENTRY.finditer(text)}


class LockTests(TestCase):
    """
    ``requirements.lock`` is what an installation needs, ``requirements-build.lock`` what makes one.
    """

    def assert_met(self, wanted: Iterable[str], lock: str) -> None:
        """
        Each requirement is in the lock file, in a version that it allows.
        """
        pinned = versions(lock)
        for requirement in map(Requirement, wanted):
            name = canonicalize_name(requirement.name)
            self.assertIn(name, pinned, f"{lock} lacks {requirement}: CONTRIBUTING.md tells how to renew it")
            self.assertTrue(requirement.specifier.contains(pinned[name]), f"{lock}: {requirement}, not {pinned[name]}")

    def test_each_file_has_digests(self) -> None:
        """
        There is nothing in a lock file but exact versions with digests: no address, no option, no range.
        """
        for lock in "requirements.lock", "requirements-build.lock":
            self.assertLess(3, len(versions(lock)))

    def test_installation(self) -> None:
        """
        What the project asks for is pinned within what it asks for, its extra for collectors included.
        """
        wanted = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["otel"]
        self.assert_met(wanted, "requirements.lock")

    def test_build(self) -> None:
        """
        What a build asks for is pinned too, and the image's build asks for what any build does.
        """
        wanted = PROJECT["dependency-groups"]["build"]
        self.assertLessEqual(set(PROJECT["build-system"]["requires"]), set(wanted))
        self.assert_met(wanted, "requirements-build.lock")
