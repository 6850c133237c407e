"""
How the allowances of a call stand, as header lines. No Twisted, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from msgspec import Struct, structs

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


class Told(Struct, frozen=True, kw_only=True, gc=False):
    """
    An allowance of which callers hear what is left.

    :param free: how much that is, as far as is known beforehand.
    :param resets_us: by the store's clock, when all of it is free again; 0 where time frees nothing.
    """

    free: int
    cap: int
    resets_us: int


def told_of(shares: Sequence[Share], standings: Sequence[Standing]) -> Mapping[Kind, Sequence[Told]]:
    """
    What callers hear of, by its kind: nothing of parallel requests, nor of budgets that nobody can exceed.

    :param standings: those of the shares, in their order.
    """
    told: dict[Kind, list[Told]] = {}
    for share, standing in zip(shares, standings, strict=True):
        kind = share.allowance.kind
        if kind != "parallel" and share.cap < UNCAPPED:
            resets_us = share.ends_us if kind == "usd" else standing.resets_us
            each = Told(free=share.cap - standing.taken, cap=share.cap, resets_us=resets_us if share.cap else 0)
            told.setdefault(kind, []).append(each)
    return told


def fields_of(shares: Sequence[Share], standings: Sequence[Standing], at_us: int) -> Fields:
    """
    For requests, tokens and budgets, each: of all allowances in *shares* the one of which least is left.

    :param standings: those of the shares, in their order.
    :param at_us: by the store's clock.
    """
    return [line for kind, told in told_of(shares, standings).items() for line in lines_of(kind, told, 0, at_us)]


def lines_of(kind: Kind, told: Sequence[Told], more: int, at_us: int) -> Fields:
    """
    The same for those of one kind.

    :param more: what is free of each besides.
    """
    least = told[0] if len(told) == 1 else min(told, key=lambda each: max(0, each.free + more))
    left = least.free + more
    left = left if left > 0 else 0  # noqa: FURB136 - max() takes three times as long
    seconds = whole_seconds(least.resets_us - at_us) if least.resets_us else None
    if kind != "usd":
        return _of_rate(_NAMES[kind], left, least.cap, seconds)
    lines = [(b"x-dheera-remaining-budget", written(left))]
    if seconds is not None:
        lines.append((b"x-dheera-reset-budget", b"%d" % seconds))
    return lines


def _of_rate(names: Sequence[bytes], remaining: int, cap: int, seconds: int | None) -> Fields:
    """
    :param seconds: until all is free again; ``None`` where time frees nothing.
    """
    left, most = b"%d" % remaining, b"%d" % cap
    ours, our_reset, limit, usual, reset = names
    if seconds is None:
        return [(ours, left), (limit, most), (usual, left)]
    return [
        (ours, left),
        (our_reset, b"%d" % seconds),
        (limit, most),
        (usual, left),
        (reset, _as_openai_writes(seconds)),
    ]


_NAMES: Mapping[Kind, Sequence[bytes]] = {
    kind: [
        beginning + kind.encode()
        for beginning in (
            *(b"x-dheera-remaining-", b"x-dheera-reset-"),
            *(b"x-ratelimit-limit-", b"x-ratelimit-remaining-", b"x-ratelimit-reset-"),
        )
    ]
    for kind in ("requests", "tokens")
}

SHARED = frozenset(name for names in _NAMES.values() for name in names if name.startswith(b"x-ratelimit-"))
"""
Names that upstream has as well.
"""


@lru_cache(maxsize=256)
def _as_openai_writes(seconds: int) -> bytes:
    """
    ``12s``, ``1m5s``.
    """
    minutes, rest = divmod(seconds, _MINUTE)
    return b"%dm%ds" % (minutes, rest) if minutes else b"%ds" % rest
