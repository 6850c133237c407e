"""
What somebody has who installs the wheel, and has no checkout.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path
from typing import ClassVar
from unittest import TestCase

from dheera import __version__
from tests.distributions import build_sdist, build_wheel
from tests.process.daemon import ANY_PORT, Daemon, alive, environment

ROOT = Path(__file__).parent.parent.parent


class InstalledTests(TestCase):
    """
    A fresh environment with the wheel in it, which was built from the source distribution; what the wheel depends on is
    taken from this environment, which has it already.
    """

    folder: ClassVar[Path]
    scripts: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        fresh = cls.folder / "fresh"
        cls.scripts = fresh / "bin"
        venv.create(fresh, symlinks=True)
        [packages] = fresh.glob("lib/python3*/site-packages")
        # A folder that is named in a .pth file is searched, but the .pth files in it are not read: so a checkout that
        # is installed here stays invisible there.
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        wheels = cls.folder / "wheels"
        wheels.mkdir()
        wheel = build_wheel(build_sdist(ROOT, wheels), wheels)
        pip = (sys.executable, "-m", "pip", "--python", str(cls.scripts / "python"))
        cls.run_there(*pip, "install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", str(wheel))

    @classmethod
    def run_there(cls, *command: str) -> str:
        """
        Standard output of a command that is run where no checkout is.
        """
        done = subprocess.run(command, cwd=cls.folder, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def test_program(self) -> None:
        """
        ``dheera_ai`` runs, and it is the installed one.
        """
        program = str(self.scripts / "dheera_ai")
        self.assertEqual(f"dheera_ai {__version__}\n", self.run_there(program, "--version"))
        where = self.run_there(str(self.scripts / "python"), "-c", "import dheera; print(dheera.__file__)")
        self.assertTrue(where.startswith(str(self.folder)), where)
        with Daemon("--demo", *ANY_PORT, program=(program,), folder=self.folder) as daemon:
            self.assertTrue(alive(daemon.url))

    def test_plugin(self) -> None:
        """
        ``twistd`` of that environment lists the plugin, and runs it.
        """
        # What the script "twistd" holds; the one here belongs to this environment.
        script = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"
        twistd = (str(self.scripts / "python"), "-c", script)
        self.assertRegex(self.run_there(*twistd, "--help"), r"(?m)^ +dheera +A gateway in front of the Mistral API")
        words = ("-n", "--pidfile=", "dheera", "--demo", *ANY_PORT)
        with Daemon(*words, program=twistd, folder=self.folder) as daemon:
            self.assertTrue(alive(daemon.url))

    def test_samples(self) -> None:
        """
        The samples lie in ``share/dheera`` of the environment, and what is installed takes its own sample of the
        configuration.
        """
        share = self.folder / "fresh" / "share" / "dheera"
        self.assertTrue((share / "systemd" / "dheera.service").is_file())
        program, sample = str(self.scripts / "dheera_ai"), str(share / "conf" / "dheera.toml")
        self.assertIn("http://0.0.0.0:4000", self.run_there(program, "check", "--config", sample))
