"""
A day of traffic in memory time: many keys, models, end users and addresses, streams, errors, clients who leave, keys
that come and go, and a ledger whose old lines are deleted.

Callers make up names all day long. What dheera keeps by names must have a bound of its own.
"""

from __future__ import annotations

import gc
import json
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import _lru_cache_wrapper
from pathlib import Path
from random import Random

from attrs import define, field
from twisted.internet import protocol
from twisted.internet.address import IPv4Address
from twisted.logger import globalLogBeginner

from bench.flat_stock import MODELS, Stock
from bench.household import BEGIN, MASTER_KEY, Household
from dheera.settings import KeySettings, LedgerSettings
from tests.house import request
from tests.network import LOCAL, End, Network

HOURS = 24
HOUR_SECONDS = 3600
AT_ONCE = 8
"""
Calls that begin in the same moment.
"""
RENEWED = 40
"""
In each hour, one of so many keys is replaced by a new one of its name.
"""
LIMITS: tuple[dict[str, object], ...] = (
    {},
    {"max_budget": 10**6, "budget_duration": "1h"},
    {"max_budget": 10**6, "rpm_limit": 10**6, "tpm_limit": 10**9},
    {"max_budget": 0.000_001, "budget_duration": "1d"},  # soon spent
    {"max_parallel_requests": 100},
)
WAYS = ("answer",) * 12 + ("stream",) * 4 + ("leave", "error", "cut", "stranger")
"""
How calls go, each as often as it is here.
"""
STRANGE_MODELS = 0.2
END_USERS = 0.5
"""
In how many calls they are named.
"""
_SAID = "Hello there, what do you want to know of Paris? " * 3


class Mistral(protocol.Protocol):
    """
    Answers each request as its body asks: with a completion, a stream, an error, or by breaking off.
    """

    transport: End

    def __init__(self, network: Network) -> None:
        self._network = network

    def dataReceived(self, data: bytes) -> None:
        """A whole request, since all are small."""
        said = json.loads(data.partition(b"\r\n\r\n")[2])
        way, model = said["metadata"]["way"], said["model"]
        if way == "error":
            self._answer(b"500 Internal Server Error", b'{"message":"planted","type":"internal"}')
        elif way == "cut":
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")
            self.transport.loseConnection()
        elif said["stream"]:
            self.transport.write(_STREAM_HEAD + _event(_document(model, delta={"content": "Hello"})) * 3)
            self._network.callLater(1, self._end, model)
        else:
            message = {"content": _SAID, "role": "assistant"}
            self._answer(b"200 OK", json.dumps(_document(model, message=message, usage=_USAGE)).encode())

    def _answer(self, status: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self.transport.write(head + body)

    def _end(self, model: str) -> None:
        last = _event(_document(model, delta={"content": "."}, usage=_USAGE))
        self.transport.write(last + _chunk(b"data: [DONE]\n\n") + _chunk(b""))


class Caller(protocol.Protocol):
    """
    Sends one call after the other, and takes what comes.
    """

    transport: End

    def dataReceived(self, data: bytes) -> None:
        """Nothing is done with it."""


@define(eq=False)
class Day:
    """
    A house, and who calls there.

    :param keys: at each time.
    :param names: that callers make up, of each sort; then they begin anew.
    :ivar made: calls, so far.
    """

    house: Household
    keys: int
    names: int
    made: int = field(default=0, init=False)
    _renewed: int = field(default=0, init=False)
    _keys: list[str] = field(init=False)
    _callers: list[Caller] = field(init=False)
    _passing: list[Caller] = field(init=False, factory=list)
    _leaving: list[Caller] = field(init=False, factory=list)
    _chance: Random = field(init=False, factory=lambda: Random(6))  # noqa: S311 - no secret is made of it

    def __attrs_post_init__(self) -> None:
        self.house.manage("/customer/new", user_id="somebody", max_budget=10**6)  # so end users matter
        self._keys = [self._new_key(number) for number in range(self.keys)]
        self._callers = [self._connected(LOCAL) for _ in range(AT_ONCE)]

    def hour(self, calls: int) -> Iterator[None]:
        """
        Let an hour pass with so many calls; stop after each moment in which somebody has called.
        """
        house = self.house
        for _ in range(-(-self.keys // RENEWED)):
            number = self._renewed % self.keys
            house.manage("/key/delete", keys=[self._keys[number]])
            self._keys[number] = self._new_key(number)
            self._renewed += 1
        for path in (b"/metrics", b"/spend/logs?page_size=100", b"/key/list"):
            house.ask(path, (b"Authorization", f"Bearer {MASTER_KEY}".encode())).close()
        house.network.attempts.clear()
        moments = calls // AT_ONCE
        for _ in range(moments):
            for place in range(AT_ONCE):
                self._call(place)
            house.network.settle()
            while self._leaving:
                self._leaving.pop().transport.abortConnection()
            house.network.advance(HOUR_SECONDS / moments)
            house.network.settle()
            while self._passing:
                self._passing.pop().transport.loseConnection()
            yield

    def _call(self, place: int) -> None:
        self.made += 1
        chance = self._chance
        way = chance.choice(WAYS)
        body = {
            "model": self._name("model") if chance.random() < STRANGE_MODELS else chance.choice(MODELS),
            "messages": [{"role": "user", "content": _SAID}],
            "max_tokens": 100,
            "stream": way in ("stream", "leave"),
            "metadata": {"way": way},
        }
        if chance.random() < END_USERS:
            body["user"] = self._name("user")
        key = f"sk-{self._name('stranger')}" if way == "stranger" else chance.choice(self._keys)
        self._caller(way, place).transport.write(_request(key, json.dumps(body).encode()))

    def _caller(self, way: str, place: int) -> Caller:
        if way in ("leave", "stranger"):
            number = self.made % self.names
            caller = self._connected(IPv4Address("TCP", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 5000))
            (self._leaving if way == "leave" else self._passing).append(caller)
            return caller
        if not self._callers[place].transport.connected:  # after an answer that was cut
            self._callers[place] = self._connected(LOCAL)
        return self._callers[place]

    def _connected(self, address: IPv4Address) -> Caller:
        caller = Caller()
        self.house.join(caller, address)
        return caller

    def _new_key(self, number: int) -> str:
        limits = LIMITS[number % len(LIMITS)]
        key: str = self.house.manage("/key/generate", key_alias=f"key {number}", **limits)["key"]
        return key

    def _name(self, sort: str) -> str:
        return f"{sort}-{self.made % self.names}"


@contextmanager
def beginning(folder: Path, *, keys: int, names: int, yesterday: int) -> Iterator[Day]:
    """
    A day of which no hour has passed, in a house whose ledger has so many calls of *yesterday*, and keeps those of one
    day. Half of the keys are kept at hand.
    """
    house = Household(
        folder,
        lambda: Mistral(house.network),
        keys=KeySettings(cached=keys // 2),
        ledger=LedgerSettings(keep_days=1),
    )
    house.stores.books.keep([*Stock(keys=keys, rows=yesterday, days=1).records(BEGIN)])
    yield Day(house, keys, names)
    house.close()


def log_nothing() -> None:
    """
    Let go of what was logged: until somebody begins to write it down, Twisted keeps it.
    """
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)


def living() -> Counter[str]:
    """
    How many objects there are, by their types; and, as ``entries``, how much is in all that holds things. What
    functions remember is forgotten first: of that there are a thousand each at most.
    """
    for each in gc.get_objects():
        if isinstance(each, _lru_cache_wrapper):
            each.cache_clear()
    gc.collect()
    everything = gc.get_objects()
    types = Counter(map(type, everything))
    named = Counter({f"{each.__module__}.{each.__qualname__}": many for each, many in types.items()})
    # The garbage collector does not know dictionaries of texts and numbers, but whoever has them.
    holding = {id(each): each for one in everything for each in (one, *gc.get_referents(one)) if type(each) in _HOLDING}
    named["entries"] = sum(map(len, holding.values()))
    return named


_HOLDING = frozenset({dict, OrderedDict, list, set, deque})
_USAGE = {"prompt_tokens": 16, "completion_tokens": 34, "total_tokens": 50}
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _document(model: str, usage: Mapping[str, int] | None = None, **choice: object) -> dict[str, object]:
    choices = [{"index": 0, "finish_reason": None, **choice}]
    return {"id": "cmpl-1", "created": 1702256327, "model": model, "choices": choices, "usage": usage}


def _event(document: object) -> bytes:
    return _chunk(b"data: %b\n\n" % json.dumps(document).encode())


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _request(key: str, body: bytes) -> bytes:
    return request(
        b"/mistral/v1/chat/completions",
        (b"Authorization", f"Bearer {key}".encode()),
        (b"Content-Type", b"application/json"),
        method=b"POST",
        body=body,
    )
