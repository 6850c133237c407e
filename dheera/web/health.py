"""
``/health/...``: for whoever restarts us, and whoever sends us traffic.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from attrs import define

from dheera.boundaries import Store
from dheera.web.api import Branch, Page


@define(eq=False)
class Watch:
    """
    What readiness depends on.

    :param store: ``None`` if none is needed.
    """

    draining: Callable[[], bool]
    store: Store | None = None

    def look(self) -> tuple[int, dict[str, str]]:
        """
        The status, and the words for it: 503 while draining, and while the database does not answer.
        """
        away = self.store is not None and self.store.is_away()
        words = {} if self.store is None else {"db": "Not connected" if away else "connected"}
        if self.draining():
            return HTTPStatus.SERVICE_UNAVAILABLE, {"status": "draining", **words}
        if away:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"status": "database away", **words}
        return HTTPStatus.OK, {"status": "ready", **words}


def health(watch: Watch) -> Branch:
    """
    The branch ``/health``: alive (always, while this process answers) and ready.
    """

    def alive() -> tuple[int, str]:
        return HTTPStatus.OK, "I'm alive!"

    branch = Branch()
    branch.putChild(b"liveliness", Page(alive))
    branch.putChild(b"liveness", Page(alive))
    branch.putChild(b"readiness", Page(watch.look))
    return branch
