"""
What is installed: the wheel holds the program and its plugin, and nothing that would harm others.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar
from unittest import TestCase
from zipfile import ZipFile

ROOT = Path(__file__).parent.parent
PLUGIN = "twisted/plugins/dheera_plugin.py"

# Of a working tree, what cannot matter to a build and may be large.
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", ".hypothesis", "build", "dist")


class WheelTests(TestCase):
    """
    The wheel, built from a copy of the tree.
    """

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
        build = subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)],
            cwd=tree,
            capture_output=True,
            text=True,
            check=False,
        )
        assert build.returncode == 0, build.stderr
        [wheel] = wheels.glob("dheera-*.whl")
        with ZipFile(wheel) as archive:
            cls.names = set(archive.namelist())
            archive.extractall(cls.installed)

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

    def test_holds_every_module(self) -> None:
        """
        Every file of the package is there, whatever its kind.
        """
        files = {
            str(file.relative_to(ROOT))
            for file in (ROOT / "dheera").rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        }
        self.assertIn("dheera/cli.py", files)
        self.assertEqual(files, {name for name in self.names if name.startswith("dheera/")})

    def test_holds_the_plugin_alone(self) -> None:
        """
        Of ``twisted`` there is the plugin: a package file would hide Twisted, a cache would describe other plugins.
        """
        self.assertEqual({PLUGIN}, {name for name in self.names if name.startswith("twisted")})

    def test_holds_nothing_else(self) -> None:
        """
        Neither tests nor papers land among other people's modules.
        """
        self.assertEqual(
            {"dheera", "twisted"}, {name.split("/")[0] for name in self.names if ".dist-info/" not in name}
        )

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
            ["dheera dheera.service", "[]"],
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
            "import sys; sys.argv = ['dheera_ai', '--version']\n"
            "import dheera.service\n"
            "from dheera.cli import main; main()"
        )
        self.assertRegex(version, r"^dheera_ai \d+\.\d+\.\d+")
