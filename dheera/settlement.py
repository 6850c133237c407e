"""
What an exchange cost: from what its meter read, or, if upstream never said what was used, by the rule for that.

docs/money.md says the rules in words. Imports no Twisted and does no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from urllib.parse import quote

from msgspec import Struct, structs

from dheera.endpoints import PRICED, is_free
from dheera.estimates import estimated
from dheera.metering.quantities import added
from dheera.prices import PriceList
from dheera.records import MISTRAL, Begun, Record
from dheera.usage import Part, Reading, Usage, Wanted

NOT_DONE = 300
"""
From this status on, upstream has done nothing that costs: it has sent the caller elsewhere, or refused, or failed.
"""

PARTIAL_CONTENT = 206


class Deed(Struct, frozen=True, kw_only=True):
    """
    What happened in an exchange that was sent to upstream, as far as it decides the price.

    :param upstream: its name.
    :param priced: it costs what the price list says; else it is free.
    :param path: the one form of it, however the client spelled it; without the query.
    :param at: when it began.
    :param status: of upstream's answer; ``None`` if there was none.
    :param is_whole: the answer came as a whole.
    """

    endpoint: str
    method: str
    path: str
    at: datetime
    wanted: Wanted
    reading: Reading
    request_bytes: int | None
    status: int | None
    is_whole: bool
    upstream: str = MISTRAL
    priced: bool = True


class Settlement(Struct, frozen=True, kw_only=True):
    """
    What is due.

    :param cost_nano_usd: ``None`` if there is no price.
    :param unpriced: what has no price.
    :param once: what may be billed only once.
    """

    usage: Usage | None = None
    estimated: bool = False
    cost_nano_usd: int | None = None
    price_list: str | None = None
    unpriced: Sequence[str] = ()
    once: str | None = None


NOTHING = Settlement(cost_nano_usd=0)

FREE = "free"
"""
The price list of upstreams that cost nothing.
"""


def settled(deed: Deed, prices: PriceList) -> Settlement:
    """
    What is due for *deed*.
    """
    if not deed.priced:
        return _given(settled(structs.replace(deed, priced=True), prices))
    if deed.status is not None and deed.status >= NOT_DONE:
        return NOTHING
    parts, once = deed.reading.parts, None
    if parts and parts[0].is_batch:
        if deed.status == PARTIAL_CONTENT:
            return Settlement(price_list=prices.name)  # of the other ranges, nobody knows who fetches them
        if not deed.is_whole:
            return NOTHING  # whoever fetches it as a whole pays
        whose = "batch" if deed.upstream == MISTRAL else f"batch {deed.upstream}"
        once = f"{whose} {quote(deed.path, errors='surrogateescape')}"
    if parts:
        return _priced(parts, deed, prices, once=once)
    costs_nothing = deed.reading.error is not None and deed.reading.events <= 1
    return NOTHING if costs_nothing or is_free(deed.endpoint, deed.method) else _estimated(deed, prices)


def _given(due: Settlement) -> Settlement:
    """
    *due*, but for nothing.
    """
    if due is NOTHING:
        return due
    return Settlement(usage=due.usage, estimated=due.estimated, cost_nano_usd=0, price_list=FREE)


def charged(due: Settlement, held_nano_usd: int | None) -> Settlement:
    """
    What is due for a call for which so much was held: all of that, if nobody can tell what it costs. Where nothing was
    held the cost stays unknown, and is not said to be 0.
    """
    if due.cost_nano_usd is not None or not held_nano_usd:
        return due
    return structs.replace(due, cost_nano_usd=held_nano_usd, estimated=True, once=None)


def interrupted(begun: Begun, prices: PriceList) -> Record:
    """
    The record of an exchange that dheera did not live to end: what its answer was, nobody knows. What was held for it
    is what it costs, so that ledger and allowances agree.
    """
    deed = Deed(
        endpoint=begun.endpoint,
        method=begun.method,
        path=begun.path,
        at=begun.started_at,
        wanted=Wanted(model=begun.model),
        reading=Reading(),
        request_bytes=begun.request_bytes,
        status=None,
        is_whole=False,
        upstream=begun.upstream,
        priced=begun.priced,
    )
    due = settled(deed, prices)
    if begun.held_nano_usd:
        due = structs.replace(due, cost_nano_usd=begun.held_nano_usd, estimated=True)
    return Record(
        **structs.asdict(begun),
        outcome="interrupted",
        error="Interrupted",
        usage=due.usage,
        estimated=due.estimated,
        cost_nano_usd=due.cost_nano_usd,
        price_list=due.price_list,
        unpriced=list(due.unpriced),
    )


def _priced(parts: Sequence[Part], deed: Deed, prices: PriceList, *, once: str | None) -> Settlement:
    nano: int | None = None
    unpriced: list[str] = []
    for part in parts:
        wanted = deed.wanted.model
        if wanted and part.model != wanted and (part.model is None or prices.find(part.model, deed.at) is None):
            part = structs.replace(part, model=wanted)  # noqa: PLW2901 - the same use, by its other name
        cost = prices.cost(part, deed.at)
        if cost is None:
            unpriced.append(part.model or "a model that is not named")
        else:
            nano = cost.nano + (nano or 0)
            unpriced.extend(cost.unpriced)
    return Settlement(
        usage=parts[0].usage if len(parts) == 1 else reduce(added, (part.usage for part in parts)),
        cost_nano_usd=nano,
        price_list=prices.name,
        unpriced=unpriced,
        once=once,
    )


def _estimated(deed: Deed, prices: PriceList) -> Settlement:
    model = deed.reading.model or deed.wanted.model
    if deed.endpoint not in PRICED or model is None:
        return Settlement(price_list=prices.name)
    usage = estimated(
        deed.wanted,
        deed.endpoint,
        deed.request_bytes,
        deed.reading.events,
        ceiling=prices.ceiling(model, deed.at),
    )
    if usage is None:
        return Settlement(price_list=prices.name)
    due = _priced([Part(model=model, usage=usage)], deed, prices, once=None)
    return Settlement(
        usage=usage, estimated=True, cost_nano_usd=due.cost_nano_usd, price_list=prices.name, unpriced=due.unpriced
    )
