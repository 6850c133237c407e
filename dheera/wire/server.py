"""
Twisted's ``Site`` above strict, streaming channels: who is connected, how many may be, and how they leave.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.web.resource import IResource, getChildForRequest
from twisted.web.server import Site

from dheera.errors import Refusal, Unavailable
from dheera.wire.channel import Channel
from dheera.wire.crowd import Crowd
from dheera.wire.deadlines import Deadlines
from dheera.wire.heads import Fields
from dheera.wire.limits import ServerLimits
from dheera.wire.request import Request

__all__ = ["Request", "Server"]


class Server(Site):
    """
    Twisted's ``Site`` above strict, streaming channels.

    :param stamp: makes the header lines which each answer of our own carries.
    :ivar limits: may be replaced at any time; open connections go by the new ones from their next request on.
    :ivar leaving: each answer says that it is the last on its connection.
    :ivar draining: no more requests are taken.
    :ivar ended: what was left has been ended, by us.
    """

    requestFactory = Request  # type: ignore[assignment]  # which a channel of ours makes with a head
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
        self.leaving = False
        self.draining = False
        self.ended = False
        self.deadlines = Deadlines(reactor)
        self._crowd = Crowd()
        self._emptied: list[Deferred[None]] = []

    @property
    def connections(self) -> int:
        """
        How many are open.
        """
        return len(self._crowd)

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

    def getResourceFor(self, request: Request) -> IResource:
        """
        The resource that *request* is for.
        """
        request.sitepath = []
        found: IResource = getChildForRequest(self.resource, request)
        return found

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
        self.deadlines.watch(channel)
        refusal = self._crowd.join(channel, self.limits)
        if refusal is None and self.draining:
            return Unavailable("This dheera is stopping: try again.", retry_after_seconds=1)
        return refusal

    def overrun(self, channel: Channel) -> bool:
        """
        Whether even those who are told that there are too many are too many.
        """
        return self._crowd.overrun(channel, self.limits)

    def gone(self, channel: Channel) -> None:
        """
        Count a connection out.
        """
        self._crowd.leave(channel)
        self.deadlines.forget(channel)
        if not self._crowd:
            emptied, self._emptied = self._emptied, []
            for one in emptied:
                one.callback(None)

    def accepting(self, most: int) -> None:
        """
        Have at most *most* connections from now on, whatever the limits say: as many as there are files for. Those of
        clients who are told to leave are among them.
        """
        self._crowd.most = most

    def leave(self) -> None:
        """
        Serve on, but let each answer say that it is the last on its connection, so that clients go elsewhere while
        nobody is refused.
        """
        self.leaving = True

    @property
    def newcomers(self) -> int:
        """
        How many connections have not asked for anything yet.
        """
        return sum(channel.is_new for channel in self._crowd)

    def drain(self) -> Deferred[None]:
        """
        Take no more requests and close what is idle.

        :return: fires when the last connection has gone.
        """
        self.leaving = self.draining = True
        emptied = self.emptied()
        for channel in self._crowd:
            channel.shut_when_idle()
        return emptied

    def emptied(self) -> Deferred[None]:
        """
        Wait until nobody is connected.
        """
        emptied: Deferred[None] = Deferred()
        if self._crowd:
            self._emptied.append(emptied)
        else:
            emptied.callback(None)
        return emptied

    def end(self) -> None:
        """
        End what is left, visibly: answers that have begun are cut. From then on ``ended`` tells that it was us.
        """
        self.ended = True
        for channel in self._crowd:
            channel.cut(flush=False)
