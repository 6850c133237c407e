"""
A management API in memory: the real tree above the real channel, a store in memory, and a time that the test sets.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import define, field, frozen
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Caller, Query, Write
from dheera.call_ids import new_call_id
from dheera.entities import AuditLine, Key
from dheera.errors import NotAuthenticated, UnknownKey
from dheera.keys import digest
from dheera.management.catalogue import ROUTES
from dheera.management.periods import micros
from dheera.management.routes import Actor, AnyRoute, Authority, Office
from dheera.proxy.exchange import CALL_ID
from dheera.settings import LimitSettings
from dheera.stores.memory import MemoryStore
from dheera.stores.memory_allowances import MemoryAllowances
from dheera.stores.memory_ledger import MemoryBooks
from dheera.stores.shelves import Shelves
from dheera.web.api import Branch
from dheera.web.management import management
from dheera.wire.limits import ServerLimits
from dheera.wire.server import Server
from tests.house import Answer, read_answer, request
from tests.network import LOCAL, Network, Peer

MASTER = "sk-the-master-key"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@frozen
class Doorkeeper:
    """
    The master key manages; a key of the store may ask about itself; nobody else is let in.
    """

    store: MemoryStore

    def admit(self, caller: Caller, method: str, path: str) -> Deferred[Actor]:
        assert method
        assert path.startswith("/")
        if caller.credential is None:
            return fail(NotAuthenticated("No API key was sent."))
        if caller.credential == MASTER.encode():
            return succeed(Actor(alias="master", is_admin=True))
        return Deferred.fromCoroutine(self._bearer(caller.credential))

    async def _bearer(self, credential: bytes) -> Actor:
        grant = await self.store.look_up(digest(credential), START)
        if grant is None:
            raise UnknownKey
        return Actor(alias=grant.key.alias or grant.key.name, key=grant.key)


@frozen
class Reply:
    """
    An answer whose JSON was read.
    """

    status: int
    json: Any
    answer: Answer = field(repr=False)

    @property
    def fault(self) -> tuple[int, str, str | None]:
        """
        Of an answer that is not what was asked for: status, type and param.
        """
        error = self.json["error"]
        assert error["code"] == str(self.status)
        return self.status, error["type"], error["param"]


class Desk:
    """
    The management API, and who asks it.
    """

    def __init__(
        self,
        *,
        strict_fields: bool = False,
        authority: Authority | None = None,
        store: MemoryStore | None = None,
        books: MemoryBooks | None = None,
        routes: Sequence[AnyRoute] = ROUTES,
        proxy_limits: LimitSettings | None = None,
    ) -> None:
        self.now = START
        self.network = Network()
        shelves = self.shelves = Shelves()
        self.store = store or MemoryStore(shelves)
        self.allowances = MemoryAllowances(shelves, clock=lambda: micros(self.now))
        self.books = books or MemoryBooks(shelves, settle=self.allowances.settle)
        self.store.open()
        self.office = Office(
            store=self.store,
            books=self.books,
            allowances=self.allowances,
            now=lambda: self.now,
            proxy_limits=proxy_limits or LimitSettings(),
            strict_fields=strict_fields,
            reserved=frozenset({digest(MASTER.encode())}),
        )
        self.site = Server(self.network, Branch(), ServerLimits(), lambda: [(CALL_ID, new_call_id().encode("ascii"))])
        root = Branch()
        for name, branch in management(self.office, authority or Doorkeeper(self.store), routes).items():
            root.putChild(name, branch)
        self.site.resource = root

    def begin(self, data: bytes) -> Peer:
        """
        A client's connection, and its first bytes.
        """
        client = Peer(self.network)
        self.network.join(client, self.site.buildProtocol(LOCAL), IPv4Address("TCP", "127.0.0.1", 4000), LOCAL)
        self.network.settle()
        client.send(data)
        return client

    def send(
        self,
        method: str,
        path: str,
        *fields: tuple[bytes, bytes],
        body: bytes | None = None,
        key: str | None = MASTER,
    ) -> Reply:
        """
        One request as bytes, on a connection of its own.
        """
        lines = list(fields)
        if key is not None:
            lines.append((b"Authorization", b"Bearer " + key.encode()))
        client = self.begin(request(path.encode(), *lines, method=method.encode(), body=body))
        answer = read_answer(client.received, method.encode())
        client.close()
        assert answer.complete
        assert answer.rest == b""
        assert len(answer.values(CALL_ID)) == 1
        return Reply(answer.status, json.loads(answer.body) if answer.body else None, answer)

    def post(self, path: str, body: object, *fields: tuple[bytes, bytes], key: str | None = MASTER) -> Reply:
        """
        POST some JSON.
        """
        return self.send("POST", path, *fields, body=json.dumps(body).encode(), key=key)

    def get(self, path: str, *, key: str | None = MASTER) -> Reply:
        """
        GET an answer.
        """
        return self.send("GET", path, key=key)

    def generate(self, **fields: object) -> dict[str, Any]:
        """
        A new key, as it is answered.
        """
        reply = self.post("/key/generate", fields)
        assert reply.status == 200, reply.json
        made: dict[str, Any] = reply.json
        return made

    def opens(self, key: str) -> Key | None:
        """
        What the store says that *key* opens now.
        """
        found: list[Key | None] = []
        self.store.look_up(digest(key.encode()), self.now).addCallback(
            lambda grant: found.append(None if grant is None else grant.key)
        )
        return found[0]

    def audit(self, **equal: object) -> list[AuditLine]:
        """
        The audit lines, in no order: all were written at the same time.
        """
        found: list[AuditLine] = []
        self.store.audit(Query(equal=equal, sort="at", limit=1000)).addCallback(lambda page: found.extend(page[0]))
        return found


@define(eq=False)
class Failing(MemoryStore):
    """
    A store that goes away after a number of writes.
    """

    writes: int = 1

    def apply(self, writes: Sequence[Write], lines: Sequence[AuditLine]) -> Deferred[None]:
        if not self.writes:
            self.fail()
        self.writes -= 1
        return super().apply(writes, lines)


class AtDesk(SynchronousTestCase):
    """
    Somebody who manages.
    """

    def setUp(self) -> None:
        self.desk = Desk()

    def refused(self, reply: Reply, status: int, sort: str, param: str | None = None) -> None:
        """
        That *reply* refuses so.
        """
        self.assertEqual((status, sort, param), reply.fault)

    def wrong(self, reply: Reply, *places: list[str | int]) -> None:
        """
        That *reply* finds faults in these places, and nowhere else.
        """
        self.refused(reply, 422, "invalid_request_error")
        self.assertEqual(list(places), [each["loc"] for each in reply.json["detail"]])


_: type[Authority] = Doorkeeper
