"""
One connection to an upstream: requests out, answers in, both streaming, and every way in which that can end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer

from dheera.errors import AnswerCut, BadAnswer, TooSlow
from dheera.wire.addresses import Host
from dheera.wire.awaited import Awaited
from dheera.wire.deadlines import NEVER, TICK_SECONDS
from dheera.wire.layout import Layout, layout_of
from dheera.wire.outgoing import Origin, Outgoing
from dheera.wire.response import Response
from dheera.wire.sending import quiet, sender, unsent

if TYPE_CHECKING:
    from dheera.wire.client import Agent

INTERIM_LIMIT = 16
"""
How many interim answers (1xx) may come before the answer.
"""

_NOTHING = Layout(())
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Connection(Protocol):
    """
    One connection to an origin: idle in the pool, or with one exchange.

    :ivar address: where it is connected to.
    """

    # More names than Python shares between instances: without slots they take 1.5 KB for each connection.
    __slots__ = (
        "_agent",
        "_answered",
        "_chaff",
        "_chunked_upload",
        "_complete",
        "_framed",
        "_head_done",
        "_head_size",
        "_heard",
        "_held",
        "_interims",
        "_is_1_1",
        "_keep_alive",
        "_kept",
        "_late",
        "_layout",
        "_names",
        "_outgoing",
        "_parser",
        "_phrase",
        "_pieces",
        "_response",
        "_rest",
        "_send",
        "_sending",
        "_switched",
        "_trailed",
        "_tunnel",
        "_unsent",
        "_uploaded",
        "_values",
        "_wrong",
        "address",
        "deadline",
        "host",
        "lost",
        "origin",
    )

    def __init__(self, agent: Agent, origin: Origin, host: Host) -> None:
        self.origin = origin
        self.host = host
        self.address = ""
        self.deadline = NEVER
        self.lost = False
        self._agent = agent
        self._late: Callable[[], None] = self._idle_too_long
        self._outgoing: Outgoing | None = None
        self._answered: Deferred[Response] | None = None
        self._response: Response | None = None
        self._sending = False
        self._unsent = inf
        self._kept = -1.0
        self._chunked_upload = False
        self._uploaded: Deferred[None] | None = None
        self._layout = _NOTHING
        self._reset_parser()
        self._heard = False
        self._held = False
        self._is_1_1 = False
        self._tunnel: IProtocol | None = None
        self._switched = False
        self._rest = b""

    def _reset_parser(self) -> None:
        self._parser = HttpResponseParser(self)
        self._fresh()

    def _fresh(self) -> None:
        self._phrase = b""
        self._names: list[bytes] = []
        self._values: list[bytes] = []
        self._pieces: list[bytes] = []
        self._head_size = self._chaff = 0
        self._interims = 0
        self._head_done = False
        self._complete = False
        self._trailed = False
        self._framed = False
        self._keep_alive = False
        self._wrong: str | None = None

    def connectionMade(self) -> None:
        """
        Connected, and for https with a handshake done and a trusted peer.
        """
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.address = getattr(self.transport.getPeer(), "host", "")
        self._send = sender(self.transport)
        self._agent.deadlines.watch(self)

    # Sending.

    def send(self, outgoing: Outgoing) -> Deferred[Response]:
        """
        Send *outgoing*.

        :return: fires with the answer's head; cancelling it closes the connection.
        """
        answered: Awaited[Response] = Awaited(self._given_up)
        self._fresh()
        self._outgoing, self._answered = outgoing, answered
        self._heard = self._held = False
        head, whole = outgoing.head(), outgoing.whole_body()
        transport: Any = self.transport
        if whole is not None:
            if outgoing.body is not None and outgoing.body.length is UNKNOWN_LENGTH:
                whole = (b"%x\r\n%b\r\n" % (len(whole), whole) if whole else b"") + b"0\r\n\r\n"
            self._send(head + whole)
            self._by(self._agent.limits.first_byte_seconds, self._no_first_byte)
        elif outgoing.body is not None:  # else all of it would be here
            transport.write(head)
            self._upload(outgoing.body)
        return answered

    def _upload(self, body: IBodyProducer) -> None:
        transport: Any = self.transport
        self._sending = True
        self._chunked_upload = body.length is UNKNOWN_LENGTH
        self._by(self._agent.limits.between_chunks_seconds, self._upload_stalled)
        transport.registerProducer(body, True)  # noqa: FBT003 - Twisted's signature
        self._uploaded = body.startProducing(self)
        self._uploaded.addCallbacks(self._upload_done, self._upload_failed)

    def write(self, piece: bytes) -> None:
        """
        A piece of the body to send.
        """
        if not self._sending:
            return
        transport: Any = self.transport
        transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked_upload else piece)
        self._unsent = inf
        self.deadline = self._agent.deadlines.after(self._agent.limits.between_chunks_seconds)

    def _upload_done(self, _: None) -> None:
        if not self._sending:
            return
        transport: Any = self.transport
        self._sending = False
        transport.unregisterProducer()
        if self._chunked_upload:
            transport.write(b"0\r\n\r\n")
        if self._response is None:
            self._by(self._agent.limits.first_byte_seconds, self._no_first_byte)
        else:
            self._by(NEVER if self._held else self._agent.limits.between_chunks_seconds, self._silent)

    def _upload_failed(self, failure: Failure) -> None:
        """
        The client left in the middle of its body: upstream sees that the rest is missing.
        """
        if self._sending:
            self._fail(failure)

    # Receiving.

    def dataReceived(self, data: bytes) -> None:
        """
        Bytes from upstream.
        """
        if self._outgoing is None:
            self._uncalled(data)
            return
        self._heard = True
        if self._head_done:
            self._chaff += len(data)
        else:
            if not self._head_size:
                self._is_1_1 = data.startswith(b"HTTP/1.1 ")
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            if not self._complete:
                self._switch(data[upgrade.args[0] :])
                return
            self._framed = False
        except HttpParserError as error:
            if self._complete:
                self._framed = False  # what follows a whole answer only spoils the connection
            else:
                self._wrong = self._wrong or str(error)
        limit = self._agent.limits.head_bytes
        if self._chaff > limit or (self._head_size > limit and not self._head_done):
            self._wrong = "its head, chunk extensions or trailers are too large"
        if self._wrong is None:
            self._progress()
        else:
            self._fail(Failure(BadAnswer(f"Upstream's answer is not valid HTTP/1.1: {self._wrong}.")))

    def _uncalled(self, data: bytes) -> None:
        """
        Bytes that belong to no answer: of the protocol that was switched to, or without any right to be here.
        """
        if self._tunnel is not None:
            self._tunnel.dataReceived(data)
        elif self._switched:
            self._rest += data
        else:
            self.abort()

    def _progress(self) -> None:
        """
        Tell of what the parser has found: the pieces of one read as one, and a head after them, so that whoever takes
        the answer finds as much of it as has come.
        """
        response = self._response
        if self._pieces and response is not None:
            response.deliver(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))
            self._pieces = []
        if self._complete:
            self._end_answer(response)
            return
        if response is None:
            return
        answered, self._answered = self._answered, None
        if answered is not None and not self._sending:
            self._late = self._silent
        if self._sending or not self._held:  # of an upload as well, either way will do
            deadlines, seconds = self._agent.deadlines, self._agent.limits.between_chunks_seconds
            if self.deadline != deadlines.now + seconds + TICK_SECONDS:  # as it is not for most pieces
                self.deadline = deadlines.after(seconds)
        if answered is not None:
            answered.callback(response)
        if response.waiting:
            self.hold(held=True)

    def _end_answer(self, response: Response | None) -> None:
        self._response = None
        if self._sending:
            self._framed = False  # upstream wants no more of the request
            self._stop_upload()
        answered, self._answered = self._answered, None
        self._release()
        if response is not None:
            response.end()
            if answered is not None:
                answered.callback(response)

    def on_status(self, phrase: bytes) -> None:
        """
        The reason phrase, perhaps in pieces.
        """
        self._phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        """
        One header line; trailers are dropped.
        """
        if self._head_done:
            self._trailed = True
            return
        self._names.append(name)
        self._values.append(value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """
        A head is complete: of an interim answer, or of the answer.
        """
        code: int = self._parser.get_status_code()
        outgoing = self._outgoing
        if outgoing is None or self._complete:
            return
        # Of most answers it has been seen; llhttp takes 2,600 instructions to tell.
        version: str = "1.1" if self._is_1_1 and not self._interims else self._parser.get_http_version()
        if version not in ("1.1", "1.0") or code < 100 or _CONTROL.search(self._phrase):  # noqa: PLR2004 - RFC 9110 §15
            self._wrong = "its status line is not one of HTTP/1.1"
        names = self._names
        if len(names) > self._agent.limits.header_count:
            self._wrong = "it has too many header lines"
        if 100 <= code < 200 and code != 101:  # noqa: PLR2004 - RFC 9110 §15.2
            return
        if code == 101:  # noqa: PLR2004 - Switching Protocols
            # llhttp stops behind the head if this is in order; otherwise nobody takes it back.
            self._wrong = "it switches protocols without saying to which"
        if names != self._layout.names:
            self._layout = layout_of(tuple(names))
        length = self._framing(version)
        if outgoing.method == b"HEAD" or code in (204, 304):
            length, self._framed = 0, True
        self._head_done = True
        self._keep_alive = self._parser.should_keep_alive()  # llhttp forgets it when the message is complete
        self._response = Response(self, code, self._phrase, self._layout, self._values, length)
        if outgoing.method == b"HEAD":
            # llhttp cannot know that no body follows.
            self._complete = True

    def _framing(self, version: str) -> int | None:
        """
        See how the body is delimited. llhttp has refused a second length, and one beside a transfer coding.

        :return: its length, if the head tells.
        """
        place = self._layout.length_at
        if place is not None:
            self._framed = True
            return int(self._values[place])
        length: int | None = None
        for name, value in zip(self._names, self._values, strict=True):
            match name.lower():
                case b"content-length":
                    length = int(value)
                    self._framed = True
                case b"transfer-encoding":
                    if value.lower() != b"chunked" or self._framed or version == "1.0":  # RFC 9112 §6.1
                        self._wrong = "the only transfer coding taken is chunked"
                    self._framed = True
        return length

    def on_body(self, piece: bytes) -> None:
        """
        A piece of the body.
        """
        self._chaff = 0
        if self._complete:
            self._framed = False
        else:
            self._pieces.append(piece)

    def on_message_begin(self) -> None:
        """
        An answer begins; one too many if the one we asked for is complete.
        """
        if self._complete:
            self._framed = False

    def on_message_complete(self) -> None:
        """
        An answer is complete, perhaps an interim one.
        """
        code: int = self._parser.get_status_code()
        if self._head_done:
            # What follows a 101 belongs to another protocol.
            self._complete = self._complete or code != 101  # noqa: PLR2004 - Switching Protocols
            return
        self._interims += 1
        outgoing = self._outgoing
        if self._interims > INTERIM_LIMIT:
            self._wrong = "it has too many interim answers"
        elif self._wrong is None and outgoing is not None and outgoing.informed is not None and code != 100:  # noqa: PLR2004
            outgoing.informed(code, self._phrase, [*zip(self._names, self._values, strict=True)])
        self._phrase, self._names, self._values = b"", [], []

    def _switch(self, rest: bytes) -> None:
        outgoing, answered, response = self._outgoing, self._answered, self._response
        if outgoing is None or answered is None or response is None:
            return
        if not outgoing.upgrades:
            self._fail(Failure(BadAnswer("Upstream switched protocols unasked.")))
            return
        self._switched, self._rest = True, rest
        self._outgoing = self._answered = None
        self._by(NEVER, self._idle_too_long)
        self.hold(held=True)
        answered.callback(response)

    def tunnel_to(self, protocol: IProtocol) -> None:
        """
        Give the connection to *protocol*.
        """
        self._response = None
        # Before *protocol* is told: what it says then about holding stays said.
        self.hold(held=False)
        self._tunnel = protocol
        protocol.makeConnection(self.transport)  # type: ignore[arg-type]  # connected
        rest, self._rest = self._rest, b""
        if rest:
            protocol.dataReceived(rest)

    def hold(self, *, held: bool) -> None:
        """
        Stop, or go on, reading. While we do not read, upstream is not to blame for silence.
        """
        if held == self._held or self.lost:
            return
        self._held = held
        transport: Any = self.transport
        if held:
            transport.pauseProducing()
        else:
            transport.resumeProducing()
        if self._head_done and not self._switched and not self._sending:
            self._by(NEVER if held else self._agent.limits.between_chunks_seconds, self._silent)

    # Ending.

    def _release(self) -> None:
        """
        The exchange is over: back to the pool, if another may follow.
        """
        outgoing, self._outgoing = self._outgoing, None
        reusable = self._framed and self._keep_alive and not self.lost
        if self._held:
            self.hold(held=False)
        if reusable:
            if self._trailed or (outgoing is not None and outgoing.method == b"HEAD"):
                self._reset_parser()  # llhttp waits for a body, or has heeded what a trailer says (RFC 9110 §6.5.1)
            self._by(self._agent.limits.pool_idle_seconds, self._idle_too_long)
            self._kept = self._agent.deadlines.now
            self._agent.keep(self)
        else:
            self.abort()

    def _fail(self, reason: Failure) -> None:
        """
        The exchange cannot go on: whoever waits is told, and the connection closed.
        """
        answered, self._answered = self._answered, None
        response, self._response = self._response, None
        self.abort()
        if answered is not None:
            answered.errback(reason)
        elif response is not None:
            response.end(reason)

    def _given_up(self, _: Deferred[Response]) -> None:
        self.abort()

    def abort(self) -> None:
        """
        Close the connection now.
        """
        self._outgoing = self._answered = None
        self._stop_upload()
        if not self.lost:
            self.lost = True
            self._agent.forget(self)
            transport: Any = self.transport
            transport.abortConnection()

    def _stop_upload(self) -> None:
        if self._sending and self._uploaded is not None:
            self._sending = False
            transport: Any = self.transport
            transport.unregisterProducer()
            self._uploaded.addErrback(lambda _: None)
            self._uploaded.cancel()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Upstream has gone. An answer that ends with the connection is complete if it was closed in order.
        """
        self._agent.forget(self)
        self.lost = True
        if self._tunnel is not None:
            self._tunnel.connectionLost(reason)
            return
        response = self._response
        self._stop_upload()
        if response is not None and not self._framed and reason.check(ConnectionDone):
            self._response = None
            response.end()
        elif self._heard:
            self._fail(Failure(AnswerCut("Upstream closed the connection in the middle of its answer.")))
        else:
            self._fail(Failure(AnswerCut("Upstream closed the connection without an answer.", nothing_came=True)))

    def usable(self) -> bool:
        """
        Whether nothing, not even the end, has arrived unread: asked just before an idle connection is used again, which
        leaves only what is still on its way to go wrong. One that was used within this tick is not asked: the reactor
        has read from it just now.
        """
        return self._kept == self._agent.deadlines.now or quiet(self.transport)

    # Deadlines.

    def _by(self, seconds: float, late: Callable[[], None]) -> None:
        self.deadline = self._agent.deadlines.after(seconds)
        self._late = late

    def deadline_passed(self) -> None:
        """
        Whatever was awaited did not come.
        """
        self._late()

    def _idle_too_long(self) -> None:
        self.abort()

    def _no_first_byte(self) -> None:
        seconds = self._agent.limits.first_byte_seconds
        self._fail(Failure(TooSlow(f"Upstream did not begin its answer within {seconds:g} seconds.")))

    def _upload_stalled(self) -> None:
        left = unsent(self.transport)
        if 0 < left < self._unsent:
            # Upstream takes little at a time, but it takes: less is unsent than at the last look.
            self._unsent = left
            self._by(self._agent.limits.between_chunks_seconds, self._upload_stalled)
            return
        seconds = self._agent.limits.between_chunks_seconds
        self._fail(Failure(TooSlow(f"The request body has not moved for {seconds:g} seconds.")))

    def _silent(self) -> None:
        seconds = self._agent.limits.between_chunks_seconds
        self._fail(Failure(TooSlow(f"Upstream was silent for {seconds:g} seconds within its answer.")))
