"""
The exact bytes that upstream receives: treq stands between, and adds nothing.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.proxy.upstream import Client, Upstream
from tests.house import UPSTREAM_KEY, House, read_answer, request
from tests.proxy.strategies import free_lines, paths, queries
from tests.strategies import bodies
from tests.wire.caller import OK

HOST = b"Host: 10.0.0.9:8000\r\n"
AUTHORIZATION = b"Authorization: Bearer " + UPSTREAM_KEY.encode() + b"\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"


class Sent(SynchronousTestCase):
    """
    What goes up.
    """

    def test_get(self) -> None:
        """
        A request without header lines has ``Host`` and our credential, and nothing that a library would add.
        """
        house = House()
        house.send(b"GET /mistral/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual(b"GET /v1/models HTTP/1.1\r\n" + HOST + AUTHORIZATION + b"\r\n", house.script.last.received)

    def test_guide(self) -> None:
        """
        What curl sends as the guide has it, bearer anything and all.
        """
        house = House()
        content = b'{"model": "mistral-ocr-latest", }'
        house.send(
            b"POST /mistral/v1/ocr HTTP/1.1\r\nHost: 0.0.0.0:4000\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n"
            b"Content-Type: application/json\r\nAuthorization: bearer anything\r\nContent-Length: 33\r\n\r\n" + content
        )
        self.assertEqual(
            b"POST /v1/ocr HTTP/1.1\r\n" + HOST + b"User-Agent: curl/7.88.1\r\nAccept: */*\r\n"
            b"Content-Type: application/json\r\n" + AUTHORIZATION + b"Content-Length: 33\r\n\r\n" + content,
            house.script.last.received,
        )

    def test_methods(self) -> None:
        """
        Each method goes up as itself, with a body or without one, or with an empty one.
        """
        house = House()
        for method in (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"):
            for body, framed in [
                (None, b"\r\n"),
                (b"", b"Content-Length: 0\r\n\r\n"),
                (b"{}", b"Content-Length: 2\r\n\r\n{}"),
            ]:
                client = house.ask(b"/mistral/v1/x", method=method, body=body)
                expected = method + b" /v1/x HTTP/1.1\r\n" + HOST + AUTHORIZATION + framed
                self.assertEqual(expected, house.script.last.taken())
                house.script.last.send(EMPTY)
                self.assertEqual(200, read_answer(client.received, method).status)
        self.assertEqual(1, len(house.script.connections))

    @given(paths(), queries(), st.lists(free_lines(), max_size=5), st.one_of(st.none(), bodies()))
    def test_any(self, path: bytes, query: bytes, fields: list[tuple[bytes, bytes]], body: bytes | None) -> None:
        """
        Whatever a client sends goes up byte for byte: target, header lines, body.
        """
        house = House(base="http://10.0.0.9:8000/llm")
        house.send(request(b"/mistral/v1" + path + query, *fields, method=b"POST", body=body))
        lines = b"".join(b"%b: %b\r\n" % line for line in fields)
        framing = b"" if body is None else b"Content-Length: %d\r\n" % len(body)
        self.assertEqual(
            b"POST /llm/v1" + path + query + b" HTTP/1.1\r\n" + HOST + lines + AUTHORIZATION + framing + b"\r\n"
            + (body or b""),
            house.script.last.received,
        )  # fmt: skip

    def test_cookies(self) -> None:
        """
        A cookie that upstream sets reaches nobody: not this client, not upstream again, not the next client.
        """
        house = House()
        client = house.ask(b"/mistral/v1/x", (b"Cookie", b"mine=1"))
        house.script.last.send(
            OK + b"Set-Cookie: __cf_bm=tenant-one; path=/; domain=.mistral.ai\r\nset-cookie2: a=b\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        self.assertNotIn(b"cookie", client.received.lower())
        house.ask(b"/mistral/v1/x")
        self.assertNotIn(b"cookie", house.script.last.received.lower())
        self.assertNotIn(b"tenant-one", house.script.last.received + client.received)

    def test_redirects(self) -> None:
        """
        Redirects are the client's to follow.
        """
        for status in (b"301", b"302", b"303", b"307", b"308"):
            house = House()
            house.network.listen(house.script, "10.0.0.10", 80)
            client = house.ask(b"/mistral/v1/x/")
            house.script.last.send(
                b"HTTP/1.1 " + status + b" Elsewhere\r\nLocation: http://10.0.0.10/v1/x\r\nContent-Length: 0\r\n\r\n"
            )
            answer = read_answer(client.received)
            self.assertEqual((int(status), [b"http://10.0.0.10/v1/x"]), (answer.status, answer.values(b"location")))
            self.assertEqual(1, len(house.script.connections))
            self.assertEqual(1, house.script.last.received.count(b"HTTP/1.1\r\n"))

    def test_no_key(self) -> None:
        """
        Without a key nothing is sent, and the answer names the variable.
        """
        house = House(api_key=None)
        answer = read_answer(house.ask(b"/mistral/v1/models").received)
        self.assertEqual(503, answer.status)
        self.assertIn(b"MISTRAL_API_KEY", answer.body)
        self.assertEqual([], house.script.connections)
        self.assertTrue(house.upstream.lacks_key)

    def test_close(self) -> None:
        """
        Closing closes the connections that are kept.
        """
        house = House()
        house.ask(b"/mistral/v1/x").close()
        house.ask(b"/mistral/v1/x")
        house.script.last.send(EMPTY)
        house.agent.close()
        house.network.settle()
        self.assertEqual("reset", house.script.last.ended)


class Verbs(SynchronousTestCase):
    """
    treq's client with one verb more.
    """

    def test_treq(self) -> None:
        """
        The verbs of treq work above our agent too: they are for calls of our own.
        """
        house = House()
        network: Any = house.network
        answered = Client(house.agent).get("http://10.0.0.9:8000/v1/models?a=b", reactor=network)
        house.network.settle()
        self.assertTrue(house.script.last.received.startswith(b"GET /v1/models?a=b HTTP/1.1\r\n" + HOST))
        house.script.last.send(OK + b"Content-Length: 5\r\n\r\nhello")
        self.assertEqual("hello", self.successResultOf(self.successResultOf(answered).text()))

    def test_secret(self) -> None:
        """
        Upstream's ``repr`` does not show the key.
        """
        upstream: Any = House().upstream
        self.assertIsInstance(upstream, Upstream)
        self.assertNotIn(UPSTREAM_KEY, repr(upstream))
