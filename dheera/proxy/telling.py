"""
What an account has come to, told: to the client in header lines, and to the hold.
"""

from __future__ import annotations

from functools import lru_cache

from dheera.allowances.hold import Hold
from dheera.allowances.standings import SHARED
from dheera.money import Usd, written
from dheera.records import Record
from dheera.settlement import Settlement
from dheera.usage import Usage
from dheera.wire.heads import Fields
from dheera.wire.response import Response

COST = b"x-dheera-response-cost"
KEY_SPEND = b"x-dheera-key-spend"
OVERHEAD = b"x-dheera-overhead-ms"

_dollars = lru_cache(maxsize=1024)(written)


def told(
    response: Response,
    *,
    due: Settlement | None,
    spend: Usd | None,
    overhead_seconds: float | None,
    hold: Hold | None,
) -> Fields:
    """
    Header lines of ours, beside those of *response*, which stand where both say something.

    :param due: what the call costs, if that is known already.
    :param spend: what the key has spent.
    :param overhead_seconds: what dheera itself took.
    """
    fields: Fields = []
    if (
        due is not None and due.cost_nano_usd is not None and due.once is None
    ):  # whether it is the first, the ledger knows
        fields.append((COST, _dollars(due.cost_nano_usd)))
    if spend is not None:
        fields.append((KEY_SPEND, _dollars(spend.nano)))
    if overhead_seconds is not None:
        fields.append((OVERHEAD, b"%.3f" % (overhead_seconds * 1000)))
    if hold is not None:
        left = hold.fields() if due is None else hold.fields(usd=due.cost_nano_usd, tokens=_tokens(due.usage))
        fields += _beside(response, left)
    return fields


def end(hold: Hold, record: Record | None, *, reached: bool) -> None:
    """
    Settle *hold* by what the call has cost.

    :param record: ``None`` if there is none, which is a bug: then it has cost as much as it could.
    :param reached: upstream may have seen something of it.
    """
    if record is None:
        hold.settle(usd=hold.nano or 0, tokens=0, reached=reached)
    else:
        hold.settle(usd=record.cost_nano_usd or 0, tokens=_tokens(record.usage), reached=reached)


def _beside(response: Response, lines: Fields) -> Fields:
    """
    *lines* but for those that upstream has as well, of the names that are not ours alone.
    """
    for name, _ in lines:
        if name in SHARED:
            break
    else:
        return lines
    theirs = response.layout.at
    return [line for line in lines if line[0] not in theirs]


def _tokens(usage: Usage | None) -> int:
    if usage is None:
        return 0
    return usage.total_tokens or usage.prompt_tokens + usage.completion_tokens
