"""
Who looks after users, teams, customers and budgets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from dheera.boundaries import Write
from dheera.entities import AnyEntity, AuditLine
from dheera.management.catalogue import ROUTES
from dheera.management.openapi import describe
from dheera.management.routes import Actor, AnyRoute, Asked, Nothing, Office
from dheera.stores.memory import MemoryStore
from dheera.stores.memory_allowances import MemoryAllowances
from dheera.stores.memory_ledger import MemoryBooks
from tests.management.office import START, AtDesk

DESCRIPTION = describe(ROUTES)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(["alice", "a@b.c", "one", "30d", "2026-03-01T00:00:00Z", "-1", "user", "sk-" + 20 * "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def bodies(route: AnyRoute) -> st.SearchStrategy[Any]:
    """
    Any JSON at all, and objects with the fields that *route* knows: for its body, or its query.
    """
    fields = [*route.body.__struct_fields__, *route.query.__struct_fields__]
    member = st.fixed_dictionaries({"user_id": st.sampled_from(["alice", "bob"])}, optional={"role": JSON})
    value = (
        JSON | st.lists(st.sampled_from(["alice", "one", "two"]), max_size=3) | member | st.lists(member, max_size=2)
    )
    return JSON | st.dictionaries(st.sampled_from(fields), value, max_size=6)


def asked(body: Any) -> Asked[Any, Nothing]:
    """
    What is asked with *body*, by somebody who manages.
    """
    return Asked(actor=Actor(alias="master", is_admin=True), body=body, query=Nothing())


class Contested(MemoryStore):
    """
    A store into which others write just before we do.
    """

    __slots__ = ("rivals",)

    def __init__(self) -> None:
        super().__init__()
        self.rivals: list[Callable[[], Coroutine[Any, Any, Any]]] = []

    def apply(self, writes: Sequence[Write], lines: Sequence[AuditLine]) -> Deferred[None]:
        if self.rivals:
            Deferred.fromCoroutine(self.rivals.pop()())
        return super().apply(writes, lines)

    @classmethod
    def with_office(cls) -> tuple[Contested, Office]:
        """
        Such a store, and what verbs work with above it.
        """
        store = cls()
        store.open()
        return store, Office(store=store, books=MemoryBooks(), allowances=MemoryAllowances(), now=lambda: START)


class AtDirectory(AtDesk):
    """
    Somebody who manages more than keys.
    """

    def does(self, path: str, **body: object) -> Any:
        """
        What is answered to an act that succeeds.
        """
        reply = self.desk.post(path, body)
        self.assertEqual(200, reply.status, reply.json)
        return reply.json

    def sees(self, path: str, *, key: str | None = None) -> Any:
        """
        What is answered to a look that succeeds.
        """
        reply = self.desk.get(path) if key is None else self.desk.get(path, key=key)
        self.assertEqual(200, reply.status, reply.json)
        return reply.json

    def kept(self, sort: type[AnyEntity], name: str) -> AnyEntity | None:
        """
        What the store has under a name.
        """
        return self.successResultOf(self.desk.store.get(sort, name))

    def actions(self, **equal: object) -> list[tuple[str, str]]:
        """
        What the audit was told: actions and their subjects, in the order of the alphabet.
        """
        return sorted((each.action, each.subject) for each in self.desk.audit(**equal))

    def answers_as_described(self, route: AnyRoute, body: object) -> None:
        """
        Whatever is sent, the answer has a status that the description names, and it is no fault of ours.
        """
        [method] = route.methods
        if method == "GET":
            query = urlencode(body, doseq=True) if isinstance(body, dict) else quote(json.dumps(body))
            reply = self.desk.get(f"{route.path}?{query}")
        else:
            reply = self.desk.post(route.path, body)
        self.assertIn(str(reply.status), DESCRIPTION["paths"][route.path][method.lower()]["responses"], reply.json)
        self.assertLess(reply.status, 500)
