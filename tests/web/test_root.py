"""
The URL tree, from outside.
"""

from __future__ import annotations

import json
from uuid import UUID

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from dheera import __version__
from dheera.routes import TAKEN
from dheera.web.passthrough import METHODS
from tests.house import Answer, House, read_answer
from tests.strategies import targets

ALL_METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE"]


class Tree(SynchronousTestCase):
    """
    A house that is asked.
    """

    def setUp(self) -> None:
        self.house = House(master_key="sk-master")

    def ask(self, path: bytes, method: bytes = b"GET") -> Answer:
        """
        Ask without any credential. Every answer is stamped and nothing reaches upstream.
        """
        client = self.house.ask(path, method=method)
        answer = read_answer(client.received, method)
        self.assertTrue(answer.complete)
        self.assertEqual(b"", answer.rest)
        (call_id,) = answer.values(b"x-dheera-call-id")
        self.assertEqual(7, UUID(call_id.decode()).version)
        self.assertEqual(1, len(answer.values(b"date")))
        self.assertEqual([], self.house.script.connections)
        client.close()
        return answer

    def test_root(self) -> None:
        """
        ``GET /`` says what this is and where to go.
        """
        answer = self.ask(b"/")
        said = json.loads(answer.body)
        self.assertEqual((200, "dheera", __version__), (answer.status, said["name"], said["version"]))
        self.assertEqual("/mistral", said["mistral"])
        self.assertEqual([b"application/json"], answer.values(b"content-type"))
        self.assertEqual(answer.body, self.ask(b"/?x=y").body)

    def test_taken(self) -> None:
        """
        What stands for a part of this API is kept for it: no upstream can have it as its prefix.
        """
        root = self.house.site.resource
        ours = {name.decode() for name in root.listStaticNames()} - {""}
        self.assertEqual({"mistral"}, ours - TAKEN)

    def test_alive(self) -> None:
        """
        Both spellings, the sentence that users of such proxies look for.
        """
        for path in (b"/health/liveliness", b"/health/liveness"):
            answer = self.ask(path)
            self.assertEqual((200, "I'm alive!"), (answer.status, json.loads(answer.body)))

    def test_ready(self) -> None:
        """
        Ready, until we are about to stop: then not, and when to ask again.
        """
        answer = self.ask(b"/health/readiness")
        words = {"db": "connected", "spool": "writable"}
        self.assertEqual((200, {"status": "ready", **words}), (answer.status, json.loads(answer.body)))
        client = self.house.connect()
        client.send(b"GET /health/readiness HTTP/1.1\r\n")
        self.house.site.drain()
        client.send(b"Host: localhost\r\n\r\n")
        answer = read_answer(client.received)
        self.assertEqual((503, {"status": "draining", **words}), (answer.status, json.loads(answer.body)))
        self.assertEqual([b"1"], answer.values(b"retry-after"))
        self.assertEqual("closed", client.ended)

    def test_database_away(self) -> None:
        """
        Not ready while the database is away, and ready when it is back.
        """
        self.house.store.fail()
        answer = self.ask(b"/health/readiness")
        expected = {"status": "database away", "db": "Not connected", "spool": "writable"}
        self.assertEqual((503, expected), (answer.status, json.loads(answer.body)))
        self.house.store.recover()
        self.assertEqual(200, self.ask(b"/health/readiness").status)

    def test_pages_for_admins(self) -> None:
        """
        How much is under way, and how sinks do, is for the master key; metrics are for everybody.
        """
        house = House(master_key="sk-master-canary")
        for path in (b"/health/backlog", b"/health/services"):
            self.assertEqual(401, read_answer(house.ask(path).received).status)
            self.assertEqual(401, read_answer(house.ask(path, (b"Authorization", b"Bearer sk-other")).received).status)
            answer = read_answer(house.ask(path, (b"Authorization", b"Bearer sk-master-canary")).received)
            self.assertEqual((200, True), (answer.status, answer.complete))
        answer = read_answer(house.ask(b"/health/backlog", (b"Authorization", b"Bearer sk-master-canary")).received)
        self.assertEqual({"in_flight_requests": 0}, json.loads(answer.body))
        answer = read_answer(house.ask(b"/metrics").received)
        self.assertEqual([b"text/plain; version=0.0.4; charset=utf-8"], answer.values(b"content-type"))
        self.assertIn(b"dheera_in_flight_requests 0.0", answer.body)
        self.assertEqual(405, read_answer(house.ask(b"/metrics", method=b"POST", body=b"").received).status)

    def test_head(self) -> None:
        """
        HEAD is GET without the body.
        """
        for path in (b"/", b"/health/liveliness", b"/health/readiness"):
            head, got = self.ask(path, b"HEAD"), self.ask(path)
            self.assertEqual((200, b""), (head.status, head.body))
            self.assertEqual([b"%d" % len(got.body)], head.values(b"content-length"))

    def test_other_methods(self) -> None:
        """
        Pages can only be looked at.
        """
        for path in (b"/", b"/health/liveliness", b"/health/readiness"):
            for method in ALL_METHODS[2:]:
                answer = self.ask(path, method)
                self.assertEqual((405, [b"GET, HEAD"]), (answer.status, answer.values(b"allow")))
                self.assertEqual("405", json.loads(answer.body)["error"]["code"])

    def test_unknown(self) -> None:
        """
        All else is 404 in our JSON shape, for every method.
        """
        for path in [
            b"/x",
            b"/mistralx/v1/ocr",
            b"/Mistral/v1/ocr",
            b"/mistral",
            b"/mistral?x",
            b"/%6distral/v1/ocr",
            b"/%6Distral/",
            b"//mistral/v1/ocr",
            b"//",
            b"/v1/ocr",
            b"/health",
            b"/health/",
            b"/health/x",
            b"/health/liveliness/",
            b"/health/liveliness/x",
            b"/%68ealth/x",
            b"/metricsx",
            b"/key",
            b"/key/nothing",
            b"/keys/generate",
            b"/favicon.ico",
        ]:
            for method in ALL_METHODS:
                if method == b"TRACE" and b"mistral" in path.replace(b"%6d", b"m").replace(b"%6D", b"m"):
                    continue
                answer = self.ask(path, method)
                self.assertEqual(404, answer.status, (method, path))
                self.assertEqual([b"dheera"], answer.values(b"x-dheera-error-source"))
                if method != b"HEAD":
                    self.assertEqual("not_found_error", json.loads(answer.body)["error"]["type"])

    @given(targets())
    def test_any_target(self, target: bytes) -> None:
        """
        Whatever is asked for without a key, upstream hears nothing and nothing breaks.
        """
        self.house = House(master_key="sk-master")
        self.assertIn(self.ask(target).status, (200, 400, 401, 404))

    def test_passed_on(self) -> None:
        """
        Below ``/mistral/`` every method that a client may send goes to an exchange; TRACE would send our key back.
        """
        self.assertEqual(METHODS, [method.decode() for method in ALL_METHODS[:-1]])
        for method in ALL_METHODS[:-1]:
            self.assertEqual(401, self.ask(b"/mistral/v1/models", method).status)
        answer = self.ask(b"/mistral/v1/models", b"TRACE")
        self.assertEqual(405, answer.status)
        self.assertEqual([b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"], answer.values(b"allow"))
        self.assertEqual(b"", b"".join(peer.received for peer in self.house.script.connections))

    def test_asterisk(self) -> None:
        """
        ``OPTIONS *`` asks about this server, and is answered by it.
        """
        self.assertEqual(204, self.ask(b"*", b"OPTIONS").status)
