"""
HTTP/1.1 as a client speaks it: an ``IAgent`` with a pool per origin, streaming both ways.
"""

from __future__ import annotations

import errno
from ssl import SSLCertVerificationError, SSLContext, SSLError

from twisted.internet import defer, error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from dheera.errors import AnswerCut, ConnectFailed, Unavailable
from dheera.wire.addresses import Host
from dheera.wire.authorities import trusting_system
from dheera.wire.connection import Connection
from dheera.wire.deadlines import Deadlines
from dheera.wire.limits import ClientLimits
from dheera.wire.outgoing import Origin, Outgoing, split, written
from dheera.wire.racing import Port
from dheera.wire.response import Response
from dheera.wire.tls import TLSPort

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
"""
Methods that may be sent twice (RFC 9110 §9.2.2).
"""


_OTHER_NAME = frozenset({62, 64})
"""
What OpenSSL calls a certificate that is for another name (``X509_V_ERR_HOSTNAME_MISMATCH``), or another address.
"""


class _Once(Factory[Connection]):
    """
    What an endpoint wants to have in order to connect one protocol.
    """

    noisy = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buildProtocol(self, _addr: IAddress | None) -> Connection:
        """
        The one protocol.
        """
        return self._connection


@implementer(IAgent)
class Agent:
    """
    Sends requests, over connections that it keeps.

    :param context: knows whom TLS trusts; the authorities of the system if none is given.
    :ivar limits: may be replaced at any time; what is under way goes by the new ones from its next step on.
    """

    def __init__(self, reactor: IReactorTime, limits: ClientLimits, context: SSLContext | None = None) -> None:
        self.limits = limits
        self.deadlines = Deadlines(reactor)
        self._reactor = reactor
        self._context = context
        self._closed = False
        self._idle: dict[Origin, list[Connection]] = {}
        self._hosts: dict[str, Host] = {}
        self._endpoints: dict[Origin, IStreamClientEndpoint] = {}

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803 - Twisted's name
    ) -> Deferred[IResponse]:
        """
        Send a request as ``IAgent`` has it.

        :return: fails with an ``UpstreamError``.
        """
        origin, target = split(uri)
        fields = [(name, value) for name, values in (headers or Headers()).getAllRawHeaders() for value in values]
        fields = [line for line in fields if line[0].lower() not in (b"host", b"content-length", b"transfer-encoding")]
        return self.send(  # type: ignore[return-value]  # a Response is an IResponse
            Outgoing(origin=origin, method=method, lines=written(origin, method, target, fields), body=bodyProducer)
        )

    def send(self, outgoing: Outgoing) -> Deferred[Response]:
        """
        Send *outgoing*, on a kept connection if there is one.

        A kept connection may have been closed by upstream just now. If nothing came back, the request is sent once
        more on a new one, provided that it may be sent twice and its body is still here.

        :return: fires with the head of the answer; fails with an ``UpstreamError``.
        """
        idle = self._idle.get(outgoing.origin)
        if idle and self._reactor.seconds() >= idle[-1].host.old_at:
            idle[-1].host.look_up()  # so that connections to addresses that are gone do not live on their use
        while idle:
            connection = idle.pop()
            if connection.usable():
                answered = connection.send(outgoing)
                if outgoing.method in IDEMPOTENT:
                    answered.addErrback(self._again, outgoing)
                return answered
            connection.abort()
        return self._send_anew(outgoing)

    def _again(self, failure: Failure, outgoing: Outgoing) -> Deferred[Response] | Failure:
        reason = failure.value
        if not (isinstance(reason, AnswerCut) and reason.nothing_came and outgoing.whole_body() is not None):
            return failure
        if outgoing.retried is not None and not outgoing.retried():
            return failure
        # That the second time not a byte was sent is not the whole truth: the first time all was.
        return self._send_anew(outgoing).addErrback(
            lambda second: failure if second.check(ConnectFailed, Unavailable) else second
        )

    def _send_anew(self, outgoing: Outgoing) -> Deferred[Response]:
        return Deferred.fromCoroutine(self._connect_and_send(outgoing))

    async def _connect_and_send(self, outgoing: Outgoing) -> Response:
        origin = outgoing.origin
        try:
            connection = Connection(self, origin, self._host(origin.host))
            connecting = self._endpoint(origin).connect(_Once(connection))
            await connecting.addTimeout(self.limits.connect_seconds, self._reactor)
        except CancelledError:
            raise
        except Exception as reason:
            if getattr(reason, "osError", None) in (errno.EMFILE, errno.ENFILE):
                raise Unavailable("No file is left to open here: try again soon.", retry_after_seconds=1) from reason
            raise ConnectFailed(
                f"Upstream {origin.scheme}://{origin.host}:{origin.port} cannot be reached: {_told(reason)}."
            ) from reason
        return await connection.send(outgoing)

    def _endpoint(self, origin: Origin) -> IStreamClientEndpoint:
        endpoint = self._endpoints.get(origin)
        if endpoint is None:
            endpoint = Port(self._reactor, self._host(origin.host), origin.port, lambda: self.limits.connect_seconds)
            if origin.scheme == "https":
                if self._context is None:
                    self._context = trusting_system()
                endpoint = TLSPort(self._context, origin.host.encode("idna").decode(), endpoint)
            self._endpoints[origin] = endpoint
        return endpoint

    def _host(self, name: str) -> Host:
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = Host(self._reactor, name, lambda: self.limits.names_seconds, self._moved)
        return host

    def _moved(self, host: Host) -> None:
        """
        Close what is idle at addresses that *host* has no longer; what is busy there is closed after its answer.
        """
        for idle in self._idle.values():
            for connection in [*idle]:
                if connection.host is host and not host.has(connection.address):
                    connection.abort()

    @property
    def idle_connections(self) -> int:
        """
        How many connections are kept for the next requests.
        """
        return sum(len(idle) for idle in self._idle.values())

    def keep(self, connection: Connection) -> None:
        """
        Take back a connection that can be used again, or close it: if there are enough, if its address is gone, or if
        this agent is closed.
        """
        idle = self._idle.setdefault(connection.origin, [])
        kept = len(idle) < self.limits.pool_connections and not self._closed
        host, address = connection.host, connection.address
        if kept and (address in host.known or host.has(address)):
            idle.append(connection)
        else:
            connection.abort()

    def forget(self, connection: Connection) -> None:
        """
        Let go of a connection that has ended.
        """
        self.deadlines.forget(connection)
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)

    def close(self) -> None:
        """
        Close all idle connections, and from now on each one after its answer.
        """
        self._closed = True
        for idle in self._idle.values():
            for connection in [*idle]:
                connection.abort()


def _told(reason: Exception) -> str:
    """
    The reason in words that name neither bytes nor secrets.
    """
    if isinstance(reason, (error.TimeoutError, defer.TimeoutError)):
        return "it did not answer in time"
    if isinstance(reason, SSLCertVerificationError):
        if reason.verify_code in _OTHER_NAME:
            return "its TLS certificate is for another name"
        return f"its TLS certificate is not trusted ({reason.verify_message})"
    if isinstance(reason, SSLError) and reason.reason == "WRONG_VERSION_NUMBER":  # of the first bytes: no TLS has it
        return "it does not speak TLS"
    if isinstance(reason, SSLError):
        return f"TLS failed: {(reason.reason or str(reason)).replace('_', ' ').lower()}"
    return str(reason).rstrip(".") or type(reason).__name__
