"""
One big body each way: a file, and a completion.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import cast

import httptools
import uvloop

from bench.load import Place, WrongAnswer

_BLOCK = bytes(256 * 1024)
_BOUNDARY = "bench-of-dheera"
_FORM_BEGIN = (
    f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nocr\r\n'
    f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="scan.pdf"\r\n'
    "Content-Type: application/pdf\r\n\r\n"
).encode()
_FORM_END = f"\r\n--{_BOUNDARY}--\r\n".encode()
_OK = 200
_DEADLINE_SECONDS = 120.0
_SHORT_ANSWER_BYTES = 1000
_COUNTED = re.compile(rb'"bytes": ?(\d+)')
_RECEIVED = re.compile(rb"received (\d+)")


class _Exchange(asyncio.Protocol):
    """
    One request, zeros and an end of its body if any are due, and a count of what its answer brings.
    """

    _transport: asyncio.Transport

    def __init__(self, request: bytes, send_bytes: int, end: bytes, done: asyncio.Future[None]) -> None:
        self._request = request
        self._left = send_bytes
        self._end = end
        self._done = done
        self._writable = True
        self._parser = httptools.HttpResponseParser(self)
        self.received = 0
        self.beginning = b""

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, not the base class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)
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
            if not self._left:
                self._transport.write(self._end)

    def _finish(self, problem: str | None) -> None:
        if self._done.done():
            return
        if problem is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(WrongAnswer(problem))


def uploaded(place: Place, size: int) -> float:
    """
    The seconds that it takes to send a file of so many bytes, in a form as Mistral wants it, and have it acknowledged.

    :raises WrongAnswer: it did not arrive as a whole.
    """
    length = len(_FORM_BEGIN) + size + len(_FORM_END)
    head = place.files_head("POST", "/files", length=length, media_type=f"multipart/form-data; boundary={_BOUNDARY}")
    seconds, exchange = uvloop.run(_exchanged(place, head + _FORM_BEGIN, size, _FORM_END))
    found = _COUNTED.search(exchange.beginning)
    if found is None or int(found[1]) < size:
        raise WrongAnswer(f"of {size} bytes upstream counted {exchange.beginning!r}")
    return seconds


def downloaded(place: Place, size: int) -> float:
    """
    The seconds that it takes to receive a file of so many bytes.

    :raises WrongAnswer: another number came.
    """
    seconds, exchange = uvloop.run(_exchanged(place, place.files_head("GET", f"/files/bytes-{size}/content")))
    if exchange.received != size:
        raise WrongAnswer(f"of {size} bytes {exchange.received} came")
    return seconds


def asked(place: Place, size: int) -> float:
    """
    The seconds of a completion whose question has so many bytes.

    :raises WrongAnswer: they did not all arrive.
    """
    seconds, exchange = uvloop.run(_exchanged(place, place.asking(place.chat("x" * size, count=1))))
    found = _RECEIVED.search(exchange.beginning)
    if found is None or int(found[1]) < size:
        raise WrongAnswer(f"of {size} bytes upstream counted {exchange.beginning!r}")
    return seconds


def answered(place: Place, size: int) -> float:
    """
    The seconds of a completion whose answer has so many bytes.

    :raises WrongAnswer: fewer came.
    """
    seconds, exchange = uvloop.run(_exchanged(place, place.asking(place.chat(answer_bytes=size))))
    if exchange.received < size:
        raise WrongAnswer(f"of {size} bytes {exchange.received} came")
    return seconds


async def _exchanged(place: Place, request: bytes, send_bytes: int = 0, end: bytes = b"") -> tuple[float, _Exchange]:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    exchange = _Exchange(request, send_bytes, end, done)
    started = time.monotonic()
    await place.connect(lambda: exchange)
    async with asyncio.timeout(_DEADLINE_SECONDS):
        await done
    return time.monotonic() - started, exchange
