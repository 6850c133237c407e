"""
Exchanges of keys that may use some models only: bodies are read, and go up as they came.
"""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Add
from dheera.entities import Key, now
from dheera.keys import digest
from dheera.settings import KeySettings
from tests.house import LAST_CHUNK, House, in_chunks, read_answer, request
from tests.network import Peer

KEY = b"sk-virtual-0123456789"
BODY = b'{"model": "mistral-small-latest",  "messages": [{"role": "user", "content": "\xc3\xa9"}]}'
OTHER = b'{"model": "mistral-large-latest"}'
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class ModelListTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.build(KeySettings())

    def build(self, keys: KeySettings) -> None:
        self.house = House(master_key="sk-master-of-the-house", keys=keys)
        key = Key(
            id="k",
            created_at=now(),
            updated_at=now(),
            digest=digest(KEY),
            name="sk-...6789",
            models=["mistral-small-*"],
        )
        self.successResultOf(self.house.store.apply([Add(key)], []))

    def post(self, body: bytes, path: bytes = b"/mistral/v1/chat/completions", key: bytes = KEY) -> Peer:
        return self.house.ask(path, (b"Authorization", b"Bearer " + key), method=b"POST", body=body)

    def begin(self, *fields: tuple[bytes, bytes]) -> Peer:
        """
        The head of a request whose body is to come.
        """
        lines = ((b"Authorization", b"Bearer " + KEY), *fields)
        return self.house.send(request(b"/mistral/v1/chat/completions", *lines, method=b"POST"))

    def assert_forgotten(self) -> None:
        self.assertEqual(0, self.house.headroom.taken_bytes)

    def test_listed(self) -> None:
        """
        A body that names a listed model goes up byte for byte, however it came.
        """
        client = self.post(BODY)
        self.assertTrue(self.house.script.last.received.endswith(b"\r\n\r\n" + BODY))
        self.house.script.last.send(EMPTY)
        self.assertEqual(200, read_answer(client.received).status)
        client = self.begin((b"Transfer-Encoding", b"chunked"))
        client.send(in_chunks(BODY[:20]))
        self.assertEqual(20, self.house.headroom.taken_bytes)
        client.send(in_chunks(BODY[20:]) + LAST_CHUNK)
        self.assertIn(BODY, self.house.script.last.received)
        self.house.script.last.send(EMPTY)
        self.assert_forgotten()

    def test_not_listed(self) -> None:
        """
        A body that names another model, or none, is refused, and upstream hears nothing.
        """
        for body in (OTHER, b"{}", b"", b"no JSON"):
            answer = read_answer(self.post(body).received)
            said = json.loads(answer.body)["error"]
            self.assertEqual((403, "key_model_access_denied", "model"), (answer.status, said["type"], said["param"]))
        self.assertEqual([], self.house.script.connections)
        self.assert_forgotten()

    def test_others_are_not_read(self) -> None:
        """
        The master key's bodies are not looked into: large ones pass before they are complete.
        """
        lines = ((b"Authorization", b"Bearer sk-master-of-the-house"), (b"Content-Length", b"1000000"))
        client = self.house.send(request(b"/mistral/v1/files", *lines, method=b"POST"))
        client.send(b"x" * 10)
        self.assertTrue(self.house.script.last.received.endswith(b"x" * 10))

    def test_too_large(self) -> None:
        """
        A body beyond the limit is refused before the client is asked for it.
        """
        self.build(KeySettings(inspected_bytes=100))
        client = self.begin((b"Content-Length", b"101"), (b"Expect", b"100-continue"))
        self.assertEqual(413, read_answer(client.received).status)
        self.assert_forgotten()

    def test_too_large_together(self) -> None:
        """
        When the bodies that are kept are too large together, the next has to come again; what is kept is forgotten when
        its client leaves, when upstream fails, and when its exchange is over.
        """
        self.build(KeySettings(inspected_bytes=100, inspected_together_bytes=150))
        length = (b"Content-Length", b"100")
        first = self.begin(length)
        answer = read_answer(self.begin(length).received)
        self.assertEqual((503, [b"1"]), (answer.status, answer.values(b"retry-after")))
        first.reset()
        self.assert_forgotten()
        second = self.begin(length)
        second.send(BODY.ljust(100))
        self.house.script.last.reset()
        self.assertEqual(502, read_answer(second.received).status)
        self.assert_forgotten()
