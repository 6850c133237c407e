"""
Callers who write each byte of their requests, and what they hear.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.process import ledgers
from tests.process.bearers import MODEL, Answer
from tests.process.daemon import Daemon, eventually
from tests.process.peers import Peer, chunk, connect, request

CHAT = "/mistral/v1/chat/completions"
BODY: dict[str, Any] = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
"""
A chat that costs between a thousandth of a cent and ten times as much.
"""

PLACES = "select sum(held) from allowances where kind = 'parallel'"


def chat(key: str, *lines: bytes, body: bytes | None = None, path: str = CHAT, method: str = "POST") -> bytes:
    """
    A request with that key.

    :param lines: further header lines.
    :param body: `BODY` unless it is given.
    """
    content = json.dumps(BODY).encode() if body is None else body
    return request(method, path, *_lines(key), *lines, body=content)


def head(key: str, *lines: bytes, path: str = CHAT, method: str = "POST") -> bytes:
    """
    The head of a request whose header lines tell what follows.
    """
    return request(method, path, *_lines(key), *lines)


@contextmanager
def taking_place(daemon: Daemon, url: str, key: str) -> Iterator[Callable[[], None]]:
    """
    A call inside ``with`` that takes a place among the parallel calls of *key*, since its body does not end.

    :param url: of the database, where nobody else has such a place.
    :return: to be called when it is to end.
    """
    with connect(daemon.port) as client:
        # No end user can be named in it: it is not waited for.
        lines = _lines(key)[0], b"Content-Type: application/octet-stream", b"Transfer-Encoding: chunked"
        client.send(request("POST", CHAT, *lines))
        eventually(lambda: ledgers.total(url, PLACES) == 1, "the place is taken")

        def end() -> None:
            client.send(chunk(json.dumps(BODY).encode()) + chunk(b""))
            assert heard(client).fields.get("x-dheera-error-source") != "dheera"

        yield end


def heard(client: Peer) -> Answer:
    """
    The next answer.
    """
    said, content = client.message()
    status, *lines = said.decode("latin-1").split("\r\n")[:-2]
    fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return Answer(int(status.split()[1]), fields, content)


def asked(daemon: Daemon, whole: bytes) -> Answer:
    """
    What is answered to *whole*, on a connection of its own.
    """
    with connect(daemon.port) as client:
        client.send(whole)
        return heard(client)


def _lines(key: str) -> tuple[bytes, ...]:
    return b"Authorization: Bearer " + key.encode(), b"Content-Type: application/json"
