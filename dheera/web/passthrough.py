"""
``/mistral/...``: everything below is the Mistral API; other upstreams likewise.
"""

from __future__ import annotations

from twisted.web.server import NOT_DONE_YET

from dheera.errors import MethodNotAllowed
from dheera.proxy.exchange import Exchanges
from dheera.proxy.upstream import Upstream
from dheera.web.api import Branch
from dheera.wire.request import Request

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
"""
What is passed on. TRACE is not: it would send our credential back to the client.
"""

_METHODS = frozenset(method.encode() for method in METHODS)


class PassThrough(Branch):
    """
    Gives each request to an exchange with *upstream*.
    """

    isLeaf = True

    def __init__(self, exchanges: Exchanges, upstream: Upstream) -> None:
        super().__init__()
        self._exchanges = exchanges
        self._upstream = upstream

    def render(self, request: Request) -> int:  # type: ignore[override]  # NOT_DONE_YET is an int
        """
        Begin an exchange.

        :raises MethodNotAllowed: a method that is not passed on.
        """
        if request.method not in _METHODS:
            raise MethodNotAllowed(METHODS)
        self._exchanges.begin(request, self._upstream)
        return NOT_DONE_YET
