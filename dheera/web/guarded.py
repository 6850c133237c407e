"""
Pages that only those may see who may manage, or look.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from dheera.errors import NotAllowed, Refusal
from dheera.management.routes import Authority
from dheera.proxy.headers import Subnet, caller
from dheera.web.api import Branch
from dheera.wire.request import Request

log = Logger()


class Guarded(Branch):
    """
    Shows a page to admins, and to keys that may look.

    :param page: renders at once.
    """

    isLeaf = True

    def __init__(self, page: Resource, authority: Authority, trusted: Sequence[Subnet] = ()) -> None:
        super().__init__()
        self._page = page
        self._authority = authority
        self._trusted = trusted

    def render(self, request: Request) -> int:  # type: ignore[override]  # NOT_DONE_YET is an int
        """
        Ask who it is, then show it.
        """
        showing = Deferred.fromCoroutine(self._show(request))
        if not showing.called:
            request.notifyFinish().addErrback(lambda _: showing.cancel())
        showing.addErrback(_broken, request)
        return NOT_DONE_YET

    async def _show(self, request: Request) -> None:
        try:
            asking = caller(request.fields, request.client, self._trusted)
            actor = await self._authority.admit(asking, request.method.decode("ascii", "replace"), "")
            if not actor.is_admin:
                raise NotAllowed("Only the master key, or a key that may look, opens this page.")
            content = self._page.render(request)
        except Refusal as refusal:
            request.refuse(refusal)
        except CancelledError:
            pass
        else:
            request.write(content)
            request.finish()


def _broken(failure: Failure, request: Request) -> None:
    log.failure("A page failed inside dheera", failure)
    request.refuse(Refusal("Something failed inside dheera; its log says what."))
