"""
Waves of SSE streams that are open at the same time.

Each event carries the monotonic clock of its sender, which is this machine's: so its delay is
known without a second message.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import cast

import httptools
import uvloop
from attrs import define, field, frozen

from bench.kernel import Reading
from bench.load import Place, WrongAnswer

_STAMP = re.compile(rb"@(\d+) ")
_SUM = re.compile(rb"sum (\d+) ")
_GOLDEN = 0.618034  # its multiples fill the interval evenly, however many there are
_OK = 200
_START_SECONDS = 120.0  # the slowest takes a minute for a thousand
_END_SECONDS = 30.0
_GROUP = 25
_BETWEEN_GROUPS_SECONDS = 0.02


@frozen(kw_only=True)
class Wave:
    """
    How many streams run at the same time, and how they start and flow.
    """

    count: int
    at_once: bool
    interval_ms: float
    seconds: float


@frozen(kw_only=True)
class Streamed:
    """
    What was seen of a wave.

    `before` and `after` were read with all streams open; `events` came between them.
    """

    first_ms: list[float]
    delay_ms: list[float]
    events: int
    before: Reading
    after: Reading


@define(eq=False)
class _Sight:
    """
    What all streams of one wave note down together.
    """

    expected: int
    first_ms: list[float] = field(factory=list)
    delay_ms: list[float] = field(factory=list)
    broken: list[str] = field(factory=list)
    whole: int = 0
    all_begun: asyncio.Event = field(factory=asyncio.Event)
    all_over: asyncio.Event = field(factory=asyncio.Event)

    def begun(self, first_ms: float) -> None:
        self.first_ms.append(first_ms)
        if len(self.first_ms) == self.expected:
            self.all_begun.set()

    def over(self, problem: str | None) -> None:
        if problem is None:
            self.whole += 1
        else:
            self.broken.append(problem)
            self.all_begun.set()  # in vain, and nobody should wait for it
        if self.whole + len(self.broken) == self.expected:
            self.all_over.set()


class _Stream(asyncio.Protocol):
    """
    One request for a stream, and the events of its answer.
    """

    _transport: asyncio.Transport

    def __init__(self, request: bytes, sight: _Sight) -> None:
        self._request = request
        self._sight = sight
        self._parser = httptools.HttpResponseParser(self)
        self._started = self._now = time.monotonic_ns()
        self._rest = b""
        self._events = 0
        self._announced: int | None = None
        self._over = False

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, not the base class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._now = time.monotonic_ns()
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(f"cut after {self._events} events ({exc!r})")

    # httptools calls these

    def on_body(self, body: bytes) -> None:
        text = self._rest + body
        end = text.rfind(b"\n\n") + 2
        if end == 1:  # no event is complete yet
            self._rest = text
            return
        self._rest = text[end:]
        for stamp in _STAMP.finditer(text, 0, end):
            if not self._events:
                self._sight.begun((self._now - self._started) / 1e6)
            self._events += 1
            self._sight.delay_ms.append((self._now - int(stamp[1])) / 1e6)
        announced = _SUM.search(text, 0, end)
        if announced is not None:
            self._announced = int(announced[1])

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != _OK:
            self._finish(f"status {status}")
        elif self._announced != self._events:
            self._finish(f"{self._events} events came of {self._announced}")
        else:
            self._finish(None)
        self._transport.close()

    def _finish(self, problem: str | None) -> None:
        if not self._over:
            self._over = True
            self._sight.over(problem)


def streamed(place: Place, wave: Wave, *, read: Callable[[], Reading], end: Callable[[], None]) -> Streamed:
    """
    Open a wave, watch it for its seconds with all streams open, end it.

    :param read: reads what the proxy has used.
    :param end: tells the upstream to end all streams.
    :raises WrongAnswer: a stream was refused, cut, or lost an event.
    """
    return uvloop.run(_streamed(place, wave, read, end))


async def _streamed(place: Place, wave: Wave, read: Callable[[], Reading], end: Callable[[], None]) -> Streamed:
    sight = _Sight(wave.count)
    await _open(place, wave, sight)
    await _within(_START_SECONDS, sight.all_begun, sight)
    # Past the start, each stream is one event per interval and nothing else.
    await asyncio.sleep(2 * wave.interval_ms / 1000)
    before, first = read(), len(sight.delay_ms)
    await asyncio.sleep(wave.seconds)
    after, last = read(), len(sight.delay_ms)
    end()
    await _within(_END_SECONDS, sight.all_over, sight)
    return Streamed(
        first_ms=sight.first_ms,
        delay_ms=sight.delay_ms[first:last],
        events=last - first,
        before=before,
        after=after,
    )


async def _open(place: Place, wave: Wave, sight: _Sight) -> None:
    async def one(number: int) -> None:
        phase = number * _GOLDEN % 1
        request = place.asking(place.chat(stream=True, interval_ms=wave.interval_ms, phase=round(phase, 4)))
        try:
            await place.connect(lambda: _Stream(request, sight))
        except OSError as problem:
            sight.over(repr(problem))

    group = wave.count if wave.at_once else _GROUP
    for begin in range(0, wave.count, group):
        await asyncio.gather(*(one(begin + i) for i in range(min(group, wave.count - begin))))
        if not wave.at_once:
            await asyncio.sleep(_BETWEEN_GROUPS_SECONDS)


async def _within(seconds: float, event: asyncio.Event, sight: _Sight) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        raise WrongAnswer(
            f"of {sight.expected} streams {len(sight.first_ms)} had begun and {sight.whole} were"
            f" whole after {seconds:g} s"
        ) from None
    if sight.broken:
        raise WrongAnswer(f"of {sight.expected} streams {len(sight.broken)} broke: {sight.broken[0]}")
