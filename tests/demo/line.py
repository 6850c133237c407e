"""
A client's connection to a demo in memory: real HTTP, no network, a clock that the test turns.
"""

from __future__ import annotations

import json
from typing import Any

from httptools import HttpResponseParser
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure

from dheera.demo import demo_root
from dheera.demo.flows import EVENT_SECONDS
from dheera.wire.limits import ServerLimits
from dheera.wire.server import Server

AUTHORIZATION = (b"authorization", b"Bearer anything")


class Heard:
    """
    One answer, as far as it has come.
    """

    def __init__(self) -> None:
        self.status = 0
        self.fields: list[tuple[str, str]] = []
        self.body = b""
        self.complete = False
        self._parser = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)
        self.status = self._parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.decode().lower(), value.decode()))

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_message_complete(self) -> None:
        self.complete = True

    def field(self, name: str) -> str | None:
        return dict(self.fields).get(name)

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[tuple[str | None, Any]]:
        """
        The name and the data of each event that is here in full.
        """
        found = []
        for block in self.body.decode().split("\n\n")[:-1]:
            lines = dict(line.split(": ", 1) for line in block.split("\n"))
            data = lines["data"]
            found.append((lines.get("event"), data if data == "[DONE]" else json.loads(data)))
        return found


class Standing:
    """
    A demo that stands in memory.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.server = Server(self.clock, demo_root(self.clock), ServerLimits())

    def connect(self) -> StringTransportWithDisconnection:
        """
        A new connection; what the demo sends is in the transport.
        """
        channel = self.server.buildProtocol(None)
        transport = StringTransportWithDisconnection()
        transport.protocol = channel
        channel.makeConnection(transport)
        return transport

    def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *fields: tuple[bytes, bytes],
    ) -> tuple[StringTransportWithDisconnection, Heard]:
        """
        Send one request; the answer is filled by ``hear``.
        """
        transport = self.connect()
        lines = [*fields, (b"host", b"demo"), (b"content-length", b"%d" % len(body))]
        head = b"".join(b"%b: %b\r\n" % line for line in lines)
        request = b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode(), path.encode(), head)
        transport.protocol.dataReceived(request + body)
        return transport, Heard()

    def hear(self, transport: StringTransportWithDisconnection, heard: Heard) -> Heard:
        """
        Move what has been sent since the last time.
        """
        data = transport.value()
        transport.clear()
        if data:
            heard.feed(data)
        return heard

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: bytes = b"application/json",
    ) -> Heard:
        """
        One call from its beginning to its end, as fast as the clock can be turned.
        """
        sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        fields = [AUTHORIZATION, (b"content-type", content_type)]
        transport, heard = self.send(method, path, sent, *fields)
        self.hear(transport, heard)
        while not heard.complete and method != "HEAD":
            assert self.clock.getDelayedCalls(), heard.body
            self.clock.advance(EVENT_SECONDS)
            self.hear(transport, heard)
        leave(transport)
        return heard


def leave(transport: StringTransportWithDisconnection) -> None:
    """
    The client closes its connection.
    """
    if transport.connected:
        transport.connected = False
        transport.protocol.connectionLost(Failure(ConnectionDone()))


def form(fields: dict[str, str], name: str, content: bytes) -> tuple[bytes, bytes]:
    """
    A form with one file, and its content type.
    """
    parts = [
        b'--edge\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (key.encode(), value.encode())
        for key, value in fields.items()
    ]
    parts.append(
        b'--edge\r\ncontent-disposition: form-data; name="file"; filename="%b"\r\n'
        b"content-type: application/octet-stream\r\n\r\n%b\r\n--edge--\r\n" % (name.encode(), content)
    )
    return b"".join(parts), b"multipart/form-data; boundary=edge"
