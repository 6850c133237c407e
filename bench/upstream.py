"""
A stand-in for Mistral that costs little itself: `python -m bench.upstream [TLS.pem]`.

It prints `PORT n` once it listens on the loopback interface, and answers

    POST .../chat/completions     a completion, JSON, or a stream of events
    GET  .../bytes-N/content      N bytes
    anything else                 the count of bytes that its body had, JSON

The user's words say which completion: translating proxies pass these, and no query. Without such words it is a short
one; with "[bench answer_bytes=N]" it has so many bytes of text; with "[bench count=1]" it says how many bytes the
request had; "[bench interval_ms=I phase=F]" begins events without end: the first at once, the next after F intervals,
then one in each interval.

SIGUSR1 ends all streams in the way that Mistral does: usage in the last event, then [DONE].
A request without the upstream's own credential gets 401: so a proxy that is measured has
provably put it in.
"""

from __future__ import annotations

import asyncio
import re
import signal
import ssl
import sys
from typing import cast

import httptools
import uvloop

from bench.answers import COMPLETED, REFUSED, Stream, answer, completed, directives_in

CREDENTIAL = "Bearer sk-of-the-upstream"

_CREDENTIAL = CREDENTIAL.encode()
_BLOCK = bytes(256 * 1024)
_BACKLOG = 4096
_TOLD_WITHIN_BYTES = 4096
_FILE = re.compile(rb"/bytes-(\d+)/content")


class _Connection(asyncio.Protocol):
    """
    One connection: its requests are answered one after the other, as proxies send them.
    """

    _transport: asyncio.Transport

    def __init__(self, streams: set[Stream]) -> None:
        self._streams = streams
        self._stream: Stream | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._left = 0
        self._writable = True
        self._admitted = False
        self._begin()

    def _begin(self) -> None:
        self._target = self._beginning = b""
        self._received = 0

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, not the base class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        # A search costs a tenth of what a call per header would, and the load shares our core.
        if not self._admitted:
            self._admitted = _CREDENTIAL in data
        self._parser.feed_data(data)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._send_blocks()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._left = 0
        if self._stream is not None:
            self._stream.drop()
            self._streams.discard(self._stream)

    # httptools calls these

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_body(self, body: bytes) -> None:
        if self._received < _TOLD_WITHIN_BYTES:
            self._beginning += body[:_TOLD_WITHIN_BYTES]
        self._received += len(body)

    def on_message_complete(self) -> None:
        target, beginning, received, admitted = self._target, self._beginning, self._received, self._admitted
        self._begin()
        self._admitted = False
        if not admitted:
            self._transport.write(REFUSED)
        elif target.endswith(b"/chat/completions"):
            self._complete(directives_in(beginning), received)
        elif found := _FILE.search(target):
            self._left = int(found[1])
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % self._left
            )
            self._send_blocks()
        else:
            self._transport.write(answer(b"200 OK", b'{"bytes":%d}' % received))

    def _complete(self, asked: dict[bytes, float], received: int) -> None:
        if b"interval_ms" in asked:
            if self._stream is not None:
                self._streams.discard(self._stream)
            self._stream = Stream(self._transport, interval=asked[b"interval_ms"] / 1000, phase=asked[b"phase"])
            self._streams.add(self._stream)
        elif b"count" in asked:
            self._transport.write(completed(b"received %d" % received))
        elif b"answer_bytes" in asked:
            self._transport.write(completed(b"x" * int(asked[b"answer_bytes"])))
        else:
            self._transport.write(COMPLETED)

    def _send_blocks(self) -> None:
        while self._left and self._writable:
            block = _BLOCK[: self._left]
            self._left -= len(block)
            self._transport.write(block)


async def serve(pem: str | None) -> None:
    """
    Serve until the process is ended.

    :param pem: key and certificate in one file; None serves plain HTTP.
    """
    context = None
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    streams: set[Stream] = set()

    def end_streams() -> None:
        for stream in streams:
            stream.end()
        streams.clear()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, end_streams)
    server = await loop.create_server(lambda: _Connection(streams), "127.0.0.1", 0, backlog=_BACKLOG, ssl=context)
    print("PORT", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1] if len(sys.argv) > 1 else None))
