"""
Many who chat at the same time, until the daemon is no more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from itertools import count
from threading import Event, Lock
from time import sleep

from tests.process.daemon import PATIENCE_SECONDS, Daemon, eventually
from tests.process.till import MODEL, NONCE

CUSTOMERS = ("mill", "bakery", "tavern")
TAG = "crowd"
REFUSED_SECONDS = 0.02
"""
So long whoever was refused waits: the others shall have the machine.
"""


def is_chunked(nonce: str) -> bool:
    """
    Whether the body of this call comes in chunks, so that nobody knows how long it will be.
    """
    return int(nonce[1:]) % 5 == 0


class Crowd:
    """
    Calls with one key. Each call has a nonce of its own, which is among its tags, and is for one of the `CUSTOMERS`.
    Some are answered at once, some in events; some bodies come in chunks; some leave as soon as they hear something.

    :param size: how many connections.
    :param first: the number in the first nonce; where there are several crowds, theirs must not overlap.
    :ivar may_be_refused: they hear 429 now and then, and go on.
    :ivar refused: how often they did.
    :ivar max_tokens: that each call says; ``None``: none does.
    :ivar whole: the nonces of the calls that were heard to their end.
    :ivar call_ids: of the calls whose answer began, by their nonces.
    """

    def __init__(self, key: str, size: int = 6, first: int = 1) -> None:
        self.size = size
        self.may_be_refused = False
        self.refused = 0
        self.whole: set[str] = set()
        self.call_ids: dict[str, str] = {}
        self.key = key
        self.max_tokens: int | None = None
        self._first = first
        self._numbers = count(first)
        self._made = first - 1
        self._lock = Lock()

    @property
    def nonces(self) -> set[str]:
        """
        Of all calls that were begun.
        """
        return {f"n{number}" for number in range(self._first, self._made + 1)}

    @contextmanager
    def calling(self, daemon: Daemon) -> Iterator[Event]:
        """
        Inside ``with`` they call, each again and again.

        :return: to be set before the daemon is ended, or when they shall end: until then each call must succeed.
        """
        over = Event()
        with ThreadPoolExecutor(self.size) as pool:
            calling = [pool.submit(self._call_on, daemon.port, over) for _ in range(self.size)]
            try:
                yield over
            finally:
                over.set()
        for each in calling:
            each.result()

    def wait_for(self, more: int) -> None:
        """
        Wait until *more* calls have been heard to their end.
        """
        enough = len(self.whole) + more
        eventually(lambda: len(self.whole) >= enough, f"{more} calls are answered")

    def wait_until_refused(self) -> None:
        """
        Wait until somebody hears 429.
        """
        before = self.refused
        eventually(lambda: self.refused > before, "somebody is refused")

    def call(self, connection: HTTPConnection) -> bool:
        """
        Make one call.

        :return: whether the connection can be used for another.
        """
        with self._lock:
            number = self._made = next(self._numbers)
        nonce = f"n{number}"
        streams, leaves = number % 2 == 0, number % 8 == 0
        asked = {"model": MODEL, "stream": streams, "messages": [{"role": "user", "content": "Count!"}]}
        body = json.dumps(asked if self.max_tokens is None else {**asked, "max_tokens": self.max_tokens})
        head = {
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "application/json",
            "x-dheera-end-user": CUSTOMERS[number % len(CUSTOMERS)],
            "x-dheera-tags": f"{TAG},{nonce}",
            NONCE: nonce,
        }
        parts = iter([body[:20].encode(), body[20:].encode()])
        connection.request("POST", "/mistral/v1/chat/completions", parts if is_chunked(nonce) else body, head)
        with connection.getresponse() as answer:
            if answer.status == 429 and self.may_be_refused:
                answer.read()
                with self._lock:
                    self.refused += 1
                sleep(REFUSED_SECONDS)
                return True
            assert answer.status == 200, (answer.status, answer.read())
            self.call_ids[nonce] = str(answer.getheader("x-dheera-call-id"))
            if leaves:
                answer.read(8)
                connection.close()
                return False
            answer.read()
        self.whole.add(nonce)
        return True

    def _call_on(self, port: int, over: Event) -> None:
        while not over.is_set():
            connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
            try:
                while not over.is_set() and self.call(connection):
                    pass
            except (OSError, HTTPException):
                if not over.is_set():
                    raise
            finally:
                connection.close()
