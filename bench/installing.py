"""
What the other proxies need, in a folder of its own that stays: the second run finds it there.

Packages come by pip and npm as they are set up here; nothing is installed outside of the folder.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
from attrs import frozen

_INSTALL_SECONDS = 600.0
_SAID_CHARACTERS = 400


class NotInstalled(Exception):
    """
    A proxy that cannot be had here. Its text is a sentence that says why, and what might help.
    """


@frozen
class Tools:
    """
    The folder, and what is put into it on demand.
    """

    folder: Path

    def venv(self, name: str, *requirements: str) -> Path:
        """
        A virtual environment with these packages.

        :raises NotInstalled: pip could not bring them.
        """
        home = self.folder / name

        def install() -> None:
            self._run([sys.executable, "-m", "venv", str(home)], name)
            self._run([str(home / "bin" / "pip"), "install", "--quiet", *requirements], name)

        self._once(home, "\n".join(requirements), install)
        return home

    def npm(self, name: str, dependencies: Mapping[str, str]) -> Path:
        """
        A folder with these packages, at just these versions, also where others ask for others.

        :raises NotInstalled: there is no Node, or npm could not bring them.
        """
        if shutil.which("npm") is None or shutil.which("node") is None:
            raise NotInstalled("Node and npm are not installed. Debian: apt install nodejs npm")
        home = self.folder / name
        package = {
            "private": True,
            "dependencies": dependencies,
            "overrides": {each: f"${each}" for each in dependencies},
        }
        text = json.dumps(package)

        def install() -> None:
            home.mkdir()
            (home / "package.json").write_text(text)
            self._run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home)], name)

        self._once(home, text, install)
        return home

    def _once(self, home: Path, wanted: str, install: Callable[[], None]) -> None:
        # Written last: what was broken off half-way is made anew.
        stamp = home / "installed.txt"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        if home.exists():
            shutil.rmtree(home)
        self.folder.mkdir(parents=True, exist_ok=True)
        click.echo(f"installing {home.name} ...", err=True)
        install()
        stamp.write_text(wanted)

    def _run(self, command: Sequence[str], name: str) -> None:
        try:
            ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS)
        except subprocess.TimeoutExpired:
            raise NotInstalled(f"{name} was not installed within {_INSTALL_SECONDS:g} s ({command[0]}).") from None
        if ran.returncode != 0:
            raise NotInstalled(f"{name} could not be installed: {ran.stderr.strip()[-_SAID_CHARACTERS:]}")


def on_path(name: str, package: str) -> Path:
    """
    A program of the system.

    :raises NotInstalled: it is not there.
    """
    # Debian keeps servers where only root looks.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NotInstalled(f"{name} is not installed. Debian: apt install {package}")
    return Path(found)


def said(*command: str) -> str:
    """
    What a program says of itself, on either output.

    :raises NotInstalled: it cannot be started here.
    """
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as problem:
        raise NotInstalled(f"{command[0]} is there and does not run: {problem}") from None
    return (ran.stdout or ran.stderr).strip()
