"""
Somebody whom a webhook sink sends to, who may be there or not.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock
from types import TracebackType
from typing import Any, Self

from tests.process.peers import Peer, Upstream, answer


class Receiver:
    """
    A place that is kept free inside ``with``: whoever calls is refused, but for when it is `on`.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._batches: list[bytes] = []
        self._heads: list[bytes] = []
        self._answers = Event()
        self._answers.set()

    def __enter__(self) -> Self:
        # What is bound and does not listen refuses, and can be bound again.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port: int = self._place.getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._place.close()

    @property
    def url(self) -> str:
        """
        Where to send.
        """
        return f"http://127.0.0.1:{self.port}/records"

    @contextmanager
    def on(self) -> Iterator[None]:
        """
        Inside ``with`` it takes what comes.
        """
        with Upstream(self._script, port=self.port):
            yield

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """
        Inside ``with`` it listens, and answers nothing. What it heard meanwhile it has not taken.
        """
        self._answers.clear()
        try:
            with Upstream(self._script, port=self.port):
                yield
        finally:
            self._answers.set()

    @property
    def content(self) -> bytes:
        """
        All bytes that it has taken, heads too.
        """
        with self._lock:
            return b"".join(self._heads + self._batches)

    @property
    def lines(self) -> list[Any]:
        """
        All that it was told, in order, as often as it was told.
        """
        with self._lock:
            return [each for batch in self._batches for each in json.loads(batch)]

    @property
    def call_ids(self) -> list[str]:
        """
        The ids of the calls among it.
        """
        return [each["call_id"] for each in self.lines if each["line"] == "end"]

    def _script(self, peer: Peer) -> None:
        while True:
            head, body = peer.message()
            if not self._answers.is_set():
                peer.gone()
                return
            with self._lock:
                self._heads.append(head)
                self._batches.append(body)
            peer.send(answer())
