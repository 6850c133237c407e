"""
What is published: the source that others build from, and the wheel, which holds the program, its plugin and the
samples, and nothing that would harm others.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import ClassVar
from unittest import TestCase

from tests.distributions import build_sdist, build_wheel

ROOT = Path(__file__).parent.parent
PLUGIN = "twisted/plugins/dheera_plugin.py"

# Of a working tree, what cannot matter to a build and may be large.
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", ".hypothesis", "build", "dist")

STRAYS = ("secrets/master_key", "notes.txt", "dheera.toml", "dheera.sqlite", "tests/twistd.log")
"""
What may lie beside a checkout, and is nobody else's business.
"""

SAMPLES = ("conf", "systemd")


def repository() -> set[str]:
    """
    The files of the project; an unpacked source distribution holds no others.
    """
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    return {name for name in files(ROOT) if not name.startswith(".")}  # what tools leave there is hidden


def files(*folders: Path) -> set[str]:
    """
    All files below *folders*, by their paths in the project, but what Python left there.
    """
    return {
        str(file.relative_to(ROOT))
        for folder in folders
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


class DistributionTests(TestCase):
    """
    The source distribution, built from a copy of the tree, and the wheel, built from that.
    """

    shipped: ClassVar[set[str]]
    names: ClassVar[set[str]]
    installed: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        tree, wheels = Path(folder.name, "tree"), Path(folder.name, "wheels")
        cls.installed = Path(folder.name, "installed")
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        # Twisted leaves this beside plugins; shipped, it would describe somebody else's.
        (tree / "twisted" / "plugins" / "dropin.cache").write_bytes(b"stray")
        (tree / "secrets").mkdir(exist_ok=True)
        for stray in STRAYS:
            (tree / stray).write_bytes(b"stray")
        wheels.mkdir()
        sdist = build_sdist(tree, wheels)
        with tarfile.open(sdist) as archive:
            cls.shipped = {name.partition("/")[2] for name in archive.getnames()}
        wheel = build_wheel(sdist, wheels)
        shutil.unpack_archive(wheel, cls.installed, "zip")
        cls.names = {str(file.relative_to(cls.installed)) for file in cls.installed.rglob("*") if file.is_file()}

    def python(self, program: str) -> list[str]:
        """
        The lines that a program prints which finds the content of the wheel, and not the working tree.
        """
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=self.installed,
            env={"PYTHONPATH": str(self.installed), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    def test_ships_the_project(self) -> None:
        """
        The source distribution holds every file of the project, tests and papers included, but what runs our own gate.
        """
        missing = {name for name in repository() - self.shipped if not name.startswith(".ci/")}
        self.assertEqual(set(), missing)

    def test_ships_no_stray(self) -> None:
        """
        What lies beside the checkout, such as the secrets of a trial, stays at home.
        """
        self.assertEqual(set(), self.shipped & {*STRAYS, "twisted/plugins/dropin.cache"})

    def test_holds_every_module(self) -> None:
        """
        Every file of the package is there, whatever its kind.
        """
        package = files(ROOT / "dheera")
        self.assertIn("dheera/cli.py", package)
        self.assertEqual(package, {name for name in self.names if name.startswith("dheera/")})

    def test_holds_the_plugin_alone(self) -> None:
        """
        Of ``twisted`` there is the plugin: a package file would hide Twisted, a cache would describe other plugins.
        """
        self.assertEqual({PLUGIN}, {name for name in self.names if name.startswith("twisted")})

    def test_holds_the_samples(self) -> None:
        """
        Who installs it finds the samples and the units below the environment, in ``share/dheera``.
        """
        samples = files(*(ROOT / folder for folder in SAMPLES))
        self.assertLess({"conf/dheera.toml", "systemd/dheera.service"}, samples)
        shared = {name.partition(".data/data/")[2] for name in self.names if ".data/" in name}
        self.assertEqual({f"share/dheera/{name}" for name in samples}, shared)

    def test_holds_nothing_else(self) -> None:
        """
        Neither tests nor papers land among other people's modules.
        """
        modules = {name for name in self.names if ".dist-info/" not in name and ".data/" not in name}
        self.assertEqual({"dheera", "twisted"}, {name.split("/")[0] for name in modules})

    def test_runs_nothing_by_itself(self) -> None:
        """
        No line of it runs when it is installed, or when any other Python program starts.
        """
        self.assertEqual([], [name for name in self.names if name.endswith(".pth")])
        self.assertEqual([], [name for name in self.names if "customize" in name or ".data/scripts/" in name])
        [wheel] = self.installed.glob("dheera-*.dist-info/WHEEL")
        self.assertLess({"Root-Is-Purelib: true", "Tag: py3-none-any"}, set(wheel.read_text().splitlines()))

    def test_names_the_program(self) -> None:
        """
        Installing gives ``dheera_ai``.
        """
        [entry_points] = self.installed.glob("dheera-*.dist-info/entry_points.txt")
        self.assertIn("dheera_ai = dheera.cli:main", entry_points.read_text().splitlines())

    def test_twistd_finds_it(self) -> None:
        """
        Twisted lists the plugin, and listing it, as each start of any ``twistd`` does, imports nothing of dheera.
        """
        self.assertEqual(
            ["dheera dheera.tap", "[]"],
            self.python(
                "import sys\n"
                "from twisted.application.service import IServiceMaker\n"
                "from twisted.plugin import getPlugins\n"
                "for each in getPlugins(IServiceMaker):\n"
                "    if each.tapname == 'dheera': print(each.tapname, each.module)\n"
                "import twisted.plugins.dheera_plugin\n"
                "print([name for name in sys.modules if name.split('.')[0] == 'dheera'])\n"
            ),
        )

    def test_runs(self) -> None:
        """
        What the wheel holds is enough to start.
        """
        [version] = self.python(
            "import sys; sys.argv = ['dheera_ai', '--version']\nimport dheera.tap\nfrom dheera.cli import main; main()"
        )
        self.assertRegex(version, r"^dheera_ai \d+\.\d+\.\d+")
