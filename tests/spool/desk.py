"""
Spools on real files, without threads: what is done aside is done at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

from attrs import define, evolve, field
from msgspec import structs
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.bookkeeping import Entry
from dheera.records import Alert, Begun, Record
from dheera.settings import SpoolSettings
from dheera.spool.reading import FileReader
from dheera.spool.spool import FileSpool
from dheera.spool.thread import Aside

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
Result = TypeVar("Result")


@define(eq=False)
class AtOnce:
    """
    Waits for the disk on the spot, unless it is held: then what it is asked to do waits.
    """

    is_held: bool = False
    held: list[Callable[[], object]] = field(factory=list)

    def start(self) -> None:
        pass

    def run(self, work: Callable[[], Result]) -> Deferred[Result]:
        if not self.is_held:
            return execute(work)
        later: Deferred[Result] = Deferred()
        self.held.append(lambda: execute(work).chainDeferred(later))
        return later

    def stop(self) -> None:
        pass


_: type[Aside] = AtOnce


def begun(name: str, **fields: Any) -> Begun:
    said = {"node": "n", "method": "POST", "path": "/v1/ocr", "endpoint": "ocr", "key_alias": "ada"}
    return Begun(call_id=name, started_at=NOW, **{**said, **fields})


def record(name: str, **fields: Any) -> Record:
    return interrupted(begun(name), **{"outcome": "complete", "status": 200, **fields})


def alert(name: str) -> Alert:
    return Alert(id=name, at=NOW, node="n", about="budget", subject="key ada", text="It is spent.")


def interrupted(begun: Begun, **fields: Any) -> Record:
    return Record(**{**structs.asdict(begun), "outcome": "interrupted", **fields})


def names(entries: Sequence[Entry]) -> list[str]:
    """
    What entries are about; those that dheera did not see the end of with a question mark.
    """
    return [
        entry.value.id
        if isinstance(entry.value, Alert)
        else entry.value.call_id + "?" * (entry.value.outcome == "interrupted")
        for entry in entries
    ]


def drain(reader: FileReader, most: int = 100) -> list[str]:
    """
    All that there is to read, which is done with then.
    """
    found: list[str] = []
    while entries := reader.read(most):
        found += names(entries)
        reader.advance(entries[-1].position)
    return found


def die(spool: FileSpool) -> None:
    """
    End as a process does that is killed: the system closes its files, and nothing else happens.
    """
    spool._pen.close()
    spool._upkeep.lane.leave()
    for loop in spool._upkeep._loops:
        loop.stop()


@define(eq=False)
class PromptSpool(FileSpool):
    """
    One in whose time the reactor has a turn of its own for all that happens.
    """

    def end(self, record: Record) -> None:
        super().end(record)
        self._reactor.advance(0)

    def alert(self, alert: Alert) -> None:
        super().alert(alert)
        self._reactor.advance(0)


class SpoolTests(SynchronousTestCase):
    """
    One directory, and spools in it.
    """

    settings = SpoolSettings()
    kind: type[FileSpool] = PromptSpool

    def setUp(self) -> None:
        self.clock = Clock()
        self.directory = Path(mkdtemp())
        self.addCleanup(partial(shutil.rmtree, self.directory))
        self.alarms: list[Alert] = []
        self.aside = AtOnce()

    def spool(
        self, *readers: str, essential: Sequence[str] = ("ledger",), **settings: Any
    ) -> tuple[FileSpool, list[FileReader]]:
        """
        One that is open, and its readers.
        """
        spool = self.kind(
            self.clock,
            self.directory,
            evolve(self.settings, **settings),
            lambda: NOW,
            "n",
            interrupted,
            self.aside,
            self.alarms.append,
        )
        made = [spool.reader(name, essential=name in essential) for name in readers]
        self.successResultOf(spool.open())
        self.addCleanup(spool._upkeep.lane.leave)
        self.addCleanup(spool._pen.close)
        return spool, made

    def files(self, lane: int = 0) -> list[str]:
        """
        The names of a lane's segments.
        """
        return sorted(path.name for path in (self.directory / str(lane)).glob("*.jsonl"))
