"""
A whole dheera in memory: the real tree, the real channel, the real client, a clock that the test turns, and an upstream
that is a script of bytes or a ``Resource``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import field, frozen
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource
from zope.interface import implementer

from dheera.allowances.room import Allowances
from dheera.bookkeeping import Lives, Spool
from dheera.boundaries import Gate
from dheera.call_ids import new_call_id
from dheera.content import ContentRules
from dheera.customers import EndUsers
from dheera.entities import now as machine_time
from dheera.gate import make_key_gate
from dheera.keys import Secret, WeightedKey
from dheera.limits import Limits
from dheera.management.authority import KeyAuthority
from dheera.management.catalogue import ROUTES
from dheera.management.routes import Office
from dheera.metrics import Metrics
from dheera.money import Usd
from dheera.open_gate import OpenGate
from dheera.prices import PriceList
from dheera.proxy.accounting import Accountant
from dheera.proxy.affording import Affording
from dheera.proxy.capacity import Capacity
from dheera.proxy.exchange import CALL_ID, Departed, Exchanges
from dheera.proxy.headers import Subnet
from dheera.proxy.upstream import Upstream
from dheera.proxy.upstreams import make_upstreams
from dheera.records import Alert, Record
from dheera.settings import (
    AllowanceSettings,
    BalanceSettings,
    Config,
    KeySettings,
    LimitSettings,
    Mistral,
    OtherUpstream,
)
from dheera.spool.memory import MemorySpool
from dheera.stores import Stores
from dheera.stores.memory import MemoryStore
from dheera.stores.memory_allowances import MemoryAllowances
from dheera.stores.memory_ledger import MemoryBooks
from dheera.stores.sheet import Clock, machine_clock
from dheera.stores.shelves import Shelves
from dheera.web.api import Branch
from dheera.web.guarded import Guarded
from dheera.web.health import Watch
from dheera.web.management import management
from dheera.web.metrics import MetricsPage
from dheera.web.root import make_root
from dheera.wire.client import Agent
from dheera.wire.headroom import Headroom
from dheera.wire.heads import Fields
from dheera.wire.limits import ClientLimits, ServerLimits
from dheera.wire.server import Server
from tests.network import LOCAL, UPSTREAM_HOST, UPSTREAM_PORT, Network, Peer, Script

UPSTREAM_KEY = "sk-upstream-canary"


@frozen
class Answer:
    """
    One answer, read by rules of our own, so that it does not depend on what it proves.

    :param rest: what follows the answer.
    """

    status: int
    reason: bytes
    fields: Fields
    body: bytes
    complete: bool
    rest: bytes = field(default=b"", repr=False)

    def values(self, name: bytes) -> list[bytes]:
        return [value for each, value in self.fields if each.lower() == name]


def read_answer(data: bytes, method: bytes = b"GET") -> Answer:
    """
    The first answer in *data*.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    assert end, data
    status_line, *lines = head.split(b"\r\n")
    version, code, reason = status_line.split(b" ", 2)
    assert version == b"HTTP/1.1", version
    fields = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    told = {name.lower(): value for name, value in fields}
    if method == b"HEAD" or code.startswith(b"1") or code in (b"204", b"304"):
        return Answer(int(code), reason, fields, b"", True, rest)  # noqa: FBT003
    if told.get(b"transfer-encoding") == b"chunked":
        body, complete, rest = _dechunk(rest)
        return Answer(int(code), reason, fields, body, complete, rest)
    if b"content-length" in told:
        length = int(told[b"content-length"])
        return Answer(int(code), reason, fields, rest[:length], len(rest) >= length, rest[length:])
    return Answer(int(code), reason, fields, rest, False)  # noqa: FBT003


def _dechunk(data: bytes) -> tuple[bytes, bool, bytes]:
    body = b""
    while True:
        size, end, data = data.partition(b"\r\n")
        if not end:
            return body, False, b""
        length = int(size, 16)
        if length == 0:
            assert data.startswith(b"\r\n") or not data, data
            return body, data.startswith(b"\r\n"), data[2:]
        body += data[:length]
        if len(data) < length + 2:
            return body, False, b""
        assert data[length : length + 2] == b"\r\n", data
        data = data[length + 2 :]


class House:
    """
    A dheera, its upstream and the network between them.

    :param resource: what upstream is; a script (``script``) if none is given.
    :param spool: where calls are written down, in place of one in memory.
    :param api_keys: of upstream, in place of the one.
    :param upstreams: beside it.
    :param clock: of the store that counts allowances.
    :param stores: in place of those in memory.
    :param lives: of *spool*, if there is one.
    :param spends: what a key has spent, in place of ``spends``.
    :param notice: shown each record of a call that was let in.
    :param network: in place of a new one.
    :param now: aware, in UTC.
    """

    def __init__(
        self,
        *,
        base: str = f"http://{UPSTREAM_HOST}:{UPSTREAM_PORT}",
        master_key: str | None = None,
        api_key: str | None = UPSTREAM_KEY,
        open_to_network: bool = False,
        resource: IResource | None = None,
        server_limits: ServerLimits | None = None,
        client_limits: ClientLimits | None = None,
        keys: KeySettings | None = None,
        prices: Mapping[str, Any] | None = None,
        content: ContentRules | None = None,
        spool: Spool | None = None,
        trusted: Sequence[Subnet] = (),
        allowances: AllowanceSettings | None = None,
        proxy_limits: LimitSettings | None = None,
        end_user_limits: LimitSettings | None = None,
        api_keys: Sequence[WeightedKey] = (),
        balance: BalanceSettings | None = None,
        upstreams: Mapping[str, OtherUpstream] | None = None,
        clock: Clock = machine_clock,
        stores: Stores | None = None,
        lives: Lives | None = None,
        spends: Callable[[str], Usd | None] | None = None,
        notice: Callable[[Record], None] = lambda _: None,
        network: Network | None = None,
        now: Callable[[], datetime] = machine_time,
    ) -> None:
        self.now = now
        self.network = network or Network()
        self.script = Script(self.network)
        self.network.listen(
            self.script if resource is None else Server(self.network, resource, server_limits or ServerLimits())
        )
        self.agent = Agent(self.network, client_limits or ClientLimits())
        self.alerts: list[Alert] = []
        self.config = Config(
            mistral=Mistral(
                api_base=base,
                api_key=None if api_key is None or api_keys else Secret(api_key),
                api_keys=tuple(api_keys),
            ),
            balance=balance or BalanceSettings(),
            upstreams=upstreams or {},
        )
        self.upstreams = self.make_upstreams(None)
        self.upstream = self.upstreams["mistral"]
        self.keys = keys or KeySettings()
        shelves = Shelves()
        self.store, self.counts = MemoryStore(shelves), MemoryAllowances(shelves, clock=clock)
        self.books = MemoryBooks(shelves, settle=self.counts.settle)
        self.stores = stores or Stores(directory=self.store, books=self.books, allowances=self.counts)
        directory = self.stores.directory
        self.spool = MemorySpool()
        self.read = self.spool.reader("test")
        self.prices = PriceList.load(prices or {})
        self.metrics = Metrics(lambda model: self.prices.find(model, now()) is not None)
        self.spends: dict[str, Usd] = {}
        accountant = Accountant(
            spool=spool or self.spool,
            prices=self.prices,
            tally=self.metrics,
            spends=spends or self.spends.get,
            notice=notice,
            node="test",
            content=content or ContentRules(),
            clock=self.network.seconds,
            now=now,
        )
        self.gate = self._gate(master_key, open_to_network=open_to_network)
        self.headroom = Headroom(self.keys.inspected_together_bytes)
        rules = allowances or AllowanceSettings()
        self.allowances = Allowances(
            self.network,
            self.stores.allowances,
            rules,
            lives=lives or self.spool.lives,
            node="test",
            alert=self.alerts.append,
            now=now,
        )
        self.end_users = EndUsers(self.network, directory, end_user_limits or LimitSettings())
        affording = Affording(
            self.allowances,
            self.end_users,
            Limits.of_settings(proxy_limits or LimitSettings()),
            self.prices,
            rules,
            self.keys.inspected_bytes,
            self.headroom,
        )
        self.capacity = Capacity(self.network, server_limits or ServerLimits())
        self.departed = Departed()
        self.exchanges = Exchanges(
            self.gate,
            accountant,
            self.keys.inspected_bytes,
            self.headroom,
            trusted,
            affording=affording,
            capacity=self.capacity,
            departed=self.departed,
            finishes=rules.on_client_left == "finish",
        )
        self.site = Server(self.network, Branch(), server_limits or ServerLimits(), _stamp)
        office = Office(
            store=directory,
            books=self.stores.books,
            allowances=self.stores.allowances,
            now=now,
            strict_fields=self.keys.strict_fields,
        )
        authority = KeyAuthority(self.gate, directory)
        watch = Watch(draining=lambda: self.site.draining, store=directory, in_flight=lambda: self.metrics.in_flight)
        self.site.resource = make_root(
            self.exchanges,
            self.upstreams,
            watch,
            management(office, authority, ROUTES, trusted),
            MetricsPage(self.metrics),
            lambda page: Guarded(page, authority, trusted),
        )
        directory.open()
        Deferred.fromCoroutine(self.end_users.open())

    def make_upstreams(self, before: Mapping[str, Upstream] | None) -> Mapping[str, Upstream]:
        """
        Upstreams, after those *before*.
        """
        return make_upstreams(self.network, self.config, lambda _: self.agent, before, self.alerts.append, self.now)

    def _gate(self, master_key: str | None, *, open_to_network: bool) -> Gate:
        if master_key is None:
            return OpenGate(to_network=open_to_network)
        return make_key_gate(
            self.network, self.stores.directory, Secret(master_key), self.keys, lambda: self.now().timestamp()
        )

    def records(self) -> list[Record]:
        """
        What has been written down since this was asked last.
        """
        entries = self.read.read(1000)
        if entries:
            self.read.advance(entries[-1].position)
        return [entry.value for entry in entries if isinstance(entry.value, Record)]

    def connect(self, address: IAddress = LOCAL) -> Peer:
        """
        A client's connection.
        """
        client = Peer(self.network)
        self.network.join(client, self.site.buildProtocol(address), IPv4Address("TCP", "127.0.0.1", 4000), address)
        self.network.settle()
        return client

    def send(self, data: bytes, address: IAddress = LOCAL) -> Peer:
        """
        A client's connection, and its first bytes.
        """
        client = self.connect(address)
        client.send(data)
        return client

    def ask(
        self,
        path: bytes,
        *fields: tuple[bytes, bytes],
        method: bytes = b"GET",
        body: bytes | None = None,
        version: bytes = b"1.1",
        address: IAddress = LOCAL,
    ) -> Peer:
        """
        One request, on a connection of its own.
        """
        return self.send(request(path, *fields, method=method, body=body, version=version), address)

    def is_empty(self) -> bool:
        """
        Whether nothing is left of any exchange: no connection, no timer, nobody watched.
        """
        return not (self.network.ends or self.network.getDelayedCalls() or any(self.agent._idle.values()))


@implementer(ILogObserver)
@frozen
class Overheard:
    """
    What is logged while a test runs: the text of each event, and its level.
    """

    events: list[LogEvent] = field(factory=list)

    @classmethod
    def by(cls, test: SynchronousTestCase) -> Overheard:
        """
        Listen until *test* is over.
        """
        overheard = cls()
        globalLogPublisher.addObserver(overheard)
        test.addCleanup(globalLogPublisher.removeObserver, overheard)
        return overheard

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)

    def lines(self, level: LogLevel | None = None) -> list[str]:
        """
        The texts, those of *level* or all, without what the test's framework says.
        """
        ours = [event for event in self.events if str(event.get("log_namespace", "")).startswith("dheera")]
        return [eventAsText(event) for event in ours if level is None or event["log_level"] is level]

    def everything(self) -> str:
        """
        All that was logged by anybody, in every way of writing it.
        """
        return "\n".join(eventAsText(event) + repr(event) for event in self.events)


def request(
    path: bytes,
    *fields: tuple[bytes, bytes],
    method: bytes = b"GET",
    body: bytes | None = None,
    version: bytes = b"1.1",
) -> bytes:
    """
    The bytes of a request.
    """
    lines = [] if any(name.lower() == b"host" for name, _ in fields) else [(b"Host", b"localhost:4000")]
    lines += fields
    if body is not None:
        lines.append((b"Content-Length", b"%d" % len(body)))
    head = b"".join(b"%b: %b\r\n" % line for line in lines)
    return b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, path, version, head, body or b"")


def in_chunks(*pieces: bytes) -> bytes:
    """
    A chunked body without its end.
    """
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


LAST_CHUNK = b"0\r\n\r\n"


def _stamp() -> Fields:
    return [(CALL_ID, new_call_id().encode("ascii"))]
