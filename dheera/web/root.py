"""
The tree.

::

    /                    what this is
    /mistral/...         the Mistral API
    /health/liveliness   alive (also spelt liveness)
    /health/readiness    ready for traffic
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from dheera import __version__
from dheera.proxy.exchange import Exchanges
from dheera.web.api import Branch, Page
from dheera.web.health import health
from dheera.web.passthrough import PassThrough


def make_root(exchanges: Exchanges, draining: Callable[[], bool]) -> Branch:
    """
    The whole tree.

    :param draining: whether we are about to stop.
    """

    def welcome() -> tuple[int, dict[str, str]]:
        return HTTPStatus.OK, {
            "name": "dheera",
            "version": __version__,
            "what": "A gateway in front of the Mistral API: replace https://api.mistral.ai by this address + /mistral.",
            "mistral": "/mistral",
            "health": "/health/readiness",
        }

    root = Branch()
    root.putChild(b"", Page(welcome))
    root.putChild(b"mistral", PassThrough(exchanges))
    root.putChild(b"health", health(draining))
    return root
