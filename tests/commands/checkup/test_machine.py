"""
Disk, open files, certificate, and what is unwise in a configuration.
"""

from __future__ import annotations

import os
import resource
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import TestCase

import trustme

from dheera.commands.checkup.machine import judged_certificate, judged_disk, judged_files, look_at_room, look_at_state
from dheera.commands.checkup.settings import judged_settings
from dheera.keys import Secret
from dheera.settings import Config, Listen, SpoolSettings, Storage
from dheera.wire.limits import ServerLimits

SMALL = SpoolSettings(max_bytes=1024)
MASTER = Secret("sk-canary-master-key")


class Disk(TestCase):
    """
    The state directory.
    """

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def states(self, folder: Path, spool: SpoolSettings = SMALL, lanes: int = 1) -> list[tuple[str, str]]:
        """
        What is found; nothing stays there.
        """
        before = sorted(self.folder.rglob("*"))
        found = look_at_state(folder, spool, lanes, os.geteuid())
        self.assertEqual(before, sorted(self.folder.rglob("*")))
        return [(each.state, each.name) for each in found]

    def test_well(self) -> None:
        """
        One that can be written, with room, is well; one that will be made too.
        """
        self.assertEqual([("ok", "state directory"), ("ok", "disk")], self.states(self.folder))
        self.assertEqual([("ok", "state directory"), ("ok", "disk")], self.states(self.folder / "a" / "b"))

    def test_cannot_be_written(self) -> None:
        """
        One that is a file, or below one, is a failure.
        """
        (self.folder / "file").touch()
        self.assertEqual([("fail", "state directory")], self.states(self.folder / "file"))
        self.assertEqual([("fail", "state directory")], self.states(self.folder / "file" / "below"))
        for folder in ("/proc", "/proc/nope", "/proc/nope/deep"):
            self.assertEqual([("fail", "state directory")], self.states(Path(folder)))

    def test_small_disk(self) -> None:
        """
        A spool that may outgrow the disk is a warning; what it has taken already counts, and each worker has one.
        """
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize
        lane = SpoolSettings(max_bytes=free // 2)
        self.assertEqual("ok", self.states(self.folder, lane, lanes=1)[1][0])
        self.assertEqual("warn", self.states(self.folder, lane, lanes=4)[1][0])
        (self.folder / "spool").mkdir()
        with (self.folder / "spool" / "segment").open("wb") as segment:
            segment.truncate(free * 2)
        self.assertEqual("ok", self.states(self.folder, lane, lanes=4)[1][0])

    def test_full_disk(self) -> None:
        """
        One that is full is a failure, be it of bytes or of files.
        """
        room = 1 << 30
        for free, wanted, has_inodes, expected in (
            (room, room, True, "ok"),
            (room, room + 1, True, "warn"),
            (1 << 20, 0, True, "fail"),
            (room, 0, False, "fail"),
        ):
            self.assertEqual(expected, judged_disk(self.folder, free, wanted, has_inodes=has_inodes).state)

    def test_of_another_user(self) -> None:
        """
        That the directory is somebody else's is told: they may see something else.
        """
        found = look_at_state(self.folder, SMALL, 1, os.geteuid() + 1)
        self.assertEqual([("warn", "state directory"), ("ok", "disk")], [(each.state, each.name) for each in found])

    def test_of_the_ledger(self) -> None:
        """
        The disk of an SQLite file elsewhere is looked at, too.
        """
        [found] = look_at_room(self.folder / "not" / "there" / "dheera.sqlite")
        self.assertEqual(("ok", "disk"), (found.state, found.name))


class Files(TestCase):
    """
    Open files.
    """

    def test_enough(self) -> None:
        """
        As many as connections and calls together may need are enough; the number that is named is.
        """
        config = Config(server_limits=ServerLimits(connections=1000, requests=500))
        few = judged_files(config, 1024)
        self.assertEqual("warn", few.state)
        enough = int(few.mend.partition("LimitNOFILE=")[2].partition(" ")[0])
        self.assertEqual("ok", judged_files(config, enough).state)
        self.assertEqual("warn", judged_files(config, enough - 1).state)
        self.assertGreater(enough, 1500)
        self.assertEqual("ok", judged_files(config, resource.RLIM_INFINITY).state)
        for found in few, judged_files(config, enough):
            self.assertIn("this command", found.found)
            self.assertIn("a service or a container has its own limit", found.found + found.mend)


class Certificates(TestCase):
    """
    What clients are shown.
    """

    def test_end(self) -> None:
        """
        One that has ended is a failure, one that ends within two weeks a warning.
        """
        end = datetime(2030, 1, 31, tzinfo=UTC)
        with tempfile.NamedTemporaryFile() as file:
            file.write(trustme.CA().issue_cert("localhost", not_after=end).private_key_and_cert_chain_pem.bytes())
            file.flush()
            for days, expected in ((15, "ok"), (13, "warn"), (-1, "fail")):
                found = judged_certificate(Path(file.name), end - timedelta(days=days))
                self.assertEqual(expected, found.state)
                self.assertIn("2030-01-31", found.found)


class Settings(TestCase):
    """
    What is unwise in a configuration.
    """

    def states(self, config: Config, file: Path | None = None) -> list[str]:
        """
        What is found.
        """
        return [each.state for each in judged_settings(config, file, "PostgreSQL")]

    def test_well(self) -> None:
        """
        A long master key is well, and so is none for this machine alone.
        """
        self.assertEqual(["ok"], self.states(Config(master_key=MASTER)))
        self.assertEqual(["ok"], self.states(Config()))

    def test_unwise(self) -> None:
        """
        A short master key, none for the whole network, and a database without any are warnings.
        """
        self.assertEqual(["warn"], self.states(Config(master_key=Secret("sk-short"))))
        self.assertEqual(["warn"], self.states(Config(listen=Listen(open_to_network=True))))
        self.assertEqual(["ok"], self.states(Config(listen=Listen(open_to_network=True), demo=True)))
        self.assertEqual(["warn"], self.states(Config(store=Storage(url=Secret("postgresql://db/x")))))

    def test_readable(self) -> None:
        """
        A file with a secret in it that everybody may read is a warning; one without a secret is not.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "dheera.toml")
            file.write_text(f'master_key = "{MASTER.reveal()}"\n')
            file.chmod(0o644)
            self.assertEqual(["warn"], self.states(Config(master_key=MASTER), file))
            file.chmod(0o640)
            self.assertEqual(["ok"], self.states(Config(master_key=MASTER), file))
            file.chmod(0o644)
            file.write_text("drain_seconds = 30\n")
            self.assertEqual(["ok"], self.states(Config(master_key=MASTER), file))
