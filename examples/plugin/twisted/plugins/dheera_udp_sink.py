"""
A sink of your own for dheera: each record as a UDP datagram of JSON.

Put this file into a folder ``twisted/plugins/`` (without an ``__init__.py``) that is below a folder of ``sys.path``: of
a package of yours, for one. Then write, in dheera's configuration::

    [sinks.beacon]
    kind = "udp"
    host = "192.0.2.7"

and try it: ``dheera_ai sinks test beacon``.
"""

# ruff: noqa: INP001 - a folder of plugins is no package
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.protocol import DatagramProtocol
from twisted.plugin import IPlugin
from zope.interface import implementer

from dheera.bookkeeping import Entry
from dheera.sinks.contract import ILogSinkFactory, SinkAway, SinkRefuses, SinkSettings, Tools

LARGEST_DATAGRAM_BYTES = 65_507


class UdpSettings(SinkSettings, frozen=True, kw_only=True):
    """
    What the table may say, besides what all tables may.

    :param host: an IP address.
    """

    host: str
    port: int = 9999


class UdpSink:
    """
    Sends to one address.
    """

    def __init__(self, reactor: Any, address: tuple[str, int]) -> None:
        self._address = address
        self._protocol: Any = DatagramProtocol()
        self._reactor = reactor
        self._port: Any = None

    def send(self, entries: Sequence[Entry]) -> Deferred[None]:
        """
        A datagram for each. What dheera is to keep and send again fails with ``SinkAway``, what can never be sent with
        ``SinkRefuses``.
        """
        try:
            if self._port is None:
                self._port = self._reactor.listenUDP(0, self._protocol)
            for entry in entries:
                if len(entry.line) > LARGEST_DATAGRAM_BYTES:
                    return fail(SinkRefuses("a record is larger than a datagram may be."))
                self._protocol.transport.write(entry.line, self._address)
        except OSError as error:
            return fail(SinkAway(f"{self._address[0]} cannot be sent to: {error.strerror}."))
        return succeed(None)

    def close(self) -> Deferred[None]:
        """
        Let go of the socket.
        """
        return succeed(None) if self._port is None else maybeDeferred(self._port.stopListening)


@implementer(IPlugin, ILogSinkFactory)
class UdpSinkFactory:
    """
    Makes such sinks.
    """

    kind: ClassVar[str] = "udp"
    settings: ClassVar[type[SinkSettings]] = UdpSettings
    takes: ClassVar[Literal["records", "alerts", "all"]] = "all"

    def make(self, settings: UdpSettings, tools: Tools) -> UdpSink:
        """
        One of them. Nobody is called yet.
        """
        return UdpSink(tools.reactor, (settings.host, settings.port))


udp_sink = UdpSinkFactory()
