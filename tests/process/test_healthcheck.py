"""
What the image asks to see whether dheera is alive.
"""

from __future__ import annotations

import subprocess
import sys
from unittest import TestCase

from tests.dockerfile import last
from tests.process.daemon import ANY_PORT, Daemon, environment


def check(port: str) -> int:
    """
    The exit status of the check; not 0 restarts the container.
    """
    python, *arguments = last("HEALTHCHECK").command
    assert python == "python", python
    # A proxy of the environment is not asked about this very machine.
    said = {"DHEERA_AI_PORT": port, "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment(said), capture_output=True, check=False
    ).returncode


class HealthcheckTests(TestCase):
    """
    The command of ``HEALTHCHECK`` in the Dockerfile.
    """

    def test_dheera(self) -> None:
        """
        It succeeds as long as dheera answers, and no longer.
        """
        with Daemon("--demo", *ANY_PORT) as daemon:
            port = daemon.url.rpartition(":")[2]
            self.assertEqual(0, check(port))
        self.assertNotEqual(0, check(port))
