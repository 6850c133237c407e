"""
How the allowances of a call stand, as header lines. No Twisted, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import structs

from dheera.allowances.clock import whole_seconds
from dheera.holding import Kind, Share, Standing
from dheera.limits import UNCAPPED
from dheera.money import written

_MINUTE = 60

Fields = list[tuple[bytes, bytes]]


def remaining_of(share: Share, standing: Standing) -> int:
    """
    What is left of it; never below 0, though a call may have cost more than it was expected to.
    """
    return max(0, share.cap - standing.taken)


def settled(share: Share, standing: Standing, amount: int) -> Standing:
    """
    *standing* as it is when the call that has this share has taken no more than *amount*.
    """
    return structs.replace(standing, taken=standing.taken - share.amount + amount)


def fields_of(shares: Sequence[Share], standings: Sequence[Standing], at_us: int) -> Fields:
    """
    For requests, tokens and budgets, each: of all allowances in *shares* the one of which least is left.

    :param standings: those of the shares, in their order.
    :param at_us: by the store's clock.
    """
    pairs = zip(shares, standings, strict=True)
    return fields_of_rest(
        [(remaining_of(share, standing), share, standing) for share, standing in pairs if is_told(share)], at_us
    )


def is_told(share: Share) -> bool:
    """
    Whether callers hear what is left of its allowance.
    """
    return share.allowance.kind != "parallel" and share.cap < UNCAPPED


def fields_of_rest(rests: Iterable[tuple[int, Share, Standing]], at_us: int) -> Fields:
    """
    The same, where it is known how much is left of each.
    """
    tightest: dict[Kind, tuple[int, Share, Standing]] = {}
    for rest in rests:
        kind = rest[1].allowance.kind
        if kind not in tightest or rest[0] < tightest[kind][0]:
            tightest[kind] = rest
    fields: Fields = []
    for kind, (remaining, share, standing) in tightest.items():
        if kind == "usd":
            fields.append((b"x-dheera-remaining-budget", written(remaining)))
            if share.cap and share.ends_us:
                fields.append((b"x-dheera-reset-budget", b"%d" % whole_seconds(share.ends_us - at_us)))
        else:
            is_reset = share.cap and standing.resets_us
            seconds = whole_seconds(standing.resets_us - at_us) if is_reset else None
            fields += _of_rate(kind.encode(), remaining, share.cap, seconds)
    return fields


def _of_rate(kind: bytes, remaining: int, cap: int, seconds: int | None) -> Fields:
    """
    :param seconds: until all is free again; ``None`` where time frees nothing.
    """
    left = b"%d" % remaining
    ours, usual = (b"x-dheera-remaining-" + kind, left), (b"x-ratelimit-remaining-" + kind, left)
    limit = (b"x-ratelimit-limit-" + kind, b"%d" % cap)
    if seconds is None:
        return [ours, limit, usual]
    our_reset = (b"x-dheera-reset-" + kind, b"%d" % seconds)
    return [ours, our_reset, limit, usual, (b"x-ratelimit-reset-" + kind, _as_openai_writes(seconds))]


def _as_openai_writes(seconds: int) -> bytes:
    """
    ``12s``, ``1m5s``.
    """
    minutes, rest = divmod(seconds, _MINUTE)
    return b"%dm%ds" % (minutes, rest) if minutes else b"%ds" % rest
