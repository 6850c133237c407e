"""
The end users that calls name: what each may take, and who is blocked. Bounded, told of changes, and good for a while
without the store.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dheera.boundaries import Change, Query, Store
from dheera.entities import Budget, Customer
from dheera.errors import StoreAway
from dheera.limits import Limits
from dheera.settings import LimitSettings

log = Logger()

LOOKS = 5
"""
How often the store is asked again because the answer was overtaken by a change. After that it is used, but not kept.
"""
JUDGED = 100
"""
Customers that are looked at to find out whether any end user matters. Where there are more, one does.
"""
JUDGED_AFTER_SECONDS = 1.0

Thing: TypeAlias = tuple[str, str]
"""
A kind and an id.
"""


@frozen
class EndUser:
    """
    Somebody for whom a caller calls.

    :param blocked: no call is made for them.
    """

    limits: Limits
    blocked: bool = False


@define(eq=False)
class _Kept:
    """
    An end user, and how far that can be trusted.

    :param usable_until: by the reactor's clock; ``None`` while changes are heard. Once set, the store is asked first,
        and this serves only when it does not answer.
    """

    end_user: EndUser
    budget_id: str | None
    usable_until: float | None


@define(eq=False)
class _Asking:
    """
    A look into the store that is under way: who waits for it, and what has changed since it began.
    """

    waiting: list[Deferred[EndUser]]
    heard: list[Change] = field(factory=list)


@define(eq=False)
class EndUsers:
    """
    Finds end users. Those who are no customers are kept as well; of more than *size*, those that were asked for last
    are.

    :param defaults: for those who have no limits of their own.
    :param away_seconds: how long one who was found before can be had while the store is away.
    :ivar matter: whether any end user may be blocked or limited. While it is not so nobody needs to ask. After each
        change of a customer it is so until the store was asked; while the store is away it stays as it was.
    """

    _reactor: IReactorTime
    _store: Store
    _defaults: LimitSettings
    _size: int = field(default=10_000, kw_only=True)
    _away_seconds: float = field(default=3600.0, kw_only=True)
    matter: bool = field(init=False, default=True)
    _kept: OrderedDict[str, _Kept] = field(init=False, factory=OrderedDict)
    _sharing: dict[str, set[str]] = field(init=False, factory=dict)
    _asking: dict[str, _Asking] = field(init=False, factory=dict)
    _hearing: bool = field(init=False, default=True)
    _is_open: bool = field(init=False, default=False)
    _changes: int = field(init=False, default=0)
    _judging: IDelayedCall | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._store.watch(self._changed, self._lost)

    async def open(self) -> None:
        """
        Find out whether end users matter, in a store that is open.
        """
        self._is_open = True
        await self._judge()

    async def close(self) -> None:
        """
        Look no more.
        """
        self._is_open = False
        if self._judging is not None:
            self._judging.cancel()
            self._judging = None

    def find(self, end_user: str) -> Deferred[EndUser]:
        """
        The end user of this id, customer or not; many who ask for the same at once are answered by one look.

        :return: fails with `StoreAway` if it is not known who that is.
        """
        kept = self._kept.get(end_user)
        if kept is not None and kept.usable_until is None:
            self._kept.move_to_end(end_user)
            return succeed(kept.end_user)
        answer: Deferred[EndUser] = Deferred()
        asking = self._asking.get(end_user)
        if asking is not None:
            asking.waiting.append(answer)
            return answer
        asking = self._asking[end_user] = _Asking([answer])
        looking = Deferred.fromCoroutine(self._look(end_user, asking))
        looking.addBoth(self._tell, end_user, asking)
        return answer

    async def _look(self, id_: str, asking: _Asking) -> EndUser:
        looks = 0
        while True:
            looks += 1
            asking.heard.clear()
            try:
                customer = await self._store.get(Customer, id_)
                budget_id = None if customer is None else customer.budget_id
                budget = None if budget_id is None else await self._store.get(Budget, budget_id)
            except StoreAway:
                kept = self._kept.get(id_)
                if kept is None or self._reactor.seconds() >= (kept.usable_until or self._good_until()):
                    raise
                return kept.end_user
            limits = Limits.of_customer(id_, customer, budget, self._defaults)
            found = EndUser(limits, blocked=customer is not None and customer.blocked)
            things: list[Thing] = [("", ""), ("customer", id_), ("budget", budget_id or "")]
            if not any((change.kind, change.id) in things for change in asking.heard):
                self._keep(id_, found, budget_id)
                return found
            # What was read may be what was changed meanwhile, and must not be kept.
            if looks == LOOKS:
                return found

    def _tell(self, outcome: EndUser | Failure, id_: str, asking: _Asking) -> None:
        del self._asking[id_]
        for answer in asking.waiting:
            if not answer.called:  # who left has cancelled it
                answer.callback(outcome)

    def _keep(self, id_: str, found: EndUser, budget_id: str | None) -> None:
        self._drop(id_)
        self._kept[id_] = _Kept(found, budget_id, None if self._hearing else self._good_until())
        if budget_id is not None:
            self._sharing.setdefault(budget_id, set()).add(id_)
        if len(self._kept) > self._size:
            self._drop(next(iter(self._kept)))

    def _drop(self, id_: str) -> None:
        kept = self._kept.pop(id_, None)
        if kept is not None and kept.budget_id is not None:
            self._sharing[kept.budget_id].discard(id_)
            if not self._sharing[kept.budget_id]:
                del self._sharing[kept.budget_id]

    def _good_until(self) -> float:
        return self._reactor.seconds() + self._away_seconds

    def _changed(self, change: Change) -> None:
        for asking in self._asking.values():
            asking.heard.append(change)
        if not change.kind:
            self._hearing = True
            self._doubt()
        elif change.kind == "customer":
            self._drop(change.id)
        elif change.kind == "budget":
            for id_ in list(self._sharing.get(change.id, ())):
                self._drop(id_)
        if change.kind in ("", "customer"):
            self._changes += 1
            self.matter = True
            self._judge_soon()

    def _lost(self) -> None:
        self._hearing = False
        self._doubt()

    def _doubt(self) -> None:
        """
        Anything may have changed: ask the store before each is used again.
        """
        until = self._good_until()
        for kept in self._kept.values():
            if kept.usable_until is None:
                kept.usable_until = until

    # Whether they matter. Looks wait for each other, and for many changes to be made at once.

    def _judge_soon(self) -> None:
        if self._is_open and self._judging is None:
            self._judging = self._reactor.callLater(JUDGED_AFTER_SECONDS, self._judge_now)

    def _judge_now(self) -> None:
        self._judging = None
        Deferred.fromCoroutine(self._judge()).addErrback(
            lambda failure: log.failure("Bug: it is not known whether end users are limited", failure)
        )

    async def _judge(self) -> None:
        if Limits.of_settings(self._defaults):
            return
        changes = self._changes
        try:
            customers, total = await self._store.find(Customer, Query(limit=JUDGED))
        except StoreAway:
            self._judge_soon()
            return
        if changes == self._changes:
            self.matter = total > len(customers) or any(map(_matters, customers))


def _matters(customer: Customer) -> bool:
    return customer.blocked or bool(Limits.of_customer(customer.id, customer, None, LimitSettings()))
