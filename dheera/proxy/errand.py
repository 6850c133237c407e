"""
What the head of a request asks of an upstream: who asks, for what, and how upstream is asked for it.

It depends on the head and the configuration alone, so it is made once for all requests of a connection that have the
same head (`wire.heads.Memo`): reading it anew for each took a sixth of all instructions of an exchange.
"""

from __future__ import annotations

from collections.abc import Sequence

from dheera.proxy.headers import Subnet, caller, upward
from dheera.proxy.target import map_target
from dheera.proxy.upstream import Upstream
from dheera.wire.outgoing import written
from dheera.wire.request import Request


class Errand:
    """
    What one head asks of *upstream*.

    :param trusted: networks of proxies whose word is taken on whom they speak for.
    :raises NotFound: its target is not below the prefix of *upstream*.
    :raises BadTarget: it could be read in two ways.
    :ivar target: of upstream, with the prefix of its base.
    :ivar path: the same without that prefix, with the query.
    :ivar caller: who asks.
    """

    def __init__(self, request: Request, upstream: Upstream, trusted: Sequence[Subnet]) -> None:
        base = upstream.base
        self.target = map_target(request.uri, base, upstream.prefix)
        self.path = self.target[len(base.prefix) :]
        self.caller = caller(request.fields, request.client, trusted)
        # Not the head, which keeps this: what holds each other would wait for the garbage collector.
        self._method = request.method
        self._fields = request.fields
        self._is_handshake = request.upgrade_to is not None
        self._upstream = upstream
        self._trusted = trusted
        self._lines = b""

    def is_for(self, upstream: Upstream, trusted: Sequence[Subnet]) -> bool:
        """
        Whether it would be the same if it were made now.
        """
        return self._upstream is upstream and self._trusted is trusted

    def lines(self) -> bytes:
        """
        The head of the request to upstream, but for what tells of our credential and of its body.
        """
        if not self._lines:
            fields = upward(self._fields, websocket=self._is_handshake)
            self._lines = written(self._upstream.base.origin, self._method, self.target, fields)
        return self._lines


def errand_of(request: Request, upstream: Upstream, trusted: Sequence[Subnet]) -> Errand:
    """
    What *request* asks of *upstream*: kept from the request before it, if that had the same head.

    :raises NotFound: as `Errand`.
    :raises BadTarget: as `Errand`.
    """
    memo = request.head.memo
    kept = memo.made
    if isinstance(kept, Errand) and kept.is_for(upstream, trusted):
        return kept
    memo.made = made = Errand(request, upstream, trusted)
    return made
