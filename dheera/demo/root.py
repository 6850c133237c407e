"""
The one place where calls to the demo come in and answers go out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from dheera.demo.calls import Answer, Asked, Call, Stream, answer, dumps
from dheera.demo.edge import Edge
from dheera.demo.flows import EVENT_SECONDS, SLICE_BYTES, Flow, slices
from dheera.demo.realtime import Listener, Narrator
from dheera.demo.refusals import (
    Refused,
    broken,
    no_route,
    refused,
    too_large,
    unauthorized,
    wrong_method,
)
from dheera.demo.routes import Route, routes
from dheera.demo.sockets import Socket, Speaker, accepted
from dheera.errors import BodyTooLarge, ClientLeft
from dheera.wire.body import read
from dheera.wire.request import Request

log = Logger()

ALL_BODIES_BYTES = 256 * 1024 * 1024
"""
Request bodies that are in memory at the same time, by what their heads announce.
"""

Fields = list[tuple[bytes, bytes]]


def demo_root(reactor: IReactorTime) -> IResource:
    """
    The whole stand-in, to be served by ``dheera.wire.server.Server``; its paths are Mistral's.
    """
    return Demo(reactor, routes(reactor))


SESSIONS: dict[str, tuple[Callable[[str], Speaker], str]] = {
    "/v1/audio/transcriptions/realtime": (Listener, "voxtral-mini-transcribe-realtime-latest"),
    "/v1/audio/speech/realtime": (Narrator, "voxtral-mini-tts-latest"),
}
"""
Who speaks on each WebSocket, and with which model if none is named.
"""


@define(eq=False)
class Demo(Resource):
    """
    Every path of the demo.
    """

    isLeaf = True

    _clock: IReactorTime
    _routes: Sequence[Route]
    _edge: Edge = field(init=False)
    _bodies_bytes: int = field(init=False, default=0)

    def __attrs_pre_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # twisted.web is untyped

    def __attrs_post_init__(self) -> None:
        self._edge = Edge(self._clock)

    def render(self, request: Request) -> int:
        """
        Serve one request; the client leaving cancels whatever that takes.
        """
        exchange = Deferred.fromCoroutine(self._serve(request))
        left = request.notifyFinish()
        left.addErrback(lambda _: exchange.cancel())
        exchange.addErrback(_ended, request)
        return NOT_DONE_YET

    async def _serve(self, request: Request) -> None:
        began = self._clock.seconds()
        fields: Fields = []
        answered: Answer | Stream
        try:
            speaker = self._speaker(request)
            if speaker is not None:
                self._upgrade(request, speaker)
                return
            answered = await self._answered(request)
            if request.method != b"GET":
                fields = self._edge.limits(answered.tokens)
        except Refused as no:
            answered, fields = answer(no.body, status=no.status), list(no.fields)
        await self._send(request, answered, self._edge.fields(began=began) + fields)

    async def _answered(self, request: Request) -> Answer | Stream:
        path, _, query = request.uri.partition(b"?")
        segments = [unquote(segment) for segment in path.decode("latin-1").split("/")]
        found = [(route, names) for route in self._routes if (names := route.names_in(segments)) is not None]
        if not found:
            raise no_route()
        _refuse_anonymous(request)
        method = b"GET" if request.method == b"HEAD" else request.method
        mine = [(route, names) for route, names in found if route.method.encode() == method]
        if not mine:
            raise wrong_method(sorted({route.method for route, _ in found}))
        route, names = mine[0]
        with self._room_for(request, route.most_bytes) as limit:
            body = await read(request.body, limit)
        return route.endpoint(
            Call(
                now=self._clock.seconds(),
                names=names,
                query=_query(query),
                content_type=_header(request, b"content-type") or "application/json",
                body=body,
            )
        )

    @contextmanager
    def _room_for(self, request: Request, most: int) -> Iterator[int]:
        """
        Room for the body of *request* while it is being read.

        :raises Refused: 413, it is too large; 503, others take too much at this moment.
        """
        message = f"The demo takes at most {most} bytes here."
        length = 0 if request.body is None else request.body.length
        size = most if length == UNKNOWN_LENGTH else int(length)
        if size > most:
            raise too_large(message)
        if self._bodies_bytes + size > ALL_BODIES_BYTES:
            raise refused(503, "The demo is full of other requests: try again.", "overloaded")
        self._bodies_bytes += size
        try:
            yield most
        except BodyTooLarge:
            raise too_large(message) from None
        finally:
            self._bodies_bytes -= size

    async def _send(self, request: Request, answered: Answer | Stream, fields: Fields) -> None:
        if isinstance(answered, Stream):
            status, kind, pieces = 200, "text/event-stream; charset=utf-8", answered.events
            fields.append((b"cache-control", b"no-cache"))
            seconds = EVENT_SECONDS
        else:
            status, kind, pieces = answered.status, answered.content_type, slices(answered.body)
            seconds = 0.0
            if status != HTTPStatus.NO_CONTENT:
                fields.append((b"content-length", b"%d" % len(answered.body)))
        if status != HTTPStatus.NO_CONTENT:
            fields.append((b"content-type", kind.encode("ascii")))
        request.begin(status, HTTPStatus(status).phrase.encode("ascii"), fields)
        if request.method == b"HEAD":
            pass
        elif isinstance(answered, Answer) and len(answered.body) <= SLICE_BYTES:
            request.write(answered.body)
        else:
            await Flow(self._clock, request, pieces, seconds).run()
        request.finish()

    def _speaker(self, request: Request) -> Speaker | None:
        """
        Who speaks on the WebSocket that *request* asks for; None if its path is no session.
        """
        path, _, query = request.uri.partition(b"?")
        session = SESSIONS.get(path.decode("latin-1"))
        if session is None or request.method != b"GET":
            return None
        _refuse_anonymous(request)
        if request.upgrade_to != b"websocket":
            fields = [(b"upgrade", b"websocket"), (b"connection", b"upgrade")]
            raise Refused(426, {"detail": "This is a WebSocket"}, fields=fields)
        kind, model = session
        return kind(Asked(_query(query)).model(model))

    def _upgrade(self, request: Request, speaker: Speaker) -> None:
        key, version = _header(request, b"sec-websocket-key"), _header(request, b"sec-websocket-version")
        offers = request.requestHeaders.getRawHeaders(b"sec-websocket-extensions", [])
        fields, extensions = accepted(key, version, offers)
        began = self._clock.seconds()
        request.upgrade(fields + self._edge.fields(began=began), Socket(self._clock, speaker, extensions))


def _ended(failure: Failure, request: Request) -> None:
    """
    A call that was not answered to its end: the client left, or the demo failed.
    """
    if failure.check(CancelledError, ClientLeft):
        return
    log.failure("The demo failed to answer", failure)
    if request.startedWriting:
        request.cut()
        return
    no = broken()
    body = dumps(no.body)
    fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    request.begin(no.status, b"Internal Server Error", fields)
    request.write(body)
    request.finish()


def _refuse_anonymous(request: Request) -> None:
    """
    :raises Refused: 401, there is no bearer; any bearer will do.
    """
    scheme, _, token = (_header(request, b"authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise unauthorized()


def _header(request: Request, name: bytes) -> str | None:
    values = request.requestHeaders.getRawHeaders(name)
    return None if not values else values[-1].decode("latin-1")


def _query(query: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=100))
    except ValueError:
        return {}
