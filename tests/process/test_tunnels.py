"""
WebSockets through the daemon, between a real client and a real server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from queue import Queue
from threading import Event, Thread
from unittest import TestCase

from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.http11 import Request, Response
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from tests.process.daemon import PATIENCE_SECONDS, UPSTREAM_KEY, in_front_of

PATH = "/v1/audio/transcriptions/realtime?model=m%20x&empty="
MASTER_KEY = "sk-master"


class Room:
    """
    A WebSocket upstream: it sends back what it gets, and closes as it is told to by "close 4001 why".

    :ivar closings: code and reason of each connection's end, as it has seen them.
    """

    def __init__(self) -> None:
        self.closings: Queue[tuple[int, str]] = Queue()
        self.handshakes: list[Request] = []
        self.pinged = Event()

    def answer(self, connection: ServerConnection) -> None:
        """
        One connection.
        """
        assert connection.request is not None
        self.handshakes.append(connection.request)
        try:
            for message in connection:
                if isinstance(message, str) and message.startswith("close "):
                    _, code, reason = message.split(" ", 2)
                    connection.close(int(code), reason)
                elif message == "ping":
                    assert connection.ping(b"are you there").wait(PATIENCE_SECONDS)
                    self.pinged.set()
                elif message == "die":
                    connection.socket.shutdown(2)
                else:
                    connection.send(message)
            assert connection.close_code is not None
            self.closings.put((connection.close_code, connection.close_reason or ""))
        except ConnectionClosed as closed:
            received = closed.rcvd
            self.closings.put((received.code, received.reason) if received else (1006, ""))

    def refuse(self, connection: ServerConnection, request: Request) -> Response | None:
        """
        Refuse the handshake if its path says so.
        """
        if "refuse" in request.path:
            return connection.respond(HTTPStatus.PAYMENT_REQUIRED, "no money\n")
        return None


@contextmanager
def opened(room: Room) -> Iterator[str]:
    """
    A room's base URL.
    """
    server: Server
    with serve(
        room.answer,
        "127.0.0.1",
        0,
        process_request=room.refuse,
        subprotocols=[Subprotocol("b"), Subprotocol("c")],
        ping_interval=None,
        max_size=None,
    ) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            serving.join(PATIENCE_SECONDS)


class TunnelTests(TestCase):
    """
    After the handshake both ends speak as if there were nobody between them.
    """

    def setUp(self) -> None:
        self.room = Room()
        self.daemon = self.enterContext(in_front_of(self.enterContext(opened(self.room))))

    def connected(self, path: str = PATH, key: str = "anything") -> ClientConnection:
        """
        A client in the room.
        """
        return self.enterContext(
            connect(
                self.daemon.mistral.replace("http:", "ws:") + path,
                additional_headers={"Authorization": f"Bearer {key}", "Cookie": "a=b", "X-Api-Key": key},
                subprotocols=[Subprotocol("a"), Subprotocol("b")],
                ping_interval=None,
                max_size=None,
            )
        )

    def test_handshake(self) -> None:
        """
        The target passes as written, the credential is replaced, cookies stay here; subprotocol and extension are
        agreed between the two ends.
        """
        client = self.connected()
        client.send("hello")
        self.assertEqual("hello", client.recv())
        [handshake] = self.room.handshakes
        self.assertEqual(PATH, handshake.path)
        self.assertEqual([f"Bearer {UPSTREAM_KEY}"], handshake.headers.get_all("Authorization"))
        self.assertNotIn("Cookie", handshake.headers)
        self.assertNotIn("X-Api-Key", handshake.headers)
        self.assertEqual("b", client.subprotocol)
        assert client.response is not None
        self.assertIn("permessage-deflate", client.response.headers["Sec-WebSocket-Extensions"])
        self.assertRegex(client.response.headers["x-dheera-call-id"], "^[0-9a-f-]{36}$")

    def test_messages(self) -> None:
        """
        Text and binary, empty and of some megabytes, in one frame and in many: each comes back as it was.
        """
        client = self.connected()
        large = os.urandom(3 << 20)
        for message in "", "Grüße", b"", bytes(range(256)), "x" * (1 << 20), large:
            client.send(message)
            self.assertEqual(message, client.recv(PATIENCE_SECONDS))
        client.send([b"in ", b"three ", b"frames"])
        self.assertEqual(b"in three frames", client.recv())
        client.send(["a", "", "b"])
        self.assertEqual(["ab"], [*client.recv_streaming()])

    def test_pings(self) -> None:
        """
        Pings of either end are answered by the other end, not by us.
        """
        client = self.connected()
        self.assertTrue(client.ping(b"\x00payload").wait(PATIENCE_SECONDS))
        client.send("ping")
        client.send("next")
        self.assertEqual("next", client.recv(PATIENCE_SECONDS))
        self.assertTrue(self.room.pinged.wait(PATIENCE_SECONDS))

    def test_client_closes(self) -> None:
        """
        Code and reason of the client's closing reach upstream.
        """
        client = self.connected()
        client.close(4002, "had enough")
        self.assertEqual((4002, "had enough"), self.room.closings.get(timeout=PATIENCE_SECONDS))

    def test_upstream_closes(self) -> None:
        """
        Code and reason of upstream's closing reach the client.
        """
        for code, reason in (1000, ""), (1008, "not allowed"), (4001, "quota exceeded"), (1013, "später"):
            client = self.connected()
            client.send(f"close {code} {reason}")
            with self.assertRaises(ConnectionClosed) as closed:
                client.recv(PATIENCE_SECONDS)
            assert closed.exception.rcvd is not None
            self.assertEqual((code, reason), (closed.exception.rcvd.code, closed.exception.rcvd.reason))

    def test_upstream_dies(self) -> None:
        """
        A connection that upstream drops without a word is dropped without a word.
        """
        client = self.connected()
        client.send("die")
        with self.assertRaises(ConnectionClosedError) as closed:
            client.recv(PATIENCE_SECONDS)
        self.assertIsNone(closed.exception.rcvd)

    def test_client_dies(self) -> None:
        """
        So it is the other way round.
        """
        client = self.connected()
        client.socket.shutdown(2)
        self.assertEqual((1006, ""), self.room.closings.get(timeout=PATIENCE_SECONDS))

    def test_refused(self) -> None:
        """
        A refusal by upstream arrives as the HTTP answer that it is.
        """
        with self.assertRaises(InvalidStatus) as refused:
            self.connected("/v1/refuse")
        response = refused.exception.response
        self.assertEqual(402, response.status_code)
        self.assertEqual(b"no money\n", response.body)
        self.assertEqual("upstream", response.headers["x-dheera-error-source"])


class GuardedTests(TestCase):
    """
    A daemon with a master key.
    """

    def test_key(self) -> None:
        """
        The handshake needs the key; without it, it is a 401, and upstream hears nothing.
        """
        room = Room()
        with (
            opened(room) as url,
            in_front_of(url, DHEERA_AI_MASTER_KEY=MASTER_KEY) as daemon,
        ):
            address = daemon.mistral.replace("http:", "ws:") + PATH
            offered = [Subprotocol("b")]
            for headers in {}, {"Authorization": "Bearer sk-nobody"}:
                with (
                    self.assertRaises(InvalidStatus) as refused,
                    connect(address, additional_headers=headers, subprotocols=offered),
                ):
                    pass
                self.assertEqual(401, refused.exception.response.status_code)
            self.assertEqual([], room.handshakes)
            right = {"Authorization": f"Bearer {MASTER_KEY}"}
            with connect(address, additional_headers=right, subprotocols=offered) as client:
                client.send("hello")
                self.assertEqual("hello", client.recv(PATIENCE_SECONDS))
