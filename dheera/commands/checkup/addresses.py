"""
Where a daemon with this configuration can be asked.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from attrs import frozen
from twisted.internet import ssl
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI, Agent
from twisted.web.iweb import IAgent, IAgentEndpointFactory
from zope.interface import implementer

from dheera.settings import Listen

_KINDS = {"tcp": "127.0.0.1", "tcp4": "127.0.0.1", "tcp6": "::1", "ssl": "127.0.0.1", "tls": "127.0.0.1"}
"""
Endpoints with a port, and where that is if they do not say on which interface.
"""
_LOCAL = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


@frozen(kw_only=True)
class Address:
    """
    One place.

    :param path: of a Unix socket; empty if it is none.
    """

    scheme: str = "http"
    host: str = "localhost"
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else self.url

    @property
    def url(self) -> str:
        """
        What stands before the path of a page.
        """
        if self.path:
            return "http://localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def agent(self, reactor: Any, seconds: float) -> IAgent:
        """
        Asks whoever listens there. Certificates are not verified: this should be the machine itself, and they may well
        be for the name that others know it by. So no secret is sent unless it `is_here`.
        """
        made: IAgent = Agent.usingEndpointFactory(reactor, _Way(reactor, self, seconds))
        return made

    def is_here(self) -> bool:
        """
        Whether it is one of this machine. It blocks.
        """
        if self.path:
            return True
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(self.host, 0, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as trial:
                trial.bind(place)  # which only works with an own address
        except OSError:
            return False
        return True


@implementer(IAgentEndpointFactory)
@frozen
class _Way:
    _reactor: Any
    _address: Address
    _seconds: float

    def endpointForURI(self, _: URI) -> IStreamClientEndpoint:  # noqa: N802 - Twisted's name
        """
        The same for all.
        """
        to, seconds = self._address, self._seconds
        endpoint: IStreamClientEndpoint
        if to.path:
            return UNIXClientEndpoint(self._reactor, to.path, timeout=seconds)
        try:
            kind = TCP4ClientEndpoint if ip_address(to.host).version == 4 else TCP6ClientEndpoint  # noqa: PLR2004 - IPv4
            endpoint = kind(self._reactor, to.host, to.port, timeout=seconds)
        except ValueError:
            endpoint = HostnameEndpoint(self._reactor, to.host, to.port, timeout=seconds)
        return wrapClientTLS(ssl.CertificateOptions(), endpoint) if to.scheme == "https" else endpoint


def addresses_of(listen: Listen) -> tuple[Sequence[Address], Sequence[str]]:
    """
    Where it listens; and the settings of which that cannot be known.
    """
    if not listen.endpoints:
        if not listen.port:
            return [], ["port 0 (any free one)"]
        scheme = "http" if listen.tls_certificate is None else "https"
        return [Address(scheme=scheme, host=_LOCAL.get(listen.host, listen.host), port=listen.port)], []
    found, unknown = [], []
    for text in listen.endpoints:
        address = _address(text)
        if address is None:
            unknown.append(text.partition(":")[0] + ": ...")
        else:
            found.append(address)
    return found, unknown


def _address(text: str) -> Address | None:
    """
    Where that endpoint of Twisted listens, as far as its text tells.
    """
    kind, *words = [re.sub(r"\\(.)", r"\1", word) for word in re.split(r"(?<!\\):", text)]
    named = dict(word.split("=", 1) for word in words if "=" in word)
    places = [word for word in words if "=" not in word]
    if kind == "unix":
        path = named.get("address") or (places[0] if places else "")
        return Address(path=path) if path else None
    port = named.get("port") or next((each for each in places if each.isdecimal()), "0")
    if kind not in _KINDS or not re.fullmatch(r"[0-9]{1,5}", port) or port == "0":
        return None
    host = named.get("interface", "")
    host = _KINDS[kind] if host in _LOCAL else host
    return Address(scheme="https" if kind in ("ssl", "tls") else "http", host=host, port=int(port))
