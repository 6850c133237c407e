"""
An upstream that says what each chat used, and remembers which chats it saw.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from threading import Lock
from time import sleep
from typing import Any

from tests.process.peers import STREAM_HEAD, Peer, chunk

MODEL = "abacus"
PRICES = f"""
[prices]
source = "the till"
{MODEL} = {{ input_per_million = 0.15, output_per_million = 0.6, context_tokens = 4096 }}
"""
PROMPT_NANO, COMPLETION_NANO = 150, 600
"""
What a token of that model costs.
"""

NONCE = "x-nonce"
"""
The header line, of no meaning to anybody else, that tells chats apart.
"""
WORDS = 4


def used(nonce: str) -> dict[str, int]:
    """
    What a chat uses: not much, and not all the same.
    """
    number = int(nonce[1:])
    prompt, completion = 1 + number % 89, 1 + number % 13
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def nano_cost(nonce: str) -> int:
    """
    What it costs, in nano-dollars.
    """
    usage = used(nonce)
    return PROMPT_NANO * usage["prompt_tokens"] + COMPLETION_NANO * usage["completion_tokens"]


class Till:
    """
    Answers chats, in one piece or in events, some at once and some after a while.

    :param seconds: how long the slow ones take.
    """

    def __init__(self, seconds: float = 0.02) -> None:
        self._seconds = seconds
        self._lock = Lock()
        self._seen: list[str] = []
        self._turns = count()

    @property
    def seen(self) -> list[str]:
        """
        The chats whose head came, in order, each as often as it came.
        """
        with self._lock:
            return [*self._seen]

    def script(self, peer: Peer) -> None:
        """
        One connection.
        """
        while True:
            head = peer.head()
            lines = dict(line.lower().split(": ", 1) for line in head.decode("ascii").split("\r\n")[1:-2])
            nonce = lines.get(NONCE, "n0")
            with self._lock:
                self._seen.append(nonce)
            if lines.get("transfer-encoding") == "chunked":
                body = b"".join(peer.chunks())
            else:
                body = peer.exactly(int(lines["content-length"]))
            pause = self._seconds if next(self._turns) % 2 else 0.0
            if json.loads(body).get("stream"):
                self._stream(peer, nonce, pause)
            else:
                self._answer(peer, nonce, pause)

    def _answer(self, peer: Peer, nonce: str, pause: float) -> None:
        sleep(pause)
        message = {"role": "assistant", "content": "word " * WORDS}
        body = _dumps({**_head(nonce), "choices": [{"index": 0, "message": message}], "usage": used(nonce)})
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        peer.send(head + body)

    def _stream(self, peer: Peer, nonce: str, pause: float) -> None:
        peer.send(STREAM_HEAD)
        for event in _events(nonce):
            peer.send(chunk(b"data: %b\n\n" % event))
            sleep(pause / WORDS)
        peer.send(chunk(b"data: [DONE]\n\n") + chunk(b""))


def _head(nonce: str) -> dict[str, Any]:
    return {"id": nonce, "object": "chat.completion", "created": 1, "model": MODEL}


def _events(nonce: str) -> Iterator[bytes]:
    for _ in range(WORDS):
        yield _dumps({**_head(nonce), "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]})
    last = {"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}
    yield _dumps({**_head(nonce), "choices": [last], "usage": used(nonce)})


def _dumps(value: object) -> bytes:
    return json.dumps(value).encode()
