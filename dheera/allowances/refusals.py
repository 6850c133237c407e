"""
What is said to a caller whose call does not fit, and to whoever runs this dheera. No Twisted, no I/O.
"""

from __future__ import annotations

from dheera.allowances.clock import time_of, whole_seconds
from dheera.allowances.standings import fields_of, remaining_of
from dheera.call_ids import new_call_id
from dheera.errors import BudgetExceeded, RateLimited
from dheera.holding import RATE_US, Share, Standing
from dheera.limits import Limit
from dheera.money import Usd
from dheera.records import Alert

LONGEST_NAME = 120
"""
Characters of a name from outside that are shown.
"""
WORTH_A_WAIT_SECONDS = 60
"""
SDKs wait no longer: if ``retry-after`` says more they try again much too soon, and in vain. So whoever waits for a rate
is told no more, and the seconds that are left when they come too early; and whoever waits for a budget is told not to
try again, which those of OpenAI obey (``x-should-retry``).
"""
NEVER_SECONDS = 86_400

_RATES = {"requests": "requests", "tokens": "tokens", "parallel": "max_parallel_requests"}
_BUDGETS = {
    "key": "this API key",
    "user": "the user {name}",
    "team": "the team {name}",
    "team_member": "the team member {name}",
    "end_user": "the end user {name}",
    "proxy": "this whole proxy",
}
_SMALLER = "(max_tokens, fewer pages)"


def refusal_of(limit: Limit, share: Share, standing: Standing, at_us: int) -> BudgetExceeded | RateLimited:
    """
    The answer to a call of which this share does not fit.

    :param at_us: by the store's clock.
    """
    return (_budget_exceeded if share.allowance.kind == "usd" else _rate_limited)(limit, share, standing, at_us)


def alert_of(limit: Limit, share: Share, standing: Standing, *, at_us: int, node: str) -> Alert:
    """
    That a budget is spent: it has refused a call for the first time (`Verdict.first`).
    """
    subject = "whole proxy" if limit.whose == "proxy" else f"{limit.whose.replace('_', ' ')} {_shown(limit.name)}"
    used, cap = standing.taken - standing.held, share.cap
    spent = "100 %" if used >= cap else str(Usd(used))
    until = f"until {_written(share.ends_us)}" if share.ends_us else "until it is raised"
    return Alert(
        id=new_call_id(),
        at=time_of(at_us),
        node=node,
        about="budget",
        subject=subject,
        text=f"The {subject} has spent {spent} of its budget of {Usd(cap)} US dollars{_scope(limit)}: "
        f"calls are refused {until}, unless they cost less than what is left.",
        level="critical",
    )


def _budget_exceeded(limit: Limit, share: Share, standing: Standing, at_us: int) -> BudgetExceeded:
    used, cap, amount = standing.taken - standing.held, share.cap, share.amount
    whose = _BUDGETS.get(limit.whose, "{name}").format(name=_shown(limit.name))
    held = (
        f", beside {Usd(standing.held)} held by calls that are under way or not yet in the ledger"
        if standing.held
        else ""
    )
    said = (
        f"Budget has been exceeded! Current cost: {Usd(used)}, Max budget: {Usd(cap)}. "
        f"That is the budget of {whose}{_scope(limit)}{held}. This call may cost up to {Usd(amount)}"
    )
    less = f", less if it is made smaller {_SMALLER}" if used < cap else ""
    if not cap:
        seconds = NEVER_SECONDS
        advice = ". The budget lets nothing through that costs anything: ask whoever runs this dheera to raise it."
    elif amount > cap:
        seconds = NEVER_SECONDS
        advice = f", more than the whole budget: make it smaller {_SMALLER}, or ask for a larger budget."
    elif used + amount <= cap:
        seconds = 1
        advice = ", which is free again when those calls are over, as far as they cost less: try again in a moment, "
        advice += f"or make it smaller {_SMALLER}."
    elif share.ends_us:
        seconds = max(1, whole_seconds(share.ends_us - at_us))
        advice = f"{less}. The budget begins anew at {_written(share.ends_us)}."
    else:
        seconds = NEVER_SECONDS
        advice = f"{less}. The budget does not begin anew: ask for a larger one."
    return BudgetExceeded(
        f"{said}{advice}",
        retry_after_seconds=seconds,
        more_fields=[*_whether_to_retry(seconds), *fields_of([share], [standing], at_us)],
    )


def _rate_limited(limit: Limit, share: Share, standing: Standing, at_us: int) -> RateLimited:
    kind, cap = share.allowance.kind, share.cap
    sort, can_fit, resets_us = _RATES[kind], share.amount <= cap, standing.resets_us
    said = (
        f"Rate limit exceeded for {limit.whose}: {_shown(limit.name)}{_scope(limit)}. "
        f"Limit type: {sort}. Current limit: {cap}, Remaining: {remaining_of(share, standing)}."
    )
    more_fields = [(b"rate_limit_type", sort.encode())]
    if not can_fit:
        seconds = NEVER_SECONDS
        advice = "It lets no call through: ask whoever runs this dheera to raise it."
    elif kind == "parallel":
        seconds = 1
        advice = "Try again when one of the calls that are under way is over."
    else:
        resets_us = resets_us or at_us + RATE_US
        seconds = min(max(1, whole_seconds(resets_us - at_us)), WORTH_A_WAIT_SECONDS)
        advice = f"Limit resets at: {_written(resets_us)}. Try again then."
        more_fields.append((b"reset_at", _written(resets_us).encode()))
    if kind == "tokens" and can_fit:
        advice += f" This call may take up to {share.amount} tokens; a smaller max_tokens makes that less."
    more_fields += [*_whether_to_retry(seconds), *fields_of([share], [standing], at_us)]
    return RateLimited(f"{said} {advice}", retry_after_seconds=seconds, more_fields=more_fields)


def _whether_to_retry(seconds: int) -> list[tuple[bytes, bytes]]:
    return [(b"x-should-retry", b"false")] if seconds > WORTH_A_WAIT_SECONDS else []


def _scope(limit: Limit) -> str:
    model = f" for the model {_shown(limit.model)}" if limit.model else ""
    span = f" per {limit.span}" if limit.kind == "usd" and limit.span else ""
    return f"{model}{span}"


def _written(at_us: int) -> str:
    """
    The first whole second that is not before *at_us*.
    """
    return f"{time_of(whole_seconds(at_us) * 1_000_000):%Y-%m-%d %H:%M:%S} UTC"


def _shown(name: str) -> str:
    text = "".join(each if each.isprintable() else "?" for each in name[:LONGEST_NAME])
    return text if len(name) <= LONGEST_NAME else f"{text}..."
