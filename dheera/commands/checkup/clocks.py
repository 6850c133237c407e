"""
Whether clocks agree: budgets begin anew, keys end and certificates are judged by them.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from dheera.commands.checkup.findings import Finding

WARN_SECONDS = 5.0
FAIL_SECONDS = 60.0
_MEND = (
    "Let this machine keep time: timedatectl set-ntp true, or chrony. If its time is right, tell who runs the other."
)


def compared(whose: str, there: datetime, sent: datetime, seconds: float, *, resolution: float = 0.0) -> Finding:
    """
    How far this machine is from another.

    :param there: what the other's clock said.
    :param sent: what ours said when it was asked.
    :param seconds: after which the answer was here.
    :param resolution: of the other's clock, which cuts off what is smaller.
    """
    ours = sent + timedelta(seconds=seconds / 2)
    off = (ours - there).total_seconds() - resolution / 2
    # Nobody knows when, in this span, it looked at its clock.
    least = max(0.0, abs(off) - seconds / 2 - resolution / 2)
    name = "clock"
    if least <= WARN_SECONDS:
        return Finding.ok(name, f"within {WARN_SECONDS:g} s of {whose}")
    found = f"this machine is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} {whose}"
    return Finding.fail(name, found, _MEND) if least > FAIL_SECONDS else Finding.warn(name, found, _MEND)
