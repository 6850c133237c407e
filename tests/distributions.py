"""
What would be published: the source distribution of a tree, and the wheel that is built of nothing but that.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def build_sdist(tree: Path, folder: Path) -> Path:
    """
    The source distribution of *tree*, put into *folder*.

    :raises AssertionError: it cannot be built; the text says why.
    """
    _run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder), within=tree)
    [sdist] = folder.glob("dheera-*.tar.gz")
    return sdist


def build_wheel(sdist: Path, folder: Path) -> Path:
    """
    The wheel of *sdist*, put into *folder*, where the unpacked source is too.

    :raises AssertionError: it cannot be built; the text says why.
    """
    _run("tar", "-xzf", str(sdist), within=folder)
    tree = folder / sdist.name.removesuffix(".tar.gz")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), within=tree)
    [wheel] = folder.glob("dheera-*.whl")
    return wheel


def _run(*command: str, within: Path) -> None:
    done = subprocess.run(command, cwd=within, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
