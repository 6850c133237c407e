"""
A whole dheera in one process and in memory time: the real rooms, on real files, without a thread, a socket, or a clock
that nobody turns. What it does is the same each time, so it can be counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol

from dheera.accounts import Refreshment, SpoolRoom
from dheera.boundaries import Change
from dheera.choices import tools_for
from dheera.ledger import Ledger
from dheera.lifecycle import InOrder
from dheera.prices import PriceList
from dheera.pruning import Pruning
from dheera.settings import Config, KeySettings, LedgerSettings, SpoolSettings
from dheera.settlement import interrupted
from dheera.sinks.catalogue import make_sinks
from dheera.sinks.courier import HttpCourier
from dheera.sinks.feeders import Feeders
from dheera.spool.spool import FileSpool
from dheera.stores import stores_on
from dheera.stores.database import AnyStep, Database, Rows
from dheera.stores.sqlite.file import SqliteFile
from dheera.stores.timing import TimedDatabase
from dheera.stores.watchers import Watchers
from dheera.upstream_alarm import UpstreamAlarm
from tests.house import House, read_answer
from tests.network import LOCAL, UPSTREAM_HOST, UPSTREAM_PORT, Network
from tests.spool.desk import AtOnce

MASTER_KEY = "sk-of-the-operator-of-this-house"
BEGIN = datetime(2026, 11, 22, tzinfo=UTC)
"""
When time begins here.
"""
_NODE = "house"
_PATIENCE_SECONDS = 5.0
_FRONT = IPv4Address("TCP", "127.0.0.1", 4000)
_MICRO = 1_000_000


@define(eq=False)
class DatabaseAtOnce:
    """
    An SQLite file as `dheera.stores.sqlite` uses it, on the spot instead of on threads. Nobody else writes to it.
    """

    _file: SqliteFile
    _watchers: Watchers = field(factory=Watchers, init=False)

    def open(self) -> Deferred[None]:
        """Make it."""
        return execute(self._file.open)

    def close(self) -> Deferred[None]:
        """Let go of it."""
        for end in (self._file.end_writing, self._file.end_reading, self._file.end_searching):
            end()
        return execute(lambda: None)

    def is_away(self) -> bool:
        """Never."""
        return False

    def watch(self, changed: Callable[[Change], None], lost: Callable[[], None]) -> Callable[[], None]:
        """Be told of changes."""
        return self._watchers.add(changed, lost)

    def run(
        self,
        steps: Sequence[AnyStep],
        *,
        changes: Sequence[Change] | None = None,
        slow: bool = False,
        lasting: bool = True,
    ) -> Deferred[list[Rows]]:
        """Do *steps* in one transaction."""
        if changes is not None:
            return execute(self._write, steps, changes, lasting=lasting)
        if slow:
            return execute(self._file.search, steps, _PATIENCE_SECONDS)
        return execute(self._file.read, steps)

    def _write(self, steps: Sequence[AnyStep], changes: Sequence[Change], *, lasting: bool) -> list[Rows]:
        rows, _ = self._file.write(steps, changes, _PATIENCE_SECONDS, lasting=lasting)
        for change in changes:
            self._watchers.tell(change)
        return rows


class Household(House):
    """
    A dheera with a master key that keeps account of all: a ledger in SQLite, a spool, a file sink, metrics.

    :param folder: for its files.
    :param upstream: makes who answers at the other end.
    """

    def __init__(
        self,
        folder: Path,
        upstream: Callable[[], Protocol],
        *,
        keys: KeySettings | None = None,
        ledger: LedgerSettings | None = None,
    ) -> None:
        network, rules = Network(), ledger or LedgerSettings()

        def now() -> datetime:
            return BEGIN + timedelta(seconds=network.seconds())

        def clock() -> int:
            return int(now().timestamp() * _MICRO)

        database = TimedDatabase(
            DatabaseAtOnce(SqliteFile(folder / "dheera.sqlite", clock=clock)),
            network,
            lambda work, seconds: self.metrics.store_took(work, seconds),  # noqa: PLW0108 - made below
        )
        stores, prices = stores_on(database), PriceList.load({})
        spool = FileSpool(
            network,
            folder / "spool",
            SpoolSettings(),
            now,
            _NODE,
            lambda begun: interrupted(begun, prices),
            AtOnce(),
        )
        reader = spool.reader("ledger", essential=True)
        books = Ledger(network, reader, stores.books, rules, spool.alert, node=_NODE, now=now)
        super().__init__(
            master_key=MASTER_KEY,
            keys=keys,
            network=network,
            now=now,
            clock=clock,
            stores=stores,
            spool=spool,
            lives=spool.lives,
            spends=books.spend_of,
            notice=UpstreamAlarm(spool.alert, _NODE, now).look,
        )
        tools = tools_for(network, Config(), {}, HttpCourier(network, now))
        # Small files, a few of them: they turn often.
        table = {"path": str(folder / "records.jsonl"), "max_bytes": 10_000_000, "keep": 2, "compress": False}
        self._rooms = InOrder(
            [
                SpoolRoom(spool),
                books,
                Pruning(network, stores.books, rules.keep_days, now=now),
                Feeders(network, spool, make_sinks({"file": table}, tools), node=_NODE, now=now),
                Refreshment(network, self.metrics),
                self.allowances,
            ]
        )
        network.listen(Factory.forProtocol(upstream), UPSTREAM_HOST, UPSTREAM_PORT)
        self._rooms.startService().addErrback(lambda failure: failure.raiseException())

    def close(self) -> None:
        """
        Close all rooms.
        """
        closing = self._rooms.stopService()
        while not closing.called:
            self.network.turn(1)
        self.stores.directory.close()

    def manage(self, path: str, **said: object) -> dict[str, Any]:
        """
        What the management API answers to whoever runs this house.
        """
        client = self.ask(
            path.encode(),
            (b"Authorization", f"Bearer {MASTER_KEY}".encode()),
            method=b"POST",
            body=json.dumps(said).encode(),
        )
        answer = read_answer(client.received)
        assert answer.status == HTTPStatus.OK, answer  # noqa: S101 - our own requests are good
        client.close()
        result: dict[str, Any] = json.loads(answer.body)
        return result

    def join(self, client: Protocol, address: IAddress = LOCAL) -> None:
        """
        Connect *client* to the front.
        """
        self.network.join(client, self.site.buildProtocol(address), _FRONT, address)


_database: type[Database] = DatabaseAtOnce
