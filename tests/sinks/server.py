"""
Somebody whom sinks send to: a real HTTP server on the loopback interface that keeps what it is sent, and answers as a
test tells it to. Twisted's own, so that nothing of ours judges what ours sends.
"""

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from dheera.wire.certificate import ReloadingCertificate


@frozen(kw_only=True)
class Received:
    """
    A request that came.

    :param path: with the query, as it was spelled.
    :param headers: by their names in lower case; of a repeated one, all, with commas between them.
    :param raw: the body as it came.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes = field(repr=False)

    @property
    def body(self) -> bytes:
        """
        The body, inflated.
        """
        return gzip.decompress(self.raw) if self.headers.get("content-encoding") == "gzip" else self.raw


@frozen(kw_only=True)
class Answer:
    """
    How a request is answered.

    :param delay_seconds: after which the answer comes; ``None`` is never.
    :param closes: the connection is cut, without an answer.
    """

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = b""
    delay_seconds: float | None = 0.0
    closes: bool = False


class Server(Resource):
    """
    Listens on a free port of 127.0.0.1 from `open` to `close`.

    :param certificate: of a server that speaks TLS, with its key: a PEM file.
    :ivar requests: all that came, in order.
    :ivar usual: the answer to requests for which `next` says nothing else.
    :ivar next: answers for the requests to come, one each.
    """

    isLeaf = True

    def __init__(self, reactor: Any, usual: Answer | None = None, *, certificate: Path | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self.number = 0
        self.requests: list[Received] = []
        self.usual = usual or Answer()
        self.next: deque[Answer] = deque()
        self._reactor = reactor
        self._port: Any = None
        self._doors = WrappingFactory(_Site(self, reactor=reactor))
        self._factory: IProtocolFactory = self._doors
        if certificate is not None:
            shown = ReloadingCertificate(reactor, certificate, certificate)
            self._factory = TLSMemoryBIOFactory(shown, isClient=False, wrappedFactory=self._doors)
        self._unanswered: list[Any] = []
        self._heard: list[tuple[int, Deferred[None]]] = []

    @property
    def url(self) -> str:
        """
        Its base, without a slash at the end.
        """
        return f"http://127.0.0.1:{self.number}"

    def open(self) -> None:
        """
        Listen: again at the same port if it did before.
        """
        self._port = self._reactor.listenTCP(self.number, self._factory, interface="127.0.0.1")
        self.number = self._port.getHost().port

    async def close(self) -> None:
        """
        Stop listening, and close what is open.
        """
        for call in self._unanswered:
            if call.active():
                call.cancel()
        for connection in [*self._doors.protocols]:
            connection.transport.abortConnection()
        await maybeDeferred(self._port.stopListening)
        while self._doors.protocols:
            waiting: Deferred[None] = Deferred()
            self._reactor.callLater(0.005, waiting.callback, None)
            await waiting

    def heard(self, count: int) -> Deferred[None]:
        """
        Wait until *count* requests have come in all.
        """
        waiting: Deferred[None] = Deferred()
        self._heard.append((count, waiting))
        self._tell()
        return waiting

    def _tell(self) -> None:
        for each in [*self._heard]:
            if each[0] <= len(self.requests):
                self._heard.remove(each)
                each[1].callback(None)

    def render(self, request: Request) -> Any:
        """
        Keep the request, and answer it.
        """
        assert request.content is not None
        headers = {
            name.decode("latin-1").lower(): b", ".join(values).decode("latin-1")
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.requests.append(
            Received(
                method=request.method.decode("ascii"),
                path=request.uri.decode("ascii"),
                headers=headers,
                raw=request.content.read(),
            )
        )
        answer = self.next.popleft() if self.next else self.usual
        self._tell()
        if answer.closes:
            transport: Any = request.transport
            transport.abortConnection()
        elif answer.delay_seconds is not None:
            self._unanswered.append(self._reactor.callLater(answer.delay_seconds, self._answer, request, answer))
        return NOT_DONE_YET

    def _answer(self, request: Any, answer: Answer) -> None:
        if request._disconnected:
            return
        request.setResponseCode(answer.status)
        for name, value in answer.headers.items():
            request.setHeader(name, value)
        request.write(answer.body)
        request.finish()


class _Site(Site):
    """
    Writes no log of accesses.
    """

    def log(self, request: Any) -> None:
        """
        Nobody reads it.
        """
