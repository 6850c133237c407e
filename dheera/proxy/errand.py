"""
What the head of a request asks of an upstream: who asks, for what, and how upstream is asked for it.

It depends on the head and the configuration alone, so it is made once for all requests of a connection that have the
same head (`wire.heads.Memo`): reading it anew for each took a sixth of all instructions of an exchange.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from dheera.boundaries import Admission
from dheera.bounds import is_bound_by_body
from dheera.endpoints import OTHER, endpoint_of
from dheera.errors import BadTarget
from dheera.proxy.asking import method_of
from dheera.proxy.drafts import Draft
from dheera.proxy.headers import Subnet, caller, upward, value_of
from dheera.proxy.notes import LONGEST_PATH, noted, place
from dheera.proxy.plain import CHAT
from dheera.proxy.searching import Unclear, is_json, kind_of_body
from dheera.proxy.target import map_target
from dheera.proxy.upstream import Upstream
from dheera.routes import judged
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
    :ivar place: the one form of the path, without the query; empty if it has none.
    :ivar endpoint: as in `dheera.records.Begun`.
    :ivar acts_as: the method that it comes to, as `method_of` says.
    :ivar kind: the value of ``Content-Type``, if there is one.
    :ivar notes: what each record says of it, by the names of `records.Begun`.
    """

    def __init__(self, request: Request, upstream: Upstream, trusted: Sequence[Subnet]) -> None:
        base = upstream.base
        self.target = map_target(request.uri, base, upstream.prefix)
        self.path = self.target[len(base.prefix) :]
        self.caller = caller(request.fields, request.client, trusted)
        try:
            self.place, _ = judged(self.path)
            self.endpoint = endpoint_of(self.place)
        except BadTarget:  # the master key may go there
            self.place, self.endpoint = "", OTHER
        self.acts_as = method_of(request)
        self.kind = value_of(request.fields, b"content-type")
        said = self.caller.end_user
        self.end_user = (noted(said) if said else None) or None
        self.notes: Mapping[str, Any] = {
            "method": request.method.decode("ascii"),
            "path": noted(self.path.partition(b"?")[0], LONGEST_PATH),
            "endpoint": self.endpoint,
            "client": place(self.caller.peer),
            "user_agent": noted(self.caller.program),
        }
        # Not the head, which keeps this: what holds each other would wait for the garbage collector.
        self._method = request.method
        self._fields = request.fields
        self._is_handshake = request.upgrade_to is not None
        self._upstream = upstream
        self._trusted = trusted
        self._lines = b""
        self._draft: Draft | None = None

    @cached_property
    def may_be_plain(self) -> bool:
        """
        Whether all that it asks for may stand in its body, in a way that `plain.read_plain` knows.
        """
        if self.endpoint != CHAT or self._is_handshake or b"?" in self.path:
            return False
        try:
            return is_bound_by_body(self.endpoint, self.acts_as) and is_json(kind_of_body(self._fields))
        except Unclear:
            return False

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

    def draft(self, admission: Admission, node: str) -> Draft:
        """
        What the records of its calls have in common, once the gate has let them in.
        """
        draft = self._draft
        if draft is None or not draft.is_for(admission, node):
            notes = {**self.notes, **self._upstream.notes}
            self._draft = draft = Draft(notes, self.end_user, self.caller.tags, admission, node)
        return draft


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
