"""
Programs of others that tests run: those of Debian, which are installed where they are missing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_WITHOUT_QUESTIONS = {"DEBIAN_FRONTEND": "noninteractive", "PATH": _PATH}


@cache
def program(name: str, package: str) -> str:
    """
    Where a program is. If it is nowhere, *package* is installed, for which one must be root.
    """
    # Several processes of tests may want the same.
    with Path(tempfile.gettempdir(), "dheera-tests-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (found := shutil.which(name, path=_PATH)) is None:
            # No service is started by being installed.
            install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", package]
            subprocess.run(["apt-get", "update", "--quiet"], env=_WITHOUT_QUESTIONS, check=False, capture_output=True)
            subprocess.run(install, env={**_WITHOUT_QUESTIONS, "RUNLEVEL": "1"}, check=True, capture_output=True)
            found = shutil.which(name, path=_PATH)
    assert found is not None, f"{package} does not hold {name}"
    return found
