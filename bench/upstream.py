"""
A stand-in for Mistral that costs little itself: `python -m bench.upstream [TLS.pem]`.

It prints `PORT n` once it listens on the loopback interface, and answers

    POST .../chat/completions                       a short completion, JSON
    POST .../chat/completions?interval_ms=I&phase=F  events without end: the first at once, the next
                                                    after F intervals, then one in each interval
    GET  .../content?bytes=N                        N bytes
    anything else                                   the count of bytes that its body had, JSON

SIGUSR1 ends all streams in the way that Mistral does: usage in the last event, then [DONE].
A request without the upstream's own credential gets 401: so a proxy that is measured has
provably put it in.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
import time
from typing import cast
from urllib.parse import parse_qs, urlsplit

import httptools
import uvloop

CREDENTIAL = "Bearer sk-of-the-upstream"

_CREDENTIAL = CREDENTIAL.encode()
_TEXT = b"Start at the Ile de la Cite, cross the river to the Louvre, then walk on. " * 3
_COMPLETION = (
    b'{"id":"cmpl-5f1d3c0a","object":"chat.completion","model":"mistral-small-latest",'
    b'"created":1764000000,"choices":[{"index":0,"finish_reason":"stop","message":'
    b'{"role":"assistant","tool_calls":null,"content":"%b"}}],"usage":{"prompt_tokens":18,'
    b'"completion_tokens":51,"total_tokens":69}}' % _TEXT
)
_CHUNK = (
    b'{"id":"cmpl-5f1d3c0a","object":"chat.completion.chunk","model":"mistral-small-latest",'
    b'"created":1764000000,"choices":[{"index":0,"delta":{"content":"word %d"},'
    b'"finish_reason":null}],"t":%d}'
)
_LAST_CHUNK = (
    b'{"id":"cmpl-5f1d3c0a","object":"chat.completion.chunk","model":"mistral-small-latest",'
    b'"created":1764000000,"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":18,"completion_tokens":%d,"total_tokens":%d}}'
)
_PROMPT_TOKENS = 18
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_BLOCK = bytes(256 * 1024)
_BACKLOG = 4096


def _answer(status: bytes, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"mistral-correlation-id: 0197\r\nx-ratelimit-remaining-req-minute: 59\r\n\r\n%b" % (status, len(body), body)
    )


_COMPLETED = _answer(b"200 OK", _COMPLETION)
_REFUSED = _answer(b"401 Unauthorized", b'{"detail":"Unauthorized"}')


class Stream:
    """
    One SSE answer: an event whenever one is due, until it is told to end.
    """

    def __init__(self, transport: asyncio.WriteTransport, *, interval: float, phase: float) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._interval = interval
        self._sent = 0
        transport.write(_STREAM_HEAD)
        # Phases spread the streams over the interval. In step, they would measure a queue.
        self._due = self._loop.time() - interval * (1 - phase)
        self._timer = self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._write(b"data: %b\n\n" % (_CHUNK % (self._sent, time.monotonic_ns())))
        self._sent += 1
        self._due += self._interval
        self._timer = self._loop.call_at(self._due, self._send)

    def _write(self, event: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))

    def end(self) -> None:
        """Send usage and [DONE]; the connection may serve another request."""
        self._timer.cancel()
        last = _LAST_CHUNK % (self._sent, self._sent + _PROMPT_TOKENS)
        self._write(b"data: %b\n\ndata: [DONE]\n\n" % last)
        self._transport.write(b"0\r\n\r\n")

    def drop(self) -> None:
        """Send nothing more: the peer has left."""
        self._timer.cancel()


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
        self._target = b""
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
        self._received += len(body)

    def on_message_complete(self) -> None:
        target, received, admitted = self._target, self._received, self._admitted
        self._begin()
        self._admitted = False
        if not admitted:
            self._transport.write(_REFUSED)
        elif target.endswith(b"/chat/completions"):
            self._transport.write(_COMPLETED)
        else:
            parts = urlsplit(target.decode())
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            self._answer_slowly(asked, received)

    def _answer_slowly(self, asked: dict[str, str], received: int) -> None:
        if "interval_ms" in asked:
            if self._stream is not None:
                self._streams.discard(self._stream)
            self._stream = Stream(
                self._transport,
                interval=float(asked["interval_ms"]) / 1000,
                phase=float(asked["phase"]),
            )
            self._streams.add(self._stream)
        elif "bytes" in asked:
            self._left = int(asked["bytes"])
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % self._left
            )
            self._send_blocks()
        else:
            self._transport.write(_answer(b"200 OK", b'{"bytes":%d}' % received))

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
