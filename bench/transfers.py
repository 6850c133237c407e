"""
One big body each way.
"""

from __future__ import annotations

import asyncio
import time
from typing import cast

import httptools
import uvloop

from bench.load import Place, WrongAnswer

_BLOCK = bytes(256 * 1024)
_OK = 200
_DEADLINE_SECONDS = 120.0
_SHORT_ANSWER_BYTES = 1000


class _Exchange(asyncio.Protocol):
    """
    One request with a body of zeros, and a count of what its answer brings.
    """

    _transport: asyncio.Transport

    def __init__(self, head: bytes, send_bytes: int, done: asyncio.Future[None]) -> None:
        self._head = head
        self._left = send_bytes
        self._done = done
        self._writable = True
        self._parser = httptools.HttpResponseParser(self)
        self.received = 0
        self.beginning = b""

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, not the base class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._head)
        self._send_blocks()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._send_blocks()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(f"cut after {self.received} bytes ({exc!r})")

    # httptools calls these

    def on_body(self, body: bytes) -> None:
        if len(self.beginning) < _SHORT_ANSWER_BYTES:
            self.beginning += body[:_SHORT_ANSWER_BYTES]
        self.received += len(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        self._finish(None if status == _OK else f"status {status}: {self.beginning!r}")
        self._transport.close()

    def _send_blocks(self) -> None:
        while self._left and self._writable:
            block = _BLOCK[: self._left]
            self._left -= len(block)
            self._transport.write(block)

    def _finish(self, problem: str | None) -> None:
        if self._done.done():
            return
        if problem is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(WrongAnswer(problem))


def uploaded(place: Place, size: int) -> float:
    """
    The seconds that it takes to send so many bytes and have them acknowledged.

    :raises WrongAnswer: they did not all arrive.
    """
    head = place.head("POST", "/files", length=size, media_type="application/octet-stream")
    seconds, exchange = uvloop.run(_exchanged(place, head, size))
    if exchange.beginning != b'{"bytes":%d}' % size:
        raise WrongAnswer(f"of {size} bytes upstream counted {exchange.beginning!r}")
    return seconds


def downloaded(place: Place, size: int) -> float:
    """
    The seconds that it takes to receive so many bytes.

    :raises WrongAnswer: another number came.
    """
    target = f"/files/big/content?bytes={size}"
    head = place.head("GET", target, media_type="application/octet-stream")
    seconds, exchange = uvloop.run(_exchanged(place, head, 0))
    if exchange.received != size:
        raise WrongAnswer(f"of {size} bytes {exchange.received} came")
    return seconds


async def _exchanged(place: Place, head: bytes, send_bytes: int) -> tuple[float, _Exchange]:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    exchange = _Exchange(head, send_bytes, done)
    started = time.monotonic()
    await place.connect(lambda: exchange)
    async with asyncio.timeout(_DEADLINE_SECONDS):
        await done
    return time.monotonic() - started, exchange
