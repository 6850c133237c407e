"""
Whether a call can be afforded: what bounds it, what it may cost at most, and a hold on all of that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import datetime

from attrs import define

from dheera.allowances.room import Allowances
from dheera.boundaries import Admission
from dheera.bounds import Asked, bound, is_bound_by_body
from dheera.customers import EndUsers
from dheera.errors import ModelNotAllowed, NotAllowed, StoreAway, Unpriced
from dheera.limits import UNCAPPED, UNLIMITED, Limit, Limits
from dheera.prices import PriceList
from dheera.proxy.accounting import Account
from dheera.proxy.asking import ask
from dheera.proxy.errand import Errand
from dheera.proxy.plain import read_plain
from dheera.settings import AllowanceSettings
from dheera.wire.headroom import Headroom
from dheera.wire.request import Request

DOWNLOAD = "files/content"

MOST_UNCAPPED = 10**15
"""
Nano-dollars that a call takes where no budget stops it: sums of them stay within what databases count with.
"""


@define(eq=False)
class Affording:
    """
    Takes holds for calls. One that nothing bounds is not even looked into.

    :param of_proxy: what bounds all calls together.
    :param inspected_bytes: largest body that is read for what it may cost.
    :param headroom: for all such bodies together, as long as their exchanges last.
    """

    _allowances: Allowances
    _end_users: EndUsers
    _of_proxy: Limits
    _prices: PriceList
    _rules: AllowanceSettings
    _inspected_bytes: int
    _headroom: Headroom

    def afford(
        self, request: Request, errand: Errand, admission: Admission, account: Account
    ) -> Awaitable[None] | None:
        """
        Take a hold on all that *request* may use up, and put it into its *account*.

        :return: fires when that is done, or fails with the `Refusal` that tells why it cannot be afforded; ``None``: it
            is done. Mostly there is nothing to wait for, and a coroutine less.
        :raises Refusal: it cannot be afforded.
        """
        limits = admission.limits.beside(self._of_proxy)
        is_others = self._end_users.matter
        if not limits.all and not is_others:
            return None
        asked = self._read(request, errand, account) if limits.needs_body or is_others else None
        if is_others or not account.priced or (asked is None and limits.needs_body):
            return self._look_up(limits, asked, request, errand, account)
        return self._hold(limits, asked, request, errand, account)

    async def _look_up(
        self, limits: Limits, asked: Asked | None, request: Request, errand: Errand, account: Account
    ) -> None:
        if self._end_users.matter:
            if asked is None and _may_name_somebody(request, self._inspected_bytes):
                asked = await self._gather(request, errand, account)
            limits = limits.beside(await self._of_end_user(account))
        if not account.priced:
            limits = Limits(tuple(limit for limit in limits.all if limit.kind != "usd"))
        if asked is None and limits.needs_body:
            asked = await self._ask(request, errand, account)
        held = self._hold(limits, asked, request, errand, account)
        if held is not None:
            await held

    def _read(self, request: Request, errand: Errand, account: Account) -> Asked | None:
        """
        What is asked for, if all of the body is here, and plain.
        """
        content = request.body.whole() if request.body is not None and errand.may_be_plain else None
        if content is None or len(content) > self._inspected_bytes or (plain := read_plain(content)) is None:
            return None
        account.read(plain.wanted)
        return plain.asked

    async def _gather(self, request: Request, errand: Errand, account: Account) -> Asked | None:
        """
        Wait for the body, and do as `_read`, unless that was done before.
        """
        body = request.body
        if body is None:
            return None
        was_here = body.whole() is not None
        await body.gather(self._inspected_bytes, self._headroom)
        return None if was_here else self._read(request, errand, account)

    async def _ask(self, request: Request, errand: Errand, account: Account) -> Asked:
        if errand.may_be_plain and (asked := await self._gather(request, errand, account)) is not None:
            return asked
        return await ask(request, errand.path, errand.endpoint, self._inspected_bytes, self._headroom)

    def _hold(
        self, limits: Limits, asked: Asked | None, request: Request, errand: Errand, account: Account
    ) -> Awaitable[None] | None:
        concerned: Sequence[Limit] = limits.all
        if limits.by_model and asked is not None:
            _require_model(limits, asked, errand)
            concerned = limits.concerning(asked.model)
        if not concerned:
            return None
        nano, tokens = self._bounds(concerned, asked, errand, account.started_at, request)
        hold = self._allowances.draw(concerned, nano, tokens)
        if hold is None:
            return self._take(account, concerned, nano, tokens)
        account.afforded(hold)
        return None

    async def _take(self, account: Account, limits: Sequence[Limit], nano: int, tokens: int) -> None:
        try:
            account.afforded(await self._allowances.take(account.call_id, limits, nano=nano, tokens=tokens))
        except StoreAway:
            if any(limit.cap != UNCAPPED for limit in limits):  # else they only warn
                raise

    async def _of_end_user(self, account: Account) -> Limits:
        name = account.end_user()
        if name is None:
            return UNLIMITED
        try:
            found = await self._end_users.find(name)
        except StoreAway:
            if self._rules.when_store_down == "allow":
                return UNLIMITED
            raise
        if found.blocked:
            raise NotAllowed("This end user is blocked. Ask whoever runs this dheera to unblock it.", param="user")
        return found.limits

    def _bounds(
        self, limits: Sequence[Limit], asked: Asked | None, errand: Errand, at: datetime, request: Request
    ) -> tuple[int, int]:
        endpoint = errand.endpoint
        most = bound(asked, endpoint, errand.acts_as, self._prices, at, self._rules)
        budget = _budget_of(limits)
        if budget is None:
            return min(most.nano or 0, MOST_UNCAPPED), most.tokens
        if most.nano is None:
            raise Unpriced(budget.whose, most.reason, param=most.param)
        if endpoint == DOWNLOAD and any(name.lower() == b"range" for name, _ in request.fields):
            # The output of a batch is billed when it is fetched as a whole.
            raise Unpriced(budget.whose, "a part of a file does not tell what its batch has cost: fetch it whole")
        return most.nano, most.tokens


def _budget_of(limits: Sequence[Limit]) -> Limit | None:
    """
    The first budget that may refuse a call.
    """
    for limit in limits:
        if limit.kind == "usd" and limit.cap != UNCAPPED:
            return limit
    return None


def _require_model(limits: Limits, asked: Asked, errand: Errand) -> None:
    """
    Where certain models are limited, a call that uses a model must name it: else it would take of no such limit.

    :raises ModelNotAllowed: it does not.
    """
    limited = next((limit for limit in limits.all if limit.model), None)
    uses_one = asked.is_socket or (is_bound_by_body(errand.endpoint, errand.acts_as) and not asked.cancels)
    if limited is None or not uses_one or (asked.model is not None and not asked.is_agent):
        return
    why = (
        "an agent, or a conversation that goes on, has one of its own: name a model, and neither of these"
        if asked.is_agent
        else "this call does not name one: name a model"
    )
    raise ModelNotAllowed(f"Certain models are limited here, and {why}.", whose=limited.whose)


def _may_name_somebody(request: Request, limit: int) -> bool:
    """
    Whether its body may name an end user. One that is no JSON, or known to be too long, is not waited for.
    """
    body = request.body
    if body is None or (isinstance(body.length, int) and body.length > limit):
        return False
    kinds = [value for name, value in request.fields if name.lower() == b"content-type"]
    return not kinds or b"json" in kinds[0].lower()
