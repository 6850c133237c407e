"""
Twisted's ``Site`` above strict, streaming channels: who is connected, how many may be, and how they leave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.web.resource import IResource
from twisted.web.server import Site

from dheera.errors import Refusal, Unavailable
from dheera.wire.channel import Channel
from dheera.wire.deadlines import Deadlines
from dheera.wire.heads import Fields
from dheera.wire.limits import ServerLimits
from dheera.wire.request import Request

__all__ = ["Request", "Server"]

TOLD_TO_LEAVE = 256
"""
How many connections beyond the limit get an answer that says so; more are dropped without a word.
"""


class Server(Site):
    """
    Twisted's ``Site`` above strict, streaming channels.

    :param stamp: makes the header lines which each answer of our own carries.
    """

    requestFactory = Request
    noisy = False

    def __init__(
        self,
        reactor: IReactorTime,
        resource: IResource,
        limits: ServerLimits,
        stamp: Callable[[], Fields] = list,
    ) -> None:
        Site.__init__(self, resource, reactor=reactor, parsePOSTFormSubmission=False)
        self.limits = limits
        self.stamp = stamp
        self.draining = False
        self.ended = False
        self.deadlines = Deadlines(reactor)
        self._channels: set[Channel] = set()
        self._per_address: Counter[str] = Counter()
        self._emptied: list[Deferred[None]] = []

    @property
    def connections(self) -> int:
        """
        How many are open.
        """
        return len(self._channels)

    def startFactory(self) -> None:
        """
        Nothing to start: there is no access log of Twisted's kind.
        """

    def stopFactory(self) -> None:
        """
        Nothing to stop.
        """

    def buildProtocol(self, _addr: IAddress | None) -> Channel:  # type: ignore[override]  # Twisted names its own channel
        """
        A channel for a new connection.
        """
        return Channel(self)

    def acceptableProtocols(self) -> list[bytes]:
        """
        What TLS may negotiate.
        """
        return [b"http/1.1"]

    def arrived(self, channel: Channel) -> Refusal | None:
        """
        Count a new connection in.

        :return: why it is one too many.
        """
        address = getattr(channel.getPeer(), "host", "")
        self._channels.add(channel)
        self._per_address[address] += 1
        self.deadlines.watch(channel)
        if len(self._channels) > self.limits.connections:
            return Unavailable("Too many connections are open here: try again soon.", retry_after_seconds=1)
        if address and self._per_address[address] > self.limits.connections_per_address:
            return Unavailable("Too many connections come from your address: use fewer.", retry_after_seconds=1)
        if self.draining:
            return Unavailable("This dheera is stopping: try again.", retry_after_seconds=1)
        return None

    def overrun(self, channel: Channel) -> bool:
        """
        Whether even those who are told that there are too many are too many: in all, or from one address, which must
        not fill the places of others by being told.
        """
        address = getattr(channel.getPeer(), "host", "")
        return len(self._channels) > self.limits.connections + TOLD_TO_LEAVE or (
            bool(address) and self._per_address[address] > self.limits.connections_per_address + TOLD_TO_LEAVE
        )

    def gone(self, channel: Channel) -> None:
        """
        Count a connection out.
        """
        address = getattr(channel.getPeer(), "host", "")
        self._channels.discard(channel)
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]
        self.deadlines.forget(channel)
        if not self._channels:
            emptied, self._emptied = self._emptied, []
            for one in emptied:
                one.callback(None)

    def drain(self) -> Deferred[None]:
        """
        Take no more requests and close what is idle.

        :return: fires when the last connection has gone.
        """
        self.draining = True
        emptied: Deferred[None] = Deferred()
        if not self._channels:
            emptied.callback(None)
            return emptied
        self._emptied.append(emptied)
        for channel in [*self._channels]:
            channel.shut_when_idle()
        return emptied

    def end(self) -> None:
        """
        End what is left, visibly: answers that have begun are cut. From then on ``ended`` tells that it was us.
        """
        self.ended = True
        for channel in [*self._channels]:
            channel.cut(flush=False)
