"""
The end users that calls name: what each may take, and who is blocked. Bounded, told of changes, and good for a while
without the store.
"""

from __future__ import annotations

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from dheera.boundaries import Change, Query, Store
from dheera.entities import Budget, Customer
from dheera.errors import StoreAway
from dheera.limits import Limits
from dheera.recall import Found, Recall
from dheera.settings import LimitSettings

log = Logger()

JUDGED = 100
"""
Customers that are looked at to find out whether any end user matters. Where there are more, one does.
"""
JUDGED_AFTER_SECONDS = 1.0


@frozen
class EndUser:
    """
    Somebody for whom a caller calls.

    :param blocked: no call is made for them.
    """

    limits: Limits
    blocked: bool = False


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
    _recall: Recall[str, EndUser] = field(init=False)
    _is_open: bool = field(init=False, default=False)
    _changes: int = field(init=False, default=0)
    _judging: IDelayedCall | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._recall = Recall(self._reactor, self._store, self._look, self._size, self._away_seconds)
        self._store.watch(self._changed, _lost)

    def change(self, defaults: LimitSettings) -> None:
        """
        From now on these are the limits of those who have none of their own.
        """
        if defaults != self._defaults:
            self._defaults = defaults
            self._recall.doubt()
            self._may_matter()

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
        known = self._recall.held(end_user)
        return self._recall.look_up(end_user) if known is None else succeed(known)

    async def _look(self, id_: str) -> Found[EndUser]:
        customer = await self._store.get(Customer, id_)
        budget_id = None if customer is None else customer.budget_id
        budget = None if budget_id is None else await self._store.get(Budget, budget_id)
        limits = Limits.of_customer(id_, customer, budget, self._defaults)
        concerns = [("customer", id_)] if budget_id is None else [("customer", id_), ("budget", budget_id)]
        return Found(EndUser(limits, blocked=customer is not None and customer.blocked), concerns)

    # Whether they matter. Looks wait for each other, and for many changes to be made at once.

    def _changed(self, change: Change) -> None:
        if change.kind in ("", "customer"):
            self._may_matter()

    def _may_matter(self) -> None:
        self._changes += 1
        self.matter = True
        self._judge_soon()

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


def _lost() -> None:
    """
    What can no longer be heard is asked for when changes are heard again.
    """


def _matters(customer: Customer) -> bool:
    return customer.blocked or bool(Limits.of_customer(customer.id, customer, None, LimitSettings()))
