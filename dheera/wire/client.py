"""
HTTP/1.1 as a client speaks it: an ``IAgent`` with a pool per origin, streaming both ways.
"""

from __future__ import annotations

import errno

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet import defer, error
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IAddress, IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from dheera.errors import AnswerCut, ConnectFailed, Unavailable
from dheera.wire.connection import Connection
from dheera.wire.deadlines import Deadlines
from dheera.wire.limits import ClientLimits
from dheera.wire.outgoing import Origin, Outgoing, split
from dheera.wire.response import Response

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
"""
Methods that may be sent twice (RFC 9110 §9.2.2).
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

    :param policy: whom TLS trusts; the usual certificate authorities if none is given.
    """

    def __init__(self, reactor: IReactorTime, limits: ClientLimits, policy: IPolicyForHTTPS | None = None) -> None:
        self.limits = limits
        self.deadlines = Deadlines(reactor)
        self._reactor = reactor
        self._policy = BrowserLikePolicyForHTTPS() if policy is None else policy
        self._idle: dict[Origin, list[Connection]] = {}
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
            Outgoing(origin=origin, method=method, target=target, fields=fields, body=bodyProducer)
        )

    def send(self, outgoing: Outgoing) -> Deferred[Response]:
        """
        Send *outgoing*, on a kept connection if there is one.

        A kept connection may have been closed by upstream just now. If nothing came back, the request is sent once
        more on a new one, provided that it may be sent twice and its body is still here.

        :return: fires with the head of the answer; fails with an ``UpstreamError``.
        """
        idle = self._idle.get(outgoing.origin)
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
        if isinstance(reason, AnswerCut) and reason.nothing_came and outgoing.whole_body() is not None:
            if outgoing.retried is not None:
                outgoing.retried()
            return self._send_anew(outgoing)
        return failure

    def _send_anew(self, outgoing: Outgoing) -> Deferred[Response]:
        return Deferred.fromCoroutine(self._connect_and_send(outgoing))

    async def _connect_and_send(self, outgoing: Outgoing) -> Response:
        origin = outgoing.origin
        connection = Connection(self, origin)
        try:
            connecting = Deferred.fromCoroutine(self._connect(connection))
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

    async def _connect(self, connection: Connection) -> None:
        await _cancellable(self._endpoint(connection.origin).connect(_Once(connection)))
        await connection.ready

    def _endpoint(self, origin: Origin) -> IStreamClientEndpoint:
        endpoint = self._endpoints.get(origin)
        if endpoint is None:
            endpoint = self._plain_endpoint(origin.host, origin.port)
            if origin.scheme == "https":
                creator = self._policy.creatorForNetloc(origin.host.encode("idna"), origin.port)
                endpoint = wrapClientTLS(creator, endpoint)
            self._endpoints[origin] = endpoint
        return endpoint

    def _plain_endpoint(self, host: str, port: int) -> IStreamClientEndpoint:
        """
        Addresses are connected to as they are: ``HostnameEndpoint`` would ask the resolver's threads about them, and
        takes five times as long for each connection.
        """
        seconds = self.limits.connect_seconds
        if isIPAddress(host):
            return TCP4ClientEndpoint(self._reactor, host, port, timeout=seconds)
        if isIPv6Address(host):
            return TCP6ClientEndpoint(self._reactor, host, port, timeout=seconds)
        return HostnameEndpoint(self._reactor, host, port, timeout=seconds)

    @property
    def idle_connections(self) -> int:
        """
        How many connections are kept for the next requests.
        """
        return sum(len(idle) for idle in self._idle.values())

    def keep(self, connection: Connection) -> None:
        """
        Take back a connection that can be used again.
        """
        idle = self._idle.setdefault(connection.origin, [])
        if len(idle) < self.limits.pool_connections:
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
        Close all idle connections.
        """
        for idle in self._idle.values():
            for connection in [*idle]:
                connection.abort()


def _cancellable(connecting: Deferred[IProtocol]) -> Deferred[object]:
    """
    *connecting*, and when it is cancelled a ``CancelledError``: endpoints tell of that in other words, of a name that
    nobody knows for one.
    """
    cancelled = False

    def cancel(_: Deferred[object]) -> None:
        nonlocal cancelled
        cancelled = True
        connecting.cancel()

    def tell(result: object) -> None:
        if not cancelled:
            told.callback(result)

    told: Deferred[object] = Deferred(cancel)
    connecting.addBoth(tell)
    return told


def _told(reason: Exception) -> str:
    """
    The reason in words that name neither bytes nor secrets.
    """
    if isinstance(reason, (error.TimeoutError, defer.TimeoutError)):
        return "it did not answer in time"
    if isinstance(reason, VerificationError):
        return "its TLS certificate is for another name"
    if isinstance(reason, CertificateError):
        return "its TLS certificate names no host"
    if isinstance(reason, SSL.Error):
        said = ", ".join(part[-1] for part in (reason.args[0] if reason.args else ()))
        return "its TLS certificate is not trusted" if "certificate verify failed" in said else f"TLS failed: {said}"
    return str(reason).rstrip(".") or type(reason).__name__
