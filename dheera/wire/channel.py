"""
One connection of a client: a strict, streaming channel below Twisted's ``Site``.

A channel handles one request at a time. What a client pipelines behind it stays unparsed, at most one read's worth,
while we do not read on. Nothing that RFC 9112 calls invalid is repaired: it is refused, and the connection closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableDescriptor,
    IProtocol,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dheera.errors import ClientLeft, MalformedRequest, Refusal
from dheera.wire.body import RequestBody
from dheera.wire.deadlines import NEVER
from dheera.wire.heads import Fields
from dheera.wire.parser import RequestParser
from dheera.wire.request import Request, http_date, reason_phrase
from dheera.wire.sending import drop, has_left, sender, unsent

if TYPE_CHECKING:
    from dheera.wire.server import Server

log = Logger()

PIPELINE_BYTES = 16 * 1024
"""
How much may wait unparsed behind a request before we stop reading.
"""

BODY_GRACE_SECONDS = 20.0
"""
How long an upload may stay below its minimum rate.
"""

LINGER_SECONDS = 5.0
"""
How long we go on reading what a client still sends after its answer, so that it can read the answer (RFC 9112 §9.6).
"""


@implementer(IPushProducer)
class Channel(Protocol):
    """
    One connection of a client.
    """

    def __init__(self, server: Server) -> None:
        self.site = server
        self.deadline = NEVER
        self.persistent = True
        self._late: Callable[[], None] = self._idle_too_long
        self._parser = RequestParser(server.limits)
        self._unread = b""
        self._held = b""
        self._advancing = False
        self._closing = False
        self._request: Request | None = None
        self._body: RequestBody | None = None
        self._continue = False
        self._has_asked = False
        self._paid_for = 0
        self._unsent = 0
        self._body_full = False
        self._send_blocked = False
        self._paused = False
        self._producer: IPushProducer | None = None
        self._tunnel: IProtocol | None = None

    # The connection.

    def connectionMade(self) -> None:
        """
        Begin to wait for a request, unless there are too many connections already.
        """
        transport: Any = self.transport
        self.peer: IAddress = transport.getPeer()
        self.host: IAddress = transport.getHost()
        self._send = sender(transport)
        transport.registerProducer(self, True)  # noqa: FBT003 - Twisted's signature
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        refusal = self.site.arrived(self)
        self._by(self.site.limits.idle_seconds, self._idle_too_long)
        if refusal is None:
            return
        if self.site.overrun(self):
            self.deadline = NEVER
            drop(transport)
        else:
            self._refuse(refusal)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The client has gone: its request, if there is one, is told.
        """
        self.site.gone(self)
        self._closing = True
        # These hold each other: the memory of a crowd that left would wait for the garbage collector.
        self._late = _nothing
        if not self._advancing:
            self._parser.close()
        if self._tunnel is not None:
            self._tunnel.connectionLost(reason)
            return
        self._abandon(reason)

    def _abandon(self, reason: Failure) -> None:
        body, self._body = self._body, None
        request, self._request = self._request, None
        self._producer = None
        if request is not None:
            request.connectionLost(reason)
        if body is not None and not body.complete:
            body.lose()

    def getPeer(self) -> IAddress:
        """
        The client's address.
        """
        return self.peer

    def getHost(self) -> IAddress:
        """
        Our own address.
        """
        return self.host

    def isSecure(self) -> bool:
        """
        Whether the client speaks TLS to us.
        """
        return ISSLTransport.providedBy(self.transport)

    # What comes in.

    def dataReceived(self, data: bytes) -> None:
        """
        Bytes from the client.
        """
        if self._tunnel is not None:
            self._tunnel.dataReceived(data)
        elif not self._closing:
            self._unread = self._unread + data if self._unread else data
            self._advance()

    def _advance(self) -> None:
        """
        Parse as far as the state allows: the next head, or the body of the request at hand.
        """
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._unread and not self._closing and self._tunnel is None:
                if self._request is None:
                    if self._send_blocked or not self._take_head():
                        break
                elif self._body is not None and not self._body.complete:
                    self._take_body()
                else:
                    break
        except Refusal as refusal:
            if not self._closing:  # else the answer had been given before the end of the body turned out to be bad
                self._refuse(refusal)
        except Exception:  # noqa: BLE001 - whoever takes the body failed; the client is told, the operator too
            log.failure("A request body could not be handed on")
            if not self._closing:
                self._refuse(Refusal("Something failed inside dheera; its log says what."))
        finally:
            self._advancing = False
        self._control_reading()

    def _take_head(self) -> bool:
        """
        Parse one request head and begin to process it.

        :return: false if it is not all here yet.
        """
        self._parser.limits = self.site.limits
        head, self._unread = self._parser.head(self._unread)
        if head is None:
            if self._unread not in (b"", b"\r") and self._late != self._head_too_slow:
                self._by(self.site.limits.head_seconds, self._head_too_slow)
            return False
        self.deadline, self._late = NEVER, self._idle_too_long
        framing = head.framing
        self.persistent = head.keep_alive and head.version == "1.1" and not framing.upgrade
        self._continue = framing.expects_continue
        self._has_asked = True
        self._request = request = Request(self, head)
        if framing.has_body:
            length = framing.length
            self._body = request.body = body = RequestBody(self, length)
            if length and length <= len(self._unread):  # 3,000 instructions less than piece by piece
                body.come(self._unread[:length])
                self._unread = self._unread[length:]
            else:
                self._parser.begin_body(body, length)
                self._take_body()
        request.process()
        return True

    def _take_body(self) -> None:
        data, self._unread = self._unread, b""
        self._unread = self._parser.body(data)
        if self._send_blocked:
            return  # a client that takes nothing has its own deadline
        if self._body is None or not self._body.complete:
            self._body_by()
        elif self.deadline != NEVER:
            self._by(NEVER, self._idle_too_long)

    # What a body asks for.

    def body_wanted(self) -> None:
        """
        Read the body; a client that waits for permission to send it gets that now (RFC 9110 §10.1.1).
        """
        request, body = self._request, self._body
        if self._continue and request is not None and not request.startedWriting:
            self._continue = False
            if body is not None and not body.received:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._body_by()
        self._control_reading()

    def body_paused(self, *, paused: bool) -> None:
        """
        Whoever takes the body is full, or has room again.
        """
        self._body_full = paused
        self._body_by()
        self._control_reading()

    def _body_by(self) -> None:
        """
        Set the deadline of an upload: each byte buys time at the minimum rate, up to the grace. While we do not read,
        or have not said 100 Continue, the client is not to blame.
        """
        body = self._body
        if body is None or body.complete or self._send_blocked:
            return
        if self._body_full or body.waiting or (self._continue and not body.received):
            self._by(0 if self._paused else NEVER, self._look_for_client)
            return
        now, rate = self.site.deadlines.now, self.site.limits.body_bytes_per_second
        if self._late != self._body_too_slow:
            self._by(BODY_GRACE_SECONDS, self._body_too_slow)
            self._paid_for = body.received
        else:
            bought = (body.received - self._paid_for) / rate
            self._paid_for = body.received
            self.deadline = min(self.deadline + bought, now + BODY_GRACE_SECONDS)

    def _control_reading(self) -> None:
        """
        Read, or do not: the one place that decides.
        """
        body = self._body
        if self._closing or self._tunnel is not None:
            wanted = True
        elif body is not None and not body.complete:
            wanted = not (self._body_full or body.waiting)
        elif self._request is None:
            wanted = not self._send_blocked
        else:
            wanted = len(self._unread) <= PIPELINE_BYTES
        if wanted == self._paused:
            self._paused = not wanted
            transport: Any = self.transport
            if wanted:
                transport.resumeProducing()
            else:
                transport.pauseProducing()
                if self.deadline == NEVER:
                    self._by(0, self._look_for_client)

    # What goes out.

    def write(self, data: bytes) -> None:
        """
        Send bytes of an answer.
        """
        if self._held:
            data, self._held = self._held + data, b""
        self._send(data)

    def hold(self, data: bytes) -> None:
        """
        Send *data* together with what is written next, or with ``flush``.
        """
        self._held += data

    def flush(self) -> None:
        """
        Send what is held.
        """
        if self._held:
            data, self._held = self._held, b""
            self._send(data)

    def stamp(self) -> Fields:
        """
        Header lines for each answer of our own.
        """
        return self.site.stamp()

    def will_persist(self) -> bool:
        """
        Whether another request may follow the answer that is about to begin. None does if the answer is early: the
        client is told that we shall not wait for the rest of its body (RFC 9112 §9.6).
        """
        body = self._body
        if self.site.leaving or (body is not None and not body.complete):
            self.persistent = False
        return self.persistent

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:  # noqa: FBT001 - Twisted's signature
        """
        Tell *producer* when the client takes no more, and when it does again.
        """
        if not streaming:
            msg = "Only push producers are taken."
            raise TypeError(msg)
        self._producer = producer
        if self._send_blocked:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """
        Nobody is to be told any more.
        """
        self._producer = None

    def pauseProducing(self) -> None:
        """
        The transport is full.
        """
        self._send_blocked = True
        self._unsent = unsent(self.transport)
        self._by(self.site.limits.send_seconds, self._send_too_slow)
        if self._producer is not None:
            self._producer.pauseProducing()
        self._control_reading()

    def resumeProducing(self) -> None:
        """
        The transport is empty again.
        """
        self._send_blocked = False
        if self._request is None:
            self._by(self.site.limits.idle_seconds, self._idle_too_long)
        else:
            self._by(NEVER, self._idle_too_long)
            self._body_by()
        if self._producer is not None:
            self._producer.resumeProducing()
        self._advance()

    def stopProducing(self) -> None:
        """
        The transport is lost; ``connectionLost`` says so as well.
        """

    def requestDone(self, _request: Request) -> None:
        """
        The answer is complete: take the next request, or close.
        """
        body, self._body, self._request, self._producer = self._body, None, None, None
        self._body_full = False
        if not self.persistent or self.site.draining:
            self._close(everything_read=(body is None or body.complete) and not self._unread.strip())
            return
        if not self._send_blocked:
            self._by(self.site.limits.idle_seconds, self._idle_too_long)
        self._advance()

    def become_tunnel(self, protocol: IProtocol) -> None:
        """
        From now on the bytes of this connection belong to *protocol*.
        """
        transport: Any = self.transport
        self._request = None
        self._by(NEVER, self._idle_too_long)
        transport.unregisterProducer()
        self._tunnel = protocol
        self._control_reading()
        protocol.makeConnection(transport)
        unread, self._unread = self._unread, b""
        if unread:
            protocol.dataReceived(unread)

    # How it ends.

    def _refuse(self, refusal: Refusal) -> None:
        """
        Answer what cannot be processed, and close. An answer that has begun is cut.
        """
        request, self._unread = self._request, b""
        if request is not None and request.startedWriting:
            request.cut()
            return
        self._abandon(Failure(refusal))
        fields, content = refusal.answer()
        fields += [(b"Connection", b"close"), (b"Date", http_date()), *self.stamp()]
        lines = b"".join(b"%b: %b\r\n" % field for field in fields)
        status = b"HTTP/1.1 %d %b\r\n" % (refusal.status, reason_phrase(refusal.status))
        self.write(status + lines + b"\r\n" + content)
        self._close(everything_read=False)

    def _close(self, *, everything_read: bool) -> None:
        """
        Close after what is written has left. A client that still sends is heard for a while: closing at once would
        reset the connection, and take the answer away from it.
        """
        self._closing = True
        self._unread = b""
        transport: Any = self.transport
        transport.unregisterProducer()
        half_closeable = IHalfCloseableDescriptor.providedBy(transport) and not self.isSecure()
        if everything_read or not half_closeable:
            transport.loseConnection()  # TLS goes on reading until the client's own close_notify
        else:
            transport.loseWriteConnection()
        sent = not everything_read and not self._send_blocked
        self._by(LINGER_SECONDS if sent else self.site.limits.send_seconds, self._abort)
        self._control_reading()

    def cut(self, *, flush: bool) -> None:
        """
        End the connection in the middle of an answer.

        :param flush: the framing shows that something is missing, so what is written may still leave; otherwise only
            a reset tells the client.
        """
        transport: Any = self.transport
        self.flush()
        self._closing = True
        self._abandon(Failure(ClientLeft()))
        transport.unregisterProducer()
        if flush:
            self._by(LINGER_SECONDS, self._abort)
            transport.loseConnection()
            return
        self._abort()

    def _by(self, seconds: float, late: Callable[[], None]) -> None:
        self.deadline = self.site.deadlines.after(seconds)
        self._late = late

    def deadline_passed(self) -> None:
        """
        Whatever was awaited did not come.
        """
        self._late()

    def _idle_too_long(self) -> None:
        self._close(everything_read=True)

    def _head_too_slow(self) -> None:
        self._refuse(MalformedRequest("The request head did not arrive in time.", status=408))

    def _body_too_slow(self) -> None:
        self._refuse(MalformedRequest("The request body arrives too slowly.", status=408))

    def _send_too_slow(self) -> None:
        left = unsent(self.transport)
        if left < self._unsent:
            # The client takes little at a time, but it takes.
            self._unsent = left
            self._by(self.site.limits.send_seconds, self._send_too_slow)
        else:
            self._abort()

    def _look_for_client(self) -> None:
        """
        While we do not read, nobody tells us that the client has left: look, once a second. A close that waits behind
        unread bytes in the client's own kernel cannot be seen.
        """
        if has_left(self.transport):
            self._abort()

    def _abort(self) -> None:
        self.deadline = NEVER
        transport: Any = self.transport
        transport.abortConnection()

    def shut_when_idle(self) -> None:
        """
        Close if no request is being answered, or on its way in; otherwise that happens after the answer.
        """
        if not (self.busy or self._unread or self._closing):
            self._close(everything_read=True)

    @property
    def is_new(self) -> bool:
        """
        No request has come yet. Its client may have been connected by the kernel just now, and have sent one.
        """
        return not self._has_asked

    @property
    def busy(self) -> bool:
        """
        A request is being answered, or a tunnel is open.
        """
        return self._request is not None or self._tunnel is not None


def _nothing() -> None:
    """
    There is no deadline any more.
    """
