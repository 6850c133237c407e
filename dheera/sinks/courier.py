"""
How batches travel by HTTP: treq above our own agent, which keeps its connections, follows no redirect, and asks no
proxy of the environment.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ssl import SSLContext
from typing import Any, cast
from urllib.parse import urlsplit

from treq.client import HTTPClient
from twisted.internet.defer import Deferred, TimeoutError, fail, succeed  # noqa: A004 - Twisted's name
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from dheera import __version__
from dheera.errors import AnswerCut, Refusal
from dheera.sinks import contract
from dheera.sinks.answers import PASSING, beginning, reason, retry_after, without
from dheera.sinks.contract import Reply, SinkAway, SinkRefuses
from dheera.wire.client import Agent
from dheera.wire.limits import ClientLimits

SHORTEST_COMPRESSED_BYTES = 1024
COMPRESSED_AT_ONCE_BYTES = 256 * 1024
"""
Some milliseconds of work; then others have their turn.
"""
LIMITS = ClientLimits(
    # What a batch may take in all, its sink says.
    first_byte_seconds=3600.0,
    between_chunks_seconds=3600.0,
    pool_idle_seconds=30.0,
    pool_connections=4,
)


class HttpCourier:
    """
    Carries the batches of all sinks.

    :param now: the time of day, for a ``Retry-After`` that is a date.
    :param context: knows whom TLS trusts; the system's authorities if none is given.
    """

    def __init__(self, reactor: Any, now: Callable[[], datetime], context: SSLContext | None = None) -> None:
        self._reactor = reactor
        self._now = now
        self._agent = Agent(reactor, LIMITS, context)
        jar: Any = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self._client = HTTPClient(self._agent, jar)

    def send(
        self,
        url: str,
        content: bytes,
        headers: Mapping[str, str],
        *,
        method: str = "POST",
        compress: bool = True,
        timeout_seconds: float = 30.0,
    ) -> Deferred[Reply]:
        """
        See `dheera.sinks.contract.Courier`.
        """
        errand = Deferred.fromCoroutine(self._send(method, url, content, headers, compress=compress))
        errand.addTimeout(timeout_seconds, self._reactor)
        return errand.addErrback(_too_late, urlsplit(url).netloc.rpartition("@")[2], timeout_seconds)

    def close(self) -> None:
        """
        Close the connections that are kept.
        """
        self._agent.close()

    async def _send(
        self, method: str, url: str, content: bytes, headers: Mapping[str, str], *, compress: bool
    ) -> Reply:
        fields = once({"User-Agent": f"dheera/{__version__}", **headers})
        if compress and len(content) >= SHORTEST_COMPRESSED_BYTES:
            content = await self._compressed(content)
            fields["Content-Encoding"] = "gzip"
        host = urlsplit(url).netloc.rpartition("@")[2]
        try:
            response = await self._call(method, url, content, fields)
            quoted = await beginning(response)
        except Refusal as error:
            raise SinkAway(_UPSTREAM.sub(host, error.message)) from error
        except ResponseFailed as error:
            raise SinkAway(f"{host} sent an answer that cannot be decoded.") from error
        status = response.code
        if status < HTTPStatus.MULTIPLE_CHOICES:
            lines = [(name, value) for name, values in response.headers.getAllRawHeaders() for value in values]
            return Reply(status=status, fields=lines, content=quoted)
        told = reason(host, status, without(quoted, url, headers))
        if status < HTTPStatus.BAD_REQUEST or status in PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            said = response.headers.getRawHeaders(b"retry-after", [b""])[0]
            raise SinkAway(told, retry_after_seconds=retry_after(said, self._now()))
        raise SinkRefuses(told)

    async def _call(self, method: str, url: str, content: bytes, fields: Mapping[str, str]) -> IResponse:
        try:
            return await self._call_once(method, url, content, fields)
        except AnswerCut as cut:
            # A kept connection may have been closed while the batch was on its way, and a batch may be sent twice.
            if not cut.nothing_came:
                raise
        return await self._call_once(method, url, content, fields)

    def _call_once(self, method: str, url: str, content: bytes, fields: Mapping[str, str]) -> Deferred[IResponse]:
        body = _Body(content) if content or method in ("POST", "PUT") else None
        return cast(
            "Deferred[IResponse]",
            self._client.request(
                method,
                url,
                headers=cast("Any", dict(fields)),
                data=cast("Any", body),
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            ),
        )

    async def _compressed(self, content: bytes) -> bytes:
        packer = zlib.compressobj(level=1, wbits=31)  # a gzip header; more effort costs more time than it saves
        pieces = []
        for start in range(0, len(content), COMPRESSED_AT_ONCE_BYTES):
            if start:
                await deferLater(self._reactor, 0)
            pieces.append(packer.compress(content[start : start + COMPRESSED_AT_ONCE_BYTES]))
        return b"".join([*pieces, packer.flush()])


def once(headers: Mapping[str, str]) -> dict[str, str]:
    """
    *headers* with each name once, however it is spelt: the last has the word, so what an operator says goes before what
    a sink does.
    """
    return dict({name.lower(): (name, value) for name, value in headers.items()}.values())


_UPSTREAM = re.compile(r"^Upstream( [a-z]+://\S+)?")  # as the wire calls whoever is called


def _too_late(failure: Failure, host: str, seconds: float) -> Failure:
    if failure.check(TimeoutError):
        raise SinkAway(f"{host} did not answer within {seconds:g} seconds.") from failure.value
    return failure


@implementer(IBodyProducer)
class _Body:
    """
    A body that is all here: treq's own for bytes reads it in small steps by the global reactor.
    """

    def __init__(self, content: bytes) -> None:
        self.length = len(content)
        self._content = content

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """
        Write all of it.
        """
        try:
            consumer.write(self._content)
        except Exception:  # noqa: BLE001 - as the interface has it: by the Deferred
            return fail()
        return succeed(None)

    def pauseProducing(self) -> None:
        """
        Nothing is under way.
        """

    resumeProducing = stopProducing = pauseProducing


_: type[contract.Courier] = HttpCourier
