from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from dheera.errors import CannotStart
from dheera.keys import Secret
from dheera.settings import Config, Storage
from dheera.stores import make_stores


class PlaceTests(TestCase):
    """
    Where the file is, and what is told when it cannot be there.
    """

    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = Path(directory.name)
        self.file = self.folder / "novel.txt"
        self.file.write_text("It was a dark and stormy night. " * 100)

    def storage(self, path: Path | None = None, **settings: Any) -> Storage:
        """
        What names a file, or else the state directory.
        """
        return Storage(url=None if path is None else Secret(f"sqlite:///{path}"), **settings)

    async def problem(self, storage: Storage) -> str:
        """
        Why there can be no store.
        """
        from twisted.internet import reactor

        store = make_stores(reactor, Config(store=storage), {}).directory
        try:
            await store.open()
        except CannotStart as error:
            return str(error)
        await store.close()
        return ""

    async def test_state_directory_is_made(self) -> None:
        """
        The state directory is made if it is not there, with those above it.
        """
        folder = self.folder / "a" / "b"
        self.assertEqual("", await self.problem(self.storage(state_dir=folder)))
        self.assertTrue((folder / "dheera.sqlite").is_file())

    async def test_no_other_directory_is_made(self) -> None:
        """
        The directory of a file that the operator named is not: it may be misspelt, or not be mounted.
        """
        folder = self.folder / "volume"
        self.assertEqual(
            f"the database's directory {folder} cannot be used (it does not exist, and is not made): "
            "change DATABASE_URL",
            await self.problem(self.storage(folder / "keys.sqlite")),
        )
        self.assertFalse(folder.exists())
        self.assertEqual("", await self.problem(self.storage(self.folder / "keys.sqlite")))

    async def test_file_on_the_way(self) -> None:
        """
        A file where a directory should be is named, and so is what to change.
        """
        for path in self.file / "x", self.file / "x" / "y":
            self.assertEqual(
                f"the database's directory {path.parent} cannot be used ({self.file} is not a directory): "
                "change DATABASE_URL",
                await self.problem(self.storage(path)),
            )
            self.assertEqual(
                f"the state directory {path} cannot be made ({self.file} is not a directory): set DHEERA_AI_STATE_DIR",
                await self.problem(self.storage(state_dir=path)),
            )

    async def test_directory_in_place_of_the_file(self) -> None:
        """
        So is a directory where the file should be.
        """
        self.assertEqual(
            f"the database's file {self.folder} cannot be opened (Is a directory): change DATABASE_URL",
            await self.problem(self.storage(self.folder)),
        )
        (self.folder / "dheera.sqlite").mkdir()
        self.assertEqual(
            f"the database's file {self.folder}/dheera.sqlite cannot be opened (Is a directory): "
            "set DHEERA_AI_STATE_DIR",
            await self.problem(self.storage(state_dir=self.folder)),
        )

    async def test_another_file(self) -> None:
        """
        So is a file that is something else.
        """
        self.assertEqual(
            f"{self.file} cannot be used as a database (file is not a database): change DATABASE_URL",
            await self.problem(self.storage(self.file)),
        )


class PatienceTests(TestCase):
    def test_patience(self) -> None:
        """
        What the operator set is how long an answer is waited for, wherever the file is.
        """
        with TemporaryDirectory() as folder:
            for place in {"url": Secret(f"sqlite:///{folder}/keys.sqlite")}, {"state_dir": Path(folder)}:
                storage: Any = {**place, "patience_seconds": 1.25}
                store: Any = make_stores(Clock(), Config(store=Storage(**storage)), {}).directory
                self.assertEqual(1.25, store._database._database._patience_seconds)
