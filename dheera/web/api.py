"""
Answers of our own: JSON resources, and refusals in one JSON shape for every method.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from twisted.web.resource import Resource

from dheera.errors import MethodNotAllowed, NotFound
from dheera.wire.request import Request, reason_phrase


class Branch(Resource):
    """
    A place in the tree that is nothing itself: 404, below as well, unless a child was put there.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the one place that calls it

    def getChild(self, _path: bytes, _request: Request) -> Resource:
        """
        Anything that was not put here is not there.
        """
        return MISSING

    def render(self, _request: Request) -> bytes:
        """
        Refuse, whatever the method.

        :raises NotFound: always.
        """
        raise NotFound("There is nothing at this path. The Mistral API is below /mistral/.")


class _Missing(Branch):
    """
    What is not there, however long the path goes on.
    """

    isLeaf = True


MISSING = _Missing()


class Page(Branch):
    """
    A JSON value that can be looked at.

    :param look: makes the status and the value anew for each request.
    """

    def __init__(self, look: Callable[[], tuple[int, Any]]) -> None:
        super().__init__()
        self._look = look

    def render(self, request: Request) -> bytes:
        """
        Answer GET and HEAD.

        :raises MethodNotAllowed: any other method.
        """
        if request.method not in (b"GET", b"HEAD"):
            raise MethodNotAllowed(["GET", "HEAD"])
        status, value = self._look()
        content = json.dumps(value).encode()
        request.setResponseCode(status, reason_phrase(status))
        request.setHeader(b"Content-Type", b"application/json")
        request.setHeader(b"Content-Length", b"%d" % len(content))
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            request.setHeader(b"Retry-After", b"1")
            request.setHeader(b"x-dheera-error-source", b"dheera")
        return b"" if request.method == b"HEAD" else content
