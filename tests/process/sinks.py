"""
A daemon with sinks, some of which may be away. Import this module, not the class.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import TestCase

from tests.process import ledgers
from tests.process.bearers import MASTER_KEY, master
from tests.process.crowd import Crowd
from tests.process.daemon import ANY_PORT, UPSTREAM_KEY, Daemon, eventually
from tests.process.peers import Upstream
from tests.process.receivers import Receiver
from tests.process.till import PRICES, Till

FILE = """
[sinks.files]
kind = "file"
path = "{path}"
batch_seconds = 0.1
"""
WEBHOOK = """
[sinks.{name}]
kind = "webhook"
url = "{url}"
batch_seconds = 0.1
timeout_seconds = {timeout}
"""


class SinkCase(TestCase):
    """
    A daemon with a file sink, and with webhook sinks as a test needs them.
    """

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(TemporaryDirectory()))
        self.database = f"sqlite:///{self.folder}/dheera.sqlite"
        self.till = Till()
        self.upstream = self.enterContext(Upstream(self.till.script))
        self.receiver = self.enterContext(Receiver())
        self.settings = PRICES + FILE.format(path=self.folder / "calls.jsonl")
        self.add("hook", self.receiver)

    def add(self, name: str, receiver: Receiver, timeout: float = 30.0) -> None:
        """
        One more sink.
        """
        self.settings += WEBHOOK.format(name=name, url=receiver.url, timeout=timeout)

    def daemon(self) -> Daemon:
        """
        A daemon, always on the same state directory and database.
        """
        said = {
            "MISTRAL_API_BASE": self.upstream.url,
            "MISTRAL_API_KEY": UPSTREAM_KEY,
            "DHEERA_AI_MASTER_KEY": MASTER_KEY,
            "DHEERA_AI_STATE_DIR": str(self.folder / "state"),
            "DATABASE_URL": self.database,
        }
        return Daemon(*ANY_PORT, said=said, settings=self.settings)

    @contextmanager
    def under_load(self, daemon: Daemon) -> Iterator[Crowd]:
        """
        Inside ``with`` there are calls, all of which must succeed.
        """
        crowd = Crowd(master(daemon).issue(), size=3)
        with crowd.calling(daemon):
            yield crowd

    def stop(self, daemon: Daemon) -> None:
        """
        Stop it in order.
        """
        daemon.signal(signal.SIGTERM)
        self.assertEqual(0, daemon.ended())

    @property
    def in_ledger(self) -> set[str]:
        """
        The ids of the calls in the ledger.
        """
        return {line.call_id for line in ledgers.lines(self.database)}

    @property
    def in_file(self) -> list[Any]:
        """
        What the file sink has written.
        """
        file = self.folder / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def file_has(self, call_ids: set[str]) -> bool:
        """
        Whether all of these are in the file.
        """
        return call_ids <= {each.get("call_id") for each in self.in_file}

    def sink(self, daemon: Daemon, name: str = "hook") -> dict[str, Any]:
        """
        What the daemon says of a sink.
        """
        state: dict[str, Any] = master(daemon).look("/health/services")["sinks"][name]
        return state

    def all_is_told(self, daemon: Daemon, *receivers: Receiver) -> None:
        """
        Wait until all that upstream saw is in the ledger, in the file, and at each of *receivers*.
        """
        eventually(lambda: len(self.in_ledger) == len(self.till.seen), "all is in the ledger")
        call_ids = self.in_ledger
        eventually(lambda: self.file_has(call_ids), f"the file has all\n{daemon.log}")
        eventually(lambda: all({*each.call_ids} == call_ids for each in receivers), "the receivers have all")
