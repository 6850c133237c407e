"""
Where it is written what was spent of a budget before anybody counted it. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

from attrs import frozen

from dheera.holding import Share, member_of
from dheera.stores.reckoning import DAY_US
from dheera.texts import bounded

_NAMED = MappingProxyType({"key": "key_id", "user": "user_id", "team": "team_id", "customer": "end_user"})


@frozen
class Spend:
    """
    What an entity of the directory has spent ever.
    """

    kind: str
    id: str


@frozen
class Days:
    """
    The sum of the rows of ``daily`` from a day on that have these values; but no more than what any of *spenders* has
    spent ever: the rest was spent by somebody who had the same id before.
    """

    since: str
    equal: Mapping[str, str]
    spenders: Sequence[Spend] = ()


def source_of(share: Share) -> Spend | Days | None:
    """
    Where it is written for this budget; ``None`` if it is nowhere, so that one begins with nothing: daily sums tell
    nothing of windows that begin within a day, and not of all models that a pattern fits.
    """
    allowance = share.allowance
    sort, _, name = allowance.subject.partition("/")
    if not allowance.span and not allowance.model:
        return Spend(sort, name) if sort in _NAMED else Days(_day(0), *_whose(allowance.subject))
    if not allowance.span or share.starts_us % DAY_US or share.ends_us % DAY_US or "*" in allowance.model:
        return None
    equal, spenders = _whose(allowance.subject)
    if allowance.model:
        equal["model"] = bounded(allowance.model.removeprefix("mistral/"))
    return Days(_day(share.starts_us), equal, spenders)


def _whose(subject: str) -> tuple[dict[str, str], list[Spend]]:
    sort, _, name = subject.partition("/")
    match sort:
        case "user":  # their own budget is for keys without a team
            return {"user_id": name, "team_id": ""}, [Spend("user", name)]
        case "member":
            team, user = member_of(subject)
            return {"team_id": team, "user_id": user}, [Spend("team", team), Spend("user", user)]
        case "proxy":
            return {}, []
    return {_NAMED[sort]: name}, [Spend(sort, name)]


def _day(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).date().isoformat()
