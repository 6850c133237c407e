"""
What a route is: a path and a verb, and the types from which its requests are parsed and its description is made.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from attrs import field, frozen
from msgspec import Struct
from twisted.internet.defer import Deferred

from dheera.bookkeeping import Books
from dheera.boundaries import Caller, Store
from dheera.entities import Key
from dheera.errors import Refusal
from dheera.holding import AllowanceStore
from dheera.keys import Digest
from dheera.settings import LimitSettings

BODY_LIMIT_BYTES = 1024 * 1024

Body = TypeVar("Body", bound=Struct)
Query = TypeVar("Query", bound=Struct)


class Nothing(Struct, frozen=True):
    """
    A body or a query that is not looked at.
    """


class Access(Enum):
    """
    Who may call a route.

    :cvar ADMIN: the bearer of the master key, or of a key that may manage.
    :cvar SELF: the bearer of any valid key, about that key; an admin about all. The verb sees to it.
    """

    ADMIN = "admin"
    SELF = "self"


@frozen(kw_only=True)
class Actor:
    """
    Who calls.

    :param alias: a name for the audit; never a secret.
    :param key: the virtual key; ``None`` for the master key.
    :param is_admin: may do here what is not about that key.
    """

    alias: str
    key: Key | None = None
    is_admin: bool = False


class Authority(Protocol):
    """
    Decides who may manage.
    """

    def admit(self, caller: Caller, method: str, path: str) -> Deferred[Actor]:
        """
        Let *caller* go on. Whether the route is for admins alone is not looked at: `Actor.is_admin` answers that.

        :param path: that of the route, with the names of its parameters: ``/key/{key}/regenerate``.
        :return: fails with a ``Refusal`` that says what to do.
        """
        ...


@frozen(kw_only=True)
class Office:
    """
    What verbs work with.

    :param books: the ledger.
    :param allowances: in the same database.
    :param now: the time, aware and in UTC.
    :param proxy_limits: of all calls together, as the operator has set them.
    :param strict_fields: whether fields that a route does not know are faults.
    :param reserved: digests that no virtual key may have: that of the master key.
    """

    store: Store
    books: Books
    allowances: AllowanceStore
    now: Callable[[], datetime]
    proxy_limits: LimitSettings = field(factory=LimitSettings)
    strict_fields: bool = False
    reserved: frozenset[Digest] = field(default=frozenset(), repr=False)


@frozen(kw_only=True)
class Asked(Generic[Body, Query]):
    """
    What is asked, and by whom.

    :param path: the parameters in the path, decoded.
    :param claimed: whom the caller says it acts for, unproven.
    :param address: where the caller is.
    """

    actor: Actor
    body: Body = field(repr=False)
    query: Query = field(repr=False)
    path: Mapping[str, str] = field(factory=dict, repr=False)
    claimed: str | None = None
    address: str = ""


@frozen(kw_only=True)
class Route(Generic[Body, Query]):
    """
    A place in the API, and what is done there.

    :param methods: GET brings HEAD with it, changes nothing, and ends when the client leaves.
    :param path: a word in braces matches any one segment: ``/key/{key}/regenerate``.
    :param summary: one line.
    :param description: what the summary and the types do not say.
    :param body: its JSON; one without required fields may be empty.
    :param answer: the JSON of the answer.
    :param refusals: what the verb itself may raise, beside what every route may answer.
    :param body_limit_bytes: a longer body is refused.
    :param verb: what is done. What it raises is answered as `Refusal.envelope` says.
    """

    path: str
    methods: tuple[str, ...] = ("POST",)
    summary: str
    description: str = ""
    access: Access = Access.ADMIN
    body: type[Body]
    query: type[Query]
    answer: type
    refusals: tuple[type[Refusal], ...] = ()
    body_limit_bytes: int = BODY_LIMIT_BYTES
    verb: Callable[[Office, Asked[Body, Query]], Awaitable[Any]]

    @property
    def parameters(self) -> list[str]:
        """
        The names in the path.
        """
        return re.findall(r"\{(\w+)\}", self.path)

    def match(self, segments: list[str]) -> dict[str, str] | None:
        """
        The parameters in a path, given by its decoded segments; ``None`` if it is not one of this route.
        """
        mine = self.path.split("/")[1:]
        if len(mine) != len(segments):
            return None
        found: dict[str, str] = {}
        for wanted, segment in zip(mine, segments, strict=True):
            if wanted.startswith("{"):
                found[wanted[1:-1]] = segment
            elif wanted != segment:
                return None
        return found


AnyRoute: TypeAlias = Route[Any, Any]
