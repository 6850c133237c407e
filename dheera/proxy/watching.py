"""
Both bodies of an exchange, as they pass: what the request asks for, what the answer used, how it flowed.

Watchers see bytes after these have gone on, and what goes wrong here is logged and ends the watching, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from dheera.content import Capture
from dheera.metering.answers import Meter, make_meter
from dheera.metering.requests import RequestMeter, read_request
from dheera.metering.sockets import SocketMeter
from dheera.proxy.errand import Errand
from dheera.proxy.headers import value_of
from dheera.proxy.notes import model_in, noted
from dheera.records import Content
from dheera.redaction import Redaction
from dheera.usage import Reading, Wanted
from dheera.wire.heads import Fields
from dheera.wire.request import Request
from dheera.wire.response import Response

log = Logger()

SWITCHING_PROTOCOLS = 101
READ_TOGETHER_BYTES = 4096
"""
Of an answer's pieces, which are read together: most events are not worth a look, and that is found for many at a time.
"""
UPSTREAM_ID = b"mistral-correlation-id"
EMPTY = Reading()
NOTHING = Wanted()


class RequestWatch:
    """
    What a request asks for.

    :param capture: keeps what may be shown of the body.
    :param known: what the body says, if it is here, and was read.
    """

    def __init__(self, request: Request, errand: Errand, capture: Capture | None, known: Wanted | None) -> None:
        self._request = request
        self._capture = capture
        self._meter: RequestMeter | None = None
        self._wanted = NOTHING
        body = request.body
        if body is None:
            self._wanted = Wanted(model=model_in(request.uri))
            return
        whole = body.whole()
        if whole is None:
            self._meter = RequestMeter(errand.kind, errand.endpoint)
            body.watch(self._saw)
            return
        try:
            self._wanted = read_request(whole, errand.kind, errand.endpoint) if known is None else known
            if self._capture is not None:
                self._capture.feed(whole)
        except Exception:  # noqa: BLE001 - whatever it is, the exchange goes on
            self._give_up()

    def wanted(self) -> Wanted:
        """
        What is known by now.
        """
        if self._meter is not None:
            try:
                self._wanted = self._meter.wanted()
            except Exception:  # noqa: BLE001 - whatever it is, the exchange goes on
                self._give_up()
        return self._wanted

    @property
    def is_done(self) -> bool:
        """
        Nothing more will be known than is.
        """
        return self._meter is None

    @property
    def has_all(self) -> bool:
        """
        All of the body has come.
        """
        return self._request.body is None or self._request.body.complete

    def announced_bytes(self) -> int | None:
        """
        How long the body will be, if the client has said so.
        """
        body = self._request.body
        if body is None:
            return 0
        return body.length if isinstance(body.length, int) else None

    def received_bytes(self) -> int:
        """
        How much of the body has come.
        """
        return 0 if self._request.body is None else self._request.body.received

    def content(self, redaction: Redaction) -> Content | None:
        """
        What may be shown.
        """
        return None if self._capture is None else _shown(self._capture, self._request.fields, redaction)

    def _saw(self, piece: bytes) -> None:
        try:
            if self._meter is not None:
                self._meter.feed(piece)
            if self._capture is not None:
                self._capture.feed(piece)
        except Exception:  # noqa: BLE001 - whatever it is, the exchange goes on
            self._give_up()

    def _give_up(self) -> None:
        log.failure("Bug: a request cannot be read")
        self._wanted, self._meter, self._capture = Wanted(), None, None


class AnswerWatch:
    """
    What an answer used, and how it flowed.

    :param clock: monotonic seconds.
    :param capture: keeps what may be shown of the body.
    :ivar upstream_id: upstream's own name for the call.
    :ivar longest_gap: seconds between two pieces, or between head and body, at most.
    :ivar size: bytes that came.
    :ivar size_up: bytes that went through a tunnel to upstream.
    """

    def __init__(self, clock: Callable[[], float], capture: Capture | None = None) -> None:
        self.upstream_id: str | None = None
        self.longest_gap = 0.0
        self.size = 0
        self.size_up = 0
        self._clock = clock
        self._capture = capture
        self._meter: Meter | None = None
        self._socket: SocketMeter | None = None
        self._last = 0.0
        self._read_at = READ_TOGETHER_BYTES
        self._head: Response | None = None
        self._unread: list[bytes] = []

    def begin(self, now: float, response: Response, endpoint: str, method: bytes, wanted: Wanted) -> None:
        """
        The head of the answer is here.

        :param now: by the clock.
        """
        self._last = now
        self._head = response
        try:
            self._choose_meter(response, endpoint, method, wanted)
        except Exception:  # noqa: BLE001 - whatever it is, the exchange goes on
            self._give_up()

    @property
    def is_socket(self) -> bool:
        """
        What passes are the messages of a WebSocket.
        """
        return self._socket is not None

    def _choose_meter(self, response: Response, endpoint: str, method: bytes, wanted: Wanted) -> None:
        name = response.said(UPSTREAM_ID)
        if name is not None:
            self.upstream_id = noted(name)
        if response.code == SWITCHING_PROTOCOLS:
            self._socket = SocketMeter(response.said(b"sec-websocket-extensions") or b"", wanted.model)
        else:
            kind, coding = response.said(b"content-type") or b"", response.said(b"content-encoding") or b""
            self._meter = make_meter(endpoint, method, response.code, kind, coding, wanted)

    def saw(self, piece: bytes) -> None:
        """
        A piece of the answer.
        """
        now = self._clock()
        gap = now - self._last
        if gap > self.longest_gap:  # noqa: PLR1730 - max() for each piece takes twice as long
            self.longest_gap = gap
        self._last = now
        self.size += len(piece)
        self._unread.append(piece)
        if self.size >= self._read_at:
            self._read()

    def _read(self) -> None:
        if not self._unread:
            return
        pieces, self._unread = b"".join(self._unread), []
        self._read_at = self.size + READ_TOGETHER_BYTES
        try:
            if self._meter is not None:
                self._meter.feed(pieces)
            if self._capture is not None:
                self._capture.feed(pieces)
        except Exception:  # noqa: BLE001 - whatever it is, the exchange goes on
            self._give_up()

    def saw_up(self, piece: bytes) -> None:
        """
        A piece that went through a tunnel to upstream.
        """
        self.size_up += len(piece)
        try:
            if self._socket is not None:
                self._socket.feed_up(piece)
        except Exception:  # noqa: BLE001 - whatever it is, the exchange goes on
            self._give_up()

    def saw_down(self, piece: bytes) -> None:
        """
        A piece that came back.
        """
        self.size += len(piece)
        try:
            if self._socket is not None:
                self._socket.feed_down(piece)
        except Exception:  # noqa: BLE001 - whatever it is, the exchange goes on
            self._give_up()

    def reading(self) -> Reading:
        """
        What was used, as far as is known by now.
        """
        self._read()
        meter = self._meter or self._socket
        try:
            return EMPTY if meter is None else meter.reading()
        except Exception:  # noqa: BLE001 - whatever it is, the exchange goes on
            self._give_up()
            return EMPTY

    def content(self, redaction: Redaction) -> Content | None:
        """
        What may be shown.
        """
        self._read()
        if self._capture is None:
            return None
        return _shown(self._capture, [] if self._head is None else self._head.fields, redaction)

    def _give_up(self) -> None:
        log.failure("Bug: an answer cannot be read")
        self._meter = self._socket = self._capture = None


def _shown(capture: Capture, fields: Fields, redaction: Redaction) -> Content:
    kind, coding = value_of(fields, b"content-type") or b"", value_of(fields, b"content-encoding") or b""
    return capture.content(kind, coding, redaction)
