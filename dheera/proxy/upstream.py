"""
The Mistral API, as an exchange calls it: treq above ``wire.client``, without cookies, redirects or decoding.

treq rebuilds URLs, adds ``Accept-Encoding``, decodes gzip and keeps cookies, each in a layer around the agent. What
must go up as it was written travels through those layers in a ``Parcel``, which the innermost agent opens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.cookiejar import Cookie, CookieJar
from typing import Any, cast

from attrs import frozen
from hyperlink import EncodedURL
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from dheera.errors import Unavailable
from dheera.keys import Secret
from dheera.proxy.target import Base
from dheera.wire.client import Agent
from dheera.wire.heads import Fields
from dheera.wire.outgoing import Outgoing
from dheera.wire.response import Response


@implementer(IBodyProducer)
@frozen(eq=False)
class Parcel:
    """
    A request that is to be sent as it is. It poses as a body, which is what treq hands on untouched; it is never
    asked to produce.
    """

    outgoing: Outgoing
    length: int = 0

    def startProducing(self, _consumer: object) -> Deferred[None]:
        """
        Not asked for.
        """
        raise NotImplementedError

    def pauseProducing(self) -> None:
        """
        Not asked for.
        """

    def resumeProducing(self) -> None:
        """
        Not asked for.
        """

    def stopProducing(self) -> None:
        """
        Not asked for.
        """


@implementer(IAgent)
@frozen(eq=False)
class Verbatim:
    """
    The agent below treq that opens parcels.
    """

    agent: Agent

    def request(
        self,
        _method: bytes,
        _uri: bytes,
        _headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803 - Twisted's name
    ) -> Deferred[IResponse]:
        """
        Send the parcel's content.
        """
        answered = self.agent.send(cast("Parcel", bodyProducer).outgoing)
        return answered.addCallback(_veiled)


def _veiled(response: Response) -> IResponse:
    response.veil()
    return response


class NoCookies(IndexableCookieJar):
    """
    A jar that keeps nothing and gives nothing: one tenant's cookies must not reach another.
    """

    def __iter__(self) -> Iterator[Cookie]:
        """
        There are none.
        """
        return iter(())

    def add_cookie_header(self, request: Any) -> None:
        """
        Add none.
        """

    def extract_cookies(self, response: Any, request: Any) -> None:
        """
        Keep none.
        """


class _Elsewhere(EncodedURL):
    """
    A URL for treq, which wants one; the parcel knows better. It gives its text without being rebuilt for each request.
    """

    def to_uri(self) -> EncodedURL:
        return self

    def to_text(self, with_password: bool = False) -> str:  # noqa: ARG002, FBT001, FBT002 - hyperlink's signature
        return "http://upstream/"


class Upstream:
    """
    Where exchanges go.

    :param api_key: the real key; without one nothing is sent.
    """

    def __init__(self, reactor: Any, agent: Agent, base: Base, api_key: Secret | None) -> None:
        self.base = base
        self._reactor = reactor
        self._agent = agent
        self._authorization = None if api_key is None else b"Bearer " + api_key.reveal().encode("ascii")
        self._jar: CookieJar = NoCookies()
        self._client = HTTPClient(Verbatim(agent), cookiejar=NoCookies())
        self._url = _Elsewhere()

    def authorization(self) -> bytes:
        """
        The credential that upstream knows.

        :raises Unavailable: none is configured.
        """
        if self._authorization is None:
            raise Unavailable("No upstream key is configured here: set MISTRAL_API_KEY and start dheera again.")
        return self._authorization

    async def send(
        self,
        method: bytes,
        target: bytes,
        fields: Fields,
        body: IBodyProducer | None,
        informed: Callable[[int, bytes, Fields], None],
    ) -> Response:
        """
        Send one request; cancelling closes its connection.

        :param informed: told of interim answers.
        :return: the head of the answer, its body to come.
        :raises UpstreamError: there is no usable answer.
        """
        outgoing = Outgoing(
            origin=self.base.origin, method=method, target=target, fields=fields, body=body, informed=informed
        )
        answer = await self._client.request(
            "POST",
            self._url,
            data=Parcel(outgoing),
            cookies=self._jar,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        return cast("Response", answer.original)

    def close(self) -> None:
        """
        Close the connections that are kept.
        """
        self._agent.close()
