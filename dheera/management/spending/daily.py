"""
``/spend/logs?summarize=true``: spend by day, as LiteLLM's scripts read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from dheera.bookkeeping import Dimension, Question, Sums
from dheera.errors import BadRequest
from dheera.management.routes import Office
from dheera.management.spending.moments import as_day, in_order
from dheera.management.spending.parties import NOBODY, Parties
from dheera.management.spending.sums import added, check, equal_to, gathered, spend, summed
from dheera.money import Usd

_NO_DIMENSION = ("key_alias", "request_id", "status", "after")


async def by_day(
    office: Office, filters: Struct, *, since: str | UnsetType, until: str | UnsetType
) -> list[dict[str, Any]]:
    """
    An object for each day that had calls, the first day first.

    :param filters: a struct with the fields of `SumFilters`, and others.
    :raises BadRequest: what is asked for is not kept by day.
    """
    for name in _NO_DIMENSION:
        if getattr(filters, name) is not UNSET:
            raise BadRequest(f"Sums by day are not kept by {name}: ask with summarize=false.", param=name)
    days = in_order(_day(since, "start_date"), _day(until, "end_date"))
    equal = await equal_to(office, filters)
    with_users = "tag" not in equal
    check((), equal)
    keys = await _parted(office, "key", equal, days)
    models = await _parted(office, "model", equal, days)
    users = await _parted(office, "user", equal, days) if with_users else {}
    parties = Parties(office)
    answer = []
    for day in sorted(keys):
        whole = added(keys[day].values())
        answer.append(
            {
                "startTime": day,
                "spend": spend(whole),
                "unpriced_requests": whole.unpriced,
                "users": {name or NOBODY: spend(sums) for name, sums in users.get(day, {}).items()},
                "models": {name or NOBODY: spend(sums) for name, sums in models.get(day, {}).items()},
                **await _by_token(parties, keys[day]),
            }
        )
    return answer


async def _parted(
    office: Office, by: Dimension, equal: Mapping[Dimension, str | None], days: Mapping[str, date | None]
) -> dict[date, dict[str | None, Sums]]:
    """
    The sums of each day, told apart by one more dimension.
    """
    question = Question(by=("day", by), equal=equal, since=days["since"], until=days["until"])
    parted: dict[date, dict[str | None, Sums]] = {}
    for (day, name), sums in gathered(await summed(office, question), 0, 1).items():
        if isinstance(day, date) and not isinstance(name, date):
            parted.setdefault(day, {})[name] = sums
    return parted


async def _by_token(parties: Parties, keys: Mapping[str | None, Sums]) -> dict[str, Usd | None]:
    """
    The spend of keys under their digests; what has no key, or one that is not known any more, comes together.
    """
    parted: dict[str, list[Sums]] = {}
    for name, sums in keys.items():
        parted.setdefault(await parties.token(name), []).append(sums)
    return {token: spend(added(each)) for token, each in parted.items()}


def _day(text: str | UnsetType, param: str) -> date | None:
    day = as_day(text)
    if day is None and text is not UNSET:
        raise BadRequest(f"Sums by day want a day as {param}: 2026-03-01.", param=param)
    return day
