"""
An API as exchanges call it, Mistral's own or one like it: treq's client above ``wire.client``, with one verb more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from dheera.proxy.credentials import Credentials
from dheera.proxy.retrying import RetryBudget
from dheera.proxy.target import PREFIX, Base
from dheera.records import MISTRAL
from dheera.wire.client import Agent
from dheera.wire.outgoing import Outgoing
from dheera.wire.response import Response


class Client(HTTPClient):
    """
    treq's client, which can also send a request as it is.

    treq's own verbs rebuild the URL, add ``Accept-Encoding``, decode gzip and keep cookies, each in a layer around the
    agent. A request that is passed on must meet none of that, and walking through the layers with nothing to do took 32
    of the 87 microseconds that an exchange took in memory.
    """

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self._wire = agent

    def verbatim(self, outgoing: Outgoing) -> Deferred[Response]:
        """
        Send *outgoing*; no cookie is added or kept, no redirect followed, nothing decoded.

        :return: fires with the head of the answer; fails with an ``UpstreamError``. Cancel it to close its connection.
        """
        return self._wire.send(outgoing)


class Upstream:
    """
    Where exchanges go.

    :param budget: of calls that are sent to it again.
    :param now: aware, in UTC.
    :param credentials: its keys, where it has several.
    :param authorization: what is sent where it has only one, or none.
    :param name: what it is called in records.
    :param prefix: of its paths here.
    :param priced: its calls cost what the price list says; else they are free.
    :ivar base: where it is.
    :ivar notes: what records say of it, by the names of `records.Begun`; of Mistral's own nothing.
    :ivar lacks_key: it needs one, and has none.
    :ivar send: sends one request, as `Client.verbatim`.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        agent: Agent,
        base: Base,
        *,
        budget: RetryBudget,
        now: Callable[[], datetime],
        credentials: Credentials | None = None,
        authorization: bytes | None = None,
        name: str = MISTRAL,
        prefix: bytes = PREFIX,
        priced: bool = True,
    ) -> None:
        self.reactor = reactor
        self.agent = agent
        self.base = base
        self.budget = budget
        self.now = now
        self.credentials = credentials
        self.name = name
        self.prefix = prefix
        self.priced = priced
        self.notes: Mapping[str, Any] = {} if name == MISTRAL and priced else {"upstream": name, "priced": priced}
        self.send = Client(agent).verbatim
        self.authorization = authorization
        self.lacks_key = authorization is None and credentials is None and name == MISTRAL
