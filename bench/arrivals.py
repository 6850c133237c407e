"""
The open loop: requests come when they are due, whether or not earlier ones were answered.

A closed loop asks less while the proxy is slow, and so does not see what people see who came meanwhile. Here the time
of each request counts from the moment when it was due.
"""

from __future__ import annotations

import asyncio
import time
from typing import cast

import httptools
import uvloop
from attrs import define, field, frozen

from bench.load import Place, WrongAnswer
from bench.pacing import Pacemaker

_OK = 200
_DRAIN_SECONDS = 30.0


@frozen(kw_only=True)
class OpenLoop:
    """
    How long each request took, from when it was due to the last byte of its answer.
    """

    took_ms: list[float]


@define(eq=False)
class _Sight:
    """
    What all connections note down together. Free ones are used again, the last one first, as clients do.
    """

    free: list[_Connection] = field(factory=list)
    took_ms: list[float] = field(factory=list)
    open: int = 0
    problem: str | None = None
    all_answered: asyncio.Event = field(factory=asyncio.Event)

    def answered(self, connection: _Connection, due_ns: int) -> None:
        self.took_ms.append((time.monotonic_ns() - due_ns) / 1e6)
        self.free.append(connection)
        self._one_less()

    def failed(self, problem: str) -> None:
        self.problem = self.problem or problem
        self._one_less()

    def _one_less(self) -> None:
        self.open -= 1
        if not self.open:
            self.all_answered.set()


class _Connection(asyncio.Protocol):
    """
    One kept-alive connection, with at most one request on it.
    """

    _transport: asyncio.Transport

    def __init__(self, request: bytes, sight: _Sight) -> None:
        self._request = request
        self._sight = sight
        self._parser = httptools.HttpResponseParser(self)
        self._due_ns: int | None = None

    def ask(self, due_ns: int) -> None:
        """Send the request that was due then."""
        self._due_ns = due_ns
        self._transport.write(self._request)

    def close(self) -> None:
        """It is not needed any more."""
        self._transport.close()

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, not the base class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._due_ns is not None:
            self._due_ns = None
            self._sight.failed(f"cut without an answer ({exc!r})")
        elif self in self._sight.free:
            self._sight.free.remove(self)

    # httptools calls this

    def on_message_complete(self) -> None:
        due_ns, self._due_ns = self._due_ns, None
        if due_ns is None:
            return
        if self._parser.get_status_code() == _OK:
            self._sight.answered(self, due_ns)
        else:
            self._sight.failed(f"status {self._parser.get_status_code()}")


def open_loop(place: Place, *, per_second: float, seconds: float) -> OpenLoop:
    """
    Chat completions at a constant rate.

    :raises WrongAnswer: an answer was not 200, a connection failed, or answers were still missing long after.
    """
    return uvloop.run(_opened(place, per_second, seconds))


async def _opened(place: Place, per_second: float, seconds: float) -> OpenLoop:
    request = place.asking(place.chat())
    sight = _Sight()
    connecting: set[asyncio.Task[None]] = set()

    async def connect_and_ask(due_ns: int) -> None:
        connection = _Connection(request, sight)
        try:
            await place.connect(lambda: connection)
        except OSError as problem:
            sight.failed(repr(problem))
        else:
            connection.ask(due_ns)

    def arrive(due_ns: int) -> None:
        sight.open += 1
        if sight.free:
            sight.free.pop().ask(due_ns)
        else:
            task = asyncio.ensure_future(connect_and_ask(due_ns))
            connecting.add(task)
            task.add_done_callback(connecting.discard)

    with Pacemaker(per_second=per_second, total=max(1, round(per_second * seconds)), beat=arrive) as pacemaker:
        await pacemaker.done.wait()
        if sight.open:
            sight.all_answered.clear()
            try:
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await sight.all_answered.wait()
            except TimeoutError:
                raise WrongAnswer(f"{sight.open} answers at {per_second:.0f} a second never came") from None
    if sight.problem is not None:
        raise WrongAnswer(sight.problem)
    for connection in list(sight.free):
        connection.close()
    return OpenLoop(took_ms=sight.took_ms)
