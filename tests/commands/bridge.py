"""
The management API on a port of this machine: what commands talk to, and what they said.
"""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self

from attrs import field, frozen

from dheera.entities import to_json
from tests.management.office import Desk


@frozen
class Heard:
    """
    One request.
    """

    method: str
    path: str
    fields: dict[str, str]
    body: bytes = field(repr=False)


class Bridge:
    """
    Inside ``with``, *desk* is reached over TCP.
    """

    def __init__(self, desk: Desk) -> None:
        self.heard: list[Heard] = []
        self._server = HTTPServer(("127.0.0.1", 0), self._handler(desk))
        self._serving = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._serving.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._serving.join()
        self._server.server_close()

    def _handler(self, desk: Desk) -> type[BaseHTTPRequestHandler]:
        heard = self.heard

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                heard.append(Heard(self.command, self.path, dict(self.headers.items()), body))
                key = self.headers.get("Authorization", "").removeprefix("Bearer ")
                reply = desk.send(self.command, self.path, body=body or None, key=key)
                content = to_json(reply.json)
                self.send_response(reply.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer  # noqa: N815 - names of http.server

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
                """
                Nothing.
                """

        return Handler
