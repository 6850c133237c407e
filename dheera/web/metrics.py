"""
``/metrics``, for Prometheus.
"""

from __future__ import annotations

from dheera.errors import MethodNotAllowed
from dheera.metrics import CONTENT_TYPE, Metrics
from dheera.web.api import Branch
from dheera.wire.request import Request


class MetricsPage(Branch):
    """
    All that is counted, as text.
    """

    isLeaf = True

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def render(self, request: Request) -> bytes:
        """
        Answer GET and HEAD.

        :raises MethodNotAllowed: any other method.
        """
        if request.method not in (b"GET", b"HEAD"):
            raise MethodNotAllowed(["GET", "HEAD"])
        content = self._metrics.text()
        request.setHeader(b"Content-Type", CONTENT_TYPE.encode())
        request.setHeader(b"Content-Length", b"%d" % len(content))
        request.setHeader(b"Cache-Control", b"no-store")
        return b"" if request.method == b"HEAD" else content
