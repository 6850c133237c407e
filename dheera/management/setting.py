"""
Setting what somebody has spent.
"""

from __future__ import annotations

from dheera.boundaries import Spent, Write
from dheera.call_ids import new_call_id
from dheera.entities import Budget, Customer, Key, Team, User, kind_of
from dheera.holding import Allowance, Claim, Release, Share, Turn
from dheera.limits import UNCAPPED
from dheera.management.counting import spender
from dheera.management.periods import micros
from dheera.management.routes import Office
from dheera.windows import window_at

_OWNER = "management"
_ATTEMPTS = 3
"""
Each new one by the store's clock, should a window have ended meanwhile.
"""


async def spending(office: Office, entity: Key | User | Team | Customer) -> list[Write]:
    """
    The writes by which the spend that *entity* has been given counts, beside that of the entity itself.
    """
    budget = None
    if isinstance(entity, Key | Customer) and entity.budget_id is not None:
        budget = await office.store.get(Budget, entity.budget_id)
    one = spender(entity, office.now(), budget)
    if one.span:
        source = entity if entity.max_budget is not None or budget is None else budget
        allowance = Allowance(subject=one.subject, kind="usd", span=one.span)
        await _begin(office, allowance, source)
    return [Spent(kind_of(entity), entity.id, entity.spend)]


async def _begin(office: Office, allowance: Allowance, source: Key | User | Team | Customer | Budget) -> None:
    """
    See to it that the window of *allowance* has begun to count, so that there is something to set: by a call that takes
    nothing.
    """
    anchor, at_us = source.budget_reset_at or source.created_at, micros(office.now())
    for _ in range(_ATTEMPTS):
        window = window_at(allowance.span, anchor, at_us)
        share = Share(allowance=allowance, cap=UNCAPPED, amount=0, starts_us=window.starts_us, ends_us=window.ends_us)
        claim = Claim(call_id=new_call_id(), shares=[share])
        turned = await office.allowances.turn(Turn(owner=_OWNER, claims=[claim]))
        if not turned.verdicts[0].turned:
            await office.allowances.turn(Turn(owner=_OWNER, releases=[Release(call_id=claim.call_id)]))
            return
        at_us = turned.at_us
