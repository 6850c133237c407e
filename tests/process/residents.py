"""
Those who call from machines apart: the daemon beside them, and the upstream behind it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

from attrs import frozen

from tests.process.bearers import MASTER_KEY, Answer, Bearer
from tests.process.daemon import PATIENCE_SECONDS, Daemon
from tests.process.namespaces import Machine
from tests.process.peers import STREAM_HEAD, Peer, chunk, connect, request
from tests.process.test_store_away import is_ready
from tests.process.till import COMPLETION_NANO, MODEL, NONCE, PROMPT_NANO, Till, used

CHAT = "/mistral/v1/chat/completions"
BODY: dict[str, Any] = {"model": MODEL, "max_tokens": 13, "messages": [{"role": "user", "content": "Count!"}]}
BOUND = PROMPT_NANO * len(json.dumps(BODY)) + COMPLETION_NANO * 13
"""
What such a chat may cost at most, in nano-dollars.
"""
USUAL = "n0"
"""
What a chat is to the till that says nothing of itself.
"""

AWAY, BACK = "PostgreSQL is away", "PostgreSQL is back"


class GatedTill(Till):
    """
    A till where chats may be held up: before their answer; in a stream, after its first event.
    """

    def __init__(self) -> None:
        super().__init__(0.0)
        self._gates: dict[str, Event] = {}

    def shut(self, nonce: str) -> None:
        """
        Hold up chats with this nonce from now on.
        """
        self._gates[nonce] = Event()

    def open(self, nonce: str) -> None:
        """
        Let them go on.
        """
        self._gates.pop(nonce, Event()).set()

    def _answer(self, peer: Peer, nonce: str, pause: float) -> None:
        self._wait(nonce)
        super()._answer(peer, nonce, pause)

    def _stream(self, peer: Peer, nonce: str, pause: float) -> None:  # noqa: ARG002 - as it is called
        choice = {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
        event = {"id": nonce, "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
        peer.send(STREAM_HEAD + _event(event))
        self._wait(nonce)
        peer.send(_event({**event, "usage": used(nonce)}) + chunk(b"data: [DONE]\n\n") + chunk(b""))

    def _wait(self, nonce: str) -> None:
        gate = self._gates.get(nonce)
        assert gate is None or gate.wait(2 * PATIENCE_SECONDS)


@frozen
class Resident(Bearer):
    """
    Somebody who calls from the machine of the daemon.
    """

    machine: Machine

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """
        As `Bearer.ask`.
        """
        return self.machine.do(Bearer.ask, self, method, path, body)

    def chat(self, model: str = MODEL) -> Answer:
        """
        Make a call of which it is known what it costs.
        """
        return self.ask("POST", CHAT, {**BODY, "model": model})

    @contextmanager
    def streaming(self, nonce: str) -> Iterator[tuple[str, Peer]]:
        """
        Inside ``with`` there is a stream whose first event has come.

        :return: the id of the call, and the client.
        """
        body = json.dumps({**BODY, "stream": True}).encode()
        lines = f"Authorization: Bearer {self.key}", "Content-Type: application/json", f"{NONCE}: {nonce}"
        with self.machine.do(connect, self.daemon.port) as peer:
            peer.send(request("POST", CHAT, *map(str.encode, lines), body=body))
            head = peer.head().decode("ascii").lower()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
            assert peer.chunk()
            yield fields["x-dheera-call-id"], peer


@frozen
class Node:
    """
    A daemon on a machine.
    """

    name: str
    machine: Machine
    daemon: Daemon

    def with_key(self, key: str) -> Resident:
        """
        Somebody who calls here.
        """
        return Resident(self.daemon, key, self.machine)

    @property
    def chief(self) -> Resident:
        """
        Who runs it.
        """
        return self.with_key(MASTER_KEY)

    def is_ready(self) -> bool:
        """
        Whether it says so; else it says that the database is away.
        """
        return self.machine.do(is_ready, self.daemon)

    @property
    def is_cut_off(self) -> bool:
        """
        Whether it has told the operator so, and not yet that it is back.
        """
        return self.daemon.log.count(AWAY) > self.daemon.log.count(BACK)


def _event(document: object) -> bytes:
    return chunk(b"data: %b\n\n" % json.dumps(document).encode())
