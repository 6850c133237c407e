"""
Files of JSON lines.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from dheera.bookkeeping import Entry
from dheera.sinks.catalogue import parsed_settings
from dheera.sinks.contract import SinkAway, Tools
from dheera.sinks.file import FACTORY, FileSink
from dheera.sinks.rotation import Rotation, compress
from tests.house import Overheard
from tests.sinks.records import NOON, an_alert, bare, entries, full


def text(batch: Sequence[Entry]) -> bytes:
    """
    *batch* as it should be in the file.
    """
    return b"".join(each.line + b"\n" for each in batch)


class Folder:
    """
    A folder, a time of day, and sinks that write there.
    """

    def __init__(self, test: SynchronousTestCase) -> None:
        temporary = TemporaryDirectory()
        test.addCleanup(temporary.cleanup)
        self.path = Path(temporary.name, "records")
        self.path.mkdir()
        self.file = self.path / "calls.jsonl"
        self.moment = NOON

    def now(self) -> datetime:
        return self.moment

    def sink(self, reactor: Any = None, **table: Any) -> Any:
        """
        A sink that writes to the file.
        """
        courier: Any = None
        tools = Tools(reactor=reactor, name="files", courier=courier, environment={}, node="n", now=self.now)
        said = {"path": str(self.file), "compress": False, **table}
        return FACTORY.make(parsed_settings(FACTORY, "files", said), tools)  # type: ignore[arg-type]  # of this kind

    def others(self) -> list[str]:
        """
        What is there beside the file.
        """
        return sorted(each.name for each in self.path.iterdir() if each != self.file)


class Writing(SynchronousTestCase):
    """
    What is in the file.
    """

    def setUp(self) -> None:
        self.folder = Folder(self)

    def write(self, sink: FileSink, *values: Any) -> list[Entry]:
        batch = entries(*(values or (bare(),)))
        self.successResultOf(sink.send(batch))
        return batch

    def refused(self, sink: FileSink) -> str:
        return str(self.failureResultOf(sink.send(entries(bare())), SinkAway).value)

    def test_lines(self) -> None:
        """
        Records and alerts are lines, as the spool has them; those of an earlier process stay.
        """
        first = self.write(self.folder.sink(), full(), an_alert())
        second = self.write(self.folder.sink(fsync=True), bare())
        self.assertEqual(text(first + second), self.folder.file.read_bytes())

    def test_private(self) -> None:
        """
        Others may not read it.
        """
        self.write(self.folder.sink())
        self.assertEqual(0, stat.S_IMODE(self.folder.file.stat().st_mode) & 0o027)

    def test_moved_away(self) -> None:
        """
        When the file is moved away or deleted, a new one is begun: logrotate needs to tell nobody.
        """
        sink = self.folder.sink()
        first = self.write(sink)
        self.folder.file.rename(self.folder.path / "old")
        second = self.write(sink)
        self.assertEqual(text(second), self.folder.file.read_bytes())
        self.assertEqual(text(first), (self.folder.path / "old").read_bytes())
        self.folder.file.unlink()
        self.assertEqual(text(self.write(sink)), self.folder.file.read_bytes())

    def test_torn(self) -> None:
        """
        What follows a line that was torn is on a line of its own.
        """
        self.folder.file.write_bytes(b'{"line":')
        batch = self.write(self.folder.sink())
        self.assertEqual(b'{"line":\n' + text(batch), self.folder.file.read_bytes())

    def test_trouble(self) -> None:
        """
        What cannot be written makes it away, with the reason; when it is mended it goes on.
        """
        self.folder.file.mkdir()
        sink = self.folder.sink()
        self.assertEqual(f"{self.folder.file} cannot be written to: Is a directory.", self.refused(sink))
        self.folder.file.rmdir()
        os.mkfifo(self.folder.file)
        self.assertEqual(f"{self.folder.file} cannot be written to: it is no regular file.", self.refused(sink))
        self.folder.file.unlink()
        self.folder.path.rename(f"{self.folder.path}-away")
        self.assertEqual(f"{self.folder.file} cannot be written to: No such file or directory.", self.refused(sink))
        self.folder.path.mkdir()
        self.assertEqual(text(self.write(sink)), self.folder.file.read_bytes())

    def test_full_disk(self) -> None:
        """
        When there is no room for all of a batch, none of it is there, and no half line; it goes when there is room.
        """
        sink = self.folder.sink()
        first = self.write(sink)
        batch = entries(*(full() for _ in range(20)))
        size = self.folder.file.stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, hard))
        try:
            error = self.failureResultOf(sink.send(batch), SinkAway).value
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.assertIn(os.strerror(errno.EFBIG), str(error))
        self.assertEqual(text(first), self.folder.file.read_bytes())
        self.successResultOf(sink.send(batch))
        self.assertEqual(text(first + batch), self.folder.file.read_bytes())

    def test_together(self) -> None:
        """
        Processes that write to one file, and rotate it, tear no line and lose none.
        """
        code = (
            "import sys; from tests.sinks.test_file import Folder, entries, bare; "
            "folder = object.__new__(Folder); import pathlib; folder.file = pathlib.Path(sys.argv[1]); "
            "from tests.sinks.records import NOON; folder.moment = NOON; "
            "sink = folder.sink(max_bytes=5000, keep=0); "
            "[sink.send(entries(*(bare(f'{sys.argv[2]}-{n}-{m}') for m in range(3)))) for n in range(100)]"
        )
        path = [*sys.path, str(Path(__file__).parent.parent.parent)]
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(self.folder.file), str(number)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            )
            for number in range(2)
        ]
        self.assertEqual([0, 0], [each.wait(60) for each in writers])
        lines = [line for each in self.folder.path.iterdir() for line in each.read_bytes().splitlines()]
        names = sorted(line.split(b'"call_id":"')[1].split(b'"')[0].decode() for line in lines)
        self.assertEqual(sorted(f"{a}-{n}-{m}" for a in range(2) for n in range(100) for m in range(3)), names)
        self.assertGreater(len(self.folder.others()), 5)

    def test_no_lock_left(self) -> None:
        """
        Between batches others may lock the file.
        """
        sink = self.folder.sink()
        self.write(sink)
        with self.folder.file.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Turning(SynchronousTestCase):
    """
    When a new file is begun.
    """

    def setUp(self) -> None:
        self.folder = Folder(self)

    def test_size(self) -> None:
        """
        No file gets larger than is configured, unless one batch is; a batch is never in two.
        """
        batch = entries(bare())
        sink = self.folder.sink(max_bytes=2 * len(text(batch)))
        for _ in range(5):
            self.successResultOf(sink.send(batch))
        self.successResultOf(sink.send(batch * 5))
        self.assertEqual(text(batch) * 5, self.folder.file.read_bytes())
        stamp = "calls.jsonl.20261122T120000Z"
        self.assertEqual([stamp, f"{stamp}-1", f"{stamp}-2"], self.folder.others())
        sizes = [(self.folder.path / each).stat().st_size // len(text(batch)) for each in self.folder.others()]
        self.assertEqual([2, 2, 1], sizes)

    def test_day(self) -> None:
        """
        Each day of UTC has its own file, if that is wanted.
        """
        for daily, expected in ((False, []), (True, ["calls.jsonl.20261123T120000Z"])):
            self.folder.moment = NOON
            sink = self.folder.sink(daily=daily)
            batch = entries(bare())
            self.successResultOf(sink.send(batch))
            os.utime(self.folder.file, (NOON.timestamp(), NOON.timestamp()))
            self.folder.moment = NOON.replace(hour=23, minute=59)
            self.successResultOf(sink.send(batch))
            self.assertEqual([], self.folder.others())
            os.utime(self.folder.file, (NOON.timestamp(), NOON.timestamp()))
            self.folder.moment = NOON + timedelta(days=1)
            self.successResultOf(sink.send(batch))
            self.assertEqual(expected, self.folder.others())

    def test_keep(self) -> None:
        """
        The oldest go, by their names; what is not ours stays.
        """
        for name in ("calls.jsonl.1", "calls.jsonl.bak", "other.20200101T000000Z"):
            (self.folder.path / name).touch()
        (self.folder.path / "calls.jsonl.20200101T000000Z.gz").touch()
        sink = self.folder.sink(max_bytes=1, keep=3)
        for number in range(12):
            self.folder.moment = NOON + timedelta(seconds=number // 11)
            self.successResultOf(sink.send(entries(bare())))
        stamp = "calls.jsonl.20261122T12000"
        self.assertEqual(
            [
                "calls.jsonl.1",
                f"{stamp}0Z-8",
                f"{stamp}0Z-9",
                f"{stamp}1Z",
                "calls.jsonl.bak",
                "other.20200101T000000Z",
            ],
            self.folder.others(),
        )

    def test_cannot_be_moved(self) -> None:
        """
        When the file cannot be moved away, it is not written to beyond its size: the sink is away.
        """
        sink = self.folder.sink(max_bytes=1)
        self.successResultOf(sink.send(entries(bare())))
        before = self.folder.file.read_bytes()

        def fail(_: Rotation) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        self.patch(Rotation, "turn", fail)
        self.failureResultOf(sink.send(entries(bare())), SinkAway)
        self.assertEqual(before, self.folder.file.read_bytes())


class Compressing(TestCase):
    """
    What is full gets small, aside.
    """

    def setUp(self) -> None:
        self.folder = Folder(self)

    async def test_compressed(self) -> None:
        """
        What is full is compressed in a thread, one after another; closing waits for it. Nothing is lost.
        """
        from twisted.internet import reactor

        sink = self.folder.sink(reactor, max_bytes=1, compress=True)
        written = b""
        for _ in range(3):
            batch = entries(bare())
            await sink.send(batch)
            written += text(batch)
        await sink.close()
        stamp = "calls.jsonl.20261122T120000Z"
        self.assertEqual([f"{stamp}-1.gz", f"{stamp}.gz"], self.folder.others())
        found = [gzip.decompress((self.folder.path / name).read_bytes()) for name in (f"{stamp}.gz", f"{stamp}-1.gz")]
        self.assertEqual(written, b"".join([*found, self.folder.file.read_bytes()]))
        modes = {stat.S_IMODE(each.stat().st_mode) & 0o027 for each in self.folder.path.iterdir()}
        self.assertEqual({0}, modes)

    async def test_not_compressed(self) -> None:
        """
        What cannot be compressed stays as it is, and is told.
        """
        from twisted.internet import reactor

        overheard = Overheard.by(self)
        sink = self.folder.sink(reactor, max_bytes=1, compress=True)
        (self.folder.path / ".calls.jsonl.20261122T120000Z.gz").mkdir()
        for _ in range(2):
            await sink.send(entries(bare()))
        await sink.close()
        self.assertIn("calls.jsonl.20261122T120000Z", self.folder.others())
        [line] = overheard.lines()
        self.assertIn("Sink files", line)

    def test_gone(self) -> None:
        """
        One that was deleted meanwhile leaves nothing behind.
        """
        compress(self.folder.path / "gone")
        self.assertEqual([], self.folder.others())
