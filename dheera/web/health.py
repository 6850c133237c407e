"""
``/health/...``: for whoever restarts us, and whoever sends us traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from attrs import define
from twisted.web.resource import Resource

from dheera.boundaries import Store
from dheera.web.api import Branch, Page


def _no_problem() -> None:
    return None


def _none() -> int:
    return 0


@define(eq=False)
class Watch:
    """
    What readiness depends on.

    :param store: ``None`` if none is needed.
    :param spool_problem: why nothing can be written to the spool, ``None`` if it can.
    :param in_flight: how many calls are under way.
    :param services: what is known of each sink, and of the ledger.
    """

    draining: Callable[[], bool]
    store: Store | None = None
    spool_problem: Callable[[], str | None] = _no_problem
    in_flight: Callable[[], int] = _none
    services: Callable[[], Mapping[str, Any]] = dict

    def look(self) -> tuple[int, dict[str, str]]:
        """
        The status, and the words for it: 503 while draining, while the database does not answer, and while calls cannot
        be written down.
        """
        away = self.store is not None and self.store.is_away()
        problem = self.spool_problem()
        words = {} if self.store is None else {"db": "Not connected" if away else "connected"}
        words["spool"] = problem or "writable"
        if self.draining():
            return HTTPStatus.SERVICE_UNAVAILABLE, {"status": "draining", **words}
        if away:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"status": "database away", **words}
        if problem is not None:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"status": "spool not writable", **words}
        return HTTPStatus.OK, {"status": "ready", **words}

    def backlog(self) -> tuple[int, dict[str, int]]:
        """
        How many calls are under way.
        """
        return HTTPStatus.OK, {"in_flight_requests": self.in_flight()}

    def look_at_services(self) -> tuple[int, Mapping[str, Any]]:
        """
        The ledger and the sinks, whether they take records, and how far they are behind.
        """
        return HTTPStatus.OK, self.services()


def health(watch: Watch, guard: Callable[[Resource], Resource]) -> Branch:
    """
    The branch ``/health``: alive (always, while this process answers), ready, and what admins may see.

    :param guard: keeps others from a page.
    """

    def alive() -> tuple[int, str]:
        return HTTPStatus.OK, "I'm alive!"

    branch = Branch()
    branch.putChild(b"liveliness", Page(alive))
    branch.putChild(b"liveness", Page(alive))
    branch.putChild(b"readiness", Page(watch.look))
    branch.putChild(b"backlog", guard(Page(watch.backlog)))
    branch.putChild(b"services", guard(Page(watch.look_at_services)))
    return branch
