"""
Upstream's body to the client, piece by piece, with back-pressure; and the ways of leaving.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from dheera.wire.body import Watcher
from dheera.wire.request import Request
from dheera.wire.response import Response


class _Relay(Protocol):
    """
    Receives the body of *response* and writes it to *request*.
    """

    def __init__(self, request: Request, response: Response, watch: Watcher) -> None:
        self.done: Deferred[None] = Deferred(self._cancelled)
        self._request = request
        self._response: Response | None = response
        self._write = request.write
        self._watch = watch

    def dataReceived(self, data: bytes) -> None:
        """
        A piece goes to the client; then whoever watches may see it.
        """
        self._write(data)
        self._watch(data)

    def makeConnection(self, transport: Any) -> None:
        """
        The response is our transport: it stops when the client takes no more.
        """
        self._request.registerProducer(transport, streaming=True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The body is complete, or upstream broke off: then the client's connection is cut, so that the missing end can
        be seen.
        """
        response, self._response = self._response, None
        if response is None:
            return
        self._request.unregisterProducer()
        if reason.check(ResponseDone):
            self._request.finish()
            self.done.callback(None)
        else:
            # Told first: cutting the connection counts as the client's leaving, and cancels.
            self.done.errback(reason)
            self._request.cut()

    def _cancelled(self, _: Deferred[None]) -> None:
        """
        The client has left: so does upstream's connection.
        """
        response, self._response = self._response, None
        if response is not None:
            response.abortConnection()


def relay(response: Response, request: Request, watch: Watcher) -> Deferred[None]:
    """
    Pass the body of *response* on to *request*, whose answer has begun, and finish it.

    :param watch: sees each piece after it has gone. It must not raise.
    :return: fires after the last piece; fails with an ``UpstreamError`` if upstream broke off. Cancel it when the
        client has left.
    """
    relaying = _Relay(request, response, watch)
    response.deliverBody(relaying)
    request.flush()
    return relaying.done


class _Listening(Protocol):
    """
    Receives the body of *response* for whoever watches, and nobody else.
    """

    def __init__(self, response: Response, watch: Watcher) -> None:
        self.done: Deferred[None] = Deferred(lambda _: response.abortConnection())
        self._watch = watch

    def dataReceived(self, data: bytes) -> None:
        """
        A piece that nobody else wants.
        """
        self._watch(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        That was all, or upstream broke off.
        """
        if not self.done.called:
            if reason.check(ResponseDone):
                self.done.callback(None)
            else:
                self.done.errback(reason)


def listen(response: Response, watch: Watcher) -> Deferred[None]:
    """
    Let *watch* see the body of *response*, though no client is there.

    :return: fires after the last piece; fails with an ``UpstreamError`` if upstream broke off. Cancel it to end that.
    """
    listening = _Listening(response, watch)
    response.deliverBody(listening)
    return listening.done
