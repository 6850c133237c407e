"""
The rules by which allowances are counted, on the rows of a `Sheet`. No Twisted, no I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from operator import attrgetter

from msgspec import structs

from dheera.holding import (
    RATE_US,
    SLICE_US,
    Allowance,
    Claim,
    Grown,
    Paid,
    Release,
    Share,
    Standing,
    Turn,
    Turned,
    Used,
    Verdict,
)
from dheera.stores.sheet import RATES, Count, Hold, Sheet, Window
from dheera.wildcards import Wildcards

DAY_US = 86_400_000_000
UNKEPT_US = DAY_US
"""
So long what a call cost stays held for it, if no record comes. Then it counts as used.
"""
WINDOWS_US = 2 * DAY_US
"""
So long the window of a budget is kept when it is over: streams that began in it may still end.
"""
EXPIRED_US = 35 * DAY_US
"""
So long a record may put right what was used at a deadline.
"""


def take_turn(sheet: Sheet, turn: Turn, now: int) -> Turned:
    """
    Release, and claim; what is due is ended first.
    """
    end_due(sheet, now)
    for release in turn.releases:
        _release(sheet, release, now)
    return Turned(at_us=now, verdicts=[_decide(sheet, claim, turn, now) for claim in turn.claims])


def end_due(sheet: Sheet, now: int) -> int:
    """
    End holds whose deadline is past: of budgets they count as used, until the record comes.

    :return: how many.
    """
    due = [hold for hold in _all(sheet) if not hold.expired and hold.deadline_us <= now]
    for hold in due:
        if hold.allowance.kind == "usd":
            _spend(sheet, hold, hold.amount)
            sheet.note(hold)
        else:
            _give_back(sheet, hold)
    return len(due)


def forget(sheet: Sheet, owners: Collection[str]) -> int:
    """
    Give back all that *owners* hold, or held at its deadline: they are dead, and the ledger lacks nothing of theirs.

    :return: how many holds there were.
    """
    theirs = [hold for hold in _all(sheet) if hold.owner in owners]
    for hold in theirs:
        _give_back(sheet, hold)
    return len(theirs)


def settle(sheet: Sheet, paid: Iterable[Paid]) -> list[Grown]:
    """
    Turn what is held for calls into what they cost, also where they held nothing.
    """
    budgets: dict[str, list[Allowance]] = {}
    for allowance in sheet.counts:
        if allowance.kind == "usd":
            budgets.setdefault(allowance.subject, []).append(allowance)
    for each in paid:
        held = dict(sheet.holds.get(each.held_as, ()))
        for hold in held.values():
            if each.lease is not None:
                _pay(sheet, hold, each.usd)
                continue
            _spend(sheet, hold, each.usd if hold.allowance.kind == "usd" else 0)
            sheet.end(hold)
        if each.usd:
            for subject in each.subjects:
                for allowance in budgets.get(subject, ()):
                    if allowance not in held and fits(allowance.model, each.models):
                        _add(sheet, allowance, each)
    return [
        Grown(allowance=count.allowance, before=before, after=count.used, cap=count.cap, soft=count.soft)
        for count, before in sheet.changed.values()
        if count.allowance.kind == "usd" and count.used != before
    ]


def begun(paid: Iterable[Paid], now: int) -> list[Paid]:
    """
    *paid* as the store sees it: no call began later than now, whatever the clock of its node says.
    """
    return [each if each.started_us <= now else structs.replace(each, started_us=now) for each in paid]


def look(counts: Iterable[Count], now: int) -> list[Used]:
    """
    How allowances stand, by all *counts* of them: of a budget the latest window, of all else what is taken, if anything
    is.
    """
    found: dict[Allowance, Used] = {}
    for count in sorted(counts, key=attrgetter("starts_us")):
        before = found.get(count.allowance)
        starts, used = count.starts_us, count.used
        if count.allowance.kind in RATES:
            if not used or not starts <= now < count.ends_us:
                continue
            if before is not None:
                starts, used = before.starts_us, before.used + used
        elif count.allowance.kind == "parallel" and not count.held:
            continue
        found[count.allowance] = Used(
            allowance=count.allowance,
            used=used,
            held=count.held,
            cap=count.cap,
            starts_us=starts,
            ends_us=count.ends_us,
        )
    return list(found.values())


def is_idle(count: Count, now: int) -> bool:
    """
    Whether nobody needs it any more. Budgets that never begin anew stay; but not those of end users of whom nothing was
    ever paid: anybody can invent as many as they like.
    """
    kind, subject = count.allowance.kind, count.allowance.subject
    if kind == "parallel":
        return not count.held
    if kind == "usd" and not count.ends_us:
        return subject.startswith("customer/") and not count.used and not count.held
    return count.ends_us <= now - (WINDOWS_US if kind == "usd" else RATE_US)


def fits(pattern: str, models: Sequence[str]) -> bool:
    """
    Whether an allowance for *pattern* is for a call with these models.
    """
    return not pattern or any(map(_models(pattern).match, models))


def _decide(sheet: Sheet, claim: Claim, turn: Turn, now: int) -> Verdict:
    is_known = claim.call_id in sheet.holds
    if not is_known and not all(_is_current(share, now) for share in claim.shares):
        return Verdict(turned=True)
    windows = [sheet.window(share, now) for share in claim.shares]
    if not is_known:
        for number, (share, window) in enumerate(zip(claim.shares, windows, strict=True)):
            if window.taken + share.amount > share.cap:
                return _refuse(sheet, claim, windows, number)
        for share, window in zip(claim.shares, windows, strict=True):
            _take(sheet, claim, share, window, owner=turn.owner, until_us=now + turn.lasts_us)
    return Verdict(standings=[_standing(share, window) for share, window in zip(claim.shares, windows, strict=True)])


def _is_current(share: Share, now: int) -> bool:
    if share.allowance.kind != "usd":
        return True
    return share.starts_us <= now and (not share.ends_us or now < share.ends_us)


def _refuse(sheet: Sheet, claim: Claim, windows: Sequence[Window], refused: int) -> Verdict:
    standings = [_standing(share, window) for share, window in zip(claim.shares, windows, strict=True)]
    share, window = claim.shares[refused], windows[refused]
    standings[refused] = Standing(taken=window.taken, held=window.held, resets_us=_fits_us(share, window))
    # Not where calls under way hold what is left, nor where the budget is too small for the call at any time.
    is_spent = share.allowance.kind == "usd" and share.amount <= share.cap < window.place.used + share.amount
    first = is_spent and not window.place.told and not claim.ahead
    if first:
        sheet.change(window.place)
        window.place.told = True
    return Verdict(refused=refused, standings=standings, first=first)


def _take(sheet: Sheet, claim: Claim, share: Share, window: Window, *, owner: str, until_us: int) -> None:
    place, amount = window.place, share.amount
    if share.allowance.kind in RATES:
        sheet.change(place, used=amount)
        place.cap = share.cap
    elif share.allowance in sheet.holds.get(claim.call_id, ()):  # the claim names it twice
        return
    else:
        sheet.change(place, held=amount)
        place.cap = share.cap
        window.held += amount
        sheet.note(
            Hold(
                call_id=claim.call_id,
                allowance=share.allowance,
                starts_us=place.starts_us,
                amount=amount,
                owner=owner,
                deadline_us=until_us,
            )
        )
    window.taken += amount


def _standing(share: Share, window: Window) -> Standing:
    return Standing(taken=window.taken, held=window.held, resets_us=_resets_us(share, window))


def _resets_us(share: Share, window: Window) -> int:
    if share.allowance.kind not in RATES:
        return window.place.ends_us
    return next((count.ends_us for count in reversed(window.counts) if count.used), 0)


def _fits_us(share: Share, window: Window) -> int:
    """
    When *share* would fit if nothing else were taken; 0 if never.
    """
    left = window.taken
    for count in window.counts:
        left -= count.used + count.held
        if left + share.amount <= share.cap:
            return count.ends_us
    return 0


def _release(sheet: Sheet, release: Release, now: int) -> None:
    for hold in list(sheet.holds.get(release.call_id, {}).values()):
        if hold.released:
            continue
        due = max(0, release.usd - hold.paid)
        if hold.allowance.kind != "usd" or not (due or release.lasts):
            _give_back(sheet, hold)
            continue
        _amend(sheet, hold, due)
        if not release.lasts:
            hold.released = True
            hold.deadline_us = now + UNKEPT_US
        sheet.note(hold)
    for rated in release.rates:
        count = sheet.counts.get(rated.allowance, {}).get(rated.at_us - rated.at_us % SLICE_US)
        if count is not None:
            sheet.change(count, used=rated.change)


def _give_back(sheet: Sheet, hold: Hold) -> None:
    _amend(sheet, hold, 0)
    sheet.end(hold)


def _spend(sheet: Sheet, hold: Hold, cost: int) -> None:
    _amend(sheet, hold, 0)
    hold.expired = True
    _amend(sheet, hold, cost)


def _pay(sheet: Sheet, hold: Hold, cost: int) -> None:
    """
    Pay for a call out of the lease that it was part of.
    """
    hold.paid += cost
    _amend(sheet, hold, max(0, hold.amount - cost))
    count = sheet.counts.get(hold.allowance, {}).get(hold.starts_us)
    if count is not None:
        sheet.change(count, used=cost)
    if hold.released and not hold.amount:
        sheet.end(hold)
    else:
        sheet.note(hold)


def _amend(sheet: Sheet, hold: Hold, amount: int) -> None:
    count = sheet.counts.get(hold.allowance, {}).get(hold.starts_us)
    change = amount - hold.amount
    hold.amount = amount
    if count is None:
        return
    if hold.expired:
        sheet.change(count, used=change)
    else:
        sheet.change(count, held=change)


def _add(sheet: Sheet, allowance: Allowance, paid: Paid) -> None:
    for count in sheet.counts[allowance].values():
        if count.starts_us <= paid.started_us and (not count.ends_us or paid.started_us < count.ends_us):
            sheet.change(count, used=paid.usd)


def _all(sheet: Sheet) -> Iterator[Hold]:
    return (hold for of_call in sheet.holds.values() for hold in of_call.values())


@lru_cache(maxsize=1024)
def _models(pattern: str) -> Wildcards:
    return Wildcards.of([pattern.removeprefix("mistral/")])
