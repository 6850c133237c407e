"""
What the stand-in for Mistral answers, and the words that tell it so.
"""

from __future__ import annotations

import asyncio
import re
import time

_TEXT = b"Start at the Ile de la Cite, cross the river to the Louvre, then walk on. " * 3
_COMPLETION = (
    b'{"id":"cmpl-5f1d3c0a","object":"chat.completion","model":"mistral-small-latest",'
    b'"created":1764000000,"choices":[{"index":0,"finish_reason":"stop","message":'
    b'{"role":"assistant","tool_calls":null,"content":"%b"}}],"usage":{"prompt_tokens":18,'
    b'"completion_tokens":51,"total_tokens":69}}'
)
_CHUNK = (
    b'{"id":"cmpl-5f1d3c0a","object":"chat.completion.chunk","model":"mistral-small-latest",'
    b'"created":1764000000,"choices":[{"index":0,"delta":{"content":"%b"},'
    b'"finish_reason":null}]}'
)
_LAST_CHUNK = (
    b'{"id":"cmpl-5f1d3c0a","object":"chat.completion.chunk","model":"mistral-small-latest",'
    b'"created":1764000000,"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":18,"completion_tokens":%d,"total_tokens":%d}}'
)
# The sender's clock travels as text, which translating proxies leave alone; so does the sum at the end.
_WORD = b"word %d @%d "
_SUM = b"sum %d "
_PROMPT_TOKENS = 18
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def answer(status: bytes, body: bytes) -> bytes:
    """
    A whole answer of JSON, head and body.
    """
    return (
        b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"mistral-correlation-id: 0197\r\nx-ratelimit-remaining-req-minute: 59\r\n\r\n%b" % (status, len(body), body)
    )


def completed(text: bytes = _TEXT) -> bytes:
    """
    A completion with this text.
    """
    return answer(b"200 OK", _COMPLETION % text)


COMPLETED = completed()
REFUSED = answer(b"401 Unauthorized", b'{"detail":"Unauthorized"}')


_TOLD = re.compile(rb"\[bench ([^\]]*)\]")


def told(**directives: float) -> str:
    """
    Words of a user that tell the stand-in what to answer.
    """
    return f"[bench {' '.join(f'{name}={value}' for name, value in directives.items())}] " if directives else ""


def directives_in(beginning: bytes) -> dict[bytes, float]:
    """
    What such words tell, within the beginning of a body.
    """
    found = _TOLD.search(beginning) if b"[bench " in beginning else None
    if found is None:
        return {}
    pairs = (pair.partition(b"=") for pair in found[1].split())
    return {name: float(value) for name, _, value in pairs}


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
        self._write(b"data: %b\n\n" % (_CHUNK % (_WORD % (self._sent, time.monotonic_ns()))))
        self._sent += 1
        self._due += self._interval
        self._timer = self._loop.call_at(self._due, self._send)

    def _write(self, event: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))

    def end(self) -> None:
        """Send usage and [DONE]; the connection may serve another request."""
        self._timer.cancel()
        self._write(b"data: %b\n\n" % (_CHUNK % (_SUM % self._sent)))
        last = _LAST_CHUNK % (self._sent, self._sent + _PROMPT_TOKENS)
        self._write(b"data: %b\n\ndata: [DONE]\n\n" % last)
        self._transport.write(b"0\r\n\r\n")

    def drop(self) -> None:
        """Send nothing more: the peer has left."""
        self._timer.cancel()
