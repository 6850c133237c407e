"""
``/health/...``: for whoever restarts us, and whoever sends us traffic.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from dheera.web.api import Branch, Page


def health(draining: Callable[[], bool]) -> Branch:
    """
    The branch ``/health``: alive (always, while this process answers) and ready (not while draining).
    """

    def alive() -> tuple[int, str]:
        return HTTPStatus.OK, "I'm alive!"

    def ready() -> tuple[int, dict[str, str]]:
        if draining():
            return HTTPStatus.SERVICE_UNAVAILABLE, {"status": "draining"}
        return HTTPStatus.OK, {"status": "ready"}

    branch = Branch()
    branch.putChild(b"liveliness", Page(alive))
    branch.putChild(b"liveness", Page(alive))
    branch.putChild(b"readiness", Page(ready))
    return branch
