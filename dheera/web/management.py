"""
The management API as branches of the tree: finds the route, asks who calls, parses, runs the verb, answers.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from dheera.call_ids import new_call_id
from dheera.entities import to_json
from dheera.errors import ClientLeft, MethodNotAllowed, NotAllowed, NotFound, Refusal
from dheera.management.openapi import describe
from dheera.management.reading import fitted, read_body, read_query
from dheera.management.routes import Access, AnyRoute, Asked, Authority, Nothing, Office
from dheera.management.shapes import Name
from dheera.proxy.exchange import CALL_ID
from dheera.proxy.headers import Subnet, caller
from dheera.web.api import Branch
from dheera.wire.body import read
from dheera.wire.heads import Fields
from dheera.wire.request import Request, reason_phrase

log = Logger()

_CLAIMS = (b"x-dheera-changed-by", b"litellm-changed-by")
_LONGEST_CLAIM = 200


def management(
    office: Office, authority: Authority, routes: Sequence[AnyRoute], trusted: Sequence[Subnet] = ()
) -> dict[bytes, Branch]:
    """
    What is to be put into the root: the description, and a branch for each first segment of *routes*.

    :param trusted: networks of proxies whose word is taken on whom they speak for.
    """
    desk = _Desk(office, authority, routes, trusted)
    branches: dict[bytes, Branch] = {route.path.split("/")[1].encode(): desk for route in routes}
    return branches | {b"openapi.json": _Description(routes)}


class _Description(Branch):
    """
    What the routes are; for everybody. It is made when it is first asked for.
    """

    def __init__(self, routes: Sequence[AnyRoute]) -> None:
        super().__init__()
        self._routes = routes

    def render(self, request: Request) -> bytes:
        """
        Answer GET and HEAD.

        :raises MethodNotAllowed: any other method.
        """
        if request.method not in (b"GET", b"HEAD"):
            raise MethodNotAllowed(["GET", "HEAD"])
        request.setHeader(b"Content-Type", b"application/json")
        request.setHeader(b"Content-Length", b"%d" % len(self._content))
        return b"" if request.method == b"HEAD" else self._content

    @cached_property
    def _content(self) -> bytes:
        return json.dumps(describe(self._routes)).encode()


class _Desk(Branch):
    """
    All routes, below whichever branch.
    """

    isLeaf = True

    def __init__(
        self, office: Office, authority: Authority, routes: Sequence[AnyRoute], trusted: Sequence[Subnet]
    ) -> None:
        super().__init__()
        self._trusted = trusted
        self._office = office
        self._authority = authority
        self._routes = routes

    def render(self, request: Request) -> int:  # type: ignore[override]  # NOT_DONE_YET is an int
        """
        Begin what is asked for. Until a verb has begun that changes something, the client's leaving ends it.

        :raises NotFound: no route has this path.
        :raises MethodNotAllowed: one has, but not for this method.
        """
        request.setHeader(b"Cache-Control", b"no-store")
        route, parameters = self._find(request)
        call_id = new_call_id()
        request.setHeader(CALL_ID, call_id.encode("ascii"))
        answering = Deferred.fromCoroutine(self._answer(request, route, parameters, call_id))
        if not answering.called:
            request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addErrback(_broken, request, call_id)
        return NOT_DONE_YET

    def _find(self, request: Request) -> tuple[AnyRoute, dict[str, str]]:
        method = request.method.decode("ascii", "replace")
        try:
            segments = [unquote_to_bytes(part).decode() for part in request.path.split(b"/")[1:]]
        except UnicodeDecodeError:
            raise _nothing_here() from None
        allowed: list[str] = []
        for route in self._routes:
            parameters = route.match(segments)
            if parameters is None:
                continue
            offered = _with_head(route.methods)
            if method in offered:
                return route, parameters
            allowed += offered
        if allowed:
            raise MethodNotAllowed(allowed)
        raise _nothing_here()

    async def _answer(self, request: Request, route: AnyRoute, parameters: dict[str, str], call_id: str) -> None:
        try:
            asked = await self._ask(request, route, parameters)
            verb = Deferred.fromCoroutine(_done(route.verb(self._office, asked)))
            content = to_json(await (verb if "GET" in route.methods else _to_the_end(verb, call_id)))
        except Refusal as refusal:
            request.refuse(refusal)
        except (CancelledError, ClientLeft):
            log.debug("Call {call_id}: the client left", call_id=call_id)
        else:
            request.setResponseCode(HTTPStatus.OK, reason_phrase(HTTPStatus.OK))
            request.setHeader(b"Content-Type", b"application/json")
            request.setHeader(b"Content-Length", b"%d" % len(content))
            request.write(content)
            request.finish()

    async def _ask(self, request: Request, route: AnyRoute, parameters: dict[str, str]) -> Asked[Any, Any]:
        method = request.method.decode("ascii")
        asking = caller(request.fields, request.client, self._trusted)
        actor = await self._authority.admit(asking, method, route.path)
        if route.access is Access.ADMIN and not actor.is_admin:
            kinds = "management or read_only" if method in ("GET", "HEAD") else "management"
            raise NotAllowed(f"This key may not manage here: use the master key, or a key of type {kinds}.")
        content = await read(request.body, route.body_limit_bytes)
        strict = self._office.strict_fields
        return Asked(
            actor=actor,
            body=Nothing() if route.body is Nothing else read_body(content, route.body, strict_fields=strict),
            query=read_query(request.uri.partition(b"?")[2], route.query, strict_fields=strict),
            path={name: fitted(value, Name, ("path", name), strict_fields=False) for name, value in parameters.items()},
            claimed=_claim(request.fields),
            address=_place(asking.peer),
        )


async def _done(verb: Awaitable[Any]) -> Any:
    return await verb


def _to_the_end(verb: Deferred[Any], call_id: str) -> Deferred[Any]:
    """
    What *verb* answers. It goes on when nobody waits for that any more: what it writes must not be left half done.
    """
    answer: Deferred[Any] = Deferred()

    def tell(result: Any) -> None:
        if not answer.called:
            answer.callback(result)
        elif isinstance(result, Failure) and not isinstance(result.value, Refusal):
            log.failure("Call {call_id} failed inside dheera, after the client left", result, call_id=call_id)

    verb.addBoth(tell)
    return answer


def _broken(failure: Failure, request: Request, call_id: str) -> None:
    log.failure("Call {call_id} failed inside dheera", failure, call_id=call_id)
    request.refuse(Refusal("Something failed inside dheera; its log says what."))


def _nothing_here() -> NotFound:
    return NotFound("There is nothing at this path. /openapi.json describes the management API.")


def _with_head(methods: tuple[str, ...]) -> list[str]:
    return [each for method in methods for each in (("GET", "HEAD") if method == "GET" else (method,))]


def _claim(fields: Fields) -> str | None:
    """
    Whom the caller says it acts for, as far as that can be shown.
    """
    told = {name.lower(): value for name, value in fields if name.lower() in _CLAIMS}
    value = next((told[name] for name in _CLAIMS if told.get(name)), None)
    if value is None:
        return None
    text = value.decode("utf-8", "replace")[:_LONGEST_CLAIM]
    return "".join(each if each.isprintable() else "?" for each in text)


def _place(peer: IAddress) -> str:
    return str(getattr(peer, "host", "this machine"))
