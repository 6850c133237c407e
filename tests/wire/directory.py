"""
A directory of names that answers when a test says so.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer


@implementer(IHostnameResolver, IHostResolution)
class Directory:
    """
    A resolver.

    :ivar hosts: the addresses of each name.
    :ivar asked: the names that were asked for, in order.
    :ivar waits: answers are given by ``answer`` only.
    """

    def __init__(self, **hosts: list[str]) -> None:
        self.hosts = {name.replace("_", "."): addresses for name, addresses in hosts.items()}
        self.asked: list[str] = []
        self.waits = False
        self.name = ""
        self._waiting: list[tuple[IResolutionReceiver, str]] = []

    def resolveHostName(  # noqa: N802 - Twisted's name
        self,
        receiver: IResolutionReceiver,
        name: str,
        portNumber: int = 0,  # noqa: ARG002, N803 - Twisted's name
        addressTypes: Any = None,  # noqa: ARG002, N803 - Twisted's name
        transportSemantics: str = "TCP",  # noqa: ARG002, N803 - Twisted's name
    ) -> IHostResolution:
        self.asked.append(name)
        receiver.resolutionBegan(self)
        self._waiting.append((receiver, name))
        if not self.waits:
            self.answer()
        return self

    def cancel(self) -> None:
        """
        What resolvers of Twisted's cannot do either.
        """

    def answer(self) -> None:
        """
        Answer whoever waits, the first one first.
        """
        waiting, self._waiting = self._waiting, []
        for receiver, name in waiting:
            for host in self.hosts.get(name, []):
                kind = IPv6Address if ":" in host else IPv4Address
                receiver.addressResolved(kind("TCP", host, 0))
            receiver.addressResolved(HostnameAddress(b"not.an.address", 0))
            receiver.resolutionComplete()
