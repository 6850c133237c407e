"""
What the guard measures: work of the daemon in one thread and in memory time, and plain Python of the same sort to
compare it with.
"""

from __future__ import annotations

import email
import hashlib
import json
import sqlite3
import textwrap
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from email.message import Message
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from twisted.internet import protocol

from bench.household import Household
from bench.load import CHAT
from dheera.run import settle_heap
from tests.network import End

AT_ONCE = 8
"""
Calls that are under way together.
"""
_WARM_UP = 5
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
_BODY = json.dumps(CHAT).encode()
_STREAMED = json.dumps({**CHAT, "stream": True}).encode()
_ANSWER = json.dumps(
    {
        "id": "cmpl-e5cc70bb28c444948073e77776eb30ef",
        "object": "chat.completion",
        "model": "mistral-small-latest",
        "usage": {"prompt_tokens": 16, "completion_tokens": 34, "total_tokens": 50},
        "created": 1702256327,
        "choices": [{"index": 0, "message": {"content": "Hello there. " * 18, "role": "assistant"}}],
    }
).encode()
_RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"mistral-correlation-id: 0190\r\nx-ratelimit-remaining-req-minute: 59\r\n\r\n%b" % (len(_ANSWER), _ANSWER)
)
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_DATA = (
    b'data: {"id":"cmpl-1","object":"chat.completion.chunk","created":1702256327,"model":"mistral-small-latest",'
    b'"choices":[{"index":0,"delta":{"content":"token 12"},"finish_reason":null}]}\n\n'
)
_EVENT = b"%x\r\n%b\r\n" % (len(_DATA), _DATA)


class Work(Protocol):
    """
    Something that is done a bit at a time, the same each time.
    """

    @property
    def units(self) -> int:
        """How much is done each time."""
        ...

    def __call__(self) -> None:
        """Do it."""
        ...


class Upstream(protocol.Protocol):
    """
    Answers each request with the same completion.
    """

    transport: End

    def dataReceived(self, data: bytes) -> None:
        """A whole request, since all are small."""
        del data
        self.transport.write(_RESPONSE)


class Client(protocol.Protocol):
    """
    Takes what comes.
    """

    transport: End

    def dataReceived(self, data: bytes) -> None:
        """Nothing is done with it."""


class Calls:
    """
    Chat completions with one key, on connections that are kept; and what the ledger, the sink and all others make of
    them.

    :ivar units: calls that are made each time.
    """

    units = 32

    def __init__(self, house: Household, **limits: float) -> None:
        key = house.manage("/key/generate", **limits)["key"]
        self._house = house
        self._request = _request(key, _BODY)
        self._clients = [_connected(house) for _ in range(AT_ONCE)]
        for client in self._clients:
            client.transport.write(self._request)
        house.network.settle()
        self._upstreams = _upstreams(house)

    def __call__(self) -> None:
        """
        Make them. Bytes are carried by hand: the network in memory would cost as much as dheera does.
        """
        network = self._house.network
        for _ in range(self.units // AT_ONCE):
            for client in self._clients:
                client.transport.other.protocol.dataReceived(self._request)
            network.advance(0)
            for end in self._upstreams:
                end.queued.clear()
                end.protocol.dataReceived(_RESPONSE)
            for client in self._clients:
                client.transport.other.queued.clear()
        network.advance(1)

    def check(self) -> None:
        """
        :raises AssertionError: a call is not answered as it should be.
        """
        [client, *_] = self._clients
        client.transport.other.protocol.dataReceived(self._request)
        self._house.network.advance(0)
        for end in self._upstreams:
            if end.queued:
                end.protocol.dataReceived(_RESPONSE)
        said = bytes(client.transport.other.queued)
        assert said.startswith(b"HTTP/1.1 200 OK\r\n") and said.endswith(_ANSWER), said  # noqa: S101, PT018


class Events:
    """
    Events of one stream.

    :ivar units: events that come each time.
    """

    units = 256

    def __init__(self, house: Household) -> None:
        key = house.manage("/key/generate")["key"]
        self._client = _connected(house)
        self._client.transport.write(_request(key, _BODY))
        house.network.settle()
        self._channel = self._client.transport.other
        self._channel.protocol.dataReceived(_request(key, _STREAMED))
        [self._upstream] = _upstreams(house)
        self._upstream.protocol.dataReceived(_STREAM_HEAD)
        self._channel.queued.clear()

    def __call__(self) -> None:
        """
        Let them come.
        """
        for _ in range(self.units):
            self._upstream.protocol.dataReceived(_EVENT)
            self._channel.queued.clear()

    def check(self) -> None:
        """
        :raises AssertionError: an event does not leave as it came.
        """
        self._upstream.protocol.dataReceived(_EVENT)
        assert bytes(self._channel.queued) == _EVENT, self._channel.queued  # noqa: S101


class Yardstick:
    """
    Work that is as a daemon's, all of it of Python's own library: what is read is as long, and what is done is as many
    things, so that whoever shares the processor's caches with us hinders both alike. It knows nothing of dheera.

    :ivar units: rounds that are made each time.
    """

    units = 24

    def __init__(self) -> None:
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        self._database.execute("create table lines (name text primary key, value text) without rowid")
        self._made = 0

    def __call__(self) -> None:
        """
        Go.
        """
        for _ in range(self.units):
            message = email.message_from_bytes(_RESPONSE.partition(b"\r\n")[2])
            said = json.loads(str(message.get_payload()))
            target = urllib.parse.urlsplit(f"https://localhost:4000/mistral/v1/{said['object']}?{self._query(message)}")
            query = urllib.parse.parse_qs(target.query)
            self._database.execute("insert or replace into lines values (?, ?)", (str(self._made % 100), str(query)))
            self._made += 1
            digest = hashlib.sha256(target.path.encode()).hexdigest()
            when = datetime.fromtimestamp(said["created"], UTC).isoformat()
            cost = Decimal(said["usage"]["total_tokens"]) * Decimal("0.0000002")
            json.dumps({"id": digest, "at": when, "cost": str(cost), "to": textwrap.shorten(_BODY.decode(), 80)})

    def _query(self, message: Message) -> str:
        return urllib.parse.urlencode({name.lower(): value for name, value in message.items()})


@contextmanager
def works() -> Iterator[Mapping[str, Work]]:
    """
    What is measured, by the names under which it is stored; each in a house of its own.
    """
    with ExitStack() as stack:
        made: dict[str, Calls | Events] = {
            "exchange": Calls(stack.enter_context(_house())),
            "exchange with a budget": Calls(stack.enter_context(_house()), max_budget=10**6),
            "event": Events(stack.enter_context(_house())),
        }
        for work in made.values():
            for _ in range(_WARM_UP):
                work()
            work.check()
        settle_heap()
        yield made


@contextmanager
def _house() -> Iterator[Household]:
    # Files in memory, where there is such a place: no disk is to be measured.
    place = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
    with TemporaryDirectory(prefix="dheera-guard-", dir=place) as folder:
        house = Household(Path(folder), Upstream)
        yield house
        house.close()


def _connected(house: Household) -> Client:
    client = Client()
    house.join(client)
    return client


def _upstreams(house: Household) -> list[End]:
    """
    Our ends of the connections to upstream.
    """
    return [end.other for end in house.network.ends if isinstance(end.protocol, Upstream)]


def _request(key: str, body: bytes) -> bytes:
    return (
        b"POST /mistral/v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:4000\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (key.encode(), len(body), body)
    )
