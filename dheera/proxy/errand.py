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
        self._head = request.head
        self._upstream = upstream
        self._trusted = trusted
        self._written: dict[bytes | None, bytes] = {}

    def is_for(self, upstream: Upstream, trusted: Sequence[Subnet]) -> bool:
        """
        Whether it would be the same if it were made now.
        """
        return self._upstream is upstream and self._trusted is trusted

    def written(self, authorization: bytes | None) -> bytes:
        """
        The head of the request to upstream, but for what tells of its body.

        :param authorization: the value of ``Authorization``; ``None`` sends none.
        """
        done = self._written.get(authorization)
        if done is None:
            head = self._head
            fields = upward(head.fields, authorization, websocket=head.framing.upgrade is not None)
            done = written(self._upstream.base.origin, head.method, self.target, fields)
            self._written[authorization] = done
        return done


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
