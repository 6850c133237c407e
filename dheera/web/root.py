"""
The tree.

::

    /                    what this is
    /mistral/...         the Mistral API
    /NAME/...            that of another upstream, at the prefix that is configured
    /key/...             virtual keys, and so on: the management API, as its routes say
    /openapi.json        what that is
    /health/liveliness   alive (also spelt liveness)
    /health/readiness    ready for traffic
    /health/backlog      calls under way, for admins
    /health/services     the ledger and the sinks, for admins
    /metrics             for Prometheus
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus

from twisted.web.resource import Resource

from dheera import __version__
from dheera.proxy.exchange import Exchanges
from dheera.proxy.upstream import Upstream
from dheera.web.api import Branch, Page
from dheera.web.health import Watch, health
from dheera.web.passthrough import PassThrough


def make_root(  # noqa: PLR0917 - one for each branch
    exchanges: Exchanges,
    upstreams: Mapping[str, Upstream],
    watch: Watch,
    management: Mapping[bytes, Resource],
    metrics: Resource,
    guard: Callable[[Resource], Resource],
) -> Branch:
    """
    The whole tree.

    :param management: the branches of the management API.
    :param guard: keeps all but admins from a page.
    """

    def welcome() -> tuple[int, dict[str, str]]:
        return HTTPStatus.OK, {
            "name": "dheera",
            "version": __version__,
            "what": "A gateway in front of the Mistral API: replace https://api.mistral.ai by this address + /mistral.",
            "mistral": "/mistral",
            "management": "/openapi.json",
            "health": "/health/readiness",
        }

    root = Branch()
    root.putChild(b"", Page(welcome))
    for upstream in upstreams.values():
        root.putChild(upstream.prefix.removeprefix(b"/"), PassThrough(exchanges, upstream))
    root.putChild(b"health", health(watch, guard))
    root.putChild(b"metrics", metrics)
    for name, branch in management.items():
        root.putChild(name, branch)
    return root
